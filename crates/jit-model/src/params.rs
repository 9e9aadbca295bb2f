//! Parameters: named and shaped once when the network is built, then addressed by [`ParamId`].

use std::ops::Index;

use crate::device::Device;
use crate::init::Init;

/// A parameter of a network: its index in the [`Registry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamId(usize);

/// What is known of a parameter before it has a value.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Name in the reference's state dict, such as `net.blocks.3.attn.qkv.weight`.
    pub name: String,
    /// Shape as the reference stores it (a convolution keeps its four axes).
    pub shape: Vec<usize>,
    /// How it is initialised.
    pub init: Init,
    /// False for the fixed position table, which has neither gradient nor moments.
    pub trainable: bool,
}

impl ParamSpec {
    /// Number of values.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Weight decay applies to matrices only: never to 1-D parameters and biases (spec §3).
    pub fn decays(&self) -> bool {
        self.shape.len() > 1 && !self.name.ends_with(".bias")
    }
}

/// The parameters of a network in the order in which its layers declared them.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    specs: Vec<ParamSpec>,
}

impl Registry {
    /// Declares a trainable parameter.
    pub fn add(&mut self, name: String, shape: &[usize], init: Init) -> ParamId {
        self.specs.push(ParamSpec { name, shape: shape.to_vec(), init, trainable: true });
        ParamId(self.specs.len() - 1)
    }

    /// Declares a parameter that training leaves alone.
    pub fn add_fixed(&mut self, name: String, shape: &[usize], init: Init) -> ParamId {
        let id = self.add(name, shape, init);
        self.specs[id.0].trainable = false;
        id
    }

    /// All parameters.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Number of values over all parameters.
    pub fn numel(&self) -> usize {
        self.specs.iter().map(ParamSpec::numel).sum()
    }
}

/// Values for every parameter of a [`Registry`], on a device.
pub struct Params<D: Device> {
    weights: Vec<D::Weight>,
}

impl<D: Device> Params<D> {
    /// Uploads one host vector per parameter, in registry order.
    pub fn upload(device: &D, registry: &Registry, values: &[Vec<f32>]) -> Self {
        assert_eq!(values.len(), registry.specs.len(), "one value per parameter");
        let weights = registry
            .specs
            .iter()
            .zip(values)
            .map(|(spec, value)| device.weight(device.upload(value, &spec.shape)))
            .collect();
        Self { weights }
    }

    /// Copies every parameter to the host, in registry order.
    pub fn download(&self, device: &D) -> Vec<Vec<f32>> {
        self.weights.iter().map(|w| device.download(device.value(w))).collect()
    }

    /// All parameters in registry order.
    pub fn iter(&self) -> impl Iterator<Item = &D::Weight> {
        self.weights.iter()
    }

    /// All parameters in registry order, for the optimizer.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut D::Weight> {
        self.weights.iter_mut()
    }
}

impl<D: Device> Index<ParamId> for Params<D> {
    type Output = D::Weight;

    fn index(&self, id: ParamId) -> &D::Weight {
        &self.weights[id.0]
    }
}

/// One gradient buffer per parameter, added into by every backward pass.
pub struct Grads<D: Device> {
    tensors: Vec<D::Tensor>,
}

impl<D: Device> Grads<D> {
    /// Zero gradients for every parameter of `registry`.
    pub fn zeros(device: &D, registry: &Registry) -> Self {
        Self { tensors: registry.specs.iter().map(|s| device.zeros(&s.shape)).collect() }
    }

    /// Back to zero, keeping the memory.
    pub fn clear(&mut self, device: &D) {
        self.tensors.iter_mut().for_each(|t| device.clear(t));
    }

    /// The gradient of one parameter, to add into.
    pub fn get_mut(&mut self, id: ParamId) -> &mut D::Tensor {
        &mut self.tensors[id.0]
    }

    /// The gradients of two different parameters.
    pub fn pair_mut(&mut self, a: ParamId, b: ParamId) -> (&mut D::Tensor, &mut D::Tensor) {
        assert!(a.0 < b.0, "parameters in the order of their declaration");
        let (left, right) = self.tensors.split_at_mut(b.0);
        (&mut left[a.0], &mut right[0])
    }

    /// All gradients in registry order.
    pub fn iter(&self) -> impl Iterator<Item = &D::Tensor> {
        self.tensors.iter()
    }

    /// All gradients in registry order, to write.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut D::Tensor> {
        self.tensors.iter_mut()
    }

    /// Copies every gradient to the host, in registry order.
    pub fn download(&self, device: &D) -> Vec<Vec<f32>> {
        self.tensors.iter().map(|t| device.download(t)).collect()
    }
}
