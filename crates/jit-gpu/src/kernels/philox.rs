//! Philox 4×32-10 on the device: the masks of dropout, addressed as on the host
//! (`jit_core::rng::Stream`).

use cubecl::prelude::*;

/// The factor, 0 or `1/(1 − rate)`, of element `index` of stream number `stream`; a stream is five
/// words, its key and the upper words of its counter.
///
/// A uniform is (word >> 8)·2⁻²⁴, so it is compared with the rate as an integer.
#[cube]
pub fn keep_scale(
    streams: &Tensor<u32>,
    stream: usize,
    index: u32,
    threshold: u32,
    scale: f32,
) -> f32 {
    let at = stream * 5;
    let mut c0 = index / 4;
    let mut c1 = streams[at + 2];
    let mut c2 = streams[at + 3];
    let mut c3 = streams[at + 4];
    let mut k0 = streams[at];
    let mut k1 = streams[at + 1];
    for _round in 0..10u32 {
        let high0 = u32::mul_hi(0xD251_1F53u32, c0);
        let low0 = 0xD251_1F53u32 * c0;
        let high1 = u32::mul_hi(0xCD9E_8D57u32, c2);
        let low1 = 0xCD9E_8D57u32 * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E37_79B9u32;
        k1 += 0xBB67_AE85u32;
    }
    let lane = index % 4;
    let mut word = c0;
    if lane == 1 {
        word = c1;
    } else if lane == 2 {
        word = c2;
    } else if lane == 3 {
        word = c3;
    }
    select(word >> 8 >= threshold, scale, 0.0f32)
}

/// Dropout on x `[B, per_image]`.
#[cube(launch)]
pub fn dropout(
    x: &Tensor<f32>,
    streams: &Tensor<u32>,
    out: &mut Tensor<f32>,
    per_image: usize,
    threshold: u32,
    scale: f32,
) {
    if ABSOLUTE_POS < out.len() {
        let (image, index) = (ABSOLUTE_POS / per_image, ABSOLUTE_POS % per_image);
        let keep = keep_scale(streams, image, index as u32, threshold, scale);
        out[ABSOLUTE_POS] = x[ABSOLUTE_POS] * keep;
    }
}
