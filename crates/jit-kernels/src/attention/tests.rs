use jit_core::rng::Purpose;
use proptest::prelude::*;

use super::*;
use crate::testing::{assert_close, assert_gradient, dot, on_one_and_two_threads, random};

/// An attention with its inputs; angles differ between the two values of a pair, so that a mixed-up
/// index shows.
struct Case {
    shape: AttentionShape,
    qkv: Vec<f32>,
    q_weight: Vec<f32>,
    k_weight: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
    dout: Vec<f32>,
    streams: Vec<Stream>,
    rate: f32,
    precision: Precision,
}

impl Case {
    fn new(batch: usize, tokens: usize, heads: usize, head_dim: usize, rate: f32) -> Self {
        let shape = AttentionShape { batch, tokens, heads, head_dim };
        let angles = random(9, tokens * head_dim);
        let near_one = |seed| random(seed, head_dim).iter().map(|v| 1.0 + 0.2 * v).collect();
        Self {
            shape,
            qkv: random(1, batch * tokens * 3 * shape.width()),
            q_weight: near_one(2),
            k_weight: near_one(3),
            cos: angles.iter().map(|a| a.cos()).collect(),
            sin: angles.iter().map(|a| a.sin()).collect(),
            dout: random(4, batch * tokens * shape.width()),
            streams: (0..batch as u64)
                .map(|i| Stream::new(1, Purpose::AttentionDropout, 0, i))
                .collect(),
            rate,
            precision: Precision::F32,
        }
    }

