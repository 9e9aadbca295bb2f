//! Linear layers: `y = x·Wᵀ + b` and its gradients, with weights `[outputs, inputs]` as PyTorch
//! stores them.
//!
//! ```text
//! forward   y  = x·Wᵀ + b      x [R, I], W [O, I], b [O], y [R, O]
//! backward  dx = dy·W          dW += dyᵀ·x          db += Σ_rows dy
//! ```
//!
//! A row's output and input gradient depend on that row and the weights alone, down to the last bit
//! (see [`gemm`](crate::gemm)), so a batch may be cut anywhere.

pub mod plain;

use std::sync::OnceLock;

use crate::{
    cpu,
    gemm::{MatRef, PackedB, Precision, Store, gemm},
    par,
    simd::{Simd, simd_kernel},
};

/// The panels of a weight matrix that the products read, packed when first needed: `Wᵀ` for the
/// forward pass, `W` for the input's gradient. Memory is that of the weight for each.
///
/// It does not hold the weight itself: whoever does calls [`PackedWeight::invalidate`] on changing
/// it.
#[derive(Debug, Default)]
pub struct PackedWeight {
    precision: Precision,
    forward: OnceLock<PackedB>,
    backward: OnceLock<PackedB>,
}

impl PackedWeight {
    /// No panels yet; products with the weight will have `precision`.
    pub fn new(precision: Precision) -> PackedWeight {
        PackedWeight { precision, ..PackedWeight::default() }
    }

    /// The weight `values`, `[outputs, inputs]`, with its panels.
    ///
    /// # Panics
    /// If `values` does not have `outputs · inputs` values.
    pub fn with<'a>(&'a self, values: &'a [f32], outputs: usize, inputs: usize) -> Weight<'a> {
        Weight { matrix: MatRef::row_major(values, outputs, inputs), packed: self }
    }

    /// Forgets the panels, since the weight's values have changed. Their memory is reused for the
    /// next ones.
    pub fn invalidate(&mut self) {
        *self = PackedWeight::new(self.precision);
    }
}

/// A weight `W` `[outputs, inputs]` with its panels.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    matrix: MatRef<'a>,
    packed: &'a PackedWeight,
}

impl Weight<'_> {
    /// Number of outputs, `O`.
    pub fn outputs(&self) -> usize {
        self.matrix.rows()
    }

    /// Number of inputs, `I`.
    pub fn inputs(&self) -> usize {
        self.matrix.cols()
    }

    fn pack(&self, matrix: MatRef<'_>) -> PackedB {
        PackedB::new(matrix, self.packed.precision)
    }

    fn forward(&self) -> &PackedB {
        self.packed.forward.get_or_init(|| self.pack(self.matrix.transposed()))
    }

    fn backward(&self) -> &PackedB {
        self.packed.backward.get_or_init(|| self.pack(self.matrix))
    }
}

/// `y = x·Wᵀ + bias`: `x` `[R, I]`, `bias` `[O]`, `y` `[R, O]`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn linear(x: &[f32], w: Weight<'_>, bias: Option<&[f32]>, y: &mut [f32]) {
    let rows = rows(x, w.inputs());
    gemm(MatRef::row_major(x, rows, w.inputs()), w.forward(), y, Store::Overwrite, bias);
}

/// `dx = dy·W`, or `dx += dy·W` if `accumulate`: `dy` `[R, O]`, `dx` `[R, I]`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn linear_grad_input(dy: &[f32], w: Weight<'_>, dx: &mut [f32], accumulate: bool) {
    let rows = rows(dy, w.outputs());
    let store = if accumulate { Store::Accumulate } else { Store::Overwrite };
    gemm(MatRef::row_major(dy, rows, w.outputs()), w.backward(), dx, store, None);
}

