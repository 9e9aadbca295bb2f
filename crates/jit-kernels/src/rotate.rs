//! Quarter turns of square images, for the auxiliary rotation loss.

use crate::par;

/// Turns each image counter-clockwise by k·90°, as `torch.rot90(z, k, [2, 3])`: `x`, `out`
/// `[B, C, S, S]`, `k` `[B]` in 0..4.
pub fn rot90(x: &[f32], k: &[u8], c: usize, s: usize, out: &mut [f32]) {
    assert_eq!((x.len(), out.len()), (k.len() * c * s * s, k.len() * c * s * s), "rot90");
    assert!(k.iter().all(|&k| k < 4), "rot90: k counts quarter turns, 0..4");
    par::for_each_chunk(out, s * s, x.len(), |plane, out| {
        let x = &x[plane * s * s..][..s * s];
        for (i, row) in out.chunks_exact_mut(s).enumerate() {
            match k[plane / c] {
                0 => row.copy_from_slice(&x[i * s..][..s]),
                1 => fill(row, |j| x[j * s + (s - 1 - i)]),
                2 => fill(row, |j| x[(s - 1 - i) * s + (s - 1 - j)]),
                _ => fill(row, |j| x[(s - 1 - j) * s + i]),
            }
        }
    });
}

fn fill(row: &mut [f32], f: impl Fn(usize) -> f32) {
    for (j, o) in row.iter_mut().enumerate() {
        *o = f(j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarter_turns_match_torch_rot90() {
        // torch.rot90(torch.arange(9).view(1, 1, 3, 3), k, [2, 3]) for k = 0..4.
        let x: Vec<f32> = (0..9).map(|v| v as f32).collect();
        let expected = [
            [0., 1., 2., 3., 4., 5., 6., 7., 8.],
            [2., 5., 8., 1., 4., 7., 0., 3., 6.],
            [8., 7., 6., 5., 4., 3., 2., 1., 0.],
            [6., 3., 0., 7., 4., 1., 8., 5., 2.],
        ];
        let mut out = vec![0.0; 36];
        rot90(&x.repeat(4), &[0, 1, 2, 3], 1, 3, &mut out);
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn every_channel_of_an_image_turns_with_it() {
        let x: Vec<f32> = (0..2 * 3 * 4).map(|v| v as f32).collect();
        let mut out = vec![0.0; x.len()];
        rot90(&x, &[2, 0], 3, 2, &mut out);
        assert_eq!(out[..4], [3., 2., 1., 0.]);
        assert_eq!(out[8..12], [11., 10., 9., 8.]);
        assert_eq!(out[12..], x[12..]);
    }
}
