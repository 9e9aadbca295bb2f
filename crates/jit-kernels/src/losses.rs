//! The diffusion objective in its nine forms, and the auxiliary losses: each gives one value per
//! image, so that the mean over a global batch is the caller's choice of weights.

use crate::par;

/// Rough cost of a pixel's error in scalar operations: divisions, mostly.
const OPS: usize = 8;

/// What a prediction stands for: the clean image x, the noise ε, or the velocity v = x − ε.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The clean image.
    X,
    /// The noise.
    Eps,
    /// The velocity of `z = t·x + (1−t)·ε`.
    V,
}

/// A conversion between spaces, `(a·net + b·z) / divisor`: affine in the network's output.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Conversion {
    a: f32,
    b: f32,
    divisor: f32,
}

impl Conversion {
    /// The table of Li & He 2025, with both denominators kept at or above `t_eps`.
    fn new(from: Space, to: Space, t: f32, t_eps: f32) -> Self {
        let d = (1.0 - t).max(t_eps);
        let (a, b, divisor) = match (from, to) {
            (Space::X, Space::X) | (Space::Eps, Space::Eps) | (Space::V, Space::V) => {
                (1.0, 0.0, 1.0)
            }
            (Space::X, Space::Eps) => (-t, 1.0, d),
            (Space::X, Space::V) => (1.0, -1.0, d),
            (Space::Eps, Space::X) => (-(1.0 - t), 1.0, t.max(t_eps)),
            (Space::Eps, Space::V) => (-1.0, 1.0, t.max(t_eps)),
            (Space::V, Space::X) => (1.0 - t, 1.0, 1.0),
            (Space::V, Space::Eps) => (-t, 1.0, 1.0),
        };
        Self { a, b, divisor }
    }

    #[inline(always)]
    fn apply(self, net: f32, z: f32) -> f32 {
        (self.a * net + self.b * z) / self.divisor
    }
}

/// The noised images `z = t·x + (1−t)·ε`: `x`, `eps`, `z` `[B, P]`, `t` `[B]` in [0, 1].
pub fn interpolate(x: &[f32], eps: &[f32], t: &[f32], z: &mut [f32]) {
    let p = row_length("interpolate", t.len(), &[x.len(), eps.len(), z.len()]);
    par::for_each_chunk(z, p, x.len(), |image, z| {
        let t = t[image];
        for ((z, x), eps) in z.iter_mut().zip(&x[image * p..]).zip(&eps[image * p..]) {
            *z = t * x + (1.0 - t) * eps;
        }
    });
}

/// Converts a prediction from the space `from` to the space `to`: `net`, `z`, `out` `[B, P]`, `t`
/// `[B]` in [0, 1].
pub fn convert(
    net: &[f32],
    z: &[f32],
    t: &[f32],
    t_eps: f32,
    from: Space,
    to: Space,
    out: &mut [f32],
) {
    let p = row_length("convert", t.len(), &[net.len(), z.len(), out.len()]);
    par::for_each_chunk(out, p, net.len(), |image, out| {
        let conversion = Conversion::new(from, to, t[image], t_eps);
        for ((o, net), z) in out.iter_mut().zip(&net[image * p..]).zip(&z[image * p..]) {
            *o = conversion.apply(*net, *z);
        }
    });
}

/// `prediction − target` of every pixel of an image, in the loss space.
///
/// The target of v is `(x − z)/d`, with the same clamped denominator as the prediction, as in the
/// reference implementation; away from the clamp it equals x − ε.
#[inline(always)]
fn errors(
    [net, z, x, eps]: [&[f32]; 4],
    t: f32,
    t_eps: f32,
    output: Space,
    loss: Space,
    mut f: impl FnMut(usize, f32),
) {
    let conversion = Conversion::new(output, loss, t, t_eps);
    let pixels = net.iter().zip(z).enumerate();
    match loss {
        Space::X => pixels.for_each(|(i, (n, z))| f(i, conversion.apply(*n, *z) - x[i])),
        Space::Eps => pixels.for_each(|(i, (n, z))| f(i, conversion.apply(*n, *z) - eps[i])),
        Space::V => {
            let target = Conversion::new(Space::X, Space::V, t, t_eps);
            pixels.for_each(|(i, (n, z))| f(i, conversion.apply(*n, *z) - target.apply(x[i], *z)));
        }
    }
}

