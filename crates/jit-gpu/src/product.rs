//! Matrix products: in f32 by our own kernel, in half precision by CubeK's, which uses tensor cores
//! where there are some.

use std::time::Instant;

use cubecl::client::Client;
use cubecl::ir::features::TypeUsage;
use cubecl::prelude::*;
use cubecl::std::tensor::TensorHandle;
use cubek_matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek_matmul::multi_level;
use cubek_matmul::strategy::Strategy;
use cubek_std::InputBinding;
use half::{bf16, f16};

use crate::device::Gpu;
use crate::kernels::elementwise::{add_rows_in_place, round_to};
use crate::kernels::product::{StridesLaunch, TILE, UNITS, product};
use crate::launch::each;
use crate::tensor::{Block, GpuTensor};

/// A type of half as many bits whose products the device sums in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfKind {
    /// The upper half of an f32.
    Bf16,
    /// More digits and less range, too little for gradients as they are: a check of what Bf16 goes
    /// through, on devices without it.
    F16,
}

impl HalfKind {
    /// What this device can multiply.
    pub fn of(client: &Client) -> Option<Self> {
        let uses = bf16::supported_uses(client);
        let all = [TypeUsage::Conversion, TypeUsage::Buffer];
        all.iter().all(|usage| uses.contains(*usage)).then_some(HalfKind::Bf16)
    }
}

/// Values to multiply, in the precision of products.
pub enum Values<'a> {
    /// As they are.
    Own(Block),
    /// Someone else's.
    Borrowed(&'a Block),
}

impl Values<'_> {
    fn block(&self) -> &Block {
        match self {
            Values::Own(block) => block,
            Values::Borrowed(block) => block,
        }
    }
}

/// A batch of matrices, one operand of a product.
pub struct Operand<'a> {
    values: Values<'a>,
    len: usize,
    /// Values from one matrix to the next; 0 to use one for all.
    matrix: usize,
    /// Whether the sum runs along the rows in memory, `[outer, inner]`, or across, `[inner, outer]`.
    along: bool,
}

impl<'a> Operand<'a> {
    /// `[matrices, outer, inner]`
    pub fn along(values: Values<'a>, len: usize, matrix: usize) -> Self {
        Self { values, len, matrix, along: true }
    }

    /// `[matrices, inner, outer]`
    pub fn across(values: Values<'a>, len: usize, matrix: usize) -> Self {
        Self { values, len, matrix, along: false }
    }
}