/// `dw += dyᵀ·x` and `db += Σ_rows dy`: `x` `[rows, I]`, `dy` `[rows, O]`, `dw` `[O, I]`, `db` `[O]`,
/// with the operands of `dw`'s product in `precision`; `db` sums the `f32` values.
///
/// # Panics
/// If the lengths do not fit together.
pub fn linear_grad_weight(
    precision: Precision,
    x: &[f32],
    dy: &[f32],
    rows: usize,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    let (inputs, outputs) = (columns(x, rows), columns(dy, rows));
    let x = PackedB::new(MatRef::row_major(x, rows, inputs), precision);
    gemm(MatRef::row_major(dy, rows, outputs).transposed(), &x, dw, Store::Accumulate, None);
    if let Some(db) = db {
        assert_eq!(db.len(), outputs, "length of the bias gradient");
        par::for_each_chunk(db, COLUMNS, rows * outputs, |i, db| {
            add_column_sums(cpu::level(), dy, outputs, i * COLUMNS, db);
        });
    }
}

fn rows(x: &[f32], columns: usize) -> usize {
    x.len() / columns.max(1)
}

fn columns(x: &[f32], rows: usize) -> usize {
    x.len() / rows.max(1)
}

/// Columns summed at a time: four cache lines of each row.
const COLUMNS: usize = 64;
/// Rows summed apart before they are added to the total, which keeps rounding errors of long
/// columns small.
const ROWS: usize = 64;

simd_kernel! {
    /// `sums[j] += Σ_rows dy[row, first + j]` for at most `COLUMNS` columns of `dy` `[R, width]`.
    fn add_column_sums(level; dy: &[f32], width: usize, first: usize, sums: &mut [f32])
        = add_column_sums_kernel;
}

