//! AdamW and the averages, as `jit_kernels::adamw` defines them.

use cubecl::prelude::*;

/// The scalars of a step, derived in f64 on the host and only then rounded.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Step {
    pub shrink: f32,
    pub beta1: f32,
    pub rest1: f32,
    pub beta2: f32,
    pub rest2: f32,
    pub rate: f32,
    pub root: f32,
    pub eps: f32,
    /// Largest norm of the gradient, 0 for no limit.
    pub clip: f32,
}

/// One step. A gradient whose norm (the root of `squares[0]`) is not finite moves nothing: the host,
/// which reads the norm later, then finds the weights of before.
#[cube(launch)]
pub fn adamw(
    p: &mut Tensor<f32>,
    g: &Tensor<f32>,
    m: &mut Tensor<f32>,
    v: &mut Tensor<f32>,
    squares: &Tensor<f32>,
    step: Step,
) {
    let sum = squares[0];
    // All ones in the exponent: infinite or not a number. A comparison may be optimised away.
    let finite = (u32::reinterpret(sum) & 0x7F80_0000u32) != 0x7F80_0000u32;
    if ABSOLUTE_POS < p.len() && finite {
        let mut scale = 1.0f32;
        if step.clip > 0.0f32 {
            scale = f32::min(step.clip / (f32::sqrt(sum) + 1e-6f32), 1.0f32);
        }
        let grad = scale * g[ABSOLUTE_POS];
        let vm = step.beta1 * m[ABSOLUTE_POS] + step.rest1 * grad;
        let vv = step.beta2 * v[ABSOLUTE_POS] + step.rest2 * (grad * grad);
        let below = f32::sqrt(vv) * step.root + step.eps;
        m[ABSOLUTE_POS] = vm;
        v[ABSOLUTE_POS] = vv;
        p[ABSOLUTE_POS] = p[ABSOLUTE_POS] * step.shrink - step.rate * vm / below;
    }
}

/// `ema = decay·ema + rest·p`
#[cube(launch)]
pub fn average(p: &Tensor<f32>, ema: &mut Tensor<f32>, decay: f32, rest: f32) {
    if ABSOLUTE_POS < ema.len() {
        ema[ABSOLUTE_POS] = decay * ema[ABSOLUTE_POS] + rest * p[ABSOLUTE_POS];
    }
}
