//! What moves noise towards images: a velocity field, of one network with classifier-free guidance
//! (spec §4) or of two that are fused ([`crate::fusion`]).

use crate::device::Device;
use crate::net::{Net, Rope};
use crate::objective::{ObjectiveConfig, Space};
use crate::params::Params;
use crate::sampler::SampleConfig;

/// A velocity field `v(z, t, y)`.
pub trait Flow<D: Device> {
    /// `dz/dt` at z `[B, C, S, S]` and time t for these labels, `[B, C, S, S]`. What it is for an
    /// image does not depend on the others of the batch.
    fn velocity(&self, z: &D::Tensor, t: f32, labels: &[u32]) -> D::Tensor;
}

/// The field of one network, guided by itself without the class.
pub struct Guided<'a, D: Device> {
    /// The device.
    pub dev: &'a D,
    /// The network.
    pub net: &'a Net,
    /// Its parameters: raw weights or an EMA.
    pub params: &'a Params<D>,
    /// Its rotary tables.
    pub rope: &'a Rope<D::Tensor>,
    /// What the network predicts.
    pub objective: &'a ObjectiveConfig,
    /// How strong the guidance is, and when.
    pub config: &'a SampleConfig,
}

impl<D: Device> Flow<D> for Guided<'_, D> {
    /// `v_null + s·(v_class − v_null)`; the null pass runs only where s ≠ 1.
    fn velocity(&self, z: &D::Tensor, t: f32, labels: &[u32]) -> D::Tensor {
        let scale = self.config.guidance(t);
        let null = self.net.config().null_class();
        if scale == 1.0 || labels.iter().all(|&y| y == null) {
            return self.raw_velocity(z, t, labels);
        }
        // Class and null pass as one batch of 2B.
        let n = labels.len() as u32;
        let both: Vec<u32> = (0..n).chain(0..n).collect();
        let labels: Vec<u32> =
            labels.iter().copied().chain(std::iter::repeat_n(null, n as usize)).collect();
        let v = self.raw_velocity(&self.dev.gather_rows(z, &both), t, &labels);
        let class = self.dev.gather_rows(&v, &(0..n).collect::<Vec<_>>());
        let null = self.dev.gather_rows(&v, &(n..2 * n).collect::<Vec<_>>());
        self.dev.axpby(scale, &class, 1.0 - scale, &null)
    }
}

impl<D: Device> Guided<'_, D> {
    fn raw_velocity(&self, z: &D::Tensor, t: f32, labels: &[u32]) -> D::Tensor {
        let t = vec![t; labels.len()];
        let out = self.net.infer(self.dev, self.params, self.rope, z, &t, labels);
        let o = self.objective;
        self.dev.convert(&out, z, &t, o.t_eps, o.prediction, Space::V)
    }
}