#[inline(always)]
fn add_column_sums_kernel<S: Simd>(_: S, dy: &[f32], width: usize, first: usize, sums: &mut [f32]) {
    let mut totals = [0.0; COLUMNS];
    for rows in dy.chunks(ROWS * width) {
        let mut partial = [0.0; COLUMNS];
        for row in rows.chunks_exact(width) {
            for (sum, value) in partial.iter_mut().zip(&row[first..first + sums.len()]) {
                *sum += *value;
            }
        }
        for (total, sum) in totals.iter_mut().zip(partial) {
            *total += sum;
        }
    }
    for (sum, total) in sums.iter_mut().zip(totals) {
        *sum += total;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gemm::bf16;
    use crate::testing::{assert_close, dot, on_one_and_two_threads, random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn every_pass_matches_its_plain_twin(
            rows in prop_oneof![1usize..20, 60usize..70, 250usize..300],
            (inputs, outputs) in (1usize..150, prop_oneof![1usize..150, 250usize..270]),
            seed in any::<u64>(),
        ) {
            let x = random(seed, rows * inputs);
            let w = random(seed ^ 1, outputs * inputs);
            let bias = random(seed ^ 2, outputs);
            let dy = random(seed ^ 3, rows * outputs);
            let packed = PackedWeight::default();
            let weight = packed.with(&w, outputs, inputs);

            let (mut y, mut want) = (vec![f32::NAN; rows * outputs], vec![0.0; rows * outputs]);
            linear(&x, weight, Some(&bias), &mut y);
            plain::linear(&x, &w, Some(&bias), rows, &mut want);
            assert_close(&y, &want, 2e-6);

            let former = random(seed ^ 4, rows * inputs);
            let (mut dx, mut added) = (vec![f32::NAN; rows * inputs], former.clone());
            let mut want = vec![0.0; rows * inputs];
            linear_grad_input(&dy, weight, &mut dx, false);
            linear_grad_input(&dy, weight, &mut added, true);
            plain::linear_grad_input(&dy, &w, rows, &mut want);
            assert_close(&dx, &want, 2e-6);
            let want: Vec<f32> = former.iter().zip(&want).map(|(a, b)| a + b).collect();
            assert_close(&added, &want, 2e-6);

            let (mut dw, mut db) = (random(seed ^ 5, outputs * inputs), random(seed ^ 6, outputs));
            let (mut want_dw, mut want_db) = (dw.clone(), db.clone());
            linear_grad_weight(Precision::F32, &x, &dy, rows, &mut dw, Some(&mut db));
            plain::linear_grad_weight(&x, &dy, rows, &mut want_dw, Some(&mut want_db));
            assert_close(&dw, &want_dw, 2e-6);
            assert_close(&db, &want_db, 2e-6);
        }
    }

    /// The adjoint: `⟨dy, x·Wᵀ⟩ = ⟨dy·W, x⟩ = ⟨dyᵀ·x, W⟩`.
    #[test]
    fn the_passes_are_adjoint() {
        let (rows, inputs, outputs) = (77, 130, 45);
        let (x, w, dy) =
            (random(1, rows * inputs), random(2, outputs * inputs), random(3, rows * outputs));
        let packed = PackedWeight::default();
        let weight = packed.with(&w, outputs, inputs);
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), vec![0.0; w.len()]);
        linear(&x, weight, None, &mut y);
        linear_grad_input(&dy, weight, &mut dx, false);
        linear_grad_weight(Precision::F32, &x, &dy, rows, &mut dw, None);
        let products = [dot(&dy, &y), dot(&dx, &x), dot(&dw, &w)];
        let size = (rows * inputs * outputs) as f64;
        for product in products {
            assert!((product - products[0]).abs() < 1e-6 * size.sqrt(), "{products:?}");
        }
    }

    #[test]
    fn in_bf16_every_product_has_rounded_operands_and_the_bias_has_not() {
        let (rows, inputs, outputs) = (7, 20, 9);
        let (x, w, bias) =
            (random(1, rows * inputs), random(2, outputs * inputs), random(3, outputs));
        let dy = random(4, rows * outputs);
        let rounded = |values: &[f32]| {
            let mut values = values.to_vec();
            bf16::round(cpu::level(), &mut values);
            values
        };
        let (x16, w16, dy16) = (rounded(&x), rounded(&w), rounded(&dy));
        let mut packed = PackedWeight::new(Precision::Bf16);
        packed.invalidate(); // which keeps the precision
        let weight = packed.with(&w, outputs, inputs);

        let (mut y, mut want) = (vec![0.0; rows * outputs], vec![0.0; rows * outputs]);
        linear(&x, weight, Some(&bias), &mut y);
        plain::linear(&x16, &w16, Some(&bias), rows, &mut want);
        assert_close(&y, &want, 1e-6);

        let (mut dx, mut want) = (vec![0.0; rows * inputs], vec![0.0; rows * inputs]);
        linear_grad_input(&dy, weight, &mut dx, false);
        plain::linear_grad_input(&dy16, &w16, rows, &mut want);
        assert_close(&dx, &want, 1e-6);

        let (mut dw, mut want) = (vec![0.0; outputs * inputs], vec![0.0; outputs * inputs]);
        let (mut db, mut want_db) = (vec![0.0; outputs], vec![0.0; outputs]);
        linear_grad_weight(Precision::Bf16, &x, &dy, rows, &mut dw, Some(&mut db));
        plain::linear_grad_weight(&x16, &dy16, rows, &mut want, None);
        plain::linear_grad_weight(&x, &dy, rows, &mut vec![0.0; want.len()], Some(&mut want_db));
        assert_close(&dw, &want, 1e-6);
        assert_close(&db, &want_db, 1e-6);
    }

    #[test]
    fn an_invalidated_weight_is_packed_anew() {
        let (old, new, x) = ([1.0, 2.0], [3.0, 4.0], [10.0, 1.0]);
        let mut packed = PackedWeight::default();
        let mut y = [0.0];
        linear(&x, packed.with(&old, 1, 2), None, &mut y);
        assert_eq!(y, [12.0]);
        packed.invalidate();
        linear(&x, packed.with(&new, 1, 2), None, &mut y);
        assert_eq!(y, [34.0]);
    }

    #[test]
    fn gradients_have_the_same_bits_on_one_and_two_threads() {
        let (rows, inputs, outputs) = (300, 100, 200);
        let (x, dy) = (random(1, rows * inputs), random(2, rows * outputs));
        let [one, two] = on_one_and_two_threads(|| {
            let (mut dw, mut db) = (vec![0.0; outputs * inputs], vec![0.0; outputs]);
            linear_grad_weight(Precision::F32, &x, &dy, rows, &mut dw, Some(&mut db));
            [dw, db].concat()
        });
        assert!(one.iter().zip(&two).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
