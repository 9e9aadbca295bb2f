//! Pooled `f32` memory: a training step in steady state takes and returns the same blocks, and so
//! never waits for the system to hand out and clear fresh pages.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Alignment of every buffer: a cache line, and the widest vector.
const ALIGN: usize = 64;
/// From this size on, buffers are aligned to huge pages and the system is asked to use them.
const HUGE: usize = 2 << 20;

/// A block of memory of `len` initialised `f32`s, a size class.
struct Block {
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: a block owns its memory alone, which holds plain numbers.
unsafe impl Send for Block {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for Block {}

impl Block {
    fn new(len: usize) -> Block {
        let layout = Block::layout(len);
        // SAFETY: a class is never empty.
        let start = unsafe { alloc(layout) }.cast::<f32>();
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        if layout.align() == HUGE {
            advise_huge_pages(start, layout.size());
        }
        // SAFETY: `start` is valid for `len` values; zero bytes are the `f32` 0.
        unsafe { start.write_bytes(0, len) };
        Block { start, len }
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.saturating_mul(size_of::<f32>());
        let align = if bytes >= HUGE { HUGE } else { ALIGN };
        match Layout::from_size_align(bytes, align) {
            Ok(layout) => layout,
            // More than the address space, as if the allocator had refused it.
            Err(_) => handle_alloc_error(Layout::new::<f32>()),
        }
    }

