//! JPEG files, sample for sample as libjpeg-turbo (and so Pillow) decodes them.
//!
//! The usual Rust decoders round chroma upsampling and colour conversion differently, by up to 5
//! of 255 and in a quarter of all samples; this one keeps resized pictures exactly equal.

use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

use crate::decode::{DecodeError, MAX_PIXELS};
use crate::raster::Raster;

/// Decodes a JPEG file to RGB; grey is repeated, CMYK and YCCK are converted as Pillow does.
///
/// # Errors
/// [`DecodeError`] when the bytes are damaged, cut off, unsupported or beyond the limits.
pub fn decode(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let limits = DecodeLimits {
        max_pixels: MAX_PIXELS,
        // Coefficients of a progressive picture: 2 bytes for each of up to 4 components, twice.
        max_memory: Some(MAX_PIXELS * 16),
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(content)?;
    // Some of the decoder's paths fill what is cut off with grey.
    if !has_end(bytes) {
        return Err(DecodeError::Content("the file is cut off".to_owned()));
    }
    decoder.set_output_format(PixelFormat::Rgb);
    let image = decoder.decode_image().map_err(content)?;
    Raster::new(image.width, image.height, 3, image.data)
        .ok_or_else(|| DecodeError::Content("the picture has no pixels".to_owned()))
}

fn content(error: JpegError) -> DecodeError {
    DecodeError::Content(error.to_string())
}

/// Whether an end-of-image marker follows the first scan's header. Segments before it are stepped
/// over, since an embedded thumbnail is a JPEG with an end of its own.
fn has_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    const END_OF_IMAGE: u8 = 0xD9;
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let [0xFF, marker, tail @ ..] = rest {
        rest = match (*marker, tail) {
            (START_OF_SCAN, _) => {
                let end = [0xFF, END_OF_IMAGE];
                return tail.ends_with(&end) || tail.windows(2).any(|w| w == end);
            }
            // Fill bytes before a marker.
            (0xFF, _) => &rest[1..],
            (_, [high, low, ..]) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                tail.get(length..).unwrap_or_default()
            }
            _ => return false,
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    static PICTURE: &[u8] = include_bytes!("../tests/decode/jpeg_grey.jpg");

    #[test]
    fn a_cut_off_file_is_refused_wherever_it_ends() {
        assert!(decode(PICTURE).is_ok());
        for length in 0..PICTURE.len() {
            assert!(decode(&PICTURE[..length]).is_err(), "{length} of {}", PICTURE.len());
        }
    }

    #[test]
    fn the_end_of_a_thumbnail_is_not_the_end_of_the_picture() {
        // An application segment that holds an end-of-image marker, spliced in at the front.
        let mut bytes = PICTURE[..2].to_vec();
        bytes.extend([0xFF, 0xE1, 0, 4, 0xFF, 0xD9]);
        bytes.extend(&PICTURE[2..]);
        assert_eq!(decode(&bytes).unwrap(), decode(PICTURE).unwrap());
        bytes.truncate(bytes.len() - 2);
        assert!(decode(&bytes).unwrap_err().to_string().contains("cut off"));
    }
}
