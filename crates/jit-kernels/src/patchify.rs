//! Images to patch rows and back. The grid is g = S/p patches a side, N = g² tokens.

use rayon::prelude::*;

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
    out.par_chunks_mut(c * s * s).enumerate().for_each(|(image, out)| f(image, out));
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
