//! The model's operations on any graphics card: one set of kernels, written in CubeCL and compiled at
//! run time for Vulkan, Metal and DirectX, through WGSL or SPIR-V. NVIDIA's cards have `jit-cuda`, too, which is faster.
//!
//! Operations are queued and run behind the program; nothing waits for the device but
//! [`Device::receive`](jit_model::Device::receive) and what is built on it. A device that fails says so then, and stays failed:
//! [`Device::fault`](jit_model::Device::fault).
#![cfg(feature = "kernels")]
// Tensors, their shapes and where they go: naming them one by one reads better than a struct for each call.
#![allow(clippy::too_many_arguments)]

mod coming;
mod device;
mod kernels;
mod launch;
mod memory;
mod ops;
mod product;
mod tensor;

pub use coming::Coming;
pub use device::{Gpu, OpenError};
pub use tensor::{GpuTensor, GpuWeight};
