//! Device memory: pieces that are kept when a tensor ends, for the next of that size.
//!
//! A training step asks for the same sizes in the same order every time, so that after the first step nothing is asked of
//! the driver any more. A piece may be handed out again while kernels that use it are still queued, since whatever
//! its next owner does is queued behind them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jit_model::device::{Fault, MemoryUse};

use crate::backend::Backend;

/// Pieces from this size on come in multiples of [`LARGE_STEP`].
const LARGE: usize = 1 << 20;
const LARGE_STEP: usize = 256 << 10;

/// All memory of a device.
pub struct Memory {
    backend: Arc<dyn Backend>,
    limit: Option<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Pieces that nobody uses, by size.
    spare: BTreeMap<usize, Vec<u64>>,
    live: u64,
    peak: u64,
    spare_bytes: u64,
    fault: Option<Fault>,
}

/// A piece of device memory.
pub struct Block {
    address: u64,
    bytes: usize,
    memory: Arc<Memory>,
}

impl Memory {
    /// None in use yet. `limit` bounds the bytes of live tensors.
    pub fn new(backend: Arc<dyn Backend>, limit: Option<u64>) -> Arc<Self> {
        let limit = limit.or_else(|| backend.capacity());
        Arc::new(Self { backend, limit, state: Mutex::default() })
    }

    /// What it is memory of.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// `bytes` of memory with whatever was there. After a fault, of no memory at all: nothing runs any more.
    pub fn block(self: &Arc<Self>, bytes: usize) -> Block {
        let bytes = self.rounded(bytes);
        let mut state = self.state();
        // Counted even where there is none: so the peak tells what a step that does not fit would have needed.
        state.live += bytes as u64;
        state.peak = state.peak.max(state.live);
        let address = self.take(&mut state, bytes).unwrap_or_else(|fault| {
            state.fault.get_or_insert(fault);
            0
        });
        drop(state);
        Block { address, bytes, memory: Arc::clone(self) }
    }

    /// Bytes of live tensors, now and at most.
    pub fn used(&self) -> MemoryUse {
        let state = self.state();
        MemoryUse { live: state.live, peak: state.peak }
    }

    /// Notes what went wrong, if it is the first.
    pub fn fail(&self, fault: Fault) {
        self.state().fault.get_or_insert(fault);
    }

    /// What went wrong first.
    pub fn fault(&self) -> Option<Fault> {
        self.state().fault.clone()
    }

    fn rounded(&self, bytes: usize) -> usize {
        let small = self.backend.granularity();
        bytes.max(1).next_multiple_of(if bytes < LARGE { small } else { LARGE_STEP })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, state: &mut State, bytes: usize) -> Result<u64, Fault> {
        if let Some(fault) = &state.fault {
            return Err(fault.clone());
        }
        let full = Fault::OutOfMemory { limit: self.limit };
        if self.limit.is_some_and(|limit| state.live > limit) {
            return Err(full);
        }
        let address = match state.reuse(bytes) {
            Some(address) => address,
            None => match self.backend.allocate(bytes) {
                Ok(address) => address,
                // Spare pieces of other sizes may be in the way.
                Err(_) if state.spare_bytes > 0 => {
                    self.release_spare(state);
                    self.backend.allocate(bytes).map_err(|_| full)?
                }
                Err(_) => return Err(full),
            },
        };
        Ok(address)
    }

    fn release_spare(&self, state: &mut State) {
        for (bytes, addresses) in std::mem::take(&mut state.spare) {
            for address in addresses {
                self.backend.free(address, bytes);
            }
        }
        state.spare_bytes = 0;
    }
}

impl State {
    /// A spare piece of exactly that size: sizes recur, so that nothing better is needed.
    fn reuse(&mut self, bytes: usize) -> Option<u64> {
        let address = self.spare.get_mut(&bytes)?.pop()?;
        self.spare_bytes -= bytes as u64;
        Some(address)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut state =
            std::mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.release_spare(&mut state);
    }
}

impl Block {
    /// Of its first byte; 0 after a fault.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many bytes it has at least.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        state.live -= self.bytes as u64;
        if self.address != 0 {
            state.spare.entry(self.bytes).or_default().push(self.address);
            state.spare_bytes += self.bytes as u64;
        }
    }
}
