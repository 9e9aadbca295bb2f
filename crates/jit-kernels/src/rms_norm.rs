//! RMSNorm (Zhang & Sennrich 2019) followed by the adaLN modulation (Peebles & Xie 2023):
//! `y = x·rsqrt(mean(x²) + eps)·weight·(1 + scale_b) + shift_b`.

use crate::{
    buffer::Buffer,
    cpu::{self, Level},
    disjoint::Disjoint,
    lanes::{load_at, store_at},
    par,
    simd::{Simd, simd_kernel},
};

/// Added to the mean square before its root.
pub const EPS: f32 = 1e-6;

/// Rows of an image that a task handles. Part of the backward pass's definition: the parameters'
/// gradients are sums of sums over so many rows.
const ROWS: usize = 32;
/// Rough cost of an element in scalar operations.
const OPS: usize = 4;

/// Where a layer finds its shift and scale: every image has one row of modulation vectors.
#[derive(Clone, Copy, Debug)]
pub struct Modulation<'a> {
    /// All modulation vectors, `[B, stride]`.
    pub data: &'a [f32],
    /// Length of an image's row.
    pub stride: usize,
    /// Where in the row the D values of the shift start.
    pub shift: usize,
    /// Where in the row the D values of the scale start.
    pub scale: usize,
}

impl<'a> Modulation<'a> {
    /// Shift and scale of an image, each `[D]`.
    fn of_image(&self, b: usize, d: usize) -> (&'a [f32], &'a [f32]) {
        let row = &self.data[b * self.stride..][..self.stride];
        (&row[self.shift..][..d], &row[self.scale..][..d])
    }

    fn check(&self, x: usize, weight: usize, dmod: usize, b: usize, n: usize, d: usize) {
        assert_eq!((x, weight), (b * n * d, d), "rms_norm_modulate: bad x or weight");
        let rows = b * self.stride;
        assert_eq!((self.data.len(), dmod), (rows, rows), "rms_norm_modulate: bad modulation");
        let end = self.shift.max(self.scale) + d;
        assert!(end <= self.stride, "rms_norm_modulate: a vector overruns its row");
    }
}

/// Normalises and modulates: `x`, `y` `[B, N, D]`, `weight` `[D]`.
pub fn rms_norm_modulate(
    x: &[f32],
    weight: &[f32],
    m: Modulation<'_>,
    b: usize,
    n: usize,
    d: usize,
    y: &mut [f32],
) {
    forward(cpu::level(), x, weight, m, b, n, d, y);
}

fn forward(
    level: Level,
    x: &[f32],
    weight: &[f32],
    m: Modulation<'_>,
    b: usize,
    n: usize,
    d: usize,
    y: &mut [f32],
) {
    m.check(x.len(), weight.len(), m.data.len(), b, n, d);
    assert_eq!(y.len(), x.len(), "rms_norm_modulate: x and y differ in length");
    par::for_each_chunk(y, ROWS * d, OPS * b * n * d, |chunk, y| {
        for (i, y) in y.chunks_exact_mut(d).enumerate() {
            let row = chunk * ROWS + i;
            let (shift, scale) = m.of_image(row / n, d);
            forward_row(level, &x[row * d..][..d], weight, shift, scale, y);
        }
    });
}

/// The backward pass of [`rms_norm_modulate`], which recomputes the norm.
///
/// All three results are added to: `dx` `[B, N, D]`, `dweight` `[D]`, and `dmod` `[B, stride]` at the
/// places of the shift and the scale.
pub fn rms_norm_modulate_grad(
    x: &[f32],
    weight: &[f32],
    m: Modulation<'_>,
    dy: &[f32],
    b: usize,
    n: usize,
    d: usize,
    dx: &mut [f32],
    dweight: &mut [f32],
    dmod: &mut [f32],
) {
    backward(cpu::level(), x, weight, m, dy, b, n, d, dx, dweight, dmod);
}

