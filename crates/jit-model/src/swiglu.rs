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
        let product = gated(dev, &hidden, dropout);
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
        let product = gated(dev, &saved.hidden, dropout);
        let mut dproduct = self.w3.backward(dev, p, g, &product, dy);
        if let Some(dropout) = dropout {
            dproduct = dev.dropout(dproduct, dropout);
        }
        let dhidden = dev.swiglu_grad(&saved.hidden, &dproduct);
        self.w12.backward(dev, p, g, x, &dhidden)
    }
}

/// `silu(a)·b`, with dropout where the block has it.
fn gated<D: Device>(dev: &D, hidden: &D::Tensor, dropout: Option<&Dropout>) -> D::Tensor {
    let product = dev.swiglu(hidden);
    match dropout {
        Some(dropout) => dev.dropout(product, dropout),
        None => product,
    }
}
