//! Every operation of a device against that of the processor, over odd sizes. For the tests of a crate with a device, which
//! includes this file as the module `operations` and defines `device()` beside it.

use jit_core::rng::{Purpose, Stream};
use jit_model::device::{AdamW, Attention, Device, Diffusion, Dropout, Modulation, NormGrads};
use jit_model::objective::Space;
use jit_model::{Cpu, device};
use std::cell::Cell;

use super::device as device_under_test;

/// A source of different numbers, the same on every run.
#[derive(Default)]
pub struct Random(Cell<u64>);

impl Random {
    /// Standard normal.
    pub fn values(&self, shape: &[usize]) -> Vec<f32> {
        let mut x = vec![0.0; shape.iter().product()];
        self.0.set(self.0.get() + 1);
        Stream::new(5, Purpose::Noise, 0, self.0.get()).fill_normal(&mut x);
        x
    }
}

/// Relative to the largest value expected.
pub fn close(what: &str, have: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(have.len(), want.len(), "{what}");
    let largest = want.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = have.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
    assert!(worst <= tolerance, "{what}: {worst:e} is more than {tolerance:e}");
    assert!(have.iter().all(|v| v.is_finite()), "{what}");
}

const EXACT: f32 = 0.0;
/// A handful of roundings.
const NEAR: f32 = 4e-6;

/// Runs the same on both devices and compares all that it returns.
macro_rules! same {
    ($what:expr, $tolerance:expr, |$dev:ident| $body:expr) => {{
        let have: Vec<Vec<f32>> = {
            let $dev = device_under_test();
            $body
        };
        let want: Vec<Vec<f32>> = {
            let $dev = &Cpu::F32;
            $body
        };
        assert_eq!(have.len(), want.len());
        for (i, (have, want)) in have.iter().zip(&want).enumerate() {
            close(&format!("{}, result {i}", $what), have, want, $tolerance);
        }
    }};
}

#[test]
fn linear_layers() {
    let random = Random::default();
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (65, 33, 129), (130, 64, 64), (7, 200, 1)]
    {
        let (x, w) = (random.values(&[rows, inputs]), random.values(&[outputs, inputs]));
        let (b, dy) = (random.values(&[outputs]), random.values(&[rows, outputs]));
        let before = random.values(&[outputs, inputs]);
        same!(format!("{rows}·{inputs}·{outputs}"), NEAR, |dev| {
            let (xt, dyt) = (dev.upload(&x, &[rows, inputs]), dev.upload(&dy, &[rows, outputs]));
            let wt = dev.weight(dev.upload(&w, &[outputs, inputs]));
            let bt = dev.weight(dev.upload(&b, &[outputs]));
            let mut dw = dev.upload(&before, &[outputs, inputs]);
            let mut db = dev.upload(&b, &[outputs]);
            dev.linear_grad_weight(&xt, &dyt, &mut dw, Some(&mut db));
            vec![
                dev.download(&dev.linear(&xt, &wt, Some(&bt))),
                dev.download(&dev.linear(&xt, &wt, None)),
                dev.download(&dev.linear_grad_input(&dyt, &wt)),
                dev.download(&dw),
                dev.download(&db),
            ]
        });
    }
}

#[test]
fn norms() {
    let random = Random::default();
    for (b, n, d) in [(1, 1, 2), (2, 5, 7), (3, 17, 130), (2, 70, 192)] {
        let (x, w) = (random.values(&[b, n, d]), random.values(&[d]));
        let (mods, dy) = (random.values(&[b, 4 * d]), random.values(&[b, n, d]));
        same!(format!("[{b}, {n}, {d}]"), NEAR, |dev| {
            let (xt, dyt) = (dev.upload(&x, &[b, n, d]), dev.upload(&dy, &[b, n, d]));
            let (wt, mt) = (dev.weight(dev.upload(&w, &[d])), dev.upload(&mods, &[b, 4 * d]));
            let m = || Modulation { vectors: &mt, shift: 1, scale: 3 };
            let (mut dx, mut dw) = (dev.upload(&dy, &[b, n, d]), dev.upload(&w, &[d]));
            let mut dm = dev.upload(&mods, &[b, 4 * d]);
            dev.rms_norm_modulate_grad(&xt, &wt, m(), &dyt, &mut dx, &mut dw, &mut dm);
            let y = dev.rms_norm_modulate(&xt, &wt, m());
            [y, dx, dw, dm].iter().map(|t| dev.download(t)).collect()
        });
    }
}

