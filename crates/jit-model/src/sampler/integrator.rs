//! One step along `dz/dt = v(z, t)`, and what a method remembers of the steps before.

use crate::device::Device;
use crate::sampler::Method;

/// The end of a step.
pub struct Advanced<T> {
    /// The state at the step's end, `[B, C, S, S]`.
    pub z: T,
    /// The velocity at its beginning.
    pub v: T,
}

/// A method under way: one for each trajectory.
pub struct Integrator<T> {
    method: Method,
    times: Vec<f32>,
    /// Of the step before: its velocity (Adams–Bashforth) or its x̂ (DPM-Solver++).
    previous: Option<T>,
}

impl<T> Integrator<T> {
    /// Along these times.
    pub fn new(method: Method, times: Vec<f32>) -> Self {
        Self { method, times, previous: None }
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.times.len() - 1
    }

    /// The time at which step `i` begins.
    pub fn time(&self, i: usize) -> f32 {
        self.times[i]
    }

    /// Takes step `i`, steps in order. `velocity(z, t)` is asked once or twice ([`Method::evaluations`]).
    pub fn step<D: Device<Tensor = T>>(
        &mut self,
        dev: &D,
        i: usize,
        z: &T,
        velocity: &dyn Fn(&T, f32) -> T,
    ) -> Advanced<T> {
        let (t, next) = (self.times[i], self.times[i + 1]);
        let v = velocity(z, t);
        let along = |v: &T| dev.axpby(1.0, z, next - t, v);
        let z = match self.method {
            Method::Euler => along(&v),
            Method::Heun if i + 1 == self.steps() => along(&v),
            Method::Heun => trapezoid(dev, z, &v, (t, next), velocity),
            Method::Ab2 => {
                let advanced = match &self.previous {
                    None if self.steps() == 1 => along(&v),
                    None => trapezoid(dev, z, &v, (t, next), velocity),
                    // Weights of the parabola through both velocities, for steps of unequal length.
                    Some(previous) => {
                        let ratio = (next - t) / (t - self.times[i - 1]);
                        along(&dev.axpby(1.0 + 0.5 * ratio, &v, -0.5 * ratio, previous))
                    }
                };
                self.previous = Some(dev.axpby(1.0, &v, 0.0, &v));
                advanced
            }
            Method::Dpmpp2m => {
                let x_hat = dev.axpby(1.0, z, 1.0 - t, &v);
                let advanced = self.dpmpp_2m(dev, i, z, &x_hat);
                self.previous = Some(x_hat);
                advanced
            }
        };
        Advanced { z, v }
    }

    /// DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) with α = t, σ = 1 − t and λ = log(α/σ):
    /// `z' = σ'/σ·z + (α' − α·σ'/σ)·D` with `D = x̂ + (x̂ − x̂₋₁)·h/(2·h₋₁)`, h the steps in λ. Where one of them is infinite, at t = 0 and at
    /// t = 1, D = x̂: the first order, which at t = 1 is x̂ itself.
    fn dpmpp_2m<D: Device<Tensor = T>>(&self, dev: &D, i: usize, z: &T, x_hat: &T) -> T {
        let (t, next) = (f64::from(self.times[i]), f64::from(self.times[i + 1]));
        let shrink = (1.0 - next) / (1.0 - t);
        let weight = next - t * shrink;
        let lambda = |t: f64| (t / (1.0 - t)).ln();
        let Some(previous) = self.previous.as_ref().filter(|_| i > 1 && next < 1.0) else {
            return dev.axpby(shrink as f32, z, weight as f32, x_hat);
        };
        let before = f64::from(self.times[i - 1]);
        let half = 0.5 * (lambda(next) - lambda(t)) / (lambda(t) - lambda(before));
        let along = dev.axpby((1.0 + half) as f32, x_hat, -half as f32, previous);
        dev.axpby(shrink as f32, z, weight as f32, &along)
    }
}

