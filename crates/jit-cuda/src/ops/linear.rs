//! Linear layers: matrix products, and sums over columns for the bias.

use std::ops::Range;
use std::time::Instant;

use jit_core::rng::{Purpose, Stream};
use jit_model::device::{Fault, Precision};

use super::pointwise::Operand;
use crate::backend::{Dtype, Product, ProductKind};
use crate::device::Cuda;
use crate::tensor::{CudaTensor, CudaWeight};

/// Groups of rows that are summed apart, at most.
const GROUPS: usize = 64;
/// Rows of a group, at least.
const ROWS: usize = 64;

impl Cuda {
    /// A parameter with the rounded copy that products read.
    pub(super) fn new_weight(&self, value: CudaTensor) -> CudaWeight {
        let rounded = (self.precision == Precision::Bf16).then(|| self.rounded(&value));
        CudaWeight { value, rounded }
    }

    /// `[out, in]` in bf16, further axes flattened into `in`; a vector as one row.
    fn rounded(&self, value: &CudaTensor) -> CudaTensor {
        let (rows, columns) = matrix_shape(value);
        let mut out = self.unset(&[rows, columns], Dtype::Bf16);
        let pitch = out.pitch;
        let call = self.kernel("cast_to_bf16").read(value).write(&mut out);
        self.each(call.int(rows).int(columns).int(pitch), rows * columns);
        out
    }

    /// Tokens `[B, N, D]` are kept in the precision's type; `[B, D]`, which is small, in f32.
    pub(super) fn dtype_of_rank(&self, x: &CudaTensor) -> Dtype {
        if x.shape.len() > 2 { self.activations() } else { Dtype::F32 }
    }

