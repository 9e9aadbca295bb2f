//! Weights that are a formula of name and index, so that a whole network can be compared with another
//! program's without its published weights: the golden cases and `--weights formula` use them.

use rayon::prelude::*;

use super::weights::Tensors;
use crate::EvalError;

/// What stands for the formula where a folder of weights is expected.
pub const NAME: &str = "formula";

/// Weights of any name and shape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Formula;

impl Tensors for Formula {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EvalError> {
        Ok(values(name, shape))
    }
}

/// With `h = mix(2654435761·i + crc32(name))` and `u = 2h/2³² − 1`: `1 + u/2` of the absolute value for
/// variances, `1 + u/10` for scales of batch norms, `u/10` for means and biases, else
/// `u·√(6/fan-in)`.
pub fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let start = crc32fast::hash(name.as_bytes());
    let fan_in: usize = shape.iter().skip(1).product();
    let bound = (6.0 / fan_in as f64).sqrt();
    let value: fn(f64, f64) -> f64 = if name.ends_with(".running_var") {
        |u, _| 1.0 + 0.5 * u.abs()
    } else if name.ends_with(".bn.weight") {
        |u, _| 1.0 + 0.1 * u
    } else if name.ends_with(".running_mean") || name.ends_with(".bias") {
        |u, _| 0.1 * u
    } else {
        |u, bound| u * bound
    };
    let at = |i: u32| {
        let h = mix(i.wrapping_mul(2_654_435_761).wrapping_add(start));
        value(f64::from(h) / 4_294_967_296.0 * 2.0 - 1.0, bound) as f32
    };
    (0..count as u32).into_par_iter().map(at).collect()
}

/// The finalizer of MurmurHash3.
fn mix(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}
