//! Values on their way from the device to the host.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use cubecl::bytes::Bytes;
use cubecl::client::Client;
use cubecl::future::{DynFut, block_on};
use cubecl::prelude::*;
use cubecl::server::ServerError;

use crate::tensor::GpuTensor;

/// A copy of a tensor that was queued behind what computes it, and before whatever is queued later: to wait for
/// it is not to wait for that.
pub struct Coming {
    state: Mutex<State>,
    len: usize,
}

enum State {
    OnItsWay(DynFut<Result<Vec<Bytes>, ServerError>>),
    Here(Result<Vec<f32>, String>),
}

impl Coming {
    /// Queues the copy.
    pub(crate) fn of(client: &Client, x: &GpuTensor) -> Self {
        let (client, handle) = (client.clone(), x.block.handle());
        let mut copy: DynFut<_> = Box::pin(async move { client.read_async(vec![handle]).await });
        // A future does nothing before it is asked: ask once, so that the copy is queued now.
        let state = match copy.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(copied) => State::Here(floats(copied, x.len())),
            Poll::Pending => State::OnItsWay(copy),
        };
        Self { state: Mutex::new(state), len: x.len() }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The values, waiting for them if need be, or what the driver said instead.
    pub(crate) fn values(&self) -> Result<Vec<f32>, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::OnItsWay(copy) = &mut *state {
            *state = State::Here(floats(block_on(copy), self.len));
        }
        match &*state {
            State::Here(values) => values.clone(),
            State::OnItsWay(_) => Err("the copy never came".into()),
        }
    }
}

/// The runtime takes the memory of a copy back when its future is dropped, and uses it again, although a copy that
/// nobody waited for may still be under way.
impl Drop for Coming {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::OnItsWay(copy) = state {
            let _nobody_asked = block_on(copy);
        }
    }
}

fn floats(copied: Result<Vec<Bytes>, ServerError>, len: usize) -> Result<Vec<f32>, String> {
    let copied = copied.map_err(|error| error.to_string())?;
    let mut values: Vec<f32> =
        copied.iter().flat_map(|bytes| f32::from_bytes(bytes)).copied().collect();
    values.truncate(len);
    Ok(values)
}
