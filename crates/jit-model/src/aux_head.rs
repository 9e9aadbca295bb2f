//! The head of a self-supervised auxiliary loss (target paper, eq. 2): it reads the mean token.

use crate::config::ModelConfig;
use crate::device::Device;
use crate::init::Init;
use crate::linear::Linear;
use crate::objective::{AuxHeadKind, Auxiliary};
use crate::params::{Grads, Params, Registry};

/// `Linear(D, D) → SiLU → Linear(D, out)` as in the published code, or one Linear as in the text.
#[derive(Clone, Copy, Debug)]
pub struct AuxHead {
    hidden: Option<Linear>,
    out: Linear,
}

/// What the backward pass needs.
pub struct Saved<T> {
    feature: T,
    /// Pre-activation and activation of the hidden layer.
    hidden: Option<(T, T)>,
}

impl AuxHead {
    /// Declares `{time,rotation}_head`, or nothing where the objective has no auxiliary loss.
    pub fn new(
        r: &mut Registry,
        c: &ModelConfig,
        auxiliary: Auxiliary,
        kind: AuxHeadKind,
    ) -> Option<Self> {
        let (name, outputs) = match auxiliary {
            Auxiliary::None => return None,
            Auxiliary::Time => ("time_head", 1),
            Auxiliary::Rotation => ("rotation_head", 4),
        };
        let dim = c.hidden_size;
        let mut linear =
            |name: &str, outputs| Linear::new(r, name, dim, outputs, Init::XavierUniform);
        Some(match kind {
            AuxHeadKind::Mlp => Self {
                hidden: Some(linear(&format!("{name}.0"), dim)),
                out: linear(&format!("{name}.2"), outputs),
            },
            AuxHeadKind::Linear => Self { hidden: None, out: linear(name, outputs) },
        })
    }

    /// feature `[B, D]` → `[B, out]`
    pub fn forward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        feature: D::Tensor,
    ) -> (D::Tensor, Saved<D::Tensor>) {
        let hidden = self.hidden.map(|layer| {
            let h = layer.forward(dev, p, &feature);
            let activated = dev.silu(&h);
            (h, activated)
        });
        let input = hidden.as_ref().map_or(&feature, |(_, activated)| activated);
        (self.out.forward(dev, p, input), Saved { feature, hidden })
    }

    /// Gradient with respect to the feature.
    pub fn backward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        saved: &Saved<D::Tensor>,
        dy: &D::Tensor,
    ) -> D::Tensor {
        match (self.hidden, &saved.hidden) {
            (Some(layer), Some((h, activated))) => {
                let dactivated = self.out.backward(dev, p, g, activated, dy);
                let dh = dev.silu_grad(h, &dactivated);
                layer.backward(dev, p, g, &saved.feature, &dh)
            }
            _ => self.out.backward(dev, p, g, &saved.feature, dy),
        }
    }

    /// The feature that the head read.
    pub fn feature<T>(saved: Saved<T>) -> T {
        saved.feature
    }
}