fn streams(count: u64) -> Vec<Stream> {
    (0..count).map(|i| Stream::new(3, Purpose::AttentionDropout, 1, i).with_layer(2)).collect()
}

#[test]
fn attention() {
    let random = Random::default();
    for (b, n, heads, h) in [(1, 1, 1, 2), (2, 5, 3, 6), (1, 65, 2, 16), (3, 17, 1, 80)] {
        for rate in [0.0f32, 0.3] {
            let d = heads * h;
            let qkv = random.values(&[b, n, 3 * d]);
            let (qw, kw) = (random.values(&[h]), random.values(&[h]));
            let (rope, dout) = (random.values(&[2, n, h]), random.values(&[b, n, d]));
            let mask = Dropout { rate, streams: streams(b as u64) };
            same!(format!("[{b}, {n}, {heads}·{h}], dropout {rate}"), 2e-5, |dev| {
                let x = dev.upload(&qkv, &[b, n, 3 * d]);
                let rope = dev.upload(&rope, &[2, n, h]);
                let q_norm = &dev.weight(dev.upload(&qw, &[h]));
                let k_norm = &dev.weight(dev.upload(&kw, &[h]));
                let dropout = (rate > 0.0).then_some(&mask);
                let a = || Attention { heads, q_norm, k_norm, rope: &rope, dropout };
                let (out, lse) = dev.attention(&x, a());
                let (mut dq, mut dk) = (dev.upload(&qw, &[h]), dev.upload(&kw, &[h]));
                let grads = NormGrads { q_norm: &mut dq, k_norm: &mut dk };
                let dout = dev.upload(&dout, &[b, n, d]);
                let dqkv = dev.attention_grad(&x, a(), &out, &lse, &dout, grads);
                [out, lse, dqkv, dq, dk].iter().map(|t| dev.download(t)).collect()
            });
        }
    }
}

#[test]
fn activations() {
    let random = Random::default();
    // Beyond one row of cubes, and every range of the error function.
    let n = 70_001;
    let (mut x, dy) = (random.values(&[n]), random.values(&[n]));
    x.iter_mut().enumerate().for_each(|(i, v)| *v *= 1.0 + (i % 4) as f32);
    x[..3].copy_from_slice(&[0.0, 30.0, -30.0]);
    same!("activations", 1e-6, |dev| {
        let (x, dy) = (dev.upload(&x, &[1, n]), dev.upload(&dy, &[1, n]));
        let all = [dev.silu(&x), dev.silu_grad(&x, &dy), dev.gelu(&x), dev.gelu_grad(&x, &dy)];
        all.iter().map(|t| dev.download(t)).collect()
    });
    for (rows, m) in [(1, 1), (5, 7), (33, 100)] {
        let (h, dy) = (random.values(&[rows, 2 * m]), random.values(&[rows, m]));
        same!(format!("swiglu [{rows}, {m}]"), 1e-6, |dev| {
            let (h, dy) = (dev.upload(&h, &[rows, 2 * m]), dev.upload(&dy, &[rows, m]));
            let (dh, again) = dev.swiglu_grad(&h, &dy);
            [dev.swiglu(&h), dh, again].iter().map(|t| dev.download(t)).collect()
        });
    }
}