/// The diffusion loss of each image: the mean over its P values of `(target − prediction)²` in the
/// space `loss`, the prediction converted from the network's `output` space.
///
/// `net`, `z = t·x + (1−t)·ε`, `x`, `eps` `[B, P]`; `t` `[B]` in [0, 1]; `per_sample` `[B]` is
/// overwritten.
pub fn diffusion_loss(
    net: &[f32],
    z: &[f32],
    x: &[f32],
    eps: &[f32],
    t: &[f32],
    t_eps: f32,
    output: Space,
    loss: Space,
    per_sample: &mut [f32],
) {
    let tensors = [net, z, x, eps];
    let p = row_length("diffusion_loss", t.len(), &tensors.map(<[f32]>::len));
    assert_eq!(per_sample.len(), t.len(), "diffusion_loss: bad per_sample length");
    par::for_each_chunk(per_sample, 1, OPS * net.len(), |image, value| {
        let tensors = tensors.map(|x| &x[image * p..][..p]);
        let mut sum = 0.0f64;
        errors(tensors, t[image], t_eps, output, loss, |_, e| sum += f64::from(e) * f64::from(e));
        value[0] = (sum / p as f64) as f32;
    });
}

/// The backward pass of [`diffusion_loss`]: `weight` `[B]` holds the derivative of the total with
/// respect to each image's loss; `dnet` `[B, P]` is overwritten.
pub fn diffusion_loss_grad(
    net: &[f32],
    z: &[f32],
    x: &[f32],
    eps: &[f32],
    t: &[f32],
    t_eps: f32,
    output: Space,
    loss: Space,
    weight: &[f32],
    dnet: &mut [f32],
) {
    let tensors = [net, z, x, eps];
    let p = row_length("diffusion_loss_grad", t.len(), &tensors.map(<[f32]>::len));
    assert_eq!((weight.len(), dnet.len()), (t.len(), net.len()), "diffusion_loss_grad: lengths");
    par::for_each_chunk(dnet, p, OPS * net.len(), |image, dnet| {
        let (tensors, t) = (tensors.map(|x| &x[image * p..][..p]), t[image]);
        let Conversion { a, divisor, .. } = Conversion::new(output, loss, t, t_eps);
        let factor = 2.0 * weight[image] / p as f32 * a / divisor;
        errors(tensors, t, t_eps, output, loss, |i, e| dnet[i] = factor * e);
    });
}

/// `per_sample = (pred − target)²`, all `[B]`.
pub fn mse(pred: &[f32], target: &[f32], per_sample: &mut [f32]) {
    assert_eq!((target.len(), per_sample.len()), (pred.len(), pred.len()), "mse: lengths differ");
    for ((loss, p), t) in per_sample.iter_mut().zip(pred).zip(target) {
        *loss = (p - t) * (p - t);
    }
}

/// The backward pass of [`mse`]; `dpred` is overwritten, all `[B]`.
pub fn mse_grad(pred: &[f32], target: &[f32], weight: &[f32], dpred: &mut [f32]) {
    assert_eq!((target.len(), weight.len(), dpred.len()), (pred.len(), pred.len(), pred.len()));
    for (((d, p), t), w) in dpred.iter_mut().zip(pred).zip(target).zip(weight) {
        *d = 2.0 * w * (p - t);
    }
}

