//! Image transforms: files beside the case, cropped or squashed, against what Pillow makes of them.

use jit_data::decode::decode_file;
use jit_data::transform::{center_crop, squash};

use super::VerifyError;
use super::case::Case;
use super::measure::{Check, tolerance};

/// Folder of the pictures, beside the case.
const IMAGES: &str = "images";

/// What is done to a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transform {
    /// ADM's centre crop.
    Crop(usize),
    /// Bilinear to a square, whatever the shape.
    Squash(usize),
}

/// The picture and the transform that the tensor `FILE@SIZE` or `FILE@squashSIZE` is about.
pub fn parse(name: &str) -> Option<(&str, Transform)> {
    let (file, transform) = name.rsplit_once('@')?;
    let size = |text: &str| text.parse().ok().filter(|s| (1..=8192).contains(s));
    let transform = match transform.strip_prefix("squash") {
        Some(text) => Transform::Squash(size(text)?),
        None => Transform::Crop(size(transform)?),
    };
    // A plain name: the case says nothing about files elsewhere.
    (!file.is_empty() && !file.contains(['/', '\\'])).then_some((file, transform))
}

/// Transforms every picture of the case.
///
/// # Errors
/// When a picture is missing or cannot be decoded, or a tensor does not fit.
pub fn verify(case: &Case) -> Result<Vec<Check>, VerifyError> {
    let folder = case.path().with_file_name(IMAGES);
    let mut crops = Check::new(&case.name(), "centre crops", tolerance::PIXEL);
    let mut squashed = Check::new(&case.name(), "squashed", tolerance::PIXEL);
    for name in case.names() {
        let Some((file, transform)) = parse(&name) else {
            let expected = "FILE@SIZE or FILE@squashSIZE";
            return Err(case.misfit(&name, "not known".into(), expected.into()));
        };
        let image = decode_file(&folder.join(file))?;
        let (image, check, size) = match transform {
            Transform::Crop(size) => (center_crop(image, size), &mut crops, size),
            Transform::Squash(size) => (squash(image, size), &mut squashed, size),
        };
        let want = case.indices(&name, &[size, size, 3], 255)?;
        let difference = |(a, b): (&u8, &u32)| u32::from(*a).abs_diff(*b);
        let worst = image.data().iter().zip(&want).map(difference).max().unwrap_or(0);
        check.record(&name, f64::from(worst));
    }
    Ok([crops, squashed].into_iter().filter(|c| c.tensors > 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_picture_and_what_is_done_to_it() {
        assert_eq!(parse("a_1.png@32"), Some(("a_1.png", Transform::Crop(32))));
        assert_eq!(parse("a@b.png@squash8"), Some(("a@b.png", Transform::Squash(8))));
        for bad in ["a.png", "a.png@", "a.png@0", "../a.png@32", "@32", "a.png@99999"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
