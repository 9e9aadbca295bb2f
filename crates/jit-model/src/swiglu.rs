//! SwiGLU MLP: `w3(silu(a)·b)` with `(a, b) = w12(x)`.

use crate::device::{Device, Dropout};
use crate::init::Init;
use crate::linear::Linear;
use crate::params::{Grads, Params, Registry};

/// The gated MLP of JiT, hidden width m = ⌊4D·2/3⌋.
#[derive(Clone, Copy, Debug)]
pub struct SwiGlu {
    w12: Linear,
    w3: Linear,
}

/// What the backward pass needs: `w12(x)`, `[B, N, 2m]`. The product is recomputed from it.
pub struct Saved<T> {
    hidden: T,
}

impl SwiGlu {
    /// Declares `{name}.w12` and `{name}.w3`.
    pub fn new(r: &mut Registry, name: &str, dim: usize) -> Self {
        let m = 4 * dim * 2 / 3;
        Self {
            w12: Linear::new(r, &format!("{name}.w12"), dim, 2 * m, Init::XavierUniform),
            w3: Linear::new(r, &format!("{name}.w3"), m, dim, Init::XavierUniform),
        }
    }

    /// `[B, N, D] → [B, N, D]`
    pub fn forward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        x: &D::Tensor,
        dropout: Option<&Dropout>,
    ) -> (D::Tensor, Saved<D::Tensor>) {
        let hidden = self.w12.forward(dev, p, x);
        let product = dropped(dev, dev.swiglu(&hidden), dropout);
        (self.w3.forward(dev, p, &product), Saved { hidden })
    }

    /// Gradient with respect to x.
    pub fn backward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        x: &D::Tensor,
        saved: &Saved<D::Tensor>,
        dropout: Option<&Dropout>,
        dy: &D::Tensor,
    ) -> D::Tensor {
        let dproduct = dropped(dev, self.w3.backward_input(dev, p, dy), dropout);
        let (dhidden, product) = dev.swiglu_grad(&saved.hidden, &dproduct);
        self.w3.backward_params(dev, g, &dropped(dev, product, dropout), dy);
        self.w12.backward(dev, p, g, x, &dhidden)
    }
}

/// `x` with dropout, where the block has it.
fn dropped<D: Device>(dev: &D, x: D::Tensor, dropout: Option<&Dropout>) -> D::Tensor {
    match dropout {
        Some(dropout) => dev.dropout(x, dropout),
        None => x,
    }
}