    fn in_bf16(self) -> Self {
        Self { precision: Precision::Bf16, ..self }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            qkv: &self.qkv,
            q_weight: &self.q_weight,
            k_weight: &self.k_weight,
            rope: Rope { cos: &self.cos, sin: &self.sin },
            shape: self.shape,
            dropout: (self.rate > 0.0)
                .then_some(AttentionDropout { rate: self.rate, streams: &self.streams }),
            precision: self.precision,
        }
    }

    fn outputs(&self) -> (Vec<f32>, Vec<f32>) {
        let AttentionShape { batch, tokens, heads, .. } = self.shape;
        (vec![9.0; batch * tokens * self.shape.width()], vec![9.0; batch * heads * tokens])
    }

    /// out and lse
    fn forward(&self, level: Level, inputs: &Inputs<'_>) -> [Vec<f32>; 2] {
        let (mut out, mut lse) = self.outputs();
        forward_at(level, inputs, &mut out, &mut lse);
        [out, lse]
    }

    /// dqkv, dq_weight, dk_weight; the latter two on top of ones.
    fn backward(&self, level: Level) -> [Vec<f32>; 3] {
        let inputs = self.inputs();
        let [out, lse] = self.forward(level, &inputs);
        let h = self.shape.head_dim;
        let (mut dqkv, mut dq, mut dk) = (vec![9.0; self.qkv.len()], vec![1.0; h], vec![1.0; h]);
        backward_at(level, &inputs, &out, &lse, &self.dout, &mut dqkv, &mut dq, &mut dk);
        [dqkv, dq, dk]
    }

    fn matches_plain_twin(&self) {
        let Inputs { qkv, q_weight, k_weight, rope, shape, dropout, .. } = self.inputs();
        let (mut out, mut lse) = self.outputs();
        attention_plain(qkv, q_weight, k_weight, rope, shape, dropout, &mut out, &mut lse);
        let h = shape.head_dim;
        let (mut dqkv, mut dq, mut dk) = (vec![9.0; qkv.len()], vec![1.0; h], vec![1.0; h]);
        attention_grad_plain(
            qkv, q_weight, k_weight, rope, shape, dropout, &self.dout, &mut dqkv, &mut dq, &mut dk,
        );
        for level in Level::all() {
            // An operand in bfloat16 is off by at most 2⁻⁹ of itself, a logit thus by 2⁻⁸ of the
            // norms' product, up to √h·1.2² ≈ 7 here, and a weight by e to that power: 3 % at the
            // worst, where one weight rules. The gradients have twice as many such factors.
            let [forward, lse_error, backward] = match self.precision {
                Precision::F32 => [3e-6, 2e-6, 1e-5],
                Precision::Bf16 => [3e-2, 3e-2, 6e-2],
            };
            let fast = self.forward(level, &self.inputs());
            assert_close(&fast[0], &out, forward);
            assert_close(&fast[1], &lse, lse_error);
            let dfast = self.backward(level);
            assert_close(&dfast[0], &dqkv, backward);
            assert_close(&dfast[1], &dq, backward);
            assert_close(&dfast[2], &dk, backward);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_fast_kernels_match_their_plain_twins(
        batch in 1usize..3, tokens in 1usize..40, heads in 1usize..4, pairs in 1usize..20,
        dropped: bool,
    ) {
        let case = || Case::new(batch, tokens, heads, 2 * pairs, if dropped { 0.3 } else { 0.0 });
        case().matches_plain_twin();
        case().in_bf16().matches_plain_twin();
    }
}

#[test]
fn the_sizes_of_real_models_match_the_plain_twins() {
    // Token counts around tile borders and over a block of queries; head sizes of B, H and G.
    for (tokens, head_dim) in [(53, 32), (65, 6), (64, 16), (100, 80), (70, 104), (288, 64)] {
        Case::new(1, tokens, 2, head_dim, 0.0).matches_plain_twin();
        Case::new(1, tokens, 2, head_dim, 0.2).matches_plain_twin();
        Case::new(1, tokens, 2, head_dim, 0.2).in_bf16().matches_plain_twin();
    }
}

#[test]
fn in_bf16_the_values_are_rounded_and_the_sums_are_not() {
    // One key: its weight is 1 whatever the logit, and the output is the value, rounded.
    let mut case = Case::new(1, 1, 1, 4, 0.0).in_bf16();
    let exact = [1.0, 1.0 + 1.0 / 128.0, -3.0, 0.5];
    case.qkv[8..].copy_from_slice(&exact.map(|v| v * (1.0 + 1.0 / 1024.0)));
    for level in Level::all() {
        assert_eq!(case.forward(level, &case.inputs())[0], exact, "{level}");
    }
    // 288 equal keys: the mean of values that bfloat16 holds, which it does not hold itself.
    let mut case = Case::new(1, 288, 1, 2, 0.0).in_bf16();
    for (i, token) in case.qkv.chunks_exact_mut(6).enumerate() {
        token.copy_from_slice(&[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        token[4] = (i % 2) as f32 / 128.0 + 1.0;
    }
    for level in Level::all() {
        let [out, _] = case.forward(level, &case.inputs());
        assert!((out[0] - (1.0 + 1.0 / 256.0)).abs() < 1e-5, "{level}: {}", out[0]);
    }
}

#[test]
fn equal_queries_average_the_values() {
    // With one key per query direction equal, the softmax is uniform whatever norm and scale are.
    let mut case = Case::new(1, 5, 1, 4, 0.0);
    case.cos.fill(1.0);
    case.sin.fill(0.0);
    for (i, token) in case.qkv.chunks_exact_mut(12).enumerate() {
        token[..8].fill(1.0);
        token[8..].fill(i as f32);
    }
    let [out, _] = case.forward(cpu::level(), &case.inputs());
    assert_close(&out, &[2.0; 20], 1e-6);
}

#[test]
fn sharp_logits_pick_one_value_without_overflow() {
    // Keys along and against the queries: logits of ±√h·weight² = ±3600, far beyond exp's range.
    let mut case = Case::new(1, 2, 1, 16, 0.0);
    case.cos.fill(1.0);
    case.sin.fill(0.0);
    case.q_weight.fill(30.0);
    case.k_weight.fill(30.0);
    for (token, sign) in case.qkv.chunks_exact_mut(48).zip([1.0, -1.0]) {
        token[..16].fill(1.0);
        token[16..32].fill(sign);
        token[32..].fill(6.0 - sign);
    }
    let level = cpu::level();
    assert_eq!(case.forward(level, &case.inputs())[0], [5.0; 32]);
    assert!(case.backward(level).iter().flatten().all(|v| v.is_finite()));
}

#[test]
fn a_nan_is_not_hidden() {
    let mut case = Case::new(1, 9, 1, 8, 0.0);
    case.qkv[5 * 24 + 8] = f32::NAN; // a key
    let [out, _] = case.forward(cpu::level(), &case.inputs());
    assert!(out.iter().all(|v| v.is_nan()));
}

#[test]
fn the_gradients_are_the_derivatives() {
    for rate in [0.0, 0.3] {
        let case = Case::new(2, 5, 2, 6, rate);
        let level = cpu::level();
        let [dqkv, dq, dk] = case.backward(level);
        let dq: Vec<f32> = dq.iter().map(|v| v - 1.0).collect();
        let dk: Vec<f32> = dk.iter().map(|v| v - 1.0).collect();
        let loss = |inputs: &Inputs<'_>| dot(&case.forward(level, inputs)[0], &case.dout);
        let f = |qkv: &[f32]| loss(&Inputs { qkv, ..case.inputs() });
        assert_gradient(f, &case.qkv, &dqkv, 2e-4);
        let f = |q_weight: &[f32]| loss(&Inputs { q_weight, ..case.inputs() });
        assert_gradient(f, &case.q_weight, &dq, 1e-4);
        let f = |k_weight: &[f32]| loss(&Inputs { k_weight, ..case.inputs() });
        assert_gradient(f, &case.k_weight, &dk, 1e-4);
    }
}

#[test]
fn neither_the_batch_nor_the_threads_change_a_bit() {
    bits_do_not_change(Case::new(3, 37, 2, 10, 0.2));
    bits_do_not_change(Case::new(3, 37, 2, 10, 0.2).in_bf16());
}

fn bits_do_not_change(case: Case) {
    let level = cpu::level();
    let [one, two] = on_one_and_two_threads(|| {
        let [out, lse] = case.forward(level, &case.inputs());
        let [dqkv, dq, dk] = case.backward(level);
        [out, lse, dqkv, dq, dk]
    });
    assert_eq!(one, two);

    let [out, lse, dqkv, ..] = one;
    let second = |x: &[f32]| x[x.len() / 3..2 * x.len() / 3].to_vec();
    let part = Case {
        shape: AttentionShape { batch: 1, ..case.shape },
        qkv: second(&case.qkv),
        dout: second(&case.dout),
        streams: vec![case.streams[1]],
        ..case
    };
    assert_eq!(part.forward(level, &part.inputs()), [second(&out), second(&lse)]);
    assert_eq!(part.backward(level)[0], second(&dqkv));
}