#[test]
fn residuals_and_sums() {
    let random = Random::default();
    for (b, n, d) in [(1, 2, 1), (3, 7, 5), (2, 40, 130)] {
        let (x, y) = (random.values(&[b, n, d]), random.values(&[b, n, d]));
        let (mods, rows) = (random.values(&[b, 3 * d]), random.values(&[n, d]));
        same!(format!("[{b}, {n}, {d}]"), NEAR, |dev| {
            let tensor = |v: &[f32]| dev.upload(v, &[b, n, d]);
            let (xt, yt) = (tensor(&x), tensor(&y));
            let (m, r) = (dev.upload(&mods, &[b, 3 * d]), dev.upload(&rows, &[n, d]));
            let mut dm = dev.upload(&mods, &[b, 3 * d]);
            let dy = dev.gated_residual_grad(&yt, &m, 2, &xt, &mut dm);
            let mut sum = tensor(&x);
            dev.add_assign(&mut sum, &yt);
            let mut drows = dev.upload(&rows, &[n, d]);
            dev.add_rows_grad(&xt, &mut drows);
            let mut spread = tensor(&y);
            dev.mean_tokens_grad(&dev.mean_tokens(&xt), &mut spread);
            let mut cleared = tensor(&x);
            dev.clear(&mut cleared);
            let (first, rest) = dev.split_tokens(&xt, n - 1);
            let out = [
                dev.gated_residual(&xt, &yt, &m, 1),
                dy,
                dm,
                sum,
                dev.add_rows(tensor(&x), &r),
                drows,
                dev.mean_tokens(&xt),
                spread,
                cleared,
                dev.zeros(&[b, n, d]),
                dev.axpby(0.3, &xt, -2.0, &yt),
                dev.concat_tokens(&xt, &yt),
                first,
                rest,
            ];
            let norm = dev.read_norm(&dev.norm(&[&xt, &r, &m])) as f32;
            out.iter().map(|t| dev.download(t)).chain([vec![norm]]).collect()
        });
    }
}

#[test]
fn tokens_and_images_move_unchanged() {
    let random = Random::default();
    for (b, c, grid, p) in [(1, 1, 1, 1), (2, 3, 2, 4), (3, 1, 5, 3)] {
        let side = grid * p;
        let shape = [b, c, side, side];
        let x = random.values(&shape);
        let turns: Vec<u8> = (0..b).map(|i| (i % 4) as u8).collect();
        let table = random.values(&[9, 4]);
        let indices = [3, 0, 3, 8, 3];
        same!(format!("{shape:?} in patches of {p}"), EXACT, |dev| {
            let x = dev.upload(&x, &shape);
            let patches = dev.patchify(&x, p);
            let tokens = dev.unpatchify_grad(&x, p);
            let back = dev.unpatchify(&tokens, c, p);
            let turned = dev.rot90(&x, &turns);
            let table = dev.upload(&table, &[9, 4]);
            let rows = dev.gather_rows(&table, &indices);
            let shapes = vec![dev.shape(&patches).len() as f32, dev.shape(&rows)[0] as f32];
            let all = [patches, tokens, back, turned, rows];
            all.iter().map(|t| dev.download(t)).chain([shapes]).collect()
        });
    }
    let (table, dy) = (random.values(&[9, 4]), random.values(&[5, 4]));
    same!("repeated rows", NEAR, |dev| {
        let mut table = dev.upload(&table, &[9, 4]);
        dev.gather_rows_grad(&dev.upload(&dy, &[5, 4]), &[3, 0, 3, 8, 3], &mut table);
        vec![dev.download(&table)]
    });
    for k in 0..4u8 {
        let x: Vec<f32> = (0..18).map(|v| v as f32).collect();
        same!(format!("{k} turns"), EXACT, |dev| {
            vec![dev.download(&dev.rot90(&dev.upload(&x, &[1, 2, 3, 3]), &[k]))]
        });
    }
}

#[test]
fn masks_are_those_of_the_processor() {
    let random = Random::default();
    let x = random.values(&[3, 4101]);
    let mask = Dropout { rate: 0.3, streams: streams(3) };
    same!("dropout", 1e-7, |dev| {
        vec![dev.download(&dev.dropout(dev.upload(&x, &[3, 4101]), &mask))]
    });
}

#[test]
fn noise_is_that_of_the_processor() {
    for (images, side, scale) in [(1, 1, 1.0), (3, 7, 2.0), (2, 64, 1.0)] {
        same!(format!("noise of {images} images of {side}²"), 1e-6, |dev| {
            vec![dev.download(&dev.normal(
                &streams(images),
                scale,
                &[images as usize, 1, side, side],
            ))]
        });
    }
}

