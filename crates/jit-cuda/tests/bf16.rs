//! Every operation on activations in bf16 against the processor in f32 on the same, rounded numbers: what is left are the
//! roundings of results and of what lies between two products.
#![cfg(any(feature = "card", feature = "emulator"))]

use half::bf16;
use jit_core::rng::{Purpose, Stream};
use jit_cuda::Cuda;
use jit_model::Cpu;
use jit_model::device::{Attention, Device, Dropout, Modulation, NormGrads, Precision};

#[cfg(feature = "emulator")]
fn device() -> Cuda {
    Cuda::emulated(Precision::Bf16, None)
}

#[cfg(not(feature = "emulator"))]
#[allow(clippy::unwrap_used, reason = "without a card there is nothing to test")]
fn device() -> Cuda {
    Cuda::open(0, Some(Precision::Bf16), None).unwrap()
}

/// Half a unit in the last place of a bf16 near 1.
const ROUNDING: f32 = 1.0 / 256.0;

/// Standard normal numbers that bf16 holds, different for each `seed`.
fn values(seed: u64, shape: &[usize]) -> Vec<f32> {
    let mut x = vec![0.0; shape.iter().product()];
    Stream::new(7, Purpose::Noise, 0, seed).fill_normal(&mut x);
    x.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32());
    x
}

/// A token activation `[B, N, D]` as a linear layer leaves it: in bf16 where the device keeps such in bf16.
fn tokens<D: Device>(dev: &D, x: &[f32], shape: [usize; 3]) -> D::Tensor {
    let d = shape[2];
    let identity: Vec<f32> = (0..d * d).map(|i| f32::from(u8::from(i / d == i % d))).collect();
    let w = dev.weight(dev.upload(&identity, &[d, d]));
    dev.linear(&dev.upload(x, &shape), &w, None)
}

/// Compares all results, each relative to the largest value expected.
fn compare(what: &str, have: &[Vec<f32>], want: &[Vec<f32>], tolerance: f32) {
    assert_eq!(have.len(), want.len(), "{what}");
    for (i, (have, want)) in have.iter().zip(want).enumerate() {
        assert_eq!(have.len(), want.len(), "{what}, result {i}");
        let largest = want.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        let off = |(a, b): (&f32, &f32)| (a - b).abs() / largest;
        let worst = have.iter().zip(want).map(off).fold(0.0, f32::max);
        assert!(have.iter().all(|v| v.is_finite()), "{what}, result {i}");
        assert!(worst <= tolerance, "{what}, result {i}: {worst:e} is more than {tolerance:e}");
    }
}

/// Runs the same on both devices and compares all that it returns.
macro_rules! same {
    ($what:expr, $tolerance:expr, |$dev:ident| $body:expr) => {{
        let card = device();
        let have: Vec<Vec<f32>> = {
            let $dev = &card;
            $body
        };
        assert_eq!(card.fault(), None, "{}", $what);
        let want: Vec<Vec<f32>> = {
            let $dev = &Cpu::F32;
            $body
        };
        compare(&format!("{}", $what), &have, &want, $tolerance);
    }};
}

#[test]
fn activations_and_gates() {
    for (b, n, m) in [(1, 1, 1), (2, 5, 13), (3, 7, 40)] {
        let (h, dy) = (values(1, &[b, n, 2 * m]), values(2, &[b, n, m]));
        same!(format!("[{b}, {n}, {m}]"), 2.0 * ROUNDING, |dev| {
            let (h, dy) = (tokens(dev, &h, [b, n, 2 * m]), tokens(dev, &dy, [b, n, m]));
            let (dh, again) = dev.swiglu_grad(&h, &dy);
            let all = [
                dev.swiglu(&h),
                dh,
                again,
                dev.silu(&dy),
                dev.silu_grad(&dy, &dy),
                dev.gelu(&dy),
                dev.gelu_grad(&dy, &dy),
            ];
            all.iter().map(|t| dev.download(t)).collect()
        });
    }
}

#[test]
fn norms_and_residuals() {
    for (b, n, d) in [(1, 2, 4), (2, 70, 13), (3, 17, 136)] {
        let (x, y) = (values(1, &[b, n, d]), values(2, &[b, n, d]));
        let (mods, w) = (values(3, &[b, 4 * d]), values(4, &[d]));
        same!(format!("[{b}, {n}, {d}]"), 2.0 * ROUNDING, |dev| {
            let (xt, yt) = (dev.upload(&x, &[b, n, d]), tokens(dev, &y, [b, n, d]));
            let (wt, mt) = (dev.weight(dev.upload(&w, &[d])), dev.upload(&mods, &[b, 4 * d]));
            let m = || Modulation { vectors: &mt, shift: 1, scale: 3 };
            let (mut dx, mut dw) = (dev.upload(&x, &[b, n, d]), dev.upload(&w, &[d]));
            let mut dm = dev.upload(&mods, &[b, 4 * d]);
            dev.rms_norm_modulate_grad(&xt, &wt, m(), &yt, &mut dx, &mut dw, &mut dm);
            let mut dgate = dev.upload(&mods, &[b, 4 * d]);
            let dy = dev.gated_residual_grad(&yt, &mt, 2, &xt, &mut dgate);
            let sum = dev.gated_residual(&xt, &yt, &mt, 0);
            let all = [dev.rms_norm_modulate(&xt, &wt, m()), dx, dw, dm, dgate, dy, sum];
            all.iter().map(|t| dev.download(t)).collect()
        });
    }
}