fn backward(
    level: Level,
    x: &[f32],
    weight: &[f32],
    m: Modulation<'_>,
    dy: &[f32],
    b: usize,
    n: usize,
    d: usize,
    dx: &mut [f32],
    dweight: &mut [f32],
    dmod: &mut [f32],
) {
    m.check(x.len(), weight.len(), dmod.len(), b, n, d);
    assert_eq!((dy.len(), dx.len()), (x.len(), x.len()), "rms_norm_modulate_grad: bad lengths");
    assert_eq!(dweight.len(), d, "rms_norm_modulate_grad: bad dweight");

    // With u = x·r, everything the parameters need of the tokens are the sums Σ dy·u and Σ dy: a
    // pair of rows for every group of an image's tokens.
    let groups = n.div_ceil(ROWS);
    let mut sums = Buffer::zeroed(b * groups * 2 * d);
    let dx = Disjoint::new(dx);
    par::for_each_chunk(&mut sums, 2 * d, 2 * OPS * b * n * d, |task, sums| {
        let (image, group) = (task / groups, task % groups);
        let from = (image * n + group * ROWS) * d;
        let len = ROWS.min(n - group * ROWS) * d;
        // SAFETY: each task has its own group of tokens.
        let dx = unsafe { dx.part(from, len) };
        let (_, scale) = m.of_image(image, d);
        let gain: Vec<f32> = weight.iter().zip(scale).map(|(w, s)| w * (1.0 + s)).collect();
        let (du, dshift) = sums.split_at_mut(d);
        backward_rows(level, &x[from..][..len], &gain, &dy[from..][..len], dx, du, dshift);
    });

    for (image, sums) in sums.chunks_exact(groups * 2 * d).enumerate() {
        let (_, scale) = m.of_image(image, d);
        let dmod = &mut dmod[image * m.stride..][..m.stride];
        for sums in sums.chunks_exact(2 * d) {
            let (du, dshift) = sums.split_at(d);
            for j in 0..d {
                dweight[j] += du[j] * (1.0 + scale[j]);
                dmod[m.scale + j] += du[j] * weight[j];
                dmod[m.shift + j] += dshift[j];
            }
        }
    }
}

simd_kernel! {
    fn forward_row(
        level; x: &[f32], weight: &[f32], shift: &[f32], scale: &[f32], y: &mut [f32],
    ) = forward_row_kernel;
    fn backward_rows(
        level; x: &[f32], gain: &[f32], dy: &[f32], dx: &mut [f32], du: &mut [f32],
        dshift: &mut [f32],
    ) = backward_rows_kernel;
}

/// `rsqrt(mean(x²) + eps)`
#[inline(always)]
pub(crate) fn inverse_rms<S: Simd>(s: S, x: &[f32]) -> f32 {
    // Several sums, so that the loop is bound by throughput and not by the latency of one.
    let mut sums = [s.splat(0.0); 4];
    let mut j = 0;
    while j + 4 * S::LANES <= x.len() {
        for (k, sum) in sums.iter_mut().enumerate() {
            let v = s.load(&x[j + k * S::LANES..]);
            *sum = s.fma(v, v, *sum);
        }
        j += 4 * S::LANES;
    }
    while j < x.len() {
        let v = load_at(s, x, j);
        sums[0] = s.fma(v, v, sums[0]);
        j += S::LANES;
    }
    let sum = s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])));
    1.0 / (sum / x.len() as f32 + EPS).sqrt()
}

#[inline(always)]
fn forward_row_kernel<S: Simd>(
    s: S,
    x: &[f32],
    weight: &[f32],
    shift: &[f32],
    scale: &[f32],
    y: &mut [f32],
) {
    let (one, r) = (s.splat(1.0), s.splat(inverse_rms(s, x)));
    for j in (0..x.len()).step_by(S::LANES) {
        let normed = s.mul(s.mul(load_at(s, x, j), r), load_at(s, weight, j));
        let gain = s.add(one, load_at(s, scale, j));
        store_at(s, s.fma(normed, gain, load_at(s, shift, j)), y, j);
    }
}

/// Adds to `dx` for a run of rows with one `gain = weight·(1 + scale)`, and to the sums
/// `du = Σ dy·u` and `dshift = Σ dy`.
#[inline(always)]
fn backward_rows_kernel<S: Simd>(
    s: S,
    x: &[f32],
    gain: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    du: &mut [f32],
    dshift: &mut [f32],
) {
    let d = gain.len();
    let rows = x.chunks_exact(d).zip(dy.chunks_exact(d));
    for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(d)) {
        let r = inverse_rms(s, x);
        // Two sums, as in `inverse_rms`; the loop has three loads for each.
        let mut dots = [s.splat(0.0); 2];
        for (k, j) in (0..d).step_by(S::LANES).enumerate() {
            let dnormed = s.mul(load_at(s, dy, j), load_at(s, gain, j));
            dots[k % 2] = s.fma(dnormed, load_at(s, x, j), dots[k % 2]);
        }
        // du/dx = r·(I − u·uᵀ/D), so dx = r·(dy·gain − u·(u·(dy·gain))/D).
        let mean = s.sum(s.add(dots[0], dots[1])) * r / d as f32;
        let (r, minus_mean) = (s.splat(r), s.splat(-mean));
        for j in (0..d).step_by(S::LANES) {
            let u = s.mul(load_at(s, x, j), r);
            let vdy = load_at(s, dy, j);
            let inner = s.fma(u, minus_mean, s.mul(vdy, load_at(s, gain, j)));
            store_at(s, s.fma(r, inner, load_at(s, dx, j)), dx, j);
            store_at(s, s.fma(vdy, u, load_at(s, du, j)), du, j);
            store_at(s, s.add(vdy, load_at(s, dshift, j)), dshift, j);
        }
    }
}

