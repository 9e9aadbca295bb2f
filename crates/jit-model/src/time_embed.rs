//! The embedding of the time t: 256 sinusoids and a two-layer MLP.

use crate::device::Device;
use crate::init::Init;
use crate::linear::Linear;
use crate::params::{Grads, Params, Registry};

/// Width of the sinusoid.
const SINUSOID: usize = 256;

/// 256 sinusoids of t → Linear → SiLU → Linear.
#[derive(Clone, Copy, Debug)]
pub struct TimeEmbed {
    first: Linear,
    second: Linear,
}

/// What the backward pass needs.
pub struct Saved<T> {
    sinusoid: T,
    hidden: T,
    activated: T,
}

impl TimeEmbed {
    /// Declares `net.t_embedder.mlp.{0,2}`.
    pub fn new(r: &mut Registry, dim: usize) -> Self {
        let init = || Init::Normal(0.02);
        Self {
            first: Linear::new(r, "net.t_embedder.mlp.0", SINUSOID, dim, init()),
            second: Linear::new(r, "net.t_embedder.mlp.2", dim, dim, init()),
        }
    }

    /// t `[B]` in [0, 1] → `[B, D]`
    pub fn forward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        t: &[f32],
    ) -> (D::Tensor, Saved<D::Tensor>) {
        let sinusoid = dev.upload(&sinusoid(t), &[t.len(), SINUSOID]);
        let hidden = self.first.forward(dev, p, &sinusoid);
        let activated = dev.silu(&hidden);
        let out = self.second.forward(dev, p, &activated);
        (out, Saved { sinusoid, hidden, activated })
    }

    /// dy `[B, D]`; t itself needs no gradient.
    pub fn backward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        saved: &Saved<D::Tensor>,
        dy: &D::Tensor,
    ) {
        let dactivated = self.second.backward(dev, p, g, &saved.activated, dy);
        let dhidden = dev.silu_grad(&saved.hidden, &dactivated);
        self.first.backward_params(dev, g, &saved.sinusoid, &dhidden);
    }
}

/// Cosines, then sines, of t·exp(−ln 10000·i/128): `[B, 256]`. In f32, as the reference does.
fn sinusoid(t: &[f32]) -> Vec<f32> {
    let half = SINUSOID / 2;
    let frequencies: Vec<f32> =
        (0..half).map(|i| (-(10_000f32.ln()) * i as f32 / half as f32).exp()).collect();
    let mut out = Vec::with_capacity(t.len() * SINUSOID);
    for &t in t {
        out.extend(frequencies.iter().map(|f| (t * f).cos()));
        out.extend(frequencies.iter().map(|f| (t * f).sin()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_first_and_the_argument_is_t_itself() {
        let s = sinusoid(&[0.5]);
        assert_eq!(s.len(), 256);
        assert!((s[0] - 0.5f32.cos()).abs() < 1e-7 && (s[128] - 0.5f32.sin()).abs() < 1e-7);
        let slowest = 0.5 * (-(10_000f64.ln()) * 127.0 / 128.0).exp();
        assert!((f64::from(s[255]) - slowest.sin()).abs() < 1e-9);
    }
}
