//! Initial weights (spec §1, "init"), drawn on the host from our own generator and keyed by the
//! parameter's name: a seed gives the same weights on every device, and adding a layer does not
//! change the others.

use jit_core::rng::{Purpose, Stream};

use crate::params::{ParamSpec, Registry};

/// How a parameter starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// Uniform in ±√(6 / (fan_in + fan_out)) of the weight flattened to two axes.
    XavierUniform,
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// All zeros: biases, every adaLN and the final layer, so that a new network is the identity.
    Zeros,
    /// All ones: norm weights.
    Ones,
    /// A fixed table.
    Fixed(Vec<f32>),
}

/// The initial values of every parameter, in registry order.
pub fn initial_values(registry: &Registry, seed: u64) -> Vec<Vec<f32>> {
    registry.specs().iter().map(|spec| initial_value(spec, seed)).collect()
}

fn initial_value(spec: &ParamSpec, seed: u64) -> Vec<f32> {
    let stream = Stream::new(seed, Purpose::Init, 0, fnv1a(&spec.name));
    let mut value = vec![0.0; spec.numel()];
    match &spec.init {
        Init::XavierUniform => {
            let fan_out = spec.shape[0];
            let fan_in = spec.numel() / fan_out;
            let bound = (6.0 / (fan_in + fan_out) as f64).sqrt() as f32;
            stream.fill_uniform(-bound, bound, &mut value);
        }
        Init::Normal(std) => {
            stream.fill_normal(&mut value);
            value.iter_mut().for_each(|v| *v *= std);
        }
        Init::Zeros => {}
        Init::Ones => value.fill(1.0),
        Init::Fixed(table) => value.copy_from_slice(table),
    }
    value
}

/// FNV-1a: a stable 64-bit hash of a name (the standard library's may change between releases).
fn fnv1a(name: &str) -> u64 {
    name.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xavier_fills_its_bound_and_no_more() {
        let mut registry = Registry::default();
        registry.add("w".into(), &[30, 20, 1, 1], Init::XavierUniform);
        let values = initial_values(&registry, 0).remove(0);
        let bound = (6.0f32 / 50.0).sqrt();
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(largest <= bound && largest > 0.95 * bound, "{largest} against {bound}");
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 0.15, "variance {variance}");
    }

    #[test]
    fn a_value_depends_on_its_name_and_the_seed_alone() {
        let mut one = Registry::default();
        one.add("b".into(), &[9], Init::Normal(0.02));
        let mut two = Registry::default();
        two.add("a".into(), &[5], Init::Normal(0.02));
        two.add("b".into(), &[9], Init::Normal(0.02));
        assert_eq!(initial_values(&one, 3)[0], initial_values(&two, 3)[1]);
        assert_ne!(initial_values(&one, 3)[0], initial_values(&one, 4)[0]);
        assert_ne!(initial_values(&two, 3)[0][..5], initial_values(&two, 3)[1][..5]);
    }
}
