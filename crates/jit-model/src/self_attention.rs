//! Multi-head self-attention with normalised queries and keys and 2-D rotary positions.

use crate::device::{self, Device, NormGrads};
use crate::dropout::BlockDropout;
use crate::init::Init;
use crate::linear::Linear;
use crate::params::{Grads, ParamId, Params, Registry};

/// qkv → per-head RMSNorm of q and k → RoPE → softmax(qkᵀ/√h)·v → proj.
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention {
    heads: usize,
    qkv: Linear,
    q_norm: ParamId,
    k_norm: ParamId,
    proj: Linear,
}

/// What the backward pass needs: no N × N matrix among it.
pub struct Saved<T> {
    qkv: T,
    out: T,
    lse: T,
}

impl SelfAttention {
    /// Declares `{name}.{qkv, q_norm, k_norm, proj}`.
    pub fn new(r: &mut Registry, name: &str, dim: usize, heads: usize) -> Self {
        let head = dim / heads;
        Self {
            heads,
            qkv: Linear::new(r, &format!("{name}.qkv"), dim, 3 * dim, Init::XavierUniform),
            q_norm: r.add(format!("{name}.q_norm.weight"), &[head], Init::Ones),
            k_norm: r.add(format!("{name}.k_norm.weight"), &[head], Init::Ones),
            proj: Linear::new(r, &format!("{name}.proj"), dim, dim, Init::XavierUniform),
        }
    }

    /// x `[B, N, D]`, rope `[2, N, D/H]` → `[B, N, D]`
    pub fn forward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        x: &D::Tensor,
        rope: &D::Tensor,
        dropout: Option<&BlockDropout>,
    ) -> (D::Tensor, Saved<D::Tensor>) {
        let qkv = self.qkv.forward(dev, p, x);
        let (out, lse) = dev.attention(&qkv, self.shape(p, rope, dropout));
        let mut y = self.proj.forward(dev, p, &out);
        if let Some(mask) = dropout.and_then(|d| d.projection.as_ref()) {
            y = dev.dropout(y, mask);
        }
        (y, Saved { qkv, out, lse })
    }

    /// Gradient with respect to x; `dy` is consumed because dropout masks it in place.
    pub fn backward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        x: &D::Tensor,
        rope: &D::Tensor,
        saved: &Saved<D::Tensor>,
        dropout: Option<&BlockDropout>,
        mut dy: D::Tensor,
    ) -> D::Tensor {
        if let Some(mask) = dropout.and_then(|d| d.projection.as_ref()) {
            dy = dev.dropout(dy, mask);
        }
        let dout = self.proj.backward(dev, p, g, &saved.out, &dy);
        let (q_norm, k_norm) = g.pair_mut(self.q_norm, self.k_norm);
        let dqkv = dev.attention_grad(
            &saved.qkv,
            self.shape(p, rope, dropout),
            &saved.out,
            &saved.lse,
            &dout,
            NormGrads { q_norm, k_norm },
        );
        self.qkv.backward(dev, p, g, x, &dqkv)
    }

    fn shape<'a, D: Device>(
        &self,
        p: &'a Params<D>,
        rope: &'a D::Tensor,
        dropout: Option<&'a BlockDropout>,
    ) -> device::Attention<'a, D> {
        device::Attention {
            heads: self.heads,
            q_norm: &p[self.q_norm],
            k_norm: &p[self.k_norm],
            rope,
            dropout: dropout.and_then(|d| d.attention.as_ref()),
        }
    }
}
