//! The model's operations on NVIDIA cards: kernels of our own in CUDA C++, compiled by NVRTC for the card at
//! hand, and matrix products by cuBLASLt.
//!
//! ```text
//! Device (jit-model)          what the network asks for
//!   └─ Cuda                   shapes, dtypes, lengths: checked here
//!        └─ Backend           addresses: allocate, copy, launch, multiply
//!             ├─ Card         a card, through its driver            (feature `card`)
//!             └─ Emulator     the same kernels on the processor     (feature `emulator`)
//! ```
//!
//! In bf16 precision whatever feeds a product is kept in bf16: normalised inputs, q, k, v, hidden values, outputs of
//! attention and MLP, and their gradients. The residual stream, statistics, softmax, losses, gradients of parameters
//! and the parameters themselves stay f32.
//!
//! Everything is queued on one stream, in order; nothing waits for the card but reading a value. Sums are added in a fixed
//! order, so that a run repeats to the bit on the same card.
#![cfg(any(feature = "card", feature = "emulator"))]
// Tensors, their shapes and where they go: naming them one by one reads better than a struct for each call.
#![allow(clippy::too_many_arguments)]

mod backend;
#[cfg(feature = "card")]
mod card;
mod device;
#[cfg(feature = "emulator")]
mod emulator;
mod launch;
mod memory;
mod ops;
mod readback;
mod tensor;

pub use device::{Cuda, OpenError};
pub use readback::Readback;
pub use tensor::{CudaTensor, CudaWeight};