/// `per_sample = −log softmax(logits)[class]`: `logits` `[B, K]`, `class` `[B]` below K.
pub fn cross_entropy(logits: &[f32], class: &[u8], per_sample: &mut [f32]) {
    let k = row_length("cross_entropy", class.len(), &[logits.len()]);
    assert_eq!(per_sample.len(), class.len(), "cross_entropy: bad per_sample length");
    for ((loss, row), &class) in per_sample.iter_mut().zip(logits.chunks_exact(k)).zip(class) {
        *loss = (log_sum_exp(row) - f64::from(row[usize::from(class)])) as f32;
    }
}

/// The backward pass of [`cross_entropy`]: `dlogits = weight·(softmax − one-hot)`, `[B, K]`,
/// overwritten.
pub fn cross_entropy_grad(logits: &[f32], class: &[u8], weight: &[f32], dlogits: &mut [f32]) {
    let k = row_length("cross_entropy_grad", class.len(), &[logits.len(), dlogits.len()]);
    assert_eq!(weight.len(), class.len(), "cross_entropy_grad: bad weight length");
    let rows = dlogits.chunks_exact_mut(k).zip(logits.chunks_exact(k));
    for ((drow, row), (&class, &weight)) in rows.zip(class.iter().zip(weight)) {
        let lse = log_sum_exp(row);
        for (d, &l) in drow.iter_mut().zip(row) {
            *d = weight * (f64::from(l) - lse).exp() as f32;
        }
        drow[usize::from(class)] -= weight;
    }
}

fn log_sum_exp(row: &[f32]) -> f64 {
    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + row.iter().map(|&l| (f64::from(l) - max).exp()).sum::<f64>().ln()
}

