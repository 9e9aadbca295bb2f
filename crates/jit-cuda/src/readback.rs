//! Values on their way from the device to the host.

use std::sync::{Arc, Mutex, PoisonError};

use half::bf16;
use jit_model::device::Fault;

use crate::backend::{Dtype, Pending};
use crate::tensor::CudaTensor;

/// A copy of a tensor that was queued behind what computes it: to wait for it is not to wait for what was queued later.
pub struct Readback {
    state: Mutex<State>,
    dtype: Dtype,
    /// Number of values.
    pub(crate) len: usize,
    /// Of the last axis, and elements from one row to the next.
    columns: usize,
    pitch: usize,
}

enum State {
    Pending(Box<dyn Pending>),
    Here(Result<Arc<[u8]>, Fault>),
}

impl Readback {
    /// Of `x`, through a copy of all that it holds.
    pub(crate) fn new(copy: Result<Box<dyn Pending>, Fault>, x: &CudaTensor) -> Self {
        let state = match copy {
            Ok(copy) => State::Pending(copy),
            Err(fault) => State::Here(Err(fault)),
        };
        let (_, columns) = x.rows_columns();
        Self { state: Mutex::new(state), dtype: x.dtype, len: x.len(), columns, pitch: x.pitch }
    }

    /// The bytes, waiting for them if need be, or what went wrong.
    pub(crate) fn bytes(&self) -> Result<Arc<[u8]>, Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Pending(copy) = &mut *state {
            *state = State::Here(copy.bytes().map(Arc::from));
        }
        match &*state {
            State::Here(bytes) => bytes.clone(),
            State::Pending(_) => unreachable!("read just now"),
        }
    }

    /// The values, waiting for them if need be, or what went wrong.
    pub(crate) fn values(&self) -> Result<Vec<f32>, Fault> {
        let bytes = self.bytes()?;
        let mut values: Vec<f32> = match self.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect(),
            Dtype::Bf16 => {
                bytes.as_chunks().0.iter().map(|b| bf16::from_ne_bytes(*b).to_f32()).collect()
            }
        };
        if self.columns != self.pitch {
            let rows = values.chunks(self.pitch.max(1));
            values = rows.flat_map(|row| &row[..self.columns]).copied().collect();
        }
        Ok(values)
    }
}