/// Heun's step: Euler, and the mean of the velocities at both ends.
fn trapezoid<D: Device>(
    dev: &D,
    z: &D::Tensor,
    v: &D::Tensor,
    (t, next): (f32, f32),
    velocity: &dyn Fn(&D::Tensor, f32) -> D::Tensor,
) -> D::Tensor {
    let euler = dev.axpby(1.0, z, next - t, v);
    let v_next = velocity(&euler, next);
    let mean = dev.axpby(0.5, v, 0.5, &v_next);
    dev.axpby(1.0, z, next - t, &mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::sampler::{SampleConfig, TimeGrid};

    /// x̂ = E[x | z] for x from ½N(−1, s²) + ½N(1, s²) and z = t·x + (1 − t)·ε, by Bayes' rule.
    fn x_hat(z: f64, t: f64) -> f64 {
        const S2: f64 = 0.16;
        let noise = (1.0 - t) * (1.0 - t);
        let total = t * t * S2 + noise;
        let mean = |mu: f64| (t * S2 * z + noise * mu) / total;
        let log_weight = |mu: f64| -(z - t * mu) * (z - t * mu) / (2.0 * total);
        let right = 1.0 / (1.0 + (log_weight(-1.0) - log_weight(1.0)).exp());
        right * mean(1.0) + (1.0 - right) * mean(-1.0)
    }

    /// dz/dt; at t = 1 its limit is not needed.
    fn velocity(z: f64, t: f64) -> f64 {
        (x_hat(z, t) - z) / (1.0 - t)
    }

    /// z at t = 1 by the classical Runge–Kutta method in f64, the last step at the limit of x̂.
    fn exact(z0: f64) -> f64 {
        const STEPS: usize = 20_000;
        let (mut z, h) = (z0, 1.0 / STEPS as f64);
        for i in 0..STEPS - 1 {
            let t = i as f64 * h;
            let a = velocity(z, t);
            let b = velocity(z + 0.5 * h * a, t + 0.5 * h);
            let c = velocity(z + 0.5 * h * b, t + 0.5 * h);
            let d = velocity(z + h * c, t + h);
            z += h / 6.0 * (a + 2.0 * b + 2.0 * c + d);
        }
        x_hat(z, 1.0 - h)
    }

    /// The root mean square of the errors at t = 1, and how often the velocity was asked for.
    fn error(method: Method, grid: TimeGrid, steps: usize, ends: &[(f64, f64)]) -> (f64, usize) {
        let config = SampleConfig { method, steps, grid, ..SampleConfig::default() };
        let dev = &Cpu::F32;
        let asked = std::cell::Cell::new(0);
        let field = |z: &crate::cpu::CpuTensor, t: f32| {
            asked.set(asked.get() + 1);
            let v: Vec<f32> =
                dev.download(z).iter().map(|&z| velocity(z.into(), t.into()) as f32).collect();
            dev.upload(&v, dev.shape(z))
        };
        let start: Vec<f32> = ends.iter().map(|(z0, _)| *z0 as f32).collect();
        let mut z = dev.upload(&start, &[start.len()]);
        let mut integrator = Integrator::new(method, config.times());
        for i in 0..steps {
            z = integrator.step(dev, i, &z, &field).z;
        }
        let squares = dev
            .download(&z)
            .into_iter()
            .zip(ends)
            .map(|(z, (_, end))| (f64::from(z) - end).powi(2));
        ((squares.sum::<f64>() / ends.len() as f64).sqrt(), asked.get())
    }

    fn ends() -> Vec<(f64, f64)> {
        (-8..=8).map(|i| f64::from(i) * 0.3 + 0.05).map(|z0| (z0, exact(z0))).collect()
    }

    #[test]
    fn errors_fall_as_the_order_of_the_method_says() {
        let ends = ends();
        for (method, order, steps) in [
            (Method::Euler, 1.0, [32, 128]),
            (Method::Heun, 2.0, [32, 128]),
            (Method::Ab2, 2.0, [32, 128]),
            // Steps in λ are not short near t = 0 and t = 1, however many there are: the error is n⁻²·log n.
            (Method::Dpmpp2m, 1.8, [256, 1024]),
        ] {
            let [coarse, fine] = steps.map(|n| error(method, TimeGrid::Uniform, n, &ends).0);
            let found = (coarse / fine).log2() / 2.0;
            assert!(
                (found - order).abs() < 0.15,
                "{method:?}: {coarse:e} → {fine:e}, order {found}"
            );
        }
    }

    #[test]
    fn every_grid_comes_to_the_same_image_and_evaluations_are_as_declared() {
        let ends = ends();
        for method in [Method::Euler, Method::Heun, Method::Ab2, Method::Dpmpp2m] {
            for grid in [TimeGrid::Uniform, TimeGrid::Shifted, TimeGrid::LogitNormal] {
                let (off, asked) = error(method, grid, 200, &ends);
                let most = match (method, grid) {
                    // Its last step is long: from the last quantile of t to 1.
                    (_, TimeGrid::LogitNormal) => 0.15,
                    (Method::Euler, _) => 2e-2,
                    _ => 2e-3,
                };
                assert!(off < most, "{method:?} on {grid:?}: {off:e}");
                let declared: usize = (0..200).map(|i| method.evaluations(i, 200)).sum();
                assert_eq!(asked, declared, "{method:?}");
            }
            let (off, asked) = error(method, TimeGrid::Uniform, 1, &ends);
            assert!(off.is_finite() && asked == 1, "{method:?} in one step");
        }
    }
}
