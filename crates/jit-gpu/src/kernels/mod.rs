//! The kernels, each a function on flat tensors with its shapes beside it.

pub mod adamw;
pub mod attention;
pub mod elementwise;
pub mod losses;
pub mod norm;
pub mod philox;
pub mod product;
pub mod reduce;
pub mod tokens;
