//! Attention: on tensor cores where it is bf16 and the head's size is that of a preset, otherwise by kernels for any size.

use jit_model::device::{Attention, Fault, NormGrads};

use crate::backend::Dtype;
use crate::device::Cuda;
use crate::launch::Call;
use crate::memory::Block;
use crate::tensor::CudaTensor;

/// Keys of a tile where a head's do not fit shared memory: that many do on every card from 8.0 on.
const TILE: usize = 64;

/// Sizes of an attention, and what is random in it.
struct Shape {
    batch: usize,
    tokens: usize,
    heads: usize,
    head: usize,
    /// Of qkv and of the output.
    pitches: (usize, usize),
    mask: Option<(Block, f32)>,
}

/// How blocks share the work of a kernel on tensor cores.
struct Tiling {
    /// Of a row and of two rows in shared memory, in elements; see `attention_mma.cu`.
    pitch: usize,
    pair_pitch: usize,
    warps: usize,
    /// Keys in shared memory at a time.
    tile: usize,
    /// Blocks that share the rows of a head.
    splits: usize,
}

/// How blocks share the work of a kernel for any size.
struct Rows {
    warps: usize,
    /// Rows of a block.
    rows: usize,
    /// Blocks of a head.
    blocks: usize,
    /// The head's size in shared memory, of a row and of a column.
    along: usize,
    across: usize,
}

impl Shape {
    fn heads_in_all(&self) -> usize {
        self.batch * self.heads
    }

    /// Whether there is a kernel on tensor cores.
    fn is_fast(&self, dtype: Dtype) -> bool {
        dtype == Dtype::Bf16 && self.mask.is_none() && matches!(self.head, 64 | 80 | 104)
    }

    /// The largest tile whose `bytes` of shared memory a block may have: all keys of a head, so that one block does, or fewer.
    fn tiling(&self, most: usize, bytes: impl Fn(&Tiling) -> usize) -> Tiling {
        let (pitch, pair_pitch, warps) = match self.head {
            64 => (72, 136, 6),
            80 => (88, 168, 9),
            _ => (120, 232, 8),
        };
        let padded = self.tokens.next_multiple_of(16);
        let whole = Tiling { pitch, pair_pitch, warps, tile: padded, splits: 1 };
        if bytes(&whole) <= most {
            return whole;
        }
        Tiling { tile: TILE, splits: (padded / 16).div_ceil(warps), ..whole }
    }

    fn rows(&self) -> Rows {
        let along = self.head.next_multiple_of(4);
        let warps = match along {
            ..=104 => 4,
            105..=184 => 2,
            _ => 1,
        };
        let rows = 8 * warps;
        Rows { warps, rows, blocks: self.tokens.div_ceil(rows), along, across: along | 4 }
    }
}

fn forward_bytes(t: &Tiling) -> usize {
    2 * t.tile * t.pair_pitch + 32 * t.warps * t.pitch
}

fn backward_bytes(t: &Tiling, head: usize) -> usize {
    // Operands that a warp has in shared memory.
    let staged = if head == 80 { 2 } else { 1 };
    let operands = 2 * t.tile * t.pair_pitch + 32 * t.warps * t.pitch * staged;
    operands + 8 * t.tile + 128 * t.warps + 8 * t.warps * head
}

impl Cuda {
    fn attention_shape(&self, qkv: &CudaTensor, a: &Attention<'_, Self>, out: usize) -> Shape {
        let (batch, tokens, width) = qkv.tokens();
        let mask = a.dropout.map(|d| (self.streams(&d.streams), d.rate));
        let (heads, head) = (a.heads, width / 3 / a.heads);
        Shape { batch, tokens, heads, head, pitches: (qkv.pitch, out), mask }
    }

    pub(super) fn attend(
        &self,
        qkv: &CudaTensor,
        a: &Attention<'_, Self>,
    ) -> (CudaTensor, CudaTensor) {
        let (_, _, width) = qkv.tokens();
        let mut out = self.unset_with_last(qkv, width / 3, qkv.dtype);
        let s = self.attention_shape(qkv, a, out.pitch);
        let mut lse = self.unset(&[s.batch, s.heads, s.tokens], Dtype::F32);
        if s.is_fast(qkv.dtype) {
            let t = s.tiling(self.backend().shared_memory(), forward_bytes);
            let call = self.kernel(format!("attention_mma_{}", s.head)).read(qkv);
            let call = call.weight(a.q_norm).weight(a.k_norm).read(a.rope);
            let call = call.write(&mut out).write(&mut lse);
            self.tiled(call, &s, &t, forward_bytes(&t));
            return (out, lse);
        }
        let rotated = self.rotated(qkv, a, &s);
        let r = s.rows();
        let call = self.kernel(format!("attention{}", qkv.dtype.suffix()));
        let call = call.read(&rotated).read(qkv).write(&mut out).write(&mut lse);
        let bytes = 4 * (2 * r.rows * r.along + 64 * r.across + 32 * r.rows);
        self.by_rows(call, &s, &r, bytes);
        (out, lse)
    }

