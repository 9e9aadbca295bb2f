//! Image → tokens through a bottleneck: `proj2(σ(proj1(patch)))` plus fixed positions.
//!
//! With σ the identity this is JiT's low-rank linear embedding; with SiLU it is the non-linear
//! embedding of the target paper (eq. 1).

use crate::config::{ModelConfig, PatchEmbedKind};
use crate::device::Device;
use crate::init::Init;
use crate::linear::Linear;
use crate::params::{Grads, ParamId, Params, Registry};
use crate::pos_embed;

/// conv p×p → σ → conv 1×1 → + positions.
#[derive(Clone, Copy, Debug)]
pub struct PatchEmbed {
    patch: usize,
    kind: PatchEmbedKind,
    proj1: Linear,
    proj2: Linear,
    positions: ParamId,
}

/// What the backward pass needs.
pub struct Saved<T> {
    patches: T,
    bottleneck: T,
    /// σ of the bottleneck; `None` where σ is the identity.
    activated: Option<T>,
}

impl PatchEmbed {
    /// Declares `net.pos_embed` and `net.x_embedder.proj{1,2}`.
    pub fn new(r: &mut Registry, c: &ModelConfig) -> Self {
        let (dim, patch) = (c.hidden_size, c.patch_size);
        let positions = Init::Fixed(pos_embed::sincos_2d(dim, c.grid()));
        Self {
            patch,
            kind: c.patch_embed,
            positions: r.add_fixed("net.pos_embed".into(), &[1, c.tokens(), dim], positions),
            proj1: Linear::conv(
                r,
                "net.x_embedder.proj1",
                [c.bottleneck_dim, c.channels, patch, patch],
                false,
            ),
            proj2: Linear::conv(r, "net.x_embedder.proj2", [dim, c.bottleneck_dim, 1, 1], true),
        }
    }

    /// z `[B, C, S, S]` → `[B, N, D]`
    pub fn forward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        z: &D::Tensor,
    ) -> (D::Tensor, Saved<D::Tensor>) {
        let patches = dev.patchify(z, self.patch);
        let bottleneck = self.proj1.forward(dev, p, &patches);
        let activated = match self.kind {
            PatchEmbedKind::Linear => None,
            PatchEmbedKind::Silu => Some(dev.silu(&bottleneck)),
        };
        let tokens = self.proj2.forward_full(dev, p, activated.as_ref().unwrap_or(&bottleneck));
        let tokens = dev.add_rows(tokens, dev.value(&p[self.positions]));
        (tokens, Saved { patches, bottleneck, activated })
    }

    /// dy `[B, N, D]`; the image itself needs no gradient.
    pub fn backward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        saved: &Saved<D::Tensor>,
        dy: &D::Tensor,
    ) {
        let input = saved.activated.as_ref().unwrap_or(&saved.bottleneck);
        let dinput = self.proj2.backward(dev, p, g, input, dy);
        let dbottleneck = match self.kind {
            PatchEmbedKind::Linear => dinput,
            PatchEmbedKind::Silu => dev.silu_grad(&saved.bottleneck, &dinput),
        };
        self.proj1.backward_params(dev, g, &saved.patches, &dbottleneck);
    }
}
