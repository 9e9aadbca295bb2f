use proptest::prelude::*;

use super::*;
use crate::cpu::Level;

/// `len` values in [−1, 1), the same for the same seed.
fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A matrix of such values, stored by rows or by columns.
struct Matrix {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    by_columns: bool,
}

impl Matrix {
    fn new(seed: u64, rows: usize, cols: usize, by_columns: bool) -> Matrix {
        Matrix { data: values(seed, rows * cols), rows, cols, by_columns }
    }

    fn rounded(&self, precision: Precision) -> Matrix {
        let mut data = self.data.clone();
        if precision == Precision::Bf16 {
            bf16::round(Level::PORTABLE, &mut data);
        }
        Matrix { data, ..*self }
    }

    fn view(&self) -> MatRef<'_> {
        if self.by_columns {
            MatRef::row_major(&self.data, self.cols, self.rows).transposed()
        } else {
            MatRef::row_major(&self.data, self.rows, self.cols)
        }
    }
}

fn product(level: Level, precision: Precision, a: &Matrix, b: &Matrix) -> Vec<f32> {
    let mut c = vec![f32::NAN; a.rows * b.cols];
    let packed = PackedB::at_level(level, b.view(), precision);
    gemm(a.view(), &packed, &mut c, Store::Overwrite, None);
    c
}

fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn matches_the_plain_product(
        (m, k, n) in (
            prop_oneof![1usize..40, 180usize..220],
            prop_oneof![1usize..40, 250usize..260, KC - 5..KC + 5, 2 * KC - 5..2 * KC + 5],
            prop_oneof![1usize..40, 120usize..300],
        ),
        (a_by_columns, b_by_columns, accumulate, biased) in any::<(bool, bool, bool, bool)>(),
        precision in prop_oneof![Just(Precision::F32), Just(Precision::Bf16)],
        seed in any::<u64>(),
    ) {
        let a = Matrix::new(seed, m, k, a_by_columns);
        let b = Matrix::new(!seed, k, n, b_by_columns);
        let bias = biased.then(|| values(seed ^ 1, n));
        let store = if accumulate { Store::Accumulate } else { Store::Overwrite };
        // What Overwrite must not read is NaN.
        let former = if accumulate { values(seed ^ 2, m * n) } else { vec![f32::NAN; m * n] };
        let mut want = former.clone();
        let (a16, b16) = (a.rounded(precision), b.rounded(precision));
        plain::gemm(a16.view(), b16.view(), &mut want, store, bias.as_deref());
        // The rounding errors of k partial sums of size √k add up like a random walk, to about
        // ε·k/10; the small sums' few roundings are the constant.
        let tolerance = f32::EPSILON * (k as f32 + 16.0);
        for level in Level::all() {
            let mut got = former.clone();
            let packed = PackedB::at_level(level, b.view(), precision);
            gemm(a.view(), &packed, &mut got, store, bias.as_deref());
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                prop_assert!(
                    (got - want).abs() <= tolerance,
                    "{level} {precision:?}, element {i} of [{m}, {n}]: {got} instead of {want}"
                );
            }
        }
    }

    #[test]
    fn a_rows_values_do_not_depend_on_the_other_rows_or_columns(
        (m, k, n) in (1usize..250, 1usize..KC + 200, 1usize..150),
        (from, to, cut) in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        precision in prop_oneof![Just(Precision::F32), Just(Precision::Bf16)],
        seed in any::<u64>(),
    ) {
        let a = Matrix::new(seed, m, k, false);
        let b = Matrix::new(!seed, k, n, true);
        let (from, to) = (from.index(m), to.index(m));
        let (from, to) = (from.min(to), from.max(to) + 1);
        let cut = cut.index(n);
        let some_rows = Matrix { data: a.data[from * k..to * k].to_vec(), rows: to - from, ..a };
        // Stored by columns, the columns from `cut` on are the end of the data.
        let some_cols = Matrix { data: b.data[cut * k..].to_vec(), cols: n - cut, ..b };
        for level in Level::all() {
            let all = product(level, precision, &a, &b);
            let part = product(level, precision, &some_rows, &some_cols);
            for (i, row) in part.chunks(n - cut).enumerate() {
                let same = &all[(from + i) * n + cut..(from + i + 1) * n];
                prop_assert!(row.iter().zip(same).all(|(x, y)| x.to_bits() == y.to_bits()), "{}", level);
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (m, k, n) in [(700, 300, 500), (9, 768, 1024), (64, 2304, 200)] {
        let a = Matrix::new(1, m, k, false);
        let b = Matrix::new(2, k, n, false);
        for level in Level::all() {
            let one = on_threads(1, || product(level, Precision::F32, &a, &b));
            for threads in [2, 5] {
                let more = on_threads(threads, || product(level, Precision::F32, &a, &b));
                assert!(one.iter().zip(&more).all(|(x, y)| x.to_bits() == y.to_bits()));
            }
        }
    }
}

#[test]
fn the_threads_areas_cover_every_element_once() {
    for (m, n) in [(1, 1), (9, 4608), (2304, 2304), (53 * 64, 96), (193, 17), (768, 3072)] {
        for (threads, b_is_small) in [(1, false), (2, true), (2, false), (64, true), (64, false)] {
            let shape = TileShape { mr: 6, nr: 16 };
            let grid = Grid::new(m, n, shape, 192, b_is_small, threads);
            let mut covered = vec![0u8; m * n];
            for i in 0..grid.len() {
                let (rows, cols) = grid.area(i);
                assert!(rows.len > 0 && rows.len <= 192 && cols.len > 0);
                assert!(rows.start.is_multiple_of(shape.mr) && cols.start.is_multiple_of(shape.nr));
                for r in rows.start..rows.start + rows.len {
                    covered[r * n + cols.start..][..cols.len].iter_mut().for_each(|x| *x += 1);
                }
            }
            assert!(covered.iter().all(|&x| x == 1), "{m} × {n} on {threads} threads");
        }
    }
}

#[test]
fn a_product_over_nothing_is_the_bias() {
    let (a, b) = (Matrix::new(1, 3, 0, false), Matrix::new(2, 0, 2, false));
    let packed = PackedB::new(b.view(), Precision::F32);
    let mut c = [1.0; 6];
    gemm(a.view(), &packed, &mut c, Store::Accumulate, Some(&[1.0, 2.0]));
    assert_eq!(c, [2.0, 3.0, 2.0, 3.0, 2.0, 3.0]);
    gemm(a.view(), &packed, &mut c, Store::Overwrite, None);
    assert_eq!(c, [0.0; 6]);
}
