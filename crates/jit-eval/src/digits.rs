//! The embedded extractor: a small convolutional classifier of handwritten digits, so that every
//! metric works offline on the default data set, and *class accuracy* besides: the share of generated
//! digits that it reads as the class asked for.
//!
//! `jit weights train-digits` trains it; `data/README.md` has its accuracy and how it was made.

mod distort;
mod net;
mod train;

use jit_data::Raster;
use jit_data::digits::{self, Split};
use safetensors::SafeTensors;

use self::net::{CLASSES, FEATURES, Net, SHAPES, SIDE};
pub use self::train::{Progress, Trained, train};
use crate::EvalError;
use crate::extractor::{Extracted, Extractor, Images, in_groups};

/// The shipped weights.
static WEIGHTS: &[u8] = include_bytes!("../data/digits.safetensors");

/// Images computed at once.
const GROUP: usize = 128;

/// The classifier.
pub struct DigitsExtractor {
    net: Net,
    sha256: String,
}

impl DigitsExtractor {
    /// The shipped network.
    ///
    /// # Errors
    /// [`EvalError::Tensor`] if the weights compiled into the program are unusable.
    pub fn embedded() -> Result<Self, EvalError> {
        Self::from_bytes(WEIGHTS)
    }

    /// A network from a safetensors file's bytes.
    fn from_bytes(bytes: &[u8]) -> Result<Self, EvalError> {
        use sha2::Digest;
        let fault = |tensor: &str, found: String, expected: String| EvalError::Tensor {
            path: "<embedded digits.safetensors>".into(),
            tensor: tensor.into(),
            found,
            expected,
        };
        let file = SafeTensors::deserialize(bytes)
            .map_err(|e| fault("header", e.to_string(), "a safetensors header".into()))?;
        let tensor = |&(name, shape): &(&str, &[usize])| {
            let found =
                file.tensor(name).map_err(|e| fault(name, e.to_string(), format!("{shape:?}")))?;
            if found.shape() != shape || found.dtype() != safetensors::Dtype::F32 {
                let found = format!("{:?} of {:?}", found.shape(), found.dtype());
                return Err(fault(name, found, format!("{shape:?} of F32")));
            }
            let (fours, _) = found.data().as_chunks::<4>();
            Ok(fours.iter().map(|&four| f32::from_le_bytes(four)).collect())
        };
        let values = SHAPES.iter().map(tensor).collect::<Result<Vec<Vec<f32>>, _>>()?;
        Ok(Self { net: Net::new(values), sha256: jit_core::hex(&sha2::Sha256::digest(bytes)) })
    }

    /// The share of a split's digits that it reads right.
    ///
    /// # Errors
    /// If the digits compiled into the program are unusable.
    pub fn accuracy(&self, split: Split) -> Result<f64, EvalError> {
        accuracy(&self.net, split)
    }
}

/// The share of a split's digits that a network reads right.
fn accuracy(net: &Net, split: Split) -> Result<f64, EvalError> {
    let tiles = digits::tiles()?;
    let range = split.range();
    let mut right = 0;
    for first in range.clone().step_by(GROUP) {
        let last = (first + GROUP).min(range.end);
        let pixels = &tiles[first * SIDE * SIDE..last * SIDE * SIDE];
        let x: Vec<f32> = pixels.iter().map(|&v| f32::from(v) / 255.0).collect();
        let said = net.forward(&x);
        right += (first..last)
            .zip(said.logits.chunks_exact(CLASSES))
            .filter(|(tile, logits)| net::largest(logits) == digits::label(*tile) as usize)
            .count();
    }
    Ok(right as f64 / range.len() as f64)
}

