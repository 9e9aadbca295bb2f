//! `y = x·wᵀ + b`.

use crate::device::Device;
use crate::init::Init;
use crate::params::{Grads, ParamId, Params, Registry};

/// A linear layer (or a convolution that is one: a 1×1, or p×p with stride p on patches).
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    weight: ParamId,
    bias: Option<ParamId>,
}

impl Linear {
    /// Declares `{name}.weight` `[outputs, inputs]` and a zero `{name}.bias`.
    pub fn new(r: &mut Registry, name: &str, inputs: usize, outputs: usize, init: Init) -> Self {
        Self {
            weight: r.add(format!("{name}.weight"), &[outputs, inputs], init),
            bias: Some(r.add(format!("{name}.bias"), &[outputs], Init::Zeros)),
        }
    }

    /// As [`Linear::new`] for a weight that the reference stores as a convolution's four axes.
    pub fn conv(r: &mut Registry, name: &str, shape: [usize; 4], bias: bool) -> Self {
        let weight = r.add(format!("{name}.weight"), &shape, Init::XavierUniform);
        let bias = bias.then(|| r.add(format!("{name}.bias"), &shape[..1], Init::Zeros));
        Self { weight, bias }
    }

    /// `[…, in] → […, out]`
    pub fn forward<D: Device>(&self, dev: &D, p: &Params<D>, x: &D::Tensor) -> D::Tensor {
        dev.linear(x, &p[self.weight], self.bias.map(|b| &p[b]))
    }

    /// As [`Linear::forward`], the result in f32 on every device.
    pub fn forward_full<D: Device>(&self, dev: &D, p: &Params<D>, x: &D::Tensor) -> D::Tensor {
        dev.linear_full(x, &p[self.weight], self.bias.map(|b| &p[b]))
    }

    /// Adds the parameters' gradients and returns the input's.
    pub fn backward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        x: &D::Tensor,
        dy: &D::Tensor,
    ) -> D::Tensor {
        self.backward_params(dev, g, x, dy);
        self.backward_input(dev, p, dy)
    }

    /// The input's gradient only.
    pub fn backward_input<D: Device>(&self, dev: &D, p: &Params<D>, dy: &D::Tensor) -> D::Tensor {
        dev.linear_grad_input(dy, &p[self.weight])
    }

    /// Adds the parameters' gradients only.
    pub fn backward_params<D: Device>(
        &self,
        dev: &D,
        g: &mut Grads<D>,
        x: &D::Tensor,
        dy: &D::Tensor,
    ) {
        match self.bias {
            Some(bias) => {
                let (dw, db) = g.pair_mut(self.weight, bias);
                dev.linear_grad_weight(x, dy, dw, Some(db));
            }
            None => dev.linear_grad_weight(x, dy, g.get_mut(self.weight), None),
        }
    }
}