/// The plain twin of [`rms_norm_modulate`].
pub fn rms_norm_modulate_plain(
    x: &[f32],
    weight: &[f32],
    m: Modulation<'_>,
    b: usize,
    n: usize,
    d: usize,
    y: &mut [f32],
) {
    m.check(x.len(), weight.len(), m.data.len(), b, n, d);
    for row in 0..b * n {
        let (shift, scale) = m.of_image(row / n, d);
        let x = &x[row * d..][..d];
        let r = inverse_rms_plain(x);
        for j in 0..d {
            y[row * d + j] = x[j] * r * weight[j] * (1.0 + scale[j]) + shift[j];
        }
    }
}

/// The plain twin of [`rms_norm_modulate_grad`].
pub fn rms_norm_modulate_grad_plain(
    x: &[f32],
    weight: &[f32],
    m: Modulation<'_>,
    dy: &[f32],
    b: usize,
    n: usize,
    d: usize,
    dx: &mut [f32],
    dweight: &mut [f32],
    dmod: &mut [f32],
) {
    m.check(x.len(), weight.len(), dmod.len(), b, n, d);
    for row in 0..b * n {
        let (_, scale) = m.of_image(row / n, d);
        let dmod = &mut dmod[row / n * m.stride..][..m.stride];
        let (x, dy, dx) = (&x[row * d..][..d], &dy[row * d..][..d], &mut dx[row * d..][..d]);
        let r = inverse_rms_plain(x);
        let mut dot = 0.0;
        for j in 0..d {
            let (u, gain) = (x[j] * r, 1.0 + scale[j]);
            dot += dy[j] * gain * weight[j] * u;
            dweight[j] += dy[j] * gain * u;
            dmod[m.scale + j] += dy[j] * weight[j] * u;
            dmod[m.shift + j] += dy[j];
        }
        for j in 0..d {
            let du = dy[j] * (1.0 + scale[j]) * weight[j];
            dx[j] += r * (du - x[j] * r * dot / d as f32);
        }
    }
}

