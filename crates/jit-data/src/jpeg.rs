//! JPEG files, sample for sample as libjpeg-turbo (and so Pillow) decodes them.
//!
//! The usual Rust decoders round chroma upsampling and colour conversion differently, by up to 5
//! of 255 and in a quarter of all samples; this one keeps resized pictures exactly equal.

mod detail;
mod planes;
mod stream;

use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

use self::stream::{Color, Frame};
use crate::decode::{DecodeError, MAX_PIXELS};
use crate::raster::Raster;

/// Decodes a JPEG file to RGB; grey is repeated, CMYK and YCCK are converted as Pillow does.
///
/// # Errors
/// [`DecodeError`] when the bytes are damaged, cut off, unsupported or beyond the limits.
pub fn decode(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let stream = stream::read(bytes)?;
    let limits = DecodeLimits {
        max_pixels: MAX_PIXELS,
        // Coefficients of a progressive picture: 2 bytes for each of up to 4 components, twice.
        max_memory: Some(MAX_PIXELS * 16),
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new_with_limits(&stream.bytes, limits).map_err(content)?;
    // Some of the decoder's paths fill what is cut off with grey.
    if !stream.ended {
        return Err(DecodeError::Content("the file is cut off".to_owned()));
    }
    let (width, height) = (stream.frame.width, stream.frame.height);
    let rgb = if is_usual(&stream.frame, stream.color) {
        decoder.set_output_format(PixelFormat::Rgb);
        decoder.decode_image().map_err(content)?.data
    } else if stream.frame.lossless {
        let reason = "a lossless JPEG is read in grey or RGB only, as libjpeg does";
        return Err(DecodeError::Content(reason.to_owned()));
    } else {
        let raw = decoder.decode_raw().map_err(content)?;
        planes::to_rgb(&raw, &stream.frame, stream.color)?
    };
    Raster::new(width, height, 3, rgb)
        .ok_or_else(|| DecodeError::Content("the picture has no pixels".to_owned()))
}

/// Whether the decoder's own upsampling and conversion, which are fast, are right for a picture.
fn is_usual(frame: &Frame, color: Color) -> bool {
    let factors: Vec<_> = frame.components.iter().map(|c| (c.across, c.down)).collect();
    match (color, &factors[..]) {
        (Color::Grey, _) => true,
        (Color::Rgb, _) => frame.lossless,
        (Color::YCbCr, [(1 | 2, 1 | 2), (1, 1), (1, 1)]) => !frame.lossless,
        _ => false,
    }
}

fn content(error: JpegError) -> DecodeError {
    DecodeError::Content(error.to_string())
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

    /// Where the content of the first segment with this marker begins.
    fn content_of(bytes: &[u8], marker: u8) -> usize {
        bytes.windows(2).position(|pair| pair == [0xFF, marker]).unwrap() + 4
    }

    fn refusal(bytes: &[u8]) -> String {
        decode(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_libjpeg_would_make_up_is_refused() {
        let progressive = include_bytes!("../tests/decode/jpeg_s420_progressive.jpg");
        let scans = progressive.windows(2).enumerate().filter(|(_, pair)| *pair == [0xFF, 0xDA]);
        let ends: Vec<usize> = scans.map(|(at, _)| at).collect();
        assert!(ends.len() > 2);
        for &end in &ends[1..] {
            let mut fewer = progressive[..end].to_vec();
            fewer.extend([0xFF, 0xD9]);
            assert!(refusal(&fewer).contains("leave out detail"));
        }
    }

    #[test]
    fn kinds_that_are_not_read_are_named() {
        let color = include_bytes!("../tests/decode/jpeg_s444.jpg");
        let frame = content_of(color, 0xC0);
        let with = |at: usize, value: u8| {
            let mut bytes = color.to_vec();
            bytes[at] = value;
            bytes
        };
        assert!(refusal(&with(frame, 12)).contains("12 bits"));
        assert!(refusal(&with(frame - 3, 0xC5)).contains("0xC5"));
        assert!(refusal(&with(frame + 5, 2)).contains("2 components"));
        let mut odd = with(frame + 7, 0x31);
        odd[frame + 10] = 0x21;
        assert!(refusal(&odd).contains("3x1, 2x1, 1x1"), "{}", refusal(&odd));
        let mut two = color.to_vec();
        let again = color[frame - 4..frame + 15].to_vec();
        two.splice(frame + 15..frame + 15, again);
        assert!(refusal(&two).contains("two frame headers"), "{}", refusal(&two));
    }
}
