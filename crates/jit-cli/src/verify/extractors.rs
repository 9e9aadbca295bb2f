//! Extractor networks with the weights of a formula: features of images against the reference's.

use jit_eval::extractor::formula::values;
use jit_eval::extractor::{Images, Inception, Vgg16};

use super::VerifyError;
use super::case::Case;
use super::measure::{Check, tolerance};

/// Start of the names of images, `image_HxW` u8 `[3, H, W]`.
pub const IMAGE: &str = "image_";
/// Start of the names of samples of the formula, the first values of a tensor.
const FORMULA: &str = "formula.";
/// Their number, and the shape that the fan-in is taken from.
const SAMPLE: usize = 16;

/// Extracts features of every image of the case.
///
/// # Errors
/// When a tensor is missing or does not fit.
pub fn verify(case: &Case) -> Result<Vec<Check>, VerifyError> {
    let new = |quantity: &str| Check::new(&case.name(), quantity, tolerance::FEATURE);
    let (mut formula, mut inception, mut vgg16) =
        (new("formula weights"), new("Inception features"), new("VGG16 features"));
    for name in case.names() {
        if let Some(tensor) = name.strip_prefix(FORMULA) {
            let want = case.tensor(&name, &[SAMPLE])?;
            formula.relative(tensor, &values(tensor, shape_of(tensor))[..SAMPLE], &want);
        }
    }
    let networks = (Inception::formula()?, Vgg16::formula()?);
    for name in case.names() {
        let Some(size) = name.strip_prefix(IMAGE) else { continue };
        let (pixels, height, width) = image(case, &name)?;
        let images = Images { pixels: &pixels, batch: 1, height, width };
        let taps = networks.0.taps(images);
        let pairs = [
            ("64", taps.after_64),
            ("192", taps.after_192),
            ("768", taps.after_768),
            ("2048", taps.features),
            ("logits_unbiased", taps.logits_unbiased),
            ("logits", taps.logits),
        ];
        for (tap, have) in pairs {
            let name = format!("inception_{size}.{tap}");
            inception.relative(&name, &have, &case.tensor(&name, &[have.len()])?);
        }
        let last = networks.1.fully_connected(images);
        for (tap, have) in [("fc2", last.fc2), ("fc2_relu", last.fc2_relu)] {
            let name = format!("vgg16_{size}.{tap}");
            vgg16.relative(&name, &have, &case.tensor(&name, &[have.len()])?);
        }
    }
    Ok([formula, inception, vgg16].into_iter().filter(|c| c.tensors > 0).collect())
}

/// A shape with the fan-in of the sampled tensors: only filters depend on it.
fn shape_of(tensor: &str) -> &'static [usize] {
    match tensor {
        "Conv2d_1a_3x3.conv.weight" => &[32, 3, 3, 3],
        _ => &[SAMPLE],
    }
}

/// RGB pixels, height and width.
fn image(case: &Case, name: &str) -> Result<(Vec<u8>, usize, usize), VerifyError> {
    let shape = case.shape(name)?;
    let &[3, height, width] = &shape[..] else {
        return Err(case.misfit(name, format!("{shape:?}"), "[3, H, W]".into()));
    };
    let planes = case.indices(name, &shape, 255)?;
    let area = height * width;
    let pixels = (0..area).flat_map(|at| (0..3).map(move |c| c * area + at));
    Ok((pixels.map(|at| planes[at] as u8).collect(), height, width))
}
