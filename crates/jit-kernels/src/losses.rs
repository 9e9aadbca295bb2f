//! The diffusion objective in its nine forms, and the auxiliary losses: each gives one value per
//! image, so that the mean over a global batch is the caller's choice of weights.

use rayon::prelude::*;

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
    let inputs = x.par_chunks(p).zip(eps.par_chunks(p)).zip(t);
    z.par_chunks_mut(p).zip(inputs).for_each(|(z, ((x, eps), &t))| {
        for ((z, x), eps) in z.iter_mut().zip(x).zip(eps) {
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
    let inputs = net.par_chunks(p).zip(z.par_chunks(p)).zip(t);
    out.par_chunks_mut(p).zip(inputs).for_each(|(out, ((net, z), &t))| {
        let conversion = Conversion::new(from, to, t, t_eps);
        for ((o, net), z) in out.iter_mut().zip(net).zip(z) {
            *o = conversion.apply(*net, *z);
        }
    });
}

/// The tensors of the diffusion loss, `net`, `z`, `x`, `eps` `[B, P]`, `t` `[B]`, cut by image.
fn images<'a>(
    net: &'a [f32],
    z: &'a [f32],
    x: &'a [f32],
    eps: &'a [f32],
    t: &'a [f32],
) -> impl IndexedParallelIterator<Item = [&'a [f32]; 4]> {
    let p = row_length("diffusion_loss", t.len(), &[net.len(), z.len(), x.len(), eps.len()]);
    let inputs = net.par_chunks(p).zip(z.par_chunks(p));
    let targets = x.par_chunks(p).zip(eps.par_chunks(p));
    inputs.zip(targets).map(|((net, z), (x, eps))| [net, z, x, eps])
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
    assert_eq!(per_sample.len(), t.len(), "diffusion_loss: bad per_sample length");
    let outputs = per_sample.par_iter_mut().zip(t);
    images(net, z, x, eps, t).zip(outputs).for_each(|(image, (value, &t))| {
        let mut sum = 0.0f64;
        errors(image, t, t_eps, output, loss, |_, e| sum += f64::from(e) * f64::from(e));
        *value = (sum / image[0].len() as f64) as f32;
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
    let p = row_length("diffusion_loss_grad", t.len(), &[net.len(), dnet.len()]);
    assert_eq!(weight.len(), t.len(), "diffusion_loss_grad: bad weight length");
    let scalars = t.par_iter().zip(weight);
    images(net, z, x, eps, t).zip(dnet.par_chunks_mut(p)).zip(scalars).for_each(
        |((image, dnet), (&t, &weight))| {
            let conversion = Conversion::new(output, loss, t, t_eps);
            let factor = 2.0 * weight / p as f32 * conversion.a / conversion.divisor;
            errors(image, t, t_eps, output, loss, |i, e| dnet[i] = factor * e);
        },
    );
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