fn inverse_rms_plain(x: &[f32]) -> f32 {
    let sum: f32 = x.iter().map(|v| v * v).sum();
    1.0 / (sum / x.len() as f32 + EPS).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        assert_close, assert_close_at, assert_gradient, dot, on_one_and_two_threads, random,
    };
    use proptest::prelude::*;

    /// Inputs with shift and scale inside wider rows: stride 3·D + 1, shift after scale.
    struct Case {
        b: usize,
        n: usize,
        d: usize,
        x: Vec<f32>,
        weight: Vec<f32>,
        modulation: Vec<f32>,
        dy: Vec<f32>,
    }

    impl Case {
        fn new(b: usize, n: usize, d: usize, seed: u64) -> Self {
            Self {
                b,
                n,
                d,
                x: random(seed, b * n * d),
                weight: random(seed ^ 1, d),
                modulation: random(seed ^ 2, b * (3 * d + 1)),
                dy: random(seed ^ 3, b * n * d),
            }
        }

        fn layout<'a>(&self, data: &'a [f32]) -> Modulation<'a> {
            Modulation { data, stride: 3 * self.d + 1, shift: 2 * self.d + 1, scale: 1 }
        }

        fn forward(&self, level: Level, x: &[f32], weight: &[f32], data: &[f32]) -> Vec<f32> {
            let mut y = vec![9.0; self.x.len()];
            forward(level, x, weight, self.layout(data), self.b, self.n, self.d, &mut y);
            y
        }

        /// The largest of the terms `r·dy·weight·(1 + scale)` whose projection out of x is dx: in a
        /// short row of small values they are large and nearly cancel.
        fn largest_term(&self) -> f64 {
            let m = self.layout(&self.modulation);
            let rows = self.x.chunks_exact(self.d).zip(self.dy.chunks_exact(self.d));
            let largest = |(row, (x, dy)): (usize, (&[f32], &[f32]))| {
                let (_, scale) = m.of_image(row / self.n, self.d);
                let terms = dy.iter().zip(&self.weight).zip(scale);
                let terms = terms.map(|((dy, w), s)| (dy * w * (1.0 + s)).abs());
                f64::from(inverse_rms_plain(x) * terms.fold(0.0, f32::max))
            };
            rows.enumerate().map(largest).fold(0.0, f64::max)
        }

        /// dx, dweight, dmod, all on top of ones.
        fn backward(&self, level: Option<Level>) -> [Vec<f32>; 3] {
            let mut out = [&self.x, &self.weight, &self.modulation].map(|v| vec![1.0; v.len()]);
            let [dx, dw, dm] = &mut out;
            let (m, b, n, d) = (self.layout(&self.modulation), self.b, self.n, self.d);
            let (x, w, dy) = (&self.x, &self.weight, &self.dy);
            match level {
                Some(level) => backward(level, x, w, m, dy, b, n, d, dx, dw, dm),
                None => rms_norm_modulate_grad_plain(x, w, m, dy, b, n, d, dx, dw, dm),
            }
            out
        }
    }

    proptest! {
        #[test]
        fn the_fast_kernels_match_their_plain_twins(
            b in 1usize..4, n in 1usize..70, d in 1usize..80, seed: u64,
        ) {
            let case = Case::new(b, n, d, seed);
            let mut plain = vec![0.0; case.x.len()];
            let m = case.layout(&case.modulation);
            rms_norm_modulate_plain(&case.x, &case.weight, m, b, n, d, &mut plain);
            let dplain = case.backward(None);
            for level in Level::all() {
                let fast = case.forward(level, &case.x, &case.weight, &case.modulation);
                assert_close(&fast, &plain, 2e-6);
                let [dx, dweight, dmod] = case.backward(Some(level));
                assert_close_at(&dx, &dplain[0], 1e-5, case.largest_term());
                assert_close(&dweight, &dplain[1], 1e-5);
                assert_close(&dmod, &dplain[2], 1e-5);
            }
        }
    }

    #[test]
    fn the_gradients_are_the_derivatives() {
        let case = Case::new(2, 3, 10, 5);
        let level = cpu::level();
        let gradients = case.backward(Some(level)).map(|g| g.iter().map(|v| v - 1.0).collect());
        let [dx, dweight, dmod]: [Vec<f32>; 3] = gradients;
        let (x, w, m) = (&case.x, &case.weight, &case.modulation);
        assert_gradient(|x| dot(&case.forward(level, x, w, m), &case.dy), x, &dx, 1e-4);
        assert_gradient(|w| dot(&case.forward(level, x, w, m), &case.dy), w, &dweight, 1e-4);
        assert_gradient(|m| dot(&case.forward(level, x, w, m), &case.dy), m, &dmod, 1e-4);
    }

    #[test]
    fn a_row_of_zeros_stays_finite() {
        let data = [0.5; 8];
        let m = Modulation { data: &data, stride: 8, shift: 0, scale: 4 };
        let (mut y, mut dx) = ([9.0; 4], [0.0; 4]);
        rms_norm_modulate(&[0.0; 4], &[1.0; 4], m, 1, 1, 4, &mut y);
        assert_eq!(y, [0.5; 4]);
        let (dw, dm) = (&mut [0.0; 4], &mut [0.0; 8]);
        rms_norm_modulate_grad(&[0.0; 4], &[1.0; 4], m, &[1.0; 4], 1, 1, 4, &mut dx, dw, dm);
        // r = 1/√eps = 1000, gain 1.5.
        assert_close(&dx, &[1500.0; 4], 1e-5);
    }

    #[test]
    fn neither_the_batch_nor_the_threads_change_a_bit() {
        let whole = Case::new(3, 70, 321, 1);
        let [one, two] = on_one_and_two_threads(|| whole.backward(Some(cpu::level())));
        assert_eq!(one, two);

        let (rows, stride) = (whole.n * whole.d, 3 * whole.d + 1);
        let part = Case {
            b: 1,
            x: whole.x[rows..2 * rows].to_vec(),
            weight: whole.weight.clone(),
            modulation: whole.modulation[stride..2 * stride].to_vec(),
            dy: whole.dy[rows..2 * rows].to_vec(),
            ..whole
        };
        let level = cpu::level();
        let y = whole.forward(level, &whole.x, &whole.weight, &whole.modulation);
        let y_part = part.forward(level, &part.x, &part.weight, &part.modulation);
        assert_eq!(y[rows..2 * rows], y_part);
        let [dx, _, dmod] = part.backward(Some(level));
        assert_eq!(one[0][rows..2 * rows], dx);
        assert_eq!(one[2][stride..2 * stride], dmod);
    }
}
