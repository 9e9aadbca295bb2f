//! CPU kernels on plain slices: each is written once over [`simd`] vectors, picks its instruction
//! set at run time ([`cpu`]), and gives the same bits on any number of threads ([`par`]).

// A kernel's slices and shapes are its arguments: bundling them would only hide the data flow.
#![allow(clippy::too_many_arguments)]

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod buffer;
pub mod conv;
pub mod cpu;
mod disjoint;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod gemm;
mod lanes;
pub mod linear;
pub mod losses;
pub mod map;
pub mod noise;
pub mod par;
pub mod patchify;
pub mod peak;
pub mod pool;
pub mod profile;
pub mod resample;
pub mod residual;
pub mod rms_norm;
pub mod rotate;
pub mod simd;
pub mod swiglu;

#[cfg(test)]
mod testing;