/// The extents of `c [matrices, m, n] = Σ_k a·b`.
#[derive(Clone, Copy)]
pub struct Extents {
    pub matrices: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

impl Gpu {
    /// A tensor's values in the precision of products.
    pub(crate) fn operand<'a>(&self, x: &'a GpuTensor) -> Values<'a> {
        match self.half {
            None => Values::Borrowed(&x.block),
            Some(_) => Values::Own(self.rounded(x)),
        }
    }

    /// A tensor's values in half as many bits.
    pub(crate) fn rounded(&self, x: &GpuTensor) -> Block {
        let (block, n) = (self.block(x.len() * 2), x.len());
        let (count, dim) = each(n);
        let (c, x) = (&self.client, x.arg());
        match self.half {
            Some(HalfKind::F16) => round_to::launch::<f16>(c, count, dim, x, block.arg::<f16>(n)),
            _ => round_to::launch::<bf16>(c, count, dim, x, block.arg::<bf16>(n)),
        }
        block
    }

    /// `c = a·b + bias`, or `c += a·b`.
    pub(crate) fn multiply(
        &self,
        a: &Operand<'_>,
        b: &Operand<'_>,
        bias: Option<&GpuTensor>,
        c: &GpuTensor,
        adds: bool,
        extents: Extents,
    ) {
        match self.half {
            None => self.multiply_f32(a, b, bias, c, adds, extents),
            Some(kind) => self.multiply_half(kind, a, b, bias, c, adds, extents),
        }
    }

    fn multiply_f32(
        &self,
        a: &Operand<'_>,
        b: &Operand<'_>,
        bias: Option<&GpuTensor>,
        c: &GpuTensor,
        adds: bool,
        e: Extents,
    ) {
        let strides = |x: &Operand<'_>, outer: usize| match x.along {
            true => StridesLaunch::new(e.k, 1, x.matrix),
            false => StridesLaunch::new(1, outer, x.matrix),
        };
        let grid = [e.n.div_ceil(TILE), e.m.div_ceil(TILE), e.matrices].map(|n| n as u32);
        product::launch(
            &self.client,
            CubeCount::Static(grid[0], grid[1], grid[2]),
            CubeDim::new_1d(UNITS),
            a.values.block().arg::<f32>(a.len),
            b.values.block().arg::<f32>(b.len),
            bias.unwrap_or(&self.nothing).arg(),
            c.arg(),
            strides(a, e.m),
            strides(b, e.n),
            e.m,
            e.n,
            e.k,
            a.along,
            b.along,
            adds,
            bias.is_some(),
        );
    }

    fn multiply_half(
        &self,
        kind: HalfKind,
        a: &Operand<'_>,
        b: &Operand<'_>,
        bias: Option<&GpuTensor>,
        c: &GpuTensor,
        adds: bool,
        e: Extents,
    ) {
        // The library's product writes; a sum goes through a tensor of its own.
        let apart = adds.then(|| self.unset(&c.shape));
        let to = apart.as_ref().unwrap_or(c);
        let half = match kind {
            HalfKind::Bf16 => bf16::elem_type_native(),
            HalfKind::F16 => f16::elem_type_native(),
        };
        let bind = |x: &Operand<'_>, shape: [usize; 3], strides: [usize; 3]| {
            let block = x.values.block();
            InputBinding::new(
                TensorHandle::new(block.handle(), shape, strides, half).binding(),
                half,
            )
        };
        let lhs = bind(
            a,
            [e.matrices, e.m, e.k],
            match a.along {
                true => [a.matrix, e.k, 1],
                false => [a.matrix, 1, e.m],
            },
        );
        let rhs = bind(
            b,
            [e.matrices, e.k, e.n],
            match b.along {
                true => [b.matrix, 1, e.k],
                false => [b.matrix, e.n, 1],
            },
        );
        let single = f32::elem_type_native();
        let out = || {
            let shape = [e.matrices, e.m, e.n];
            TensorHandle::new_contiguous(shape, to.block.handle(), single).binding()
        };
        let globals = MatmulGlobalElems { lhs: half, rhs: half, out: single };
        let tensor_cores = multi_level::Strategy::SimpleCyclicCmma(Default::default());
        let plain = multi_level::Strategy::SimpleUnit(Default::default());
        let attempt = |strategy: multi_level::Strategy| {
            let mut types = MatmulElems::from_globals(&globals);
            let (strategy, client) = (Strategy::MultiLevel(strategy), &self.client);
            let (lhs, rhs) = (lhs.clone(), rhs.clone());
            cubek_matmul::launch::launch_ref(&strategy, client, lhs, rhs, out(), &mut types)
        };
        if let Err(error) = attempt(tensor_cores).or_else(|_| attempt(plain)) {
            self.failed(&format!("no product of {} × {} × {}: {error:?}", e.m, e.n, e.k));
        }
        let (count, dim) = each(to.len());
        if let Some(bias) = bias {
            add_rows_in_place::launch(&self.client, count, dim, to.arg(), bias.arg());
        } else if adds {
            crate::kernels::elementwise::add_assign::launch(
                &self.client,
                count,
                dim,
                c.arg(),
                to.arg(),
            );
        }
    }
}

impl Gpu {
    /// Operations per second of a large product, in the precision of products: what a device reaches at
    /// best.
    pub fn peak_flops(&self) -> f64 {
        /// A product of this time is long enough to measure.
        const LONG: f64 = 0.05;
        /// The largest side, whose three matrices every card holds.
        const LARGEST: usize = 8192;
        let mut side = 512;
        loop {
            let [a, b, c] = [(); 3].map(|()| self.unset(&[side, side]));
            let (a, b) = (self.operand(&a), self.operand(&b));
            let (a, b) = (Operand::along(a, side * side, 0), Operand::along(b, side * side, 0));
            let extents = Extents { matrices: 1, m: side, n: side, k: side };
            let once = || {
                let started = Instant::now();
                self.multiply(&a, &b, None, &c, false, extents);
                self.settle();
                started.elapsed().as_secs_f64()
            };
            once();
            let fastest = [once(), once(), once()].into_iter().fold(f64::INFINITY, f64::min);
            if fastest > LONG || side >= LARGEST {
                return 2.0 * (side as f64).powi(3) / fastest;
            }
            side *= 2;
        }
    }
}
