//! One Transformer block, modulated by the condition (adaLN-zero).

use crate::bottleneck_mlp::{self, BottleneckMlp};
use crate::config::{MlpKind, ModelConfig};
use crate::device::{Device, Modulation};
use crate::dropout::BlockDropout;
use crate::init::Init;
use crate::linear::Linear;
use crate::params::{Grads, ParamId, Params, Registry};
use crate::self_attention::{self, SelfAttention};
use crate::swiglu::{self, SwiGlu};

/// The six vectors of a block's modulation, in the reference's order.
const SHIFT1: usize = 0;
const SCALE1: usize = 1;
const GATE1: usize = 2;
const SHIFT2: usize = 3;
const SCALE2: usize = 4;
const GATE2: usize = 5;

/// `x += gate₁·Attn(mod(RMSNorm(x)))`, then `x += gate₂·MLP(mod(RMSNorm(x)))`.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    norm1: ParamId,
    attn: SelfAttention,
    norm2: ParamId,
    mlp: Mlp,
    modulation: Linear,
}

#[derive(Clone, Copy, Debug)]
enum Mlp {
    SwiGlu(SwiGlu),
    Bottleneck(BottleneckMlp),
}

/// What the backward pass needs: the residual stream before each half, and the halves' outputs.
/// The normalised inputs are recomputed.
pub struct Saved<T> {
    x: T,
    mods: T,
    attn: self_attention::Saved<T>,
    attn_out: T,
    x_mid: T,
    mlp: MlpSaved<T>,
    mlp_out: T,
}

enum MlpSaved<T> {
    SwiGlu(swiglu::Saved<T>),
    Bottleneck(bottleneck_mlp::Saved<T>),
}

impl<T> Saved<T> {
    /// The block's input alone, from which the rest can be recomputed.
    pub fn into_input(self) -> T {
        self.x
    }
}

/// What a block reads beside its input.
pub struct Inputs<'a, D: Device> {
    /// The device.
    pub dev: &'a D,
    /// The network's parameters.
    pub params: &'a Params<D>,
    /// SiLU of the condition, `[B, D]`.
    pub condition: &'a D::Tensor,
    /// Rotary table, `[2, N, D/H]`.
    pub rope: &'a D::Tensor,
    /// Dropout masks, while training a block that has dropout.
    pub dropout: Option<&'a BlockDropout>,
}

impl Block {
    /// Declares `{name}.{norm1, attn, norm2, mlp, adaLN_modulation.1}`.
    pub fn new(r: &mut Registry, name: &str, c: &ModelConfig) -> Self {
        let dim = c.hidden_size;
        let mlp_name = format!("{name}.mlp");
        Self {
            norm1: r.add(format!("{name}.norm1.weight"), &[dim], Init::Ones),
            attn: SelfAttention::new(r, &format!("{name}.attn"), dim, c.num_heads),
            norm2: r.add(format!("{name}.norm2.weight"), &[dim], Init::Ones),
            mlp: match c.mlp {
                MlpKind::Swiglu => Mlp::SwiGlu(SwiGlu::new(r, &mlp_name, dim)),
                MlpKind::Bottleneck => Mlp::Bottleneck(BottleneckMlp::new(r, &mlp_name, dim)),
            },
            modulation: Linear::new(
                r,
                &format!("{name}.adaLN_modulation.1"),
                dim,
                6 * dim,
                Init::Zeros,
            ),
        }
    }

    /// x `[B, N, D]` → `[B, N, D]`
    pub fn forward<D: Device>(
        &self,
        i: &Inputs<'_, D>,
        x: D::Tensor,
    ) -> (D::Tensor, Saved<D::Tensor>) {
        let (dev, p) = (i.dev, i.params);
        let mods = self.modulation.forward(dev, p, i.condition);
        let normed = dev.rms_norm_modulate(&x, &p[self.norm1], first(&mods));
        let (attn_out, attn) = self.attn.forward(dev, p, &normed, i.rope, i.dropout);
        let x_mid = dev.gated_residual(&x, &attn_out, &mods, GATE1);
        let normed = dev.rms_norm_modulate(&x_mid, &p[self.norm2], second(&mods));
        let (mlp_out, mlp) = self.mlp_forward(i, &normed);
        let out = dev.gated_residual(&x_mid, &mlp_out, &mods, GATE2);
        (out, Saved { x, mods, attn, attn_out, x_mid, mlp, mlp_out })
    }

