//! Tensors and parameters in device memory.

use crate::backend::{Dtype, Matrix};
use crate::memory::Block;

/// A tensor, row-major, in f32 or bf16. Rows of the last axis may be padded in bf16, so that each begins at a multiple of
/// 16 bytes, as tensor cores want it.
pub struct CudaTensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
    /// Elements from one row of the last axis to the next.
    pub(crate) pitch: usize,
    pub(crate) block: Block,
}

impl CudaTensor {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    /// Elements in memory, padding among them.
    pub(crate) fn held(&self) -> usize {
        self.rows_columns().0 * self.pitch
    }

    pub(crate) fn matrix(&self) -> Matrix {
        Matrix { address: self.block.address(), dtype: self.dtype, pitch: self.pitch }
    }

    /// Whether rows follow each other without padding.
    pub(crate) fn is_dense(&self) -> bool {
        self.pitch == self.rows_columns().1
    }
}

/// A parameter: its f32 master value and, in bf16 precision, the rounded copy that products read.
pub struct CudaWeight {
    pub(crate) value: CudaTensor,
    /// `[out, in]`, further axes flattened into `in`; a vector as one row.
    pub(crate) rounded: Option<CudaTensor>,
}

impl CudaWeight {
    /// `(out, in)`, further axes flattened into `in`.
    pub(crate) fn outputs_inputs(&self) -> (usize, usize) {
        let outputs = self.value.shape.first().copied().unwrap_or(1);
        (outputs, self.value.len() / outputs.max(1))
    }

    /// What products read, `[out, in]`.
    pub(crate) fn operand(&self) -> Matrix {
        match &self.rounded {
            Some(rounded) => rounded.matrix(),
            None => Matrix { pitch: self.outputs_inputs().1, ..self.value.matrix() },
        }
    }
}