    /// What a product reads.
    fn operand<'a>(&self, x: &'a CudaTensor) -> Operand<'a> {
        self.in_dtype(x, self.activations())
    }

    /// `x·wᵀ + b` in a type.
    pub(super) fn linear_in(
        &self,
        x: &CudaTensor,
        w: &CudaWeight,
        bias: Option<&CudaWeight>,
        dtype: Dtype,
    ) -> CudaTensor {
        let ((rows, inputs), (outputs, _)) = (x.rows_columns(), w.outputs_inputs());
        let x = self.operand(x);
        let y = self.unset_with_last(&x, outputs, dtype);
        let bias_in_dtype = bias.map(|b| match (&b.rounded, dtype) {
            (Some(rounded), Dtype::Bf16) => rounded.block.address(),
            _ => b.value.block.address(),
        });
        let product = Product {
            kind: ProductKind::Forward,
            rows,
            inputs,
            outputs,
            left: x.matrix(),
            right: w.operand(),
            result: y.matrix(),
            bias: bias_in_dtype,
        };
        if self.multiply(&product) {
            return y;
        }
        self.multiply(&Product { bias: None, ..product });
        match bias {
            Some(bias) if dtype == Dtype::F32 => self.with_rows(y, &bias.value),
            _ => {
                let reason = "cuBLASLt has no product that adds a bias in bf16 here";
                self.memory.fail(Fault::Failed(reason.into()));
                y
            }
        }
    }

    /// `dy·w`
    pub(super) fn grad_input(&self, dy: &CudaTensor, w: &CudaWeight) -> CudaTensor {
        let ((rows, _), (outputs, inputs)) = (dy.rows_columns(), w.outputs_inputs());
        let dx = self.unset_with_last(dy, inputs, self.dtype_of_rank(dy));
        let dy = self.operand(dy);
        self.multiply(&Product {
            kind: ProductKind::GradInput,
            rows,
            inputs,
            outputs,
            left: dy.matrix(),
            right: w.operand(),
            result: dx.matrix(),
            bias: None,
        });
        dx
    }

    /// `dw += dyᵀ·x`, `db += Σ dy`
    pub(super) fn grad_weight(
        &self,
        x: &CudaTensor,
        dy: &CudaTensor,
        dw: &mut CudaTensor,
        db: Option<&mut CudaTensor>,
    ) {
        let ((rows, inputs), (_, outputs)) = (x.rows_columns(), dy.rows_columns());
        if let Some(db) = db {
            self.add_column_sums(dy, db);
        }
        let (x, dy) = (self.operand(x), self.operand(dy));
        // Of a convolution's weight the gradient has four axes.
        let mut result = dw.matrix();
        result.pitch = inputs;
        self.multiply(&Product {
            kind: ProductKind::GradWeight,
            rows,
            inputs,
            outputs,
            left: dy.matrix(),
            right: x.matrix(),
            result,
            bias: None,
        });
    }

    /// Operations per second of a large product, in the precision of products, on random numbers: what a card
    /// reaches at best.
    pub fn peak_flops(&self) -> f64 {
        /// A product of this time is long enough to measure.
        const LONG: f64 = 0.05;
        /// The largest side, whose three matrices every card holds.
        const LARGEST: usize = 8192;
        let mut side = 256;
        loop {
            let [a, b] = [0, 1].map(|i| {
                let stream = Stream::new(0, Purpose::Noise, 0, i);
                let values = self.normal_noise(&[stream], 1.0, &[1, side, side]);
                match self.activations() {
                    Dtype::F32 => values,
                    dtype => self.cast(&values, dtype),
                }
            });
            let y = self.unset(&[side, side], self.activations());
            let product = Product {
                kind: ProductKind::Forward,
                rows: side,
                inputs: side,
                outputs: side,
                left: a.matrix(),
                right: b.matrix(),
                result: y.matrix(),
                bias: None,
            };
            let once = || {
                let started = Instant::now();
                self.multiply(&product);
                self.noting(self.backend().wait());
                started.elapsed().as_secs_f64()
            };
            once();
            let fastest = [once(), once(), once()].into_iter().fold(f64::INFINITY, f64::min);
            if fastest > LONG || side >= LARGEST || self.memory.fault().is_some() {
                return 2.0 * (side as f64).powi(3) / fastest;
            }
            side *= 2;
        }
    }

    /// Whether it was done; true after a fault, when nothing counts.
    fn multiply(&self, product: &Product) -> bool {
        let nothing = product.rows * product.inputs * product.outputs == 0;
        if nothing || self.memory.fault().is_some() {
            return true;
        }
        self.backend().multiply(product).unwrap_or_else(|fault| {
            self.memory.fail(fault);
            true
        })
    }

    /// `out += Σ_r x[r]`
    pub(super) fn add_column_sums(&self, x: &CudaTensor, out: &mut CudaTensor) {
        self.add_sums_of_columns(x, 0..x.rows_columns().1, out);
    }

    /// `out += Σ_r x[r]` over some columns, in groups of rows whose number depends on the rows alone.
    pub(super) fn add_sums_of_columns(
        &self,
        x: &CudaTensor,
        columns: Range<usize>,
        out: &mut CudaTensor,
    ) {
        let ((rows, _), first) = (x.rows_columns(), columns.start);
        let columns = columns.len();
        assert_eq!(out.len(), columns, "sums of columns: lengths differ");
        let chunk = rows.div_ceil(GROUPS).max(ROWS);
        let groups = rows.div_ceil(chunk);
        let mut partial = self.unset(&[groups, columns], Dtype::F32);
        self.kernel(format!("column_sum{}", x.dtype.suffix()))
            .read_at(x, first * x.dtype.size())
            .write(&mut partial)
            .int(rows)
            .int(columns)
            .int(x.pitch)
            .int(chunk)
            .grid([columns.div_ceil(64), groups, 1])
            .run();
        self.kernel("column_sum_finish")
            .read(&partial)
            .write(out)
            .int(groups)
            .int(columns)
            .grid([columns.div_ceil(32), 1, 1])
            .run();
    }
}

/// `(out, in)` of a parameter, further axes flattened into `in`; a vector as one row.
pub(super) fn matrix_shape(value: &CudaTensor) -> (usize, usize) {
    match value.shape[..] {
        [] | [_] => (1, value.len()),
        [outputs, ..] => (outputs, value.len() / outputs.max(1)),
    }
}
