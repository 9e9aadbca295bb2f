//! Picture files to RGB, as Pillow's `Image.open(path).convert('RGB')` would give them.
//!
//! Grey is repeated, palettes are looked up, alpha and transparent colours are dropped without
//! blending, CMYK and YCCK lose their black by multiplication. Of 16-bit samples the high byte is
//! kept, as Pillow does for RGB. Orientation tags and colour profiles are ignored.

use std::cell::Cell;
use std::io::{Cursor, ErrorKind, Read};
use std::panic;
use std::path::Path;

use image::error::ImageError;
use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};
use jit_core::files::FileError;

use crate::error::DataError;
use crate::raster::Raster;
use crate::{bmp, gif, jpeg, png, webp};

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 29;

/// Largest picture that is decoded, in pixels: where Pillow raises `DecompressionBombError`.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Why bytes are not a usable picture.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes start like none of the supported formats.
    #[error("not a PNG, JPEG, WebP, BMP or GIF picture")]
    Format,
    /// A header announces more than is sensible to allocate.
    #[error("{width}×{height} pixels are more than the {MAX_PIXELS} that are decoded")]
    TooLarge {
        /// Announced width.
        width: u32,
        /// Announced height.
        height: u32,
    },
    /// The file itself is larger than any sensible picture.
    #[error("{0} bytes are more than the {MAX_FILE_BYTES} that are read")]
    FileTooLarge(u64),
    /// The format is known, the content damaged or of an unsupported kind.
    #[error("{0}")]
    Content(String),
}

/// Decodes a file to RGB.
///
/// # Errors
/// [`DataError::File`] when it cannot be read, [`DataError::Decode`] when it is damaged,
/// unsupported or beyond the limits; both name `path`.
pub fn decode_file(path: &Path) -> Result<Raster, DataError> {
    let decode_error = |source| DataError::Decode { path: path.to_path_buf(), source };
    let mut file = jit_core::input::open(path)?;
    let length = file.metadata().map_err(FileError::at("read", path))?.len();
    if length > MAX_FILE_BYTES {
        return Err(decode_error(DecodeError::FileTooLarge(length)));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // `take`: a special file may yield more than its metadata says.
    file.by_ref()
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(FileError::at("read", path))?;
    decode_bytes(&bytes).map_err(decode_error)
}

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is decoding a picture. A panic meanwhile becomes an error that
/// [`decode_bytes`] returns, so that a program's panic hook need not tell of it.
pub fn is_decoding() -> bool {
    DECODING.get()
}

/// Decodes the bytes of a picture file to RGB. The format is recognised by content, not by name.
///
/// # Errors
/// [`DecodeError`] when the bytes are damaged, unsupported or beyond the limits.
pub fn decode_bytes(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let format = image::guess_format(bytes).map_err(|_| DecodeError::Format)?;
    // A decoder that panics on some damaged file must not take a training run down with it.
    let before = DECODING.replace(true);
    let decoded = panic::catch_unwind(|| match format {
        ImageFormat::Jpeg => jpeg::decode(bytes),
        ImageFormat::Bmp => bmp::decode(bytes),
        ImageFormat::Gif => gif::decode(bytes),
        ImageFormat::Png => png::check_palette(bytes).and_then(|()| decode_as(format, bytes)),
        ImageFormat::WebP => decode_as(format, &webp::with_plain_first_frame(bytes)?),
        _ => Err(DecodeError::Format),
    });
    DECODING.set(before);
    decoded.unwrap_or_else(|_| Err(DecodeError::Content("the decoder gave up on it".to_owned())))
}

/// Decodes the formats that the crate `image` reads.
fn decode_as(format: ImageFormat, bytes: &[u8]) -> Result<Raster, DecodeError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    // RGBA at 16 bits, the widest sample layout, plus the decoder's own buffers.
    limits.max_alloc = Some(MAX_PIXELS * 8);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(content)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(DecodeError::TooLarge { width, height });
    }
    let color = decoder.color_type();
    let mut samples = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut samples).map_err(content)?;
    let rgb = to_rgb(samples, color)?;
    Raster::new(width as usize, height as usize, 3, rgb)
        .ok_or_else(|| DecodeError::Content("the picture has no pixels".to_owned()))
}

fn content(error: ImageError) -> DecodeError {
    DecodeError::Content(match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            "the file is cut off".to_owned()
        }
        error => error.to_string(),
    })
}

/// Interleaved samples of any layout to RGB8.
fn to_rgb(samples: Vec<u8>, color: ColorType) -> Result<Vec<u8>, DecodeError> {
    let high_byte = |pair: &[u8]| if cfg!(target_endian = "little") { pair[1] } else { pair[0] };
    let samples = match color {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
            samples.chunks_exact(2).map(high_byte).collect()
        }
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => samples,
        other => return Err(DecodeError::Content(format!("unsupported samples {other:?}"))),
    };
    Ok(match color.channel_count() {
        1 => samples.iter().flat_map(|&v| [v; 3]).collect(),
        2 => samples.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        3 => samples,
        _ => samples.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
    })
}
