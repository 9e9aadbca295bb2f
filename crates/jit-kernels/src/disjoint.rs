//! One output shared by tasks that write interleaved parts of it, such as the heads of a token.

use std::marker::PhantomData;

/// A mutable slice whose disjoint parts several tasks may borrow at once.
#[derive(Clone, Copy)]
pub struct Disjoint<'a> {
    start: *mut f32,
    len: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: what tasks can reach of the slice is disjoint, by the contract of `part`.
unsafe impl Send for Disjoint<'_> {}
// SAFETY: as above.
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    /// Shares `slice` until the result's lifetime ends.
    pub fn new(slice: &'a mut [f32]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The part `from..from + len`.
    ///
    /// # Safety
    /// No two parts that are borrowed at the same time overlap.
    pub unsafe fn part(self, from: usize, len: usize) -> &'a mut [f32] {
        assert!(len <= self.len && from <= self.len - len, "a part beyond the shared slice");
        // SAFETY: inside the slice, as just checked, and borrowed alone by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}