#[test]
fn products_and_sums_of_columns() {
    for (b, n, inputs, outputs) in [(1, 1, 1, 1), (2, 5, 13, 7), (2, 65, 40, 72)] {
        let (x, dy) = (values(1, &[b, n, inputs]), values(2, &[b, n, outputs]));
        let (w, bias) = (values(3, &[outputs, inputs]), values(4, &[outputs]));
        same!(format!("[{b}, {n}, {inputs}] → {outputs}"), 2.0 * ROUNDING, |dev| {
            let (xt, dyt) = (tokens(dev, &x, [b, n, inputs]), tokens(dev, &dy, [b, n, outputs]));
            let wt = dev.weight(dev.upload(&w, &[outputs, inputs]));
            let bt = dev.weight(dev.upload(&bias, &[outputs]));
            let mut dw = dev.upload(&w, &[outputs, inputs]);
            let mut db = dev.upload(&bias, &[outputs]);
            dev.linear_grad_weight(&xt, &dyt, &mut dw, Some(&mut db));
            let all = [
                dev.linear(&xt, &wt, Some(&bt)),
                dev.linear_full(&xt, &wt, Some(&bt)),
                dev.linear_grad_input(&dyt, &wt),
                dw,
                db,
            ];
            all.iter().map(|t| dev.download(t)).collect()
        });
    }
}

#[test]
fn tokens_of_images_and_masks() {
    let (b, c, s, p) = (2, 3, 10, 5);
    let image = values(1, &[b, c, s, s]);
    let x = values(2, &[b, 4, 13]);
    let streams = (0..b as u64).map(|i| Stream::new(3, Purpose::AttentionDropout, 1, i));
    let mask = Dropout { rate: 0.3, streams: streams.collect() };
    same!("images", 2.0 * ROUNDING, |dev| {
        let image = dev.upload(&image, &[b, c, s, s]);
        let patches = dev.patchify(&image, p);
        let back = dev.unpatchify(&dev.unpatchify_grad(&image, p), c, p);
        let (first, rest) = dev.split_tokens(&tokens(dev, &x, [b, 4, 13]), 1);
        let both = dev.concat_tokens(&first, &rest);
        let mean = dev.mean_tokens(&tokens(dev, &x, [b, 4, 13]));
        let dropped = dev.dropout(tokens(dev, &x, [b, 4, 13]), &mask);
        let all = [patches, back, both, mean, dropped];
        all.iter().map(|t| dev.download(t)).collect()
    });
}

/// One attention with its gradients.
fn attention<D: Device>(
    dev: &D,
    [qkv, q, k, rope, dout]: [&[f32]; 5],
    (b, n, heads, h): (usize, usize, usize, usize),
) -> Vec<Vec<f32>> {
    let d = heads * h;
    let (x, rope) = (tokens(dev, qkv, [b, n, 3 * d]), dev.upload(rope, &[2, n, h]));
    let q_norm = &dev.weight(dev.upload(q, &[h]));
    let k_norm = &dev.weight(dev.upload(k, &[h]));
    let a = || Attention { heads, q_norm, k_norm, rope: &rope, dropout: None };
    let (out, lse) = dev.attention(&x, a());
    let (mut dq, mut dk) = (dev.zeros(&[h]), dev.zeros(&[h]));
    let grads = NormGrads { q_norm: &mut dq, k_norm: &mut dk };
    let dqkv = dev.attention_grad(&x, a(), &out, &lse, &tokens(dev, dout, [b, n, d]), grads);
    [out, lse, dqkv, dq, dk].iter().map(|t| dev.download(t)).collect()
}

#[test]
fn attention_on_tensor_cores_and_by_the_kernels_for_any_size() {
    let presets = [(1, 1, 2, 64), (2, 17, 1, 64), (1, 65, 2, 80), (1, 33, 1, 104), (1, 100, 1, 64)];
    for shape in presets.into_iter().chain([(2, 17, 2, 36), (1, 9, 3, 10)]) {
        attention_is_the_processors(&device(), shape);
    }
}

/// Keys are read 64 at a time where those of a head do not fit.
#[cfg(feature = "emulator")]
#[test]
fn attention_in_less_shared_memory() {
    for shape in [(1, 260, 1, 64), (1, 130, 2, 80), (2, 100, 1, 104)] {
        let card = Cuda::emulated_with_shared_memory(Precision::Bf16, 80_000);
        attention_is_the_processors(&card, shape);
    }
}

fn attention_is_the_processors(card: &Cuda, shape: (usize, usize, usize, usize)) {
    let (b, n, heads, h) = shape;
    let d = heads * h;
    let (qkv, dout) = (values(1, &[b, n, 3 * d]), values(2, &[b, n, d]));
    // Weights near one and a table of rotations, as a network has them.
    let q: Vec<f32> = values(3, &[h]).iter().map(|v| 1.0 + 0.1 * v).collect();
    let k: Vec<f32> = values(4, &[h]).iter().map(|v| 1.0 + 0.1 * v).collect();
    let angles = values(5, &[n, h / 2]);
    let twice = |f: fn(f32) -> f32| angles.iter().flat_map(move |a| [f(*a); 2]);
    let rope: Vec<f32> = twice(f32::cos).chain(twice(f32::sin)).collect();
    let given = [&qkv[..], &q, &k, &rope, &dout];
    let have = attention(card, given, shape);
    assert_eq!(card.fault(), None);
    let want = attention(&Cpu::F32, given, shape);
    // q, k, probabilities and their gradients are rounded on the way to the products.
    compare(&format!("{shape:?}"), &have, &want, 4.0 * ROUNDING);
}
