//! Normal noise, a stream of its own for each image.

use jit_core::rng::Stream;

use crate::par;

/// Rough cost of an element in scalar operations: a logarithm, a root and a sine in f64, halved.
const OPS: usize = 64;

/// `out = scale·N(0, 1)`, `[B, per_image]` with one stream per image. Element i of an image is normal i of its stream,
/// whatever else is drawn.
pub fn normal(streams: &[Stream], scale: f32, per_image: usize, out: &mut [f32]) {
    assert_eq!(out.len(), streams.len() * per_image, "normal: a stream for each image");
    let len = out.len();
    par::for_each_chunk(out, per_image, OPS * len, |image, out| {
        streams[image].fill_normal(out);
        if scale != 1.0 {
            out.iter_mut().for_each(|v| *v *= scale);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use jit_core::rng::Purpose;

    #[test]
    fn an_image_has_its_streams_numbers_in_any_batch() {
        let streams: Vec<Stream> = (0..3).map(|i| Stream::new(1, Purpose::Noise, 2, i)).collect();
        let mut all = vec![0.0; 3 * 5001];
        normal(&streams, 2.0, 5001, &mut all);
        let mut one = vec![0.0; 5001];
        streams[1].fill_normal(&mut one);
        assert!(one.iter().zip(&all[5001..]).all(|(one, of_all)| 2.0 * one == *of_all));
    }
}
