//! What convolutional extractors share: tensors of pixels and layers on them.

use jit_kernels::buffer::Buffer;
use jit_kernels::conv::{ConvShape, Filters, conv_relu};
use jit_kernels::pool::{Pool, PoolShape, mean_pixels, pool};

/// Activations `[B, H, W, C]`.
pub struct Pixels {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub data: Buffer,
}

impl Pixels {
    /// Unspecified values, to be written wholly.
    pub fn unset(batch: usize, [height, width]: [usize; 2], channels: usize) -> Self {
        let data = Buffer::take(batch * height * width * channels);
        Self { batch, height, width, channels, data }
    }

    /// The mean over the pixels of each image, `[B, C]`.
    pub fn mean(&self) -> Vec<f32> {
        let mut mean = vec![0.0; self.batch * self.channels];
        mean_pixels(&self.data, self.batch, self.channels, &mut mean);
        mean
    }
}

/// A convolution with bias and ReLU.
pub struct Conv {
    pub filters: Filters,
    pub kernel: [usize; 2],
    pub stride: usize,
    pub padding: [usize; 2],
}

impl Conv {
    /// Filters as torch stores them, `[O, C, kh, kw]`, scaled by `scale` `[O]`.
    pub fn new(
        filters: &[f32],
        scale: &[f32],
        bias: Vec<f32>,
        kernel: [usize; 2],
        stride: usize,
        padding: [usize; 2],
    ) -> Self {
        let taps = kernel[0] * kernel[1];
        let channels = filters.len() / (bias.len() * taps);
        let mut last = Vec::with_capacity(filters.len());
        for (filter, scale) in filters.chunks_exact(channels * taps).zip(scale) {
            for tap in 0..taps {
                last.extend((0..channels).map(|c| scale * filter[c * taps + tap]));
            }
        }
        Self { filters: Filters::new(&last, bias), kernel, stride, padding }
    }

    fn shape(&self, x: &Pixels) -> ConvShape {
        ConvShape {
            batch: x.batch,
            height: x.height,
            width: x.width,
            channels: x.channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }

    /// The output's height and width.
    pub fn output(&self, x: &Pixels) -> [usize; 2] {
        self.shape(x).output()
    }

    /// Into fresh memory.
    pub fn forward(&self, x: &Pixels) -> Pixels {
        let mut y = Pixels::unset(x.batch, self.output(x), self.filters.outputs());
        self.forward_into(x, &mut y, 0);
        y
    }

    /// Into the channels of `y` from `first` on.
    pub fn forward_into(&self, x: &Pixels, y: &mut Pixels, first: usize) {
        conv_relu(&x.data, self.shape(x), &self.filters, &mut y.data, y.channels, first);
    }
}

/// A pool's shape on these pixels.
pub fn pool_shape(x: &Pixels, window: usize, stride: usize, padding: usize) -> PoolShape {
    let Pixels { batch, height, width, channels, .. } = *x;
    PoolShape { batch, height, width, channels, window, stride, padding }
}

/// A maximum pool without padding, into fresh memory.
pub fn max_pool(x: &Pixels, window: usize, stride: usize) -> Pixels {
    let shape = pool_shape(x, window, stride, 0);
    let mut y = Pixels::unset(x.batch, shape.output(), x.channels);
    pool(&x.data, shape, Pool::Max, &mut y.data, x.channels, 0);
    y
}

/// A pool into the channels of `y` from `first` on.
pub fn pool_into(x: &Pixels, shape: PoolShape, kind: Pool, y: &mut Pixels, first: usize) {
    pool(&x.data, shape, kind, &mut y.data, y.channels, first);
}

/// A 3×3 pool of stride 1 that keeps the size.
pub fn same_pool(x: &Pixels, kind: Pool) -> Pixels {
    let mut y = Pixels::unset(x.batch, [x.height, x.width], x.channels);
    pool_into(x, pool_shape(x, 3, 1, 1), kind, &mut y, 0);
    y
}
