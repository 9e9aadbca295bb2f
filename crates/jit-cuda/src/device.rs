//! A card, opened: what it computes in, and new tensors.

use std::sync::Arc;

use jit_core::rng::Stream;
use jit_model::device::{Fault, Precision};

use crate::backend::{Backend, Dtype};
use crate::memory::{Block, Memory};
use crate::tensor::CudaTensor;

/// Why a card cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A library is not there.
    #[error("{library} is not found: install {from}")]
    Library {
        /// Its name.
        library: &'static str,
        /// What brings it.
        from: &'static str,
    },
    /// The machine has no such card.
    #[error("there is no card `cuda:{index}`: the driver finds {available} here, numbered from 0")]
    Missing {
        /// Its number.
        index: usize,
        /// How many there are.
        available: usize,
    },
    /// The card lacks what the kernels are made of.
    #[error(
        "{name} has compute capability {}.{}; the kernels need 8.0 or later (Ampere): use --device wgpu",
        capability.0, capability.1
    )]
    TooOld {
        /// The card's name.
        name: String,
        /// Major and minor number.
        capability: (i32, i32),
    },
    /// The driver, or cuBLASLt, failed.
    #[error("the card `cuda:{index}` cannot be opened: {reason}")]
    Driver {
        /// Its number.
        index: usize,
        /// What it said.
        reason: String,
    },
    /// The kernels do not compile, which is a bug.
    #[error("the kernels cannot be compiled ({what}): {log}")]
    Compile {
        /// What was compiled.
        what: String,
        /// What the compiler said.
        log: String,
    },
}

/// An NVIDIA card, or its emulation: memory, a stream, and the model's operations ([`jit_model::Device`]).
pub struct Cuda {
    pub(crate) memory: Arc<Memory>,
    pub(crate) precision: Precision,
}

impl Cuda {
    /// Opens card number `index`, in bf16 unless another precision is asked for. `limit` bounds the bytes of its tensors.
    ///
    /// # Errors
    /// [`OpenError`] saying which library, card or kernel there is not.
    #[cfg(feature = "card")]
    pub fn open(
        index: usize,
        precision: Option<Precision>,
        limit: Option<u64>,
    ) -> Result<Self, OpenError> {
        let card = crate::card::Card::open(index)?;
        Ok(Self::new(Arc::new(card), precision.unwrap_or(Precision::Bf16), limit))
    }

    /// The kernels on the processor, for tests.
    #[cfg(feature = "emulator")]
    pub fn emulated(precision: Precision, limit: Option<u64>) -> Self {
        let shared_memory = crate::emulator::SHARED_MEMORY;
        Self::new(Arc::new(crate::emulator::Emulator { shared_memory }), precision, limit)
    }

    /// The same with less shared memory for a block, in bytes, as older cards have it.
    #[cfg(feature = "emulator")]
    #[doc(hidden)]
    pub fn emulated_with_shared_memory(precision: Precision, shared_memory: usize) -> Self {
        Self::new(Arc::new(crate::emulator::Emulator { shared_memory }), precision, None)
    }

    fn new(backend: Arc<dyn Backend>, precision: Precision, limit: Option<u64>) -> Self {
        Self { memory: Memory::new(backend, limit), precision }
    }

    /// Name, compute capability and memory, in words.
    pub fn describe(&self) -> String {
        self.backend().describe()
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.memory.backend().as_ref()
    }

    /// What token activations are kept in.
    pub(crate) fn activations(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::Bf16,
        }
    }

    /// Memory for `shape`, with whatever was there.
    pub(crate) fn unset(&self, shape: &[usize], dtype: Dtype) -> CudaTensor {
        let columns = shape.last().copied().unwrap_or(1);
        let pitch = match dtype {
            Dtype::F32 => columns,
            // Rows begin at multiples of 16 bytes.
            Dtype::Bf16 => columns.next_multiple_of(8),
        };
        let rows = shape.iter().product::<usize>() / columns.max(1);
        let block = self.memory.block(rows * pitch * dtype.size());
        CudaTensor { shape: shape.to_vec(), dtype, pitch, block }
    }

    /// As [`Cuda::unset`], in the shape and type of another.
    pub(crate) fn unset_like(&self, x: &CudaTensor) -> CudaTensor {
        self.unset(&x.shape, x.dtype)
    }

    /// As [`Cuda::unset`], in the shape of another but for its last axis.
    pub(crate) fn unset_with_last(&self, x: &CudaTensor, last: usize, dtype: Dtype) -> CudaTensor {
        let mut shape = x.shape.clone();
        if let Some(axis) = shape.last_mut() {
            *axis = last;
        }
        self.unset(&shape, dtype)
    }

    /// Sets every element to zero.
    pub(crate) fn set_to_zero(&self, x: &mut CudaTensor) {
        let bytes = x.held() * x.dtype.size();
        if bytes > 0 && self.memory.fault().is_none() {
            self.noting(self.backend().zero(x.block.address(), bytes));
        }
    }

    /// Numbers, copied to the device.
    pub(crate) fn floats(&self, data: &[f32]) -> Block {
        // SAFETY: every bit of an f32 is a byte's, and the slice lives through the call.
        let bytes = unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) };
        self.copied(bytes)
    }

    /// Whole numbers, copied to the device.
    pub(crate) fn ints(&self, data: impl Iterator<Item = i32>) -> Block {
        self.copied(&data.flat_map(i32::to_ne_bytes).collect::<Vec<u8>>())
    }

    /// The keys and counters of random streams, `[n, 5]`.
    pub(crate) fn streams(&self, streams: &[Stream]) -> Block {
        let words = streams.iter().flat_map(|s| s.words());
        self.copied(&words.flat_map(u32::to_ne_bytes).collect::<Vec<u8>>())
    }

    fn copied(&self, bytes: &[u8]) -> Block {
        let block = self.memory.block(bytes.len());
        self.copy_in(&block, bytes);
        block
    }

    /// Copies to a block that holds as many bytes at least.
    pub(crate) fn copy_in(&self, to: &Block, bytes: &[u8]) {
        if self.memory.fault().is_none() && !bytes.is_empty() {
            assert!(bytes.len() <= to.bytes(), "{} bytes into {}", bytes.len(), to.bytes());
            self.noting(self.backend().copy_in(to.address(), bytes));
        }
    }

    /// Notes a failure.
    pub(crate) fn noting(&self, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.memory.fail(fault);
        }
    }
}
