//! How many bytes a device's tensors hold, and how many they may.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes of live tensors.
#[derive(Debug, Default)]
pub struct Memory {
    live: AtomicU64,
    peak: AtomicU64,
}

impl Memory {
    /// Counts a new tensor.
    pub fn add(&self, bytes: u64) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }

    /// Forgets a tensor.
    pub fn remove(&self, bytes: u64) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of all live tensors.
    pub fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// The most that were live at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_outlives_what_made_it() {
        let memory = Memory::default();
        memory.add(10);
        memory.add(5);
        memory.remove(10);
        assert_eq!((memory.live(), memory.peak()), (5, 15));
    }
}
