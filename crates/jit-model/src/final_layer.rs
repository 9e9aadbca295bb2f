//! Tokens → pixels: a modulated norm and one linear layer.

use crate::config::ModelConfig;
use crate::device::{Device, Modulation};
use crate::init::Init;
use crate::linear::Linear;
use crate::params::{Grads, ParamId, Params, Registry};

/// RMSNorm → mod(shift, scale) → Linear D → p·p·C → unpatchify.
#[derive(Clone, Copy, Debug)]
pub struct FinalLayer {
    channels: usize,
    patch: usize,
    norm: ParamId,
    linear: Linear,
    modulation: Linear,
}

/// What the backward pass needs.
pub struct Saved<T> {
    x: T,
    mods: T,
}

impl FinalLayer {
    /// Declares `net.final_layer.{norm_final, linear, adaLN_modulation.1}`.
    pub fn new(r: &mut Registry, c: &ModelConfig) -> Self {
        let dim = c.hidden_size;
        let name = "net.final_layer";
        Self {
            channels: c.channels,
            patch: c.patch_size,
            norm: r.add(format!("{name}.norm_final.weight"), &[dim], Init::Ones),
            linear: Linear::new(r, &format!("{name}.linear"), dim, c.patch_dim(), Init::Zeros),
            modulation: Linear::new(
                r,
                &format!("{name}.adaLN_modulation.1"),
                dim,
                2 * dim,
                Init::Zeros,
            ),
        }
    }

    /// x `[B, N, D]`, condition (SiLU of c) `[B, D]` → `[B, C, S, S]`
    pub fn forward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        x: D::Tensor,
        condition: &D::Tensor,
    ) -> (D::Tensor, Saved<D::Tensor>) {
        let mods = self.modulation.forward(dev, p, condition);
        let normed = dev.rms_norm_modulate(&x, &p[self.norm], shift_scale(&mods));
        let tokens = self.linear.forward_full(dev, p, &normed);
        (dev.unpatchify(&tokens, self.channels, self.patch), Saved { x, mods })
    }

    /// Gradient with respect to x; adds the condition's into `dcondition`.
    pub fn backward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        saved: &Saved<D::Tensor>,
        condition: &D::Tensor,
        dimage: &D::Tensor,
        dcondition: &mut D::Tensor,
    ) -> D::Tensor {
        let (x, mods, norm) = (&saved.x, &saved.mods, &p[self.norm]);
        let normed = dev.rms_norm_modulate(x, norm, shift_scale(mods));
        let dtokens = dev.unpatchify_grad(dimage, self.patch);
        let dnormed = self.linear.backward(dev, p, g, &normed, &dtokens);
        let mut dx = dev.zeros(dev.shape(x));
        let mut dmods = dev.zeros(dev.shape(mods));
        let at = shift_scale(mods);
        let dweight = g.get_mut(self.norm);
        dev.rms_norm_modulate_grad(x, norm, at, &dnormed, &mut dx, dweight, &mut dmods);
        let dc = self.modulation.backward(dev, p, g, condition, &dmods);
        dev.add_assign(dcondition, &dc);
        dx
    }

    /// The tokens that entered the layer, which the auxiliary heads read.
    pub fn input<T>(saved: &Saved<T>) -> &T {
        &saved.x
    }
}

fn shift_scale<T>(mods: &T) -> Modulation<'_, T> {
    Modulation { vectors: mods, shift: 0, scale: 1 }
}
