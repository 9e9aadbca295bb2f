//! Bottleneck MLP of the target paper (listing 1): D → D/2 → GELU → 4D → SiLU → D.

use crate::device::Device;
use crate::init::Init;
use crate::linear::Linear;
use crate::params::{Grads, Params, Registry};

/// The three-layer MLP that squeezes every token through D/2 dimensions.
#[derive(Clone, Copy, Debug)]
pub struct BottleneckMlp {
    down: Linear,
    up: Linear,
    out: Linear,
}

/// What the backward pass needs; the activations are recomputed from the pre-activations.
pub struct Saved<T> {
    narrow: T,
    wide: T,
}

impl BottleneckMlp {
    /// Declares `{name}.0`, `{name}.2` and `{name}.4`.
    pub fn new(r: &mut Registry, name: &str, dim: usize) -> Self {
        let mut linear = |index: usize, inputs, outputs| {
            Linear::new(r, &format!("{name}.{index}"), inputs, outputs, Init::XavierUniform)
        };
        Self {
            down: linear(0, dim, dim / 2),
            up: linear(2, dim / 2, 4 * dim),
            out: linear(4, 4 * dim, dim),
        }
    }

    /// `[B, N, D] → [B, N, D]`
    pub fn forward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        x: &D::Tensor,
    ) -> (D::Tensor, Saved<D::Tensor>) {
        let narrow = self.down.forward(dev, p, x);
        let wide = self.up.forward(dev, p, &dev.gelu(&narrow));
        let y = self.out.forward(dev, p, &dev.silu(&wide));
        (y, Saved { narrow, wide })
    }

    /// Gradient with respect to x.
    pub fn backward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        x: &D::Tensor,
        saved: &Saved<D::Tensor>,
        dy: &D::Tensor,
    ) -> D::Tensor {
        let dsilu = self.out.backward(dev, p, g, &dev.silu(&saved.wide), dy);
        let dwide = dev.silu_grad(&saved.wide, &dsilu);
        let dgelu = self.up.backward(dev, p, g, &dev.gelu(&saved.narrow), &dwide);
        let dnarrow = dev.gelu_grad(&saved.narrow, &dgelu);
        self.down.backward(dev, p, g, x, &dnarrow)
    }
}
