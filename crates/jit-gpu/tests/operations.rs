//! The graphics card against the processor: every operation, and products of rounded operands.
#![cfg(feature = "kernels")]

#[path = "../../jit-model/tests/device/operations.rs"]
mod operations;

use std::sync::OnceLock;

use jit_gpu::Gpu;
use jit_model::Cpu;
use jit_model::device::{Attention, Device, NormGrads, Precision};
use operations::{Random, close};

/// The device under test: one for all tests, as drivers dislike many.
fn device() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    #[allow(clippy::unwrap_used, reason = "without a device there is nothing to test")]
    GPU.get_or_init(|| Gpu::open(0, Some(Precision::F32), None).unwrap())
}

/// What bf16 goes through, with f16 in its place: this is how a device without bf16 can test it.
#[test]
fn products_of_rounded_operands() {
    #[allow(clippy::unwrap_used, reason = "without a device there is nothing to test")]
    let dev = Gpu::open(0, Some(Precision::F32), None).unwrap();
    let Some(dev) = &dev.rounding_to_f16() else { return };
    let random = Random::default();
    for (rows, inputs, outputs) in [(3, 5, 7), (65, 33, 129), (130, 64, 64), (8, 192, 40)] {
        let (x, w) = (random.values(&[rows, inputs]), random.values(&[outputs, inputs]));
        let (b, dy) = (random.values(&[outputs]), random.values(&[rows, outputs]));
        let before = random.values(&[outputs, inputs]);
        fn all<D: Device>(
            dev: &D,
            [x, w, b, dy, before]: [&[f32]; 5],
            (rows, inputs, outputs): (usize, usize, usize),
        ) -> Vec<Vec<f32>> {
            let (xt, dyt) = (dev.upload(x, &[rows, inputs]), dev.upload(dy, &[rows, outputs]));
            let wt = dev.weight(dev.upload(w, &[outputs, inputs]));
            let bt = dev.weight(dev.upload(b, &[outputs]));
            let mut dw = dev.upload(before, &[outputs, inputs]);
            let mut db = dev.upload(b, &[outputs]);
            dev.linear_grad_weight(&xt, &dyt, &mut dw, Some(&mut db));
            vec![
                dev.download(&dev.linear(&xt, &wt, Some(&bt))),
                dev.download(&dev.linear(&xt, &wt, None)),
                dev.download(&dev.linear_grad_input(&dyt, &wt)),
                dev.download(&dw),
                dev.download(&db),
            ]
        }
        let given = [&x[..], &w, &b, &dy, &before];
        let have = all(dev, given, (rows, inputs, outputs));
        let want = all(&Cpu::F32, given, (rows, inputs, outputs));
        for (i, (have, want)) in have.iter().zip(&want).enumerate() {
            close(&format!("{rows}·{inputs}·{outputs}, result {i}"), have, want, 2e-3);
        }
    }
    for (b, n, heads, h) in [(1, 1, 1, 2), (2, 5, 3, 6), (1, 65, 2, 16), (2, 17, 2, 64)] {
        fn all<D: Device>(
            dev: &D,
            [qkv, q, k, rope, dout]: [&[f32]; 5],
            (b, n, heads, h): (usize, usize, usize, usize),
        ) -> Vec<Vec<f32>> {
            let d = heads * h;
            let (x, rope) = (dev.upload(qkv, &[b, n, 3 * d]), dev.upload(rope, &[2, n, h]));
            let q_norm = &dev.weight(dev.upload(q, &[h]));
            let k_norm = &dev.weight(dev.upload(k, &[h]));
            let a = || Attention { heads, q_norm, k_norm, rope: &rope, dropout: None };
            let (out, lse) = dev.attention(&x, a());
            let (mut dq, mut dk) = (dev.zeros(&[h]), dev.zeros(&[h]));
            let grads = NormGrads { q_norm: &mut dq, k_norm: &mut dk };
            let dout = dev.upload(dout, &[b, n, d]);
            let dqkv = dev.attention_grad(&x, a(), &out, &lse, &dout, grads);
            [out, lse, dqkv].iter().map(|t| dev.download(t)).collect()
        }
        let d = heads * h;
        let (qkv, dout) = (random.values(&[b, n, 3 * d]), random.values(&[b, n, d]));
        let (q, k, rope) = (random.values(&[h]), random.values(&[h]), random.values(&[2, n, h]));
        let given = [&qkv[..], &q, &k, &rope, &dout];
        let (have, want) =
            (all(dev, given, (b, n, heads, h)), all(&Cpu::F32, given, (b, n, heads, h)));
        for (i, (have, want)) in have.iter().zip(&want).enumerate() {
            close(&format!("[{b}, {n}, {heads}·{h}], result {i}"), have, want, 2e-2);
        }
    }
    assert_eq!(dev.fault(), None);
}
