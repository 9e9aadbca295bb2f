//! Copies between host and card through page-locked memory, which the card reads and writes by itself.
//!
//! To lock pages and to release them waits for the card, so that buffers are kept for the next copy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Buffers of copies.
#[derive(Default)]
pub struct Pinned {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that nobody uses.
    spare: Vec<Locked>,
    /// Those that the card may still read, until their event.
    uploads: Vec<(Locked, Event)>,
}

/// Uploads that may be waiting at once: a few steps' worth.
const WAITING: usize = 256;

impl Pinned {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of as many bytes at least, and not of many times as many.
    fn take(&self, bytes: usize) -> Result<Locked, Fault> {
        let mut state = self.state();
        let State { spare, uploads } = &mut *state;
        spare.extend(uploads.extract_if(.., |(_, event)| event.is_past()).map(|(free, _)| free));
        let fits = |buffer: &Locked| buffer.bytes >= bytes && buffer.bytes / 4 <= bytes.max(4096);
        match spare.iter().position(fits) {
            Some(i) => Ok(spare.swap_remove(i)),
            None => Locked::new(bytes.next_multiple_of(4096)),
        }
    }

    /// Queues a copy of `bytes` to the card; the host waits for its own memory alone.
    pub fn upload(&self, stream: sys::CUstream, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        let buffer = self.take(bytes.len())?;
        // SAFETY: the buffer has as many bytes, and the card has read what was in it.
        unsafe { buffer.at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        // SAFETY: likewise; the buffer is kept until the event is past.
        let source = unsafe { std::slice::from_raw_parts(buffer.at, bytes.len()) };
        // SAFETY: the caller allocated as many bytes on the card.
        unsafe { result::memcpy_htod_async(to, source, stream) }.map_err(fault)?;
        let event = Event::record(stream)?;
        let mut state = self.state();
        state.uploads.push((buffer, event));
        if state.uploads.len() > WAITING {
            let (buffer, event) = state.uploads.swap_remove(0);
            event.wait()?;
            state.spare.push(buffer);
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (_, event) in &state.uploads {
            let _ = event.wait();
        }
    }
}

/// A copy to the host that is under way.
pub struct Download {
    context: sys::CUcontext,
    pinned: Arc<Pinned>,
    /// There until it is dropped.
    buffer: Option<Locked>,
    bytes: usize,
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
        pinned: &Arc<Pinned>,
        from: u64,
        bytes: usize,
    ) -> Result<Self, Fault> {
        let buffer = pinned.take(bytes)?;
        // SAFETY: the buffer has as many bytes and is kept until the event is past; nobody else sees it.
        let to = unsafe { std::slice::from_raw_parts_mut(buffer.at, bytes) };
        // SAFETY: the caller allocated as many bytes on the card.
        unsafe { result::memcpy_dtoh_async(to, from, stream) }.map_err(fault)?;
        let event = Event::record(stream)?;
        Ok(Self { context, pinned: Arc::clone(pinned), buffer: Some(buffer), bytes, event })
    }
}

impl Pending for Download {
    fn bytes(&mut self) -> Result<Vec<u8>, Fault> {
        // SAFETY: the context lives as long as the card, which outlives what is read from it.
        unsafe { result::ctx::set_current(self.context) }.map_err(fault)?;
        self.event.wait()?;
        let Some(buffer) = &self.buffer else { return Ok(vec![]) };
        // SAFETY: the copy is done, and wrote as many bytes.
        Ok(unsafe { std::slice::from_raw_parts(buffer.at, self.bytes) }.to_vec())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // SAFETY: as in `bytes`. The buffer must outlive the copy even where nobody asked for it.
        let _ = unsafe { result::ctx::set_current(self.context) };
        let _ = self.event.wait();
        if let Some(buffer) = self.buffer.take() {
            self.pinned.state().spare.push(buffer);
        }
    }
}
