//! The innermost kernel: a strip of `A` times a panel of `B` in registers.

#[cfg(target_arch = "aarch64")]
use crate::simd::Neon;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Avx512Bf16};
use crate::{
    cpu::{Isa, Level},
    simd::{Portable, Simd},
};

/// Rows and columns of a level's tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    pub mr: usize,
    pub nr: usize,
}

/// The widest tile's columns.
pub const MAX_NR: usize = 32;
/// The largest tile's values.
pub const MAX_AREA: usize = 12 * 32;

/// What happens to the tile of `C` besides adding the product.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    /// Whether to add to the values that are there.
    pub read: bool,
    /// `[NR]`, added last.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become zero, after the bias.
    pub relu: bool,
}

/// An instruction set's tile of `MR × NR` values: as many as its registers hold beside the operands
/// of one multiply-add, and at least as many vectors as its multiply-adds take cycles times units.
pub trait Tile: Simd {
    /// Rows.
    const MR: usize;
    /// Columns.
    const NR: usize;

    /// `sum + a·b` of what a slot holds: one value, unless the instruction set takes pairs.
    #[inline(always)]
    fn accumulate(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V {
        self.fma(a, b, sum)
    }

    /// `c = strip·panel [+ c] [+ bias]`, with strip `[K, MR]`, panel `[K, NR]`, and rows of the tile
    /// `row_stride` apart.
    ///
    /// # Safety
    /// The `MR × NR` values from `c` on may be read and written.
    unsafe fn multiply(
        self,
        strip: &[f32],
        panel: &[f32],
        c: *mut f32,
        row_stride: usize,
        update: Update<'_>,
    );
}

macro_rules! tile {
    ($isa:ident, $mr:literal rows, $vectors:literal vectors $(, $accumulate:item)?) => {
        impl Tile for $isa {
            $($accumulate)?

            const MR: usize = $mr;
            const NR: usize = $vectors * <$isa as Simd>::LANES;

            #[inline(always)]
            unsafe fn multiply(
                self,
                strip: &[f32],
                panel: &[f32],
                c: *mut f32,
                row_stride: usize,
                update: Update<'_>,
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    multiply::<$isa, $mr, $vectors>(self, strip, panel, c, row_stride, update)
                }
            }
        }
        const _: () = assert!(<$isa as Tile>::NR <= MAX_NR);
        const _: () = assert!(<$isa as Tile>::NR * <$isa as Tile>::MR <= MAX_AREA);
    };
}

tile!(Portable, 4 rows, 1 vectors);
#[cfg(target_arch = "x86_64")]
tile!(Avx2, 6 rows, 2 vectors);
#[cfg(target_arch = "x86_64")]
tile!(Avx512, 12 rows, 2 vectors);
#[cfg(target_arch = "x86_64")]
tile!(
    Avx512Bf16,
    12 rows,
    2 vectors,
    #[inline(always)]
    fn accumulate(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V {
        self.dot_pairs(a, b, sum)
    }
);
#[cfg(target_arch = "aarch64")]
tile!(Neon, 8 rows, 3 vectors);

/// The tile of `level`.
pub fn shape(level: Level) -> TileShape {
    fn of<S: Tile>() -> TileShape {
        TileShape { mr: S::MR, nr: S::NR }
    }
    match level.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => of::<Avx2>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => of::<Avx512>(),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => of::<Neon>(),
        _ => of::<Portable>(),
    }
}

/// Slots before the end of a product at which its tile of `C` is fetched: far enough for memory's
/// latency, near enough that the operands' stream does not push it out of the first-level cache.
const PREFETCH_AHEAD: usize = 32;

/// [`Tile::multiply`] for a tile of `MR` rows of `NV` vectors.
#[inline(always)]
unsafe fn multiply<S: Tile, const MR: usize, const NV: usize>(
    s: S,
    strip: &[f32],
    panel: &[f32],
    c: *mut f32,
    row_stride: usize,
    update: Update<'_>,
) {
    let (columns, mut sums) = (NV * S::LANES, [[s.splat(0.0); NV]; MR]);
    // The tile of C is needed at the end, but then at once: it is asked for a while before.
    let early = (strip.len() / MR).saturating_sub(PREFETCH_AHEAD);
    let ((strip, strip_end), (panel, panel_end)) =
        (strip.split_at(early * MR), panel.split_at(early * columns));
    add_products::<S, MR, NV>(s, strip, panel, &mut sums);
    for r in 0..MR {
        s.prefetch(c.wrapping_add(r * row_stride));
        s.prefetch(c.wrapping_add(r * row_stride + columns - 1));
    }
    add_products::<S, MR, NV>(s, strip_end, panel_end, &mut sums);
    for (r, row) in sums.into_iter().enumerate() {
        for (v, mut sum) in row.into_iter().enumerate() {
            // SAFETY: row r's vector v is part of the tile.
            let c = unsafe { c.add(r * row_stride + v * S::LANES) };
            if update.read {
                // SAFETY: as above.
                sum = s.add(sum, unsafe { s.load_ptr(c) });
            }
            if let Some(bias) = update.bias {
                sum = s.add(sum, s.load(&bias[v * S::LANES..]));
            }
            if update.relu {
                sum = s.max(sum, s.splat(0.0));
            }
            // SAFETY: as above.
            unsafe { s.store_ptr(sum, c) };
        }
    }
}

/// `sums += strip·panel`
#[inline(always)]
fn add_products<S: Tile, const MR: usize, const NV: usize>(
    s: S,
    strip: &[f32],
    panel: &[f32],
    sums: &mut [[S::V; NV]; MR],
) {
    for (a, b) in strip.chunks_exact(MR).zip(panel.chunks_exact(NV * S::LANES)) {
        let mut columns = [s.splat(0.0); NV];
        for v in 0..NV {
            columns[v] = s.load(&b[v * S::LANES..]);
        }
        for (sums, a) in sums.iter_mut().zip(a) {
            let row = s.splat(*a);
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = s.accumulate(row, column, *sum);
            }
        }
    }
}
