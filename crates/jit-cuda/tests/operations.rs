//! Every operation of the kernels against the processor, in f32: on the emulator, or with the feature `card` alone on a card.
#![cfg(any(feature = "card", feature = "emulator"))]

#[path = "../../jit-model/tests/device/operations.rs"]
mod operations;

use std::sync::OnceLock;

use jit_cuda::Cuda;
use jit_model::device::Precision;

/// The device under test.
fn device() -> &'static Cuda {
    static CUDA: OnceLock<Cuda> = OnceLock::new();
    CUDA.get_or_init(open)
}

#[cfg(feature = "emulator")]
fn open() -> Cuda {
    Cuda::emulated(Precision::F32, None)
}

#[cfg(not(feature = "emulator"))]
#[allow(clippy::unwrap_used, reason = "without a card there is nothing to test")]
fn open() -> Cuda {
    Cuda::open(0, Some(Precision::F32), None).unwrap()
}