    /// Gradient with respect to x; adds the condition's into `dcondition` `[B, D]`.
    pub fn backward<D: Device>(
        &self,
        i: &Inputs<'_, D>,
        g: &mut Grads<D>,
        saved: &Saved<D::Tensor>,
        dout: D::Tensor,
        dcondition: &mut D::Tensor,
    ) -> D::Tensor {
        let (dev, p) = (i.dev, i.params);
        let mods = &saved.mods;
        let mut dmods = dev.zeros(dev.shape(mods));
        // `dx` starts as dout: the residual path.
        let mut dx = dout;

        let dmlp_out = dev.gated_residual_grad(&saved.mlp_out, mods, GATE2, &dx, &mut dmods);
        let normed = dev.rms_norm_modulate(&saved.x_mid, &p[self.norm2], second(mods));
        let dnormed = self.mlp_backward(i, g, &normed, &saved.mlp, &dmlp_out);
        let dweight = g.get_mut(self.norm2);
        let (x_mid, norm2) = (&saved.x_mid, &p[self.norm2]);
        let at = second(mods);
        dev.rms_norm_modulate_grad(x_mid, norm2, at, &dnormed, &mut dx, dweight, &mut dmods);

        let dattn_out = dev.gated_residual_grad(&saved.attn_out, mods, GATE1, &dx, &mut dmods);
        let normed = dev.rms_norm_modulate(&saved.x, &p[self.norm1], first(mods));
        let dnormed =
            self.attn.backward(dev, p, g, &normed, i.rope, &saved.attn, i.dropout, dattn_out);
        let dweight = g.get_mut(self.norm1);
        let (x, norm1) = (&saved.x, &p[self.norm1]);
        let at = first(mods);
        dev.rms_norm_modulate_grad(x, norm1, at, &dnormed, &mut dx, dweight, &mut dmods);

        let dc = self.modulation.backward(dev, p, g, i.condition, &dmods);
        dev.add_assign(dcondition, &dc);
        dx
    }

    fn mlp_forward<D: Device>(
        &self,
        i: &Inputs<'_, D>,
        x: &D::Tensor,
    ) -> (D::Tensor, MlpSaved<D::Tensor>) {
        match &self.mlp {
            Mlp::SwiGlu(mlp) => {
                let dropout = i.dropout.and_then(|d| d.mlp.as_ref());
                let (y, saved) = mlp.forward(i.dev, i.params, x, dropout);
                (y, MlpSaved::SwiGlu(saved))
            }
            Mlp::Bottleneck(mlp) => {
                let (y, saved) = mlp.forward(i.dev, i.params, x);
                (y, MlpSaved::Bottleneck(saved))
            }
        }
    }

    fn mlp_backward<D: Device>(
        &self,
        i: &Inputs<'_, D>,
        g: &mut Grads<D>,
        x: &D::Tensor,
        saved: &MlpSaved<D::Tensor>,
        dy: &D::Tensor,
    ) -> D::Tensor {
        let (dev, p) = (i.dev, i.params);
        match (&self.mlp, saved) {
            (Mlp::SwiGlu(mlp), MlpSaved::SwiGlu(saved)) => {
                let dropout = i.dropout.and_then(|d| d.mlp.as_ref());
                mlp.backward(dev, p, g, x, saved, dropout, dy)
            }
            (Mlp::Bottleneck(mlp), MlpSaved::Bottleneck(saved)) => {
                mlp.backward(dev, p, g, x, saved, dy)
            }
            _ => unreachable!("a block is given back what its own forward pass saved"),
        }
    }
}

fn first<T>(mods: &T) -> Modulation<'_, T> {
    Modulation { vectors: mods, shift: SHIFT1, scale: SCALE1 }
}

fn second<T>(mods: &T) -> Modulation<'_, T> {
    Modulation { vectors: mods, shift: SHIFT2, scale: SCALE2 }
}