    fn bytes(&self) -> usize {
        self.len * size_of::<f32>()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc` with this very layout.
        unsafe { dealloc(self.start.as_ptr().cast(), Block::layout(self.len)) }
    }
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(start: NonNull<f32>, bytes: usize) {
    // SAFETY: the range is one allocation of ours. The advice changes no contents, and a system
    // that refuses it just keeps small pages, so the result does not matter.
    unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_start: NonNull<f32>, _bytes: usize) {}

/// The size class of `len`: the next multiple of an eighth of its power of two, and of a cache
/// line, which wastes at most 12.5 % beyond 128 values.
fn class(len: usize) -> usize {
    let lines = len.div_ceil(ALIGN / size_of::<f32>()).max(1);
    let step = 1usize << lines.ilog2().saturating_sub(3);
    lines.next_multiple_of(step).saturating_mul(ALIGN / size_of::<f32>())
}

/// Bytes that buffers occupy, rounded up to their size classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stats {
    /// In buffers that exist now.
    live: usize,
    /// Kept for the next buffers.
    retained: usize,
    /// The most that was ever live at once.
    peak: usize,
}

struct Pool {
    free: BTreeMap<usize, Vec<Block>>,
    stats: Stats,
}

impl Pool {
    const fn new() -> Pool {
        Pool { free: BTreeMap::new(), stats: Stats { live: 0, retained: 0, peak: 0 } }
    }

    /// Counts a block of `len` values as live, and hands one out if one is retained.
    fn take(&mut self, len: usize) -> Option<Block> {
        let bytes = len * size_of::<f32>();
        self.stats.live += bytes;
        self.stats.peak = self.stats.peak.max(self.stats.live);
        let block = self.free.get_mut(&len)?.pop()?;
        self.stats.retained -= bytes;
        Some(block)
    }

    /// Retains `block`, or gives it back where live and retained memory would together exceed twice
    /// the peak: beyond that the mix of sizes has changed, and hoarding would only waste memory.
    fn put(&mut self, block: Block) -> Option<Block> {
        let bytes = block.bytes();
        self.stats.live -= bytes;
        if self.stats.live + self.stats.retained + bytes > 2 * self.stats.peak {
            return Some(block);
        }
        self.stats.retained += bytes;
        self.free.entry(block.len).or_default().push(block);
        None
    }
}

/// Blocks up to this many bytes may wait on a thread's own shelf.
const SMALL: usize = 256 << 10;
/// Blocks of one size on a shelf.
const SHELF_DEPTH: usize = 4;

thread_local! {
    /// Small blocks that this thread let go last. Kernels take and drop their scratch memory for
    /// every head or strip: without a lock that costs next to nothing.
    static SHELF: RefCell<BTreeMap<usize, Vec<Block>>> = const { RefCell::new(BTreeMap::new()) };
}

/// A block of `len` values from this thread's shelf.
fn take_from_shelf(len: usize) -> Option<Block> {
    // A thread that is ending has none any more.
    SHELF.try_with(|shelf| shelf.borrow_mut().get_mut(&len)?.pop()).ok().flatten()
}

/// Puts `block` on this thread's shelf, or returns it where that is full or the block is large.
fn put_on_shelf(block: Block) -> Option<Block> {
    if block.bytes() > SMALL {
        return Some(block);
    }
    let mut block = Some(block);
    let _ending = SHELF.try_with(|shelf| {
        let mut shelf = shelf.borrow_mut();
        let Some(len) = block.as_ref().map(|block| block.len) else { return };
        let blocks = shelf.entry(len).or_default();
        if blocks.len() < SHELF_DEPTH {
            blocks.extend(block.take());
        }
    });
    block
}

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

fn pool() -> MutexGuard<'static, Pool> {
    // The pool is consistent between statements that could panic, so poison means nothing.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slice of `f32`s, aligned to 64 bytes, whose memory is recycled on drop.
pub struct Buffer {
    /// `None` only while dropping.
    block: Option<Block>,
    len: usize,
}

impl Buffer {
    /// `len` values left over from earlier buffers, or zeros: for outputs that are wholly written.
    pub fn take(len: usize) -> Buffer {
        let class = class(len);
        let recycled = take_from_shelf(class).or_else(|| pool().take(class));
        Buffer { block: Some(recycled.unwrap_or_else(|| Block::new(class))), len }
    }

    /// `len` zeros.
    pub fn zeroed(len: usize) -> Buffer {
        let mut buffer = Buffer::take(len);
        buffer.fill(0.0);
        buffer
    }

    /// A copy of `values`.
    pub fn from_slice(values: &[f32]) -> Buffer {
        let mut buffer = Buffer::take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    fn start(&self) -> NonNull<f32> {
        self.block.as_ref().map_or(NonNull::dangling(), |block| block.start)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let large = self.block.take().and_then(put_on_shelf);
        let refused = large.and_then(|block| pool().put(block));
        drop(refused); // outside the lock
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the block holds at least `len` initialised values, borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.len) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer::from_slice(self)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_waste_at_most_an_eighth_and_are_their_own_class() {
        for len in
            (0..5000).chain((0..40).map(|bit| 1 << bit)).chain((12..40).map(|b| (1 << b) + 1))
        {
            let class = class(len);
            assert!(class >= len && class.is_multiple_of(16), "{len} -> {class}");
            assert!(len <= 128 || 8 * (class - len) <= len, "{len} -> {class}");
            assert_eq!(super::class(class), class);
        }
    }

    #[test]
    fn buffers_hold_their_values_aligned() {
        let values: Vec<f32> = (0..700_000).map(|i| i as f32).collect();
        for len in [0, 1, 16, 1000, 700_000] {
            let buffer = Buffer::from_slice(&values[..len]);
            assert_eq!(buffer[..], values[..len]);
            assert_eq!(buffer.as_ptr().addr() % ALIGN, 0);
            drop(buffer);
            assert!(Buffer::zeroed(len).iter().all(|&x| x == 0.0));
        }
    }

    // The pool itself, since other tests share the global one.
    #[test]
    fn the_pool_recycles_and_never_holds_more_than_twice_the_peak() {
        let mut pool = Pool::new();
        let take = |pool: &mut Pool, len| pool.take(len).unwrap_or_else(|| Block::new(len));
        let (a, b) = (take(&mut pool, 64), take(&mut pool, 128));
        let address = a.start;
        assert_eq!(pool.stats, Stats { live: 768, retained: 0, peak: 768 });
        assert!(pool.put(a).is_none());
        assert_eq!(pool.stats, Stats { live: 512, retained: 256, peak: 768 });
        let again = take(&mut pool, 64);
        assert_eq!(again.start, address);
        assert!(pool.put(again).is_none() && pool.put(b).is_none());
        assert_eq!(pool.stats, Stats { live: 0, retained: 768, peak: 768 });

        let c = take(&mut pool, 192);
        assert!(pool.put(c).is_none());
        let d = take(&mut pool, 16);
        assert!(pool.put(d).is_some(), "1536 + 64 bytes are more than twice the peak");
        assert_eq!(pool.stats, Stats { live: 0, retained: 1536, peak: 768 });
    }
}
