//! The first frame of GIF files, as Pillow shows it.
//!
//! A frame may cover part of the screen only. Browsers leave the rest transparent, Pillow gives it
//! the transparent colour of the palette, or the palette's first.

use std::io::Cursor;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use crate::decode::{DecodeError, MAX_PIXELS};
use crate::palette::Palette;
use crate::raster::Raster;

/// Decodes the first frame of a GIF file to RGB.
///
/// # Errors
/// [`DecodeError`] when the bytes are damaged, have no palette, or are beyond the limits.
pub fn decode(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    if let Some(limit) = NonZeroU64::new(MAX_PIXELS) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(content)?;
    let screen = (usize::from(decoder.width()), usize::from(decoder.height()));
    let Some(frame) = decoder.next_frame_info().map_err(content)? else {
        return Err(DecodeError::Content("it holds no frame".to_owned()));
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (across, down) = (usize::from(frame.width), usize::from(frame.height));
    let background = frame.transparent.unwrap_or(0);
    // A frame that does not fit makes the screen larger.
    let (width, height) = (screen.0.max(left + across), screen.1.max(top + down));
    if width as u64 * height as u64 > MAX_PIXELS {
        return Err(DecodeError::TooLarge { width: width as u32, height: height as u32 });
    }
    let palette = decoder.palette().map_err(content)?.to_vec();
    let mut indices = vec![0; across * down];
    decoder.read_into_buffer(&mut indices).map_err(content)?;

    let colors = Palette::new(palette.as_chunks::<3>().0.to_vec());
    let color = |index: u8| colors.color(index);
    let mut rgb = color(background).repeat(width * height);
    if across > 0 {
        for (y, line) in indices.chunks_exact(across).enumerate() {
            let start = 3 * ((top + y) * width + left);
            for (pixel, &index) in rgb[start..].as_chunks_mut::<3>().0.iter_mut().zip(line) {
                *pixel = color(index);
            }
        }
    }
    Raster::new(width, height, 3, rgb)
        .ok_or_else(|| DecodeError::Content("the picture has no pixels".to_owned()))
}

fn content(error: DecodingError) -> DecodeError {
    DecodeError::Content(error.to_string())
}
