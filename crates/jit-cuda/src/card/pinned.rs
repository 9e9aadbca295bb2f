//! Copies between host and card through page-locked memory, which the card reads and writes by itself.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use cudarc::driver::result;
use cudarc::driver::sys;
use jit_model::device::Fault;

use super::fault;
use crate::backend::Pending;

/// Page-locked host memory.
struct Locked {
    at: *mut u8,
    bytes: usize,
}

// SAFETY: plain memory, owned by one place at a time.
unsafe impl Send for Locked {}
// SAFETY: as above.
unsafe impl Sync for Locked {}

impl Locked {
    fn new(bytes: usize) -> Result<Self, Fault> {
        // SAFETY: freed when it is dropped.
        let at = unsafe { result::malloc_host(bytes.max(1), 0) }.map_err(fault)?;
        Ok(Self { at: at.cast(), bytes })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: whoever owned it has waited for the copies from and to it.
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}

/// A moment in a stream.
struct Event(sys::CUevent);

// SAFETY: an event may be asked from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    fn record(stream: sys::CUstream) -> Result<Self, Fault> {
        let event =
            result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(fault)?;
        let event = Self(event);
        // SAFETY: stream and event are alive.
        unsafe { result::event::record(event.0, stream) }.map_err(fault)?;
        Ok(event)
    }

    fn wait(&self) -> Result<(), Fault> {
        // SAFETY: the event is alive.
        unsafe { result::event::synchronize(self.0) }.map_err(fault)
    }

    fn is_past(&self) -> bool {
        // SAFETY: the event is alive.
        unsafe { result::event::query(self.0) }.is_ok()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: nobody waits for it any more.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

/// Buffers of uploads, used again once the card has read them.
#[derive(Default)]
pub struct Pinned {
    buffers: Mutex<VecDeque<(Locked, Event)>>,
}

/// Buffers that may be waiting at once: a few steps' worth.
const WAITING: usize = 256;

impl Pinned {
    /// Queues a copy of `bytes` to the card; the host only waits for its own memory.
    pub fn upload(&self, stream: sys::CUstream, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &(Locked, Event)| {
            buffer.0.bytes >= bytes.len() && buffer.0.bytes <= 2 * bytes.len() && buffer.1.is_past()
        };
        let buffer = match buffers.iter().position(fits).and_then(|i| buffers.remove(i)) {
            Some((buffer, _)) => buffer,
            None => Locked::new(bytes.len())?,
        };
        // SAFETY: the buffer has as many bytes, and the card has read what was in it.
        unsafe { buffer.at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        // SAFETY: likewise; the buffer is kept until the event is past.
        let source = unsafe { std::slice::from_raw_parts(buffer.at, bytes.len()) };
        // SAFETY: the caller allocated as many bytes on the card.
        unsafe { result::memcpy_htod_async(to, source, stream) }.map_err(fault)?;
        buffers.push_back((buffer, Event::record(stream)?));
        if buffers.len() > WAITING
            && let Some((_, event)) = buffers.pop_front()
        {
            event.wait()?;
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for (_, event) in self.buffers.get_mut().unwrap_or_else(PoisonError::into_inner) {
            let _ = event.wait();
        }
    }
}

/// A copy to the host that is under way.
pub struct Download {
    context: sys::CUcontext,
    buffer: Locked,
    event: Event,
}

// SAFETY: the context is entered before anything is asked of it.
unsafe impl Send for Download {}
// SAFETY: as above.
unsafe impl Sync for Download {}

impl Download {
    /// Queues it.
    pub fn start(
        context: sys::CUcontext,
        stream: sys::CUstream,
        from: u64,
        bytes: usize,
    ) -> Result<Self, Fault> {
        let buffer = Locked::new(bytes)?;
        // SAFETY: the buffer has as many bytes and is kept until the event is past; nobody else sees it.
        let to = unsafe { std::slice::from_raw_parts_mut(buffer.at, bytes) };
        // SAFETY: the caller allocated as many bytes on the card.
        unsafe { result::memcpy_dtoh_async(to, from, stream) }.map_err(fault)?;
        Ok(Self { context, buffer, event: Event::record(stream)? })
    }
}

impl Pending for Download {
    fn bytes(&mut self) -> Result<Vec<u8>, Fault> {
        // SAFETY: the context lives as long as the card, which outlives what is read from it.
        unsafe { result::ctx::set_current(self.context) }.map_err(fault)?;
        self.event.wait()?;
        // SAFETY: the copy is done.
        Ok(unsafe { std::slice::from_raw_parts(self.buffer.at, self.buffer.bytes) }.to_vec())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // SAFETY: as in `bytes`. The buffer must outlive the copy even where nobody asked for it.
        let _ = unsafe { result::ctx::set_current(self.context) };
        let _ = self.event.wait();
    }
}
