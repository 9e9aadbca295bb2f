//! Networks that turn images into features. Adding one is a file that implements [`Extractor`].

mod convnet;
pub mod formula;
mod inception;
mod resize;
mod vgg16;
pub mod weights;

pub use inception::{Inception, Taps};
pub use resize::resize;
pub use vgg16::{FullyConnected, Vgg16};

use crate::EvalError;

/// 8-bit RGB images of one size, `[B, H, W, 3]`.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// The pixels.
    pub pixels: &'a [u8],
    /// Number of images B.
    pub batch: usize,
    /// Height H.
    pub height: usize,
    /// Width W.
    pub width: usize,
}

impl<'a> Images<'a> {
    /// Image `i` alone.
    pub fn one(&self, i: usize) -> &'a [u8] {
        let size = self.height * self.width * 3;
        &self.pixels[i * size..][..size]
    }

    /// At most `count` images from `first` on.
    pub fn part(&self, first: usize, count: usize) -> Images<'a> {
        let size = self.height * self.width * 3;
        let batch = count.min(self.batch - first);
        Images { pixels: &self.pixels[first * size..][..batch * size], batch, ..*self }
    }
}

/// What a network says of images, a row each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// `[B, dim]`
    pub features: Vec<f32>,
    /// `[B, classes]`; empty where the network has no classes.
    pub logits: Vec<f32>,
}

/// A network with fixed weights.
pub trait Extractor: Send + Sync {
    /// Its name in reports and statistics.
    fn name(&self) -> &'static str;
    /// SHA-256 of its weights, in hexadecimal.
    fn weights_sha256(&self) -> &str;
    /// Values of a feature.
    fn dim(&self) -> usize;
    /// Classes of its logits, 0 for none.
    fn classes(&self) -> usize;
    /// Whether its classes are those that the images were asked for, so that reading them right is
    /// a metric.
    fn reads_classes(&self) -> bool {
        false
    }
    /// Features and logits of each image, which depend on that image alone.
    ///
    /// # Errors
    /// [`EvalError::Images`] for images that it cannot take.
    fn extract(&self, images: Images<'_>) -> Result<Extracted, EvalError>;
}

/// Runs `f` on a few images at a time, which bounds memory, and joins what it says of them.
pub(crate) fn in_groups(
    images: Images<'_>,
    size: usize,
    f: impl Fn(Images<'_>) -> Extracted,
) -> Extracted {
    let mut all = Extracted::default();
    for first in (0..images.batch).step_by(size) {
        let part = f(images.part(first, size));
        all.features.extend(part.features);
        all.logits.extend(part.logits);
    }
    all
}