impl Extractor for DigitsExtractor {
    fn name(&self) -> &'static str {
        "digits"
    }

    fn weights_sha256(&self) -> &str {
        &self.sha256
    }

    fn dim(&self) -> usize {
        FEATURES
    }

    fn classes(&self) -> usize {
        CLASSES
    }

    fn reads_classes(&self) -> bool {
        true
    }

    fn extract(&self, images: Images<'_>) -> Result<Extracted, EvalError> {
        let (height, width) = (images.height, images.width);
        if height != width || !digits::supports(height) {
            return Err(EvalError::Images {
                extractor: self.name(),
                expected: format!("images of {SIDE}×{SIDE} or {0}×{0} pixels", SIDE + 4),
                found: format!("{width}×{height}"),
            });
        }
        Ok(in_groups(images, GROUP, |images| {
            let x: Vec<f32> = (0..images.batch).flat_map(|i| grey(images.one(i), height)).collect();
            let said = self.net.forward(&x);
            Extracted { features: said.features, logits: said.logits }
        }))
    }
}

/// The middle 28×28 pixels of an RGB image, grey, from 0 to 1.
fn grey(pixels: &[u8], side: usize) -> Vec<f32> {
    let Some(raster) = Raster::new(side, side, 3, pixels.to_vec()) else { return Vec::new() };
    let luma = raster.into_luma();
    let margin = (side - SIDE) / 2;
    let rows = luma.data().chunks_exact(side).skip(margin).take(SIDE);
    rows.flat_map(|row| &row[margin..][..SIDE]).map(|&v| f32::from(v) / 255.0).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Collector, Extractors, Fit, Protocol, Source, class_accuracy};

    #[test]
    fn held_out_digits_are_read_as_the_documentation_says() {
        let shipped = DigitsExtractor::embedded().unwrap();
        let accuracy = shipped.accuracy(Split::HeldOut).unwrap();
        assert!(accuracy >= 0.985, "{accuracy}");
        let (_, header) = SafeTensors::read_metadata(WEIGHTS).unwrap();
        let told = &header.metadata().as_ref().unwrap()["held_out_accuracy"];
        assert_eq!(told, &format!("{accuracy:.4}"));
        let readme = include_str!("../data/README.md");
        assert!(readme.contains(&format!("{:.2} %", 100.0 * accuracy)), "{accuracy}");
        assert!(readme.contains(shipped.weights_sha256()), "{}", shipped.weights_sha256());
    }

    #[test]
    fn sizes_and_batches_do_not_matter_and_other_images_are_refused() {
        let extractors = Extractors::digits().unwrap();
        let source = Source::open(Path::new("digits-held-out")).unwrap();
        let gather = |size| {
            let mut collector = Collector::new(&extractors, None);
            let fit = Some(Fit { size, protocol: Protocol::Jit });
            source.for_each(fit, &mut |chunk| collector.push(chunk)).unwrap();
            collector.finish().unwrap()
        };
        let (small, large) = (gather(28), gather(32));
        assert_eq!(small, large, "the margin is cut");
        let labels = small.labels.as_ref().unwrap();
        let score = class_accuracy(small.logits.as_ref().unwrap(), labels).unwrap();
        let accuracy = DigitsExtractor::embedded().unwrap().accuracy(Split::HeldOut).unwrap();
        assert_eq!(score.mean, accuracy);

        let shipped = DigitsExtractor::embedded().unwrap();
        let pixels: Vec<u8> = (0..3 * 28 * 28 * 3).map(|i| (i % 251) as u8).collect();
        let images = Images { pixels: &pixels, batch: 3, height: 28, width: 28 };
        let all = shipped.extract(images).unwrap();
        let last = shipped.extract(images.part(2, 1)).unwrap();
        assert_eq!(last.features, all.features[2 * FEATURES..]);
        let wrong = Images { pixels: &pixels[..2 * 30 * 30 * 3], batch: 2, height: 30, width: 30 };
        let message = shipped.extract(wrong).unwrap_err().to_string();
        assert!(message.contains("28×28 or 32×32 pixels, not 30×30"), "{message}");
    }
}