/// P, given that every length is B·P.
fn row_length(what: &str, b: usize, lengths: &[usize]) -> usize {
    let len = lengths[0];
    assert!(lengths.iter().all(|&l| l == len), "{what}: lengths differ: {lengths:?}");
    assert!(b > 0 && len > 0 && len.is_multiple_of(b), "{what}: {len} values for {b} images");
    len / b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, dot, random};

    const SPACES: [Space; 3] = [Space::X, Space::Eps, Space::V];
    const T_EPS: f32 = 0.05;
    /// Well inside, at both ends of and beyond both clamps.
    const TIMES: [f32; 6] = [0.4, 0.95, 0.99, 1.0, 0.01, 0.0];

    /// x, ε and z of one image per time, P = 7.
    fn images() -> [Vec<f32>; 3] {
        let (x, eps) = (random(1, 42), random(2, 42));
        let mut z = vec![0.0; 42];
        interpolate(&x, &eps, &TIMES, &mut z);
        [x, eps, z]
    }

    /// The table of conversions as it is written in the paper, in f64.
    fn table(net: f64, z: f64, t: f64, from: Space, to: Space) -> f64 {
        let t_eps = f64::from(T_EPS);
        let d = (1.0 - t).max(t_eps);
        let x = match from {
            Space::X => net,
            Space::Eps => (z - (1.0 - t) * net) / t.max(t_eps),
            Space::V => (1.0 - t) * net + z,
        };
        match (from, to) {
            (_, Space::X) => x,
            (Space::X, Space::Eps) => (z - t * net) / d,
            (Space::X, Space::V) => (net - z) / d,
            (Space::Eps, Space::Eps) | (Space::V, Space::V) => net,
            (Space::Eps, Space::V) => (z - net) / t.max(t_eps),
            (Space::V, Space::Eps) => z - t * net,
        }
    }

    #[test]
    fn noised_images_mix_image_and_noise() {
        let mut z = [0.0; 4];
        interpolate(&[1., 2., 3., 4.], &[10., 20., 30., 40.], &[0.25, 1.0], &mut z);
        assert_eq!(z, [7.75, 15.5, 3., 4.]);
    }

    #[test]
    fn the_nine_losses_match_the_table() {
        let [x, eps, z] = images();
        let net = random(3, 42);
        for (output, loss) in SPACES.into_iter().flat_map(|o| SPACES.map(|l| (o, l))) {
            let expected: Vec<f32> = (0..6)
                .map(|b| {
                    let t = f64::from(TIMES[b]);
                    let sum: f64 = (7 * b..7 * b + 7)
                        .map(|i| {
                            let [x, eps, z, net] = [x[i], eps[i], z[i], net[i]].map(f64::from);
                            let target = match loss {
                                Space::X => x,
                                Space::Eps => eps,
                                Space::V => (x - z) / (1.0 - t).max(f64::from(T_EPS)),
                            };
                            (target - table(net, z, t, output, loss)).powi(2)
                        })
                        .sum();
                    (sum / 7.0) as f32
                })
                .collect();
            let mut actual = vec![9.0; 6];
            diffusion_loss(&net, &z, &x, &eps, &TIMES, T_EPS, output, loss, &mut actual);
            assert_close(&actual, &expected, 1e-5);
        }
    }

    #[test]
    fn the_nine_gradients_are_the_derivatives() {
        let [x, eps, z] = images();
        let (net, weight) = (random(3, 42), random(4, 6));
        for (output, loss) in SPACES.into_iter().flat_map(|o| SPACES.map(|l| (o, l))) {
            let mut dnet = vec![9.0; 42];
            diffusion_loss_grad(
                &net, &z, &x, &eps, &TIMES, T_EPS, output, loss, &weight, &mut dnet,
            );
            // Image by image, since the largest gradient sets the scale of the comparison.
            for b in 0..6 {
                let here = 7 * b..7 * b + 7;
                let [z, x, eps] = [&z, &x, &eps].map(|v| &v[here.clone()]);
                let f = |net: &[f32]| {
                    let mut value = [0.0];
                    let t = &TIMES[b..=b];
                    diffusion_loss(net, z, x, eps, t, T_EPS, output, loss, &mut value);
                    dot(&value, &weight[b..=b])
                };
                assert_gradient(f, &net[here.clone()], &dnet[here.clone()], 1e-4);
            }
        }
    }

    #[test]
    fn conversions_recover_what_the_truth_is_in_any_other_space() {
        let (x, eps, t) = (random(1, 42), random(2, 42), [0.1, 0.3, 0.5, 0.6, 0.8, 0.94]);
        let (mut z, mut v) = (vec![0.0; 42], vec![0.0; 42]);
        interpolate(&x, &eps, &t, &mut z);
        crate::elementwise::axpby(1.0, &x, -1.0, &eps, &mut v);
        for (from, truth) in SPACES.into_iter().zip([&x, &eps, &v]) {
            for (to, expected) in SPACES.into_iter().zip([&x, &eps, &v]) {
                let mut out = vec![9.0; 42];
                convert(truth, &z, &t, T_EPS, from, to, &mut out);
                assert_close(&out, expected, 5e-6);
            }
        }
    }

    #[test]
    fn squared_errors_and_their_gradients() {
        let (pred, target) = ([0.5, -1.0], [0.25, 1.0]);
        let mut out = [9.0; 2];
        mse(&pred, &target, &mut out);
        assert_eq!(out, [0.0625, 4.0]);
        mse_grad(&pred, &target, &[2.0, 0.5], &mut out);
        assert_eq!(out, [1.0, -2.0]);
    }

    #[test]
    fn cross_entropy_matches_the_definition_and_survives_large_logits() {
        let mut out = [9.0; 2];
        cross_entropy(&[1.0, 2.0, 3.0, 1e4, 0.0, -1e4], &[0, 1], &mut out);
        // −log(e/(e + e² + e³)) = log(1 + e + e²)
        assert_close(&out, &[2.407_606, 1e4], 1e-7);

        let (logits, weight) = (random(1, 8), [0.7, -1.3]);
        let mut dlogits = vec![9.0; 8];
        cross_entropy_grad(&logits, &[3, 0], &weight, &mut dlogits);
        let f = |logits: &[f32]| {
            let mut per_sample = [0.0; 2];
            cross_entropy(logits, &[3, 0], &mut per_sample);
            dot(&per_sample, &weight)
        };
        assert_gradient(f, &logits, &dlogits, 1e-5);
    }
}