    pub(super) fn attend_grad(
        &self,
        qkv: &CudaTensor,
        a: &Attention<'_, Self>,
        out: &CudaTensor,
        lse: &CudaTensor,
        dout: &CudaTensor,
        dnorm: NormGrads<'_, CudaTensor>,
    ) -> CudaTensor {
        let dout = self.in_dtype(dout, qkv.dtype);
        let s = self.attention_shape(qkv, a, out.pitch);
        assert_eq!(
            (out.pitch, out.dtype),
            (dout.pitch, dout.dtype),
            "attention_grad: out and dout"
        );
        let mut dqkv = self.unset_like(qkv);
        let partial = if s.is_fast(qkv.dtype) {
            let bytes = |t: &Tiling| backward_bytes(t, s.head);
            let t = s.tiling(self.backend().shared_memory(), bytes);
            let rows = s.heads_in_all() * t.splits;
            let mut partial = self.unset(&[rows, 2 * s.head], Dtype::F32);
            let call = self.kernel(format!("attention_mma_grad_{}", s.head)).read(qkv);
            let call = call.weight(a.q_norm).weight(a.k_norm).read(a.rope).read(out).read(lse);
            let call = call.read(&dout).write(&mut dqkv).write(&mut partial);
            self.tiled(call, &s, &t, bytes(&t));
            partial
        } else {
            self.grad_by_rows(qkv, a, &s, (out, lse, &dout), &mut dqkv)
        };
        for (side, grad) in [dnorm.q_norm, dnorm.k_norm].into_iter().enumerate() {
            self.add_sums_of_columns(&partial, side * s.head..(side + 1) * s.head, grad);
        }
        dqkv
    }

    /// The kernels for any size: queries' gradients first, then those of keys and values. Returns partial sums of the norms'
    /// weights' gradients, `[blocks, 2·h]`.
    fn grad_by_rows(
        &self,
        qkv: &CudaTensor,
        a: &Attention<'_, Self>,
        s: &Shape,
        (out, lse, dout): (&CudaTensor, &CudaTensor, &CudaTensor),
        dqkv: &mut CudaTensor,
    ) -> CudaTensor {
        let suffix = qkv.dtype.suffix();
        let rotated = self.rotated(qkv, a, s);
        let mut delta = self.unset(&[s.batch, s.heads, s.tokens], Dtype::F32);
        let call = self.kernel(format!("attention_delta{suffix}"));
        let call = call.read(out).read(dout).write(&mut delta);
        let call = call.int(s.batch).int(s.tokens).int(s.heads).int(s.head).int(s.pitches.1);
        call.grid([(s.heads_in_all() * s.tokens).div_ceil(8), 1, 1]).run();

        let r = s.rows();
        let mut partial = self.unset(&[s.heads_in_all() * r.blocks, 2 * s.head], Dtype::F32);
        let query = 4 * (3 * r.rows * r.along + 64 * r.across + 32 * r.rows);
        let key = 4 * (4 * r.rows * r.along + 64 * r.across + 64 * r.rows);
        for (side, norm, bytes) in [("query", a.q_norm, query), ("key", a.k_norm, key)] {
            let call = self.kernel(format!("attention_grad_{side}{suffix}"));
            let call = call.read(&rotated).read(qkv).weight(norm).read(a.rope).read(lse);
            let call = call.read(&delta).read(dout).write(dqkv).write(&mut partial);
            self.by_rows(call, s, &r, bytes);
        }
        partial
    }

    /// Queries and keys, normalised and rotated: `[2, B, H, N, h]` in f32.
    fn rotated(&self, qkv: &CudaTensor, a: &Attention<'_, Self>, s: &Shape) -> CudaTensor {
        let mut rotated = self.unset(&[2, s.heads_in_all(), s.tokens, s.head], Dtype::F32);
        let call = self.kernel(format!("attention_prepare{}", qkv.dtype.suffix())).read(qkv);
        let call = call.weight(a.q_norm).weight(a.k_norm).read(a.rope).write(&mut rotated);
        let call = call.int(s.batch).int(s.tokens).int(s.heads).int(s.head).int(s.pitches.0);
        call.grid([(2 * s.heads_in_all() * s.tokens).div_ceil(8), 1, 1]).run();
        rotated
    }

    fn by_rows(&self, call: Call<'_>, s: &Shape, r: &Rows, bytes: usize) {
        let call = match &s.mask {
            Some((streams, rate)) => call.block(streams).float(*rate),
            None => call.null().float(0.0),
        };
        let call = call.int(s.batch).int(s.tokens).int(s.heads).int(s.head);
        let call = call.int(s.pitches.0).int(s.pitches.1);
        self.heads(call, s, r.blocks, r.warps, bytes);
    }

    fn tiled(&self, call: Call<'_>, s: &Shape, t: &Tiling, bytes: usize) {
        let call = call.int(s.tokens).int(s.heads).int(s.pitches.0).int(s.pitches.1).int(t.tile);
        self.heads(call, s, t.splits, t.warps, bytes);
    }

    /// Launches `blocks` for each head of each image.
    fn heads(&self, call: Call<'_>, s: &Shape, blocks: usize, warps: usize, bytes: usize) {
        let most = self.backend().shared_memory();
        if bytes > most {
            self.memory.fail(Fault::Failed(format!(
                "attention with {} values a head needs {bytes} bytes of shared memory, and this card has {most}: \
                 use more heads",
                s.head
            )));
        }
        call.grid([blocks, s.heads, s.batch]).threads(32 * warps as u32).shared(bytes).run();
    }
}
