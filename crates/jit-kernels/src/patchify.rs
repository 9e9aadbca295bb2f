//! Images to patch rows and back. The grid is g = S/p patches a side, N = g² tokens.

use crate::par;

/// Cuts images into rows for a p×p convolution of stride p, written as a matrix product: `x`
/// `[B, C, S, S]` to `out` `[B, N, C·p·p]`, columns in (c, p, q) order like a flattened
/// convolution weight.
pub fn patchify_conv(x: &[f32], b: usize, c: usize, s: usize, p: usize, out: &mut [f32]) {
    check(x.len(), out.len(), b, c, s, p);
    for_each_image(out, c, s, |image, tokens| {
        visit(c, s, p, |channel, row, pixel, token| {
            let to = token * c * p * p + channel * p * p + row * p;
            tokens[to..to + p].copy_from_slice(&x[image * c * s * s + pixel..][..p]);
        });
    });
}

/// Assembles images from output rows, `n h w p q c -> n c (h p) (w q)`: `tokens` `[B, N, p·p·C]` to
/// `out` `[B, C, S, S]`.
pub fn unpatchify(tokens: &[f32], b: usize, c: usize, s: usize, p: usize, out: &mut [f32]) {
    check(out.len(), tokens.len(), b, c, s, p);
    for_each_image(out, c, s, |image, pixels| {
        let tokens = &tokens[image * c * s * s..][..c * s * s];
        visit(c, s, p, |channel, row, pixel, token| {
            let from = &tokens[token * p * p * c + row * p * c..][..p * c];
            for (q, o) in pixels[pixel..pixel + p].iter_mut().enumerate() {
                *o = from[q * c + channel];
            }
        });
    });
}

/// The backward pass of [`unpatchify`], which is its inverse: `dout` `[B, C, S, S]` to `dtokens`
/// `[B, N, p·p·C]`.
pub fn unpatchify_grad(dout: &[f32], b: usize, c: usize, s: usize, p: usize, dtokens: &mut [f32]) {
    check(dout.len(), dtokens.len(), b, c, s, p);
    for_each_image(dtokens, c, s, |image, dtokens| {
        let pixels = &dout[image * c * s * s..][..c * s * s];
        visit(c, s, p, |channel, row, pixel, token| {
            let to = &mut dtokens[token * p * p * c + row * p * c..][..p * c];
            for (q, v) in pixels[pixel..pixel + p].iter().enumerate() {
                to[q * c + channel] = *v;
            }
        });
    });
}

fn check(pixels: usize, tokens: usize, b: usize, c: usize, s: usize, p: usize) {
    assert_eq!(s % p, 0, "patchify: the image side {s} is not a multiple of the patch side {p}");
    assert_eq!((pixels, tokens), (b * c * s * s, b * c * s * s), "patchify: bad lengths");
}

/// Calls `f(image, out[image])` for every image, in parallel.
fn for_each_image(out: &mut [f32], c: usize, s: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let ops = out.len();
    par::for_each_chunk(out, c * s * s, ops, f);
}

/// Calls `f(channel, row in the patch, first pixel, token)` for every run of p pixels of an image.
fn visit(c: usize, s: usize, p: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
    let g = s / p;
    for channel in 0..c {
        for y in 0..s {
            for gx in 0..g {
                f(channel, y % p, (channel * s + y) * s + gx * p, y / p * g + gx);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_follow_the_flattened_convolution_weight() {
        // One 4×4 image of two channels, 2×2 patches: pixel = 100·channel + 10·row + column.
        let x: Vec<f32> =
            (0..32).map(|i| (100 * (i / 16) + 10 * (i / 4 % 4) + i % 4) as f32).collect();
        let mut out = vec![0.0; 32];
        patchify_conv(&x, 1, 2, 4, 2, &mut out);
        assert_eq!(out[..8], [0., 1., 10., 11., 100., 101., 110., 111.]);
        assert_eq!(out[8..16], [2., 3., 12., 13., 102., 103., 112., 113.]);
        assert_eq!(out[16..24], [20., 21., 30., 31., 120., 121., 130., 131.]);
    }

    #[test]
    fn output_rows_have_the_channel_last() {
        let x: Vec<f32> =
            (0..32).map(|i| (100 * (i / 16) + 10 * (i / 4 % 4) + i % 4) as f32).collect();
        let mut tokens = vec![0.0; 32];
        unpatchify_grad(&x, 1, 2, 4, 2, &mut tokens);
        assert_eq!(tokens[..8], [0., 100., 1., 101., 10., 110., 11., 111.]);
        assert_eq!(tokens[24..], [22., 122., 23., 123., 32., 132., 33., 133.]);
    }

    proptest! {
        #[test]
        fn unpatchify_is_the_index_formula_and_its_gradient_the_inverse(
            b in 1usize..3, c in 1usize..4, g in 1usize..4, p in 1usize..5,
        ) {
            let (s, len) = (g * p, b * c * g * p * g * p);
            let tokens: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let (mut x, mut back) = (vec![0.0; len], vec![0.0; len]);
            unpatchify(&tokens, b, c, s, p, &mut x);
            unpatchify_grad(&x, b, c, s, p, &mut back);
            prop_assert_eq!(&back, &tokens);
            for (i, pixel) in x.into_iter().enumerate() {
                let (n, channel, y, x) = (i / (c * s * s), i / (s * s) % c, i / s % s, i % s);
                let (h, w, row, column) = (y / p, x / p, y % p, x % p);
                let from = (((n * g * g + h * g + w) * p + row) * p + column) * c + channel;
                prop_assert_eq!(pixel, tokens[from]);
            }
        }
    }
}
