//! Operations element by element, and between f32 and bf16.

use jit_model::device::Dropout;

use crate::backend::Dtype;
use crate::device::Cuda;
use crate::launch::{BLOCK, Call};
use crate::tensor::CudaTensor;

/// Blocks per multiprocessor of a grid-stride loop: as many as run at once.
const BLOCKS_PER_PROCESSOR: usize = 16;

/// A tensor that is either given or was made from one.
pub(super) enum Operand<'a> {
    Given(&'a CudaTensor),
    Made(CudaTensor),
}

impl std::ops::Deref for Operand<'_> {
    type Target = CudaTensor;

    fn deref(&self) -> &CudaTensor {
        match self {
            Operand::Given(x) => x,
            Operand::Made(x) => x,
        }
    }
}

impl Cuda {
    /// Launches a kernel that strides over `n` elements.
    pub(super) fn each(&self, call: Call<'_>, n: usize) {
        let blocks = n.div_ceil(BLOCK as usize);
        let most = self.backend().processors() * BLOCKS_PER_PROCESSOR;
        call.grid([blocks.min(most), 1, 1]).run();
    }

    /// `x` in a type: itself where it has it, otherwise a converted copy.
    pub(super) fn in_dtype<'a>(&self, x: &'a CudaTensor, dtype: Dtype) -> Operand<'a> {
        if x.dtype == dtype { Operand::Given(x) } else { Operand::Made(self.cast(x, dtype)) }
    }

    /// `x` in f32, without padding.
    pub(super) fn to_f32(&self, x: CudaTensor) -> CudaTensor {
        if x.dtype == Dtype::F32 { x } else { self.cast(&x, Dtype::F32) }
    }

    /// A copy in the other type.
    pub(super) fn cast(&self, x: &CudaTensor, dtype: Dtype) -> CudaTensor {
        let (rows, columns) = x.rows_columns();
        let mut y = self.unset(&x.shape, dtype);
        let (name, pitch) = match dtype {
            Dtype::F32 => ("cast_to_f32", x.pitch),
            Dtype::Bf16 => ("cast_to_bf16", y.pitch),
        };
        let call = self.kernel(name).read(x).write(&mut y);
        self.each(call.int(rows).int(columns).int(pitch), rows * columns);
        y
    }

    /// `f(x)`, f a kernel's name.
    pub(super) fn activation(&self, name: &str, x: &CudaTensor) -> CudaTensor {
        let mut y = self.unset_like(x);
        let call = self.kernel(format!("{name}{}", x.dtype.suffix())).read(x).write(&mut y);
        self.each(call.long(x.held()), x.held());
        y
    }

    /// `f'(x)·dy`, f' a kernel's name.
    pub(super) fn activation_grad(
        &self,
        name: &str,
        x: &CudaTensor,
        dy: &CudaTensor,
    ) -> CudaTensor {
        let (dy, mut dx) = (self.in_dtype(dy, x.dtype), self.unset_like(x));
        let call = self.kernel(format!("{name}{}", x.dtype.suffix())).read(x).read(&dy);
        self.each(call.write(&mut dx).long(x.held()), x.held());
        dx
    }

    /// `silu(a)·b`: `[…, 2·m] → […, m]`
    pub(super) fn gated(&self, h: &CudaTensor) -> CudaTensor {
        let (rows, columns) = h.rows_columns();
        let m = columns / 2;
        let mut y = self.unset_with_last(h, m, h.dtype);
        let (from, to) = (h.pitch, y.pitch);
        let call = self.kernel(format!("swiglu{}", h.dtype.suffix())).read(h).write(&mut y);
        self.each(call.int(rows).int(m).int(from).int(to), rows * m);
        y
    }

    /// Its gradient `[…, 2·m]`, and its output again.
    pub(super) fn gated_grad(&self, h: &CudaTensor, dy: &CudaTensor) -> (CudaTensor, CudaTensor) {
        let (rows, columns) = h.rows_columns();
        let m = columns / 2;
        let dy = self.in_dtype(dy, h.dtype);
        let (mut dh, mut y) = (self.unset_like(h), self.unset_like(&dy));
        let (wide, narrow) = (h.pitch, dy.pitch);
        let call = self.kernel(format!("swiglu_grad{}", h.dtype.suffix())).read(h).read(&dy);
        let call = call.write(&mut dh).write(&mut y);
        self.each(call.int(rows).int(m).int(wide).int(narrow), rows * m);
        (dh, y)
    }

    /// In place.
    pub(super) fn dropped(&self, mut x: CudaTensor, dropout: &Dropout) -> CudaTensor {
        let (rows, columns) = x.rows_columns();
        let images = dropout.streams.len();
        let streams = self.streams(&dropout.streams);
        let pitch = x.pitch;
        let call = self.kernel(format!("dropout{}", x.dtype.suffix())).read(&x).write(&mut x);
        let call = call.block(&streams).float(dropout.rate).int(rows / images.max(1));
        self.each(call.int(columns).int(pitch).int(images), rows * columns);
        x
    }

    /// `x += y`, x in f32.
    pub(super) fn add(&self, x: &mut CudaTensor, y: &CudaTensor) {
        let (n, y) = (x.len(), self.in_dtype(y, Dtype::F32));
        assert_eq!(x.dtype, Dtype::F32, "sums are f32");
        assert_eq!(n, y.len(), "add_assign: lengths differ");
        self.each(self.kernel("add_assign").write(x).read(&y).long(n), n);
    }

    /// `a·x + b·y` in f32
    pub(super) fn weighted_sum(
        &self,
        a: f32,
        x: &CudaTensor,
        b: f32,
        y: &CudaTensor,
    ) -> CudaTensor {
        let (x, y) = (self.in_dtype(x, Dtype::F32), self.in_dtype(y, Dtype::F32));
        let n = x.len();
        assert_eq!(n, y.len(), "axpby: lengths differ");
        let mut out = self.unset_like(&x);
        let call = self.kernel("axpby").float(a).read(&x).float(b).read(&y).write(&mut out);
        self.each(call.long(n), n);
        out
    }
}
