//! Dropout whose mask is a function of the element's address, so it is recomputed, never stored.

use jit_core::rng::Stream;

use crate::par;

/// Rough cost of an element in scalar operations: a quarter of a block of the generator.
const OPS: usize = 16;

/// Zeroes elements with probability `rate` and scales the others by `1/(1−rate)`.
///
/// `x` and `out` are `[B, per_sample_len]` with one stream per image; element i of an image is kept
/// where uniform i of its stream is at least `rate`. Applied to a gradient this is its own backward
/// pass.
pub fn dropout(x: &[f32], rate: f32, streams: &[Stream], per_sample_len: usize, out: &mut [f32]) {
    let len = streams.len() * per_sample_len;
    assert_eq!((x.len(), out.len()), (len, len), "dropout: bad lengths");
    assert!(u32::try_from(per_sample_len).is_ok(), "dropout: an image exceeds a stream's range");
    par::for_each_chunk(out, per_sample_len, OPS * len, |image, out| {
        keep_scales(&streams[image], rate, 0, out);
        for (o, x) in out.iter_mut().zip(&x[image * per_sample_len..]) {
            *o *= x;
        }
    });
}

/// Writes the factor, 0 or `1/(1−rate)`, of the elements `first..first + out.len()` of a stream.
pub(crate) fn keep_scales(stream: &Stream, rate: f32, first: u32, out: &mut [f32]) {
    let scale = 1.0 / (1.0 - rate);
    // A uniform is (word >> 8)·2⁻²⁴, so the comparison with the rate can be made on integers.
    let threshold = (rate * (1u32 << 24) as f32).ceil() as u32;
    let mut index = first;
    let mut words = stream.block(index / 4);
    for o in out {
        if index.is_multiple_of(4) {
            words = stream.block(index / 4);
        }
        *o = if words[(index % 4) as usize] >> 8 >= threshold { scale } else { 0.0 };
        index = index.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jit_core::rng::Purpose;

    fn streams() -> Vec<Stream> {
        (0..3).map(|i| Stream::new(1, Purpose::ProjectionDropout, 2, i).with_layer(1)).collect()
    }

    #[test]
    fn each_element_follows_its_own_uniform() {
        let (rate, len) = (0.3, 4101);
        let x: Vec<f32> = (0..3 * len).map(|i| 1.0 + i as f32).collect();
        let mut out = vec![0.0; x.len()];
        dropout(&x, rate, &streams(), len, &mut out);
        for (i, (&x, &o)) in x.iter().zip(&out).enumerate() {
            let keep = streams()[i / len].uniform((i % len) as u32) >= rate;
            assert_eq!(o, if keep { x * (1.0 / (1.0 - rate)) } else { 0.0 }, "element {i}");
        }
    }

    #[test]
    fn the_share_of_zeros_is_the_rate() {
        let len = 100_000;
        let mut out = vec![0.0; 3 * len];
        dropout(&vec![1.0; 3 * len], 0.2, &streams(), len, &mut out);
        let zeros = out.iter().filter(|&&v| v == 0.0).count() as f64 / out.len() as f64;
        // Four standard deviations of a binomial share.
        assert!((zeros - 0.2).abs() < 4.0 * (0.16 / out.len() as f64).sqrt(), "{zeros}");
    }

    #[test]
    fn a_run_may_start_inside_a_block() {
        let stream = streams()[0];
        let mut all = [0.0; 23];
        keep_scales(&stream, 0.5, 0, &mut all);
        for first in 0..9 {
            let mut part = [0.0; 14];
            keep_scales(&stream, 0.5, first as u32, &mut part);
            assert_eq!(part, all[first..first + 14]);
        }
    }
}
