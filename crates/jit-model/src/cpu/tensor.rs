//! Tensors and parameters in recycled memory.

use jit_kernels::buffer::Buffer;
use jit_kernels::linear::PackedWeight;

/// A dense row-major f32 tensor.
pub struct CpuTensor {
    pub(super) shape: Vec<usize>,
    pub(super) data: Buffer,
}

/// A parameter with the panels that the matrix product reads, packed when first used after each
/// optimizer step.
pub struct CpuWeight {
    pub(super) value: CpuTensor,
    pub(super) packed: PackedWeight,
}

impl CpuTensor {
    /// Recycled memory with unspecified contents, for an operation that writes every element.
    pub(super) fn unset(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), data: Buffer::take(shape.iter().product()) }
    }

    pub(super) fn like(other: &Self) -> Self {
        Self::unset(&other.shape)
    }

    /// (product of all axes but the last, last axis)
    pub(super) fn rows_columns(&self) -> (usize, usize) {
        let columns = self.shape.last().copied().unwrap_or(1);
        (self.data.len() / columns.max(1), columns)
    }

    /// `[B, N, D]`
    pub(super) fn tokens(&self) -> (usize, usize, usize) {
        match self.shape[..] {
            [b, n, d] => (b, n, d),
            _ => unreachable!("tokens are [B, N, D], not {:?}", self.shape),
        }
    }

    /// `[B, C, S, S]` as (B, C, S)
    pub(super) fn images(&self) -> (usize, usize, usize) {
        match self.shape[..] {
            [b, c, s, _] => (b, c, s),
            _ => unreachable!("images are [B, C, S, S], not {:?}", self.shape),
        }
    }

    pub(super) fn with_last(&self, last: usize) -> Self {
        let mut shape = self.shape.clone();
        if let Some(end) = shape.last_mut() {
            *end = last;
        }
        Self::unset(&shape)
    }
}

impl CpuWeight {
    /// `[out, in]` of a linear layer; a convolution's further axes count as inputs.
    pub(super) fn outputs_inputs(&self) -> (usize, usize) {
        let outputs = self.value.shape[0];
        (outputs, self.value.data.len() / outputs)
    }
}

/// One output from one input, element by element.
pub(super) fn map(x: &CpuTensor, f: impl FnOnce(&[f32], &mut [f32])) -> CpuTensor {
    let mut out = CpuTensor::like(x);
    f(&x.data, &mut out.data);
    out
}
