//! The plain twin: a loop over outputs, filters and taps.

use super::ConvShape;

/// [`conv_relu`](super::conv_relu) with `filters` `[O, kh, kw, C]`, sums in f64.
pub fn conv_relu(
    x: &[f32],
    shape: ConvShape,
    filters: &[f32],
    bias: &[f32],
    y: &mut [f32],
    channels: usize,
    first: usize,
) {
    let ConvShape { batch, height, width, kernel: [kh, kw], .. } = shape;
    let [out_height, out_width] = shape.output();
    for (at, y) in y.chunks_exact_mut(channels).enumerate().take(batch * out_height * out_width) {
        let (image, oy, ox) =
            (at / (out_height * out_width), at / out_width % out_height, at % out_width);
        for (o, bias) in bias.iter().enumerate() {
            let mut sum = f64::from(*bias);
            for (tap, weights) in
                filters[o * shape.patch()..][..shape.patch()].chunks(shape.channels).enumerate()
            {
                let (ky, kx) = (tap / kw, tap % kw);
                debug_assert!(ky < kh);
                // In the padded image.
                let (py, px) = (oy * shape.stride + ky, ox * shape.stride + kx);
                let inside = (shape.padding[0]..shape.padding[0] + height).contains(&py)
                    && (shape.padding[1]..shape.padding[1] + width).contains(&px);
                if inside {
                    let (iy, ix) = (py - shape.padding[0], px - shape.padding[1]);
                    let pixel = &x[((image * height + iy) * width + ix) * shape.channels..];
                    let products = weights.iter().zip(pixel);
                    sum += products.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>();
                }
            }
            y[first + o] = sum.max(0.0) as f32;
        }
    }
}
