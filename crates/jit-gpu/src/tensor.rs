//! Tensors and parameters in the device's memory.

use std::sync::Arc;

use cubecl::prelude::*;
use cubecl::server::Handle;
use cubecl::std::tensor::TensorHandle;

use crate::memory::Memory;

/// A piece of device memory, counted while it lives.
pub struct Block {
    handle: Handle,
    bytes: u64,
    memory: Arc<Memory>,
}

impl Block {
    /// Counts `handle`, of `bytes`.
    pub fn new(handle: Handle, bytes: u64, memory: &Arc<Memory>) -> Self {
        memory.add(bytes);
        Self { handle, bytes, memory: Arc::clone(memory) }
    }

    /// What the runtime knows it by.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The argument of a kernel that reads or writes `len` values of type `E`.
    pub fn arg<E: Scalar>(&self, len: usize) -> TensorArg {
        TensorHandle::new_contiguous([len], self.handle(), E::elem_type_native()).into_arg()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.memory.remove(self.bytes);
    }
}

/// A dense f32 tensor, row-major.
pub struct GpuTensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) block: Block,
}

impl GpuTensor {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn arg(&self) -> TensorArg {
        self.block.arg::<f32>(self.len())
    }

    /// `(rows, columns)` with the last axis as columns.
    pub(crate) fn rows_columns(&self) -> (usize, usize) {
        let columns = self.shape.last().copied().unwrap_or(1);
        (self.len() / columns.max(1), columns)
    }

    /// `[B, N, D]`
    pub(crate) fn tokens(&self) -> (usize, usize, usize) {
        match self.shape[..] {
            [b, n, d] => (b, n, d),
            _ => unreachable!("expected [B, N, D], found {:?}", self.shape),
        }
    }

    /// `[B, C, S, S]`
    pub(crate) fn images(&self) -> (usize, usize, usize) {
        match self.shape[..] {
            [b, c, s, _] => (b, c, s),
            _ => unreachable!("expected [B, C, S, S], found {:?}", self.shape),
        }
    }
}

/// Whole numbers: indices, masks' keys.
pub struct Words {
    pub(crate) block: Block,
    pub(crate) len: usize,
}

impl Words {
    pub(crate) fn arg(&self) -> TensorArg {
        self.block.arg::<u32>(self.len)
    }
}

/// A parameter: its f32 master value and, where products take half as many bits, that copy of it.
pub struct GpuWeight {
    pub(crate) value: GpuTensor,
    pub(crate) half: Option<Block>,
}

impl GpuWeight {
    /// `(out, in)`, further axes flattened into `in`.
    pub(crate) fn outputs_inputs(&self) -> (usize, usize) {
        let outputs = self.value.shape.first().copied().unwrap_or(1);
        (outputs, self.value.len() / outputs.max(1))
    }
}
