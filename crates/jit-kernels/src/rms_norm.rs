//! RMSNorm (Zhang & Sennrich 2019) followed by the adaLN modulation (Peebles & Xie 2023):
//! `y = x·rsqrt(mean(x²) + eps)·weight·(1 + scale_b) + shift_b`.

/// Added to the mean square before its root.
pub const EPS: f32 = 1e-6;

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
    rms_norm_modulate_plain(x, weight, m, b, n, d, y);
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
    rms_norm_modulate_grad_plain(x, weight, m, dy, b, n, d, dx, dweight, dmod);
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
    check(m, x.len(), weight.len(), m.data.len(), b, n, d);
    for row in 0..b * n {
        let modulation = &m.data[row / n * m.stride..][..m.stride];
        let x = &x[row * d..][..d];
        let r = inverse_rms(x);
        for j in 0..d {
            let normed = x[j] * r * weight[j];
            y[row * d + j] = normed * (1.0 + modulation[m.scale + j]) + modulation[m.shift + j];
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
    check(m, x.len(), weight.len(), dmod.len(), b, n, d);
    for row in 0..b * n {
        let modulation = &m.data[row / n * m.stride..][..m.stride];
        let dmod = &mut dmod[row / n * m.stride..][..m.stride];
        let (x, dy, dx) = (&x[row * d..][..d], &dy[row * d..][..d], &mut dx[row * d..][..d]);
        let r = inverse_rms(x);
        // With u = x·r the derivative of the norm is du/dx = r·(I − u·uᵀ/D).
        let mut dot = 0.0;
        for j in 0..d {
            let (u, gain) = (x[j] * r, 1.0 + modulation[m.scale + j]);
            dot += dy[j] * gain * weight[j] * u;
            dweight[j] += dy[j] * gain * u;
            dmod[m.scale + j] += dy[j] * weight[j] * u;
            dmod[m.shift + j] += dy[j];
        }
        for j in 0..d {
            let du = dy[j] * (1.0 + modulation[m.scale + j]) * weight[j];
            dx[j] += r * (du - x[j] * r * dot / d as f32);
        }
    }
}

fn inverse_rms(x: &[f32]) -> f32 {
    let sum: f32 = x.iter().map(|v| v * v).sum();
    1.0 / (sum / x.len() as f32 + EPS).sqrt()
}

fn check(m: Modulation<'_>, x: usize, weight: usize, dmod: usize, b: usize, n: usize, d: usize) {
    assert_eq!((x, weight), (b * n * d, d), "rms_norm_modulate: bad x or weight");
    assert_eq!((m.data.len(), dmod), (b * m.stride, b * m.stride), "rms_norm_modulate: bad rows");
    assert!(m.shift.max(m.scale) + d <= m.stride, "rms_norm_modulate: a vector overruns its row");
}