#[test]
fn losses() {
    let random = Random::default();
    let spaces = [Space::X, Space::Eps, Space::V];
    // Well inside, at both ends of and beyond both clamps.
    let t = [0.4, 0.95, 0.99, 1.0, 0.01, 0.0];
    let shape = [6, 1, 13, 13];
    let [net, x, noise] = [(); 3].map(|()| random.values(&shape));
    let weight: Vec<f32> = (1..7).map(|i| 0.1 * i as f32).collect();
    for (output, loss) in spaces.into_iter().flat_map(|a| spaces.map(|b| (a, b))) {
        same!(format!("{output:?} in {loss:?}"), NEAR, |dev| {
            let [net, x, noise] = [&net, &x, &noise].map(|v| dev.upload(v, &shape));
            let z = dev.interpolate(&x, &noise, &t);
            let d = || Diffusion { z: &z, x: &x, noise: &noise, t: &t, t_eps: 0.05, output, loss };
            let all = [
                dev.diffusion_loss(&net, d()),
                dev.diffusion_loss_grad(&net, d(), &weight),
                dev.convert(&net, &z, &t, 0.05, output, loss),
            ];
            all.iter().chain([&z]).map(|t| dev.download(t)).collect()
        });
    }
    let (prediction, logits) = (random.values(&[6, 1]), random.values(&[6, 4]));
    same!("auxiliary losses", NEAR, |dev| {
        let prediction = dev.upload(&prediction, &[6, 1]);
        let (a, da) = dev.squared_error(&prediction, &t, &weight);
        let (c, dc) =
            dev.cross_entropy(&dev.upload(&logits, &[6, 4]), &[0, 1, 2, 3, 0, 1], &weight);
        [a, da, c, dc].iter().map(|t| dev.download(t)).collect()
    });
}

#[test]
fn the_optimizer() {
    let random = Random::default();
    let options = AdamW {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        bias1: 0.19,
        bias2: 0.0975,
    };
    for limit in [0.0, 0.5] {
        let shape = [37, 11];
        let [w, g, m, v, e] = [(); 5].map(|()| random.values(&shape));
        let v: Vec<f32> = v.iter().map(|v| v * v).collect();
        same!(format!("clipped to {limit}"), NEAR, |dev| {
            let mut weight = dev.weight(dev.upload(&w, &shape));
            let [grad, mut m, mut v, mut first, mut second] =
                [&g, &m, &v, &e, &w].map(|x| dev.upload(x, &shape));
            let norm = dev.norm(&[&grad]);
            let emas = &mut [(&mut first, 0.99), (&mut second, 0.9999)];
            dev.adamw(&mut weight, &grad, (&mut m, &mut v), emas, (&norm, limit), &options);
            let w = dev.download(dev.value(&weight));
            [m, v, first, second].iter().map(|t| dev.download(t)).chain([w]).collect()
        });
    }
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing() {
    let dev = device_under_test();
    let options = AdamW {
        lr: 1.0,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        bias1: 0.1,
        bias2: 0.05,
    };
    for bad in [f32::NAN, f32::INFINITY] {
        let mut weight = dev.weight(dev.upload(&[1.0, 2.0], &[2]));
        let grad = dev.upload(&[1.0, bad], &[2]);
        let (mut m, mut v) = (dev.zeros(&[2]), dev.zeros(&[2]));
        let norm = dev.norm(&[&grad]);
        dev.adamw(&mut weight, &grad, (&mut m, &mut v), &mut [], (&norm, 0.0), &options);
        assert!(!dev.read_norm(&norm).is_finite());
        assert_eq!(dev.download(dev.value(&weight)), [1.0, 2.0]);
        assert_eq!(dev.download(&m), [0.0, 0.0]);
    }
    assert_eq!(device::clip(2.0, 1.0), 1.0 / (2.0 + 1e-6) as f32);
}

#[test]
fn copies_that_nobody_waits_for_disturb_no_other() {
    let dev = device_under_test();
    for round in 0..20 {
        let x = dev.upload(&[round as f32; 1000], &[1000]);
        let early = dev.start_read(&x);
        let mut y = dev.zeros(&[1000]);
        dev.add_assign(&mut y, &x);
        drop(dev.start_read(&y));
        let _norm = dev.norm(&[&x]);
        assert_eq!(dev.receive(&early), [round as f32; 1000]);
        assert_eq!(dev.receive(&early), [round as f32; 1000], "twice is once");
        assert_eq!(dev.download(&y), [round as f32; 1000]);
    }
    assert_eq!(dev.fault(), None);
}
