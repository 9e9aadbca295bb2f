//! BMP files, as Pillow reads them.
//!
//! Decoders disagree on what the format leaves open: how 5 bits become 8, what a run-length coded
//! picture shows where it skips pixels, which masks make sense. So the few kinds are read here.

use std::borrow::Cow;

use crate::decode::{DecodeError, MAX_PIXELS};
use crate::palette::Palette;
use crate::raster::Raster;

/// Decodes a BMP file to RGB.
///
/// # Errors
/// [`DecodeError`] when the bytes are cut off, of a kind that Pillow does not read either, or
/// beyond the limits.
pub fn decode(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let header = Header::read(bytes)?;
    let (width, height) = (header.width, header.height);
    let rgb = match header.kind {
        Kind::Indexed { runs: Some(runs) } => {
            let indices = expand(bytes, header.pixels_at, width * height, width, runs)?;
            lines(&header, &indices, &header.palette(bytes))
        }
        Kind::Indexed { runs: None } => {
            let (data, stride) = raw(&header, bytes)?;
            let per_byte = 8 / header.bits;
            let largest = (1_u16 << header.bits) - 1;
            let indices: Vec<u8> = data
                .chunks_exact(stride)
                .flat_map(|line| {
                    (0..width).map(move |x| {
                        let shift = 8 - header.bits * (x % per_byte + 1);
                        line[x / per_byte] >> shift & largest as u8
                    })
                })
                .collect();
            lines(&header, &indices, &header.palette(bytes))
        }
        Kind::Packed16 { green_bits } => {
            let (data, stride) = raw(&header, bytes)?;
            let mut rgb = Vec::with_capacity(3 * width * height);
            for line in header.top_to_bottom(&data, stride) {
                for pair in line.as_chunks::<2>().0.iter().take(width) {
                    let pixel = u32::from(u16::from_le_bytes(*pair));
                    // Rounded down, as Pillow does.
                    let part = |shift: u32, bits: u32| {
                        let largest = (1 << bits) - 1;
                        (((pixel >> shift) & largest) * 255 / largest) as u8
                    };
                    rgb.extend([part(5 + green_bits, 5), part(5, green_bits), part(0, 5)]);
                }
            }
            rgb
        }
        Kind::Bytes { red, green, blue } => {
            let (data, stride) = raw(&header, bytes)?;
            let mut rgb = Vec::with_capacity(3 * width * height);
            for line in header.top_to_bottom(&data, stride) {
                for pixel in line.chunks_exact(header.bits / 8).take(width) {
                    rgb.extend([pixel[red], pixel[green], pixel[blue]]);
                }
            }
            rgb
        }
    };
    Raster::new(width, height, 3, rgb).ok_or_else(|| content("the picture has no pixels"))
}

/// How pixels are stored.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Indices into a palette, maybe in runs.
    Indexed { runs: Option<Runs> },
    /// 16 bits, of which 5 are red and 5 blue.
    Packed16 { green_bits: u32 },
    /// Whole bytes, and which is which.
    Bytes { red: usize, green: usize, blue: usize },
}

/// Run-length coding, by the bits of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Four,
    Eight,
}

struct Header {
    width: usize,
    height: usize,
    top_down: bool,
    bits: usize,
    kind: Kind,
    pixels_at: usize,
    palette_at: usize,
    colors: usize,
    /// Bytes of each colour of the palette.
    color_bytes: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        const FILE_HEADER: usize = 14;
        let u16_at = |at: usize| -> Result<usize, DecodeError> {
            let pair = bytes.get(at..at + 2).ok_or_else(cut_off)?;
            Ok(usize::from(u16::from_le_bytes([pair[0], pair[1]])))
        };
        let u32_at = |at: usize| -> Result<u32, DecodeError> {
            let four = bytes.get(at..at + 4).ok_or_else(cut_off)?;
            Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        };
        let size = u32_at(FILE_HEADER)?;
        let (width, height, bits, compression, colors, color_bytes) = match size {
            12 => (u16_at(18)? as u32, u16_at(20)? as u32, u16_at(24)?, 0, 0, 3),
            40 | 52 | 56 | 64 | 108 | 124 => {
                (u32_at(18)?, u32_at(22)?, u16_at(28)?, u32_at(30)?, u32_at(46)?, 4)
            }
            _ => {
                return Err(content(&format!(
                    "a BMP header of {size} bytes is none that is known"
                )));
            }
        };
        let top_down = size != 12 && height >> 31 == 1;
        let height = if top_down { height.wrapping_neg() } else { height };
        if width == 0 || height == 0 {
            return Err(content(&format!("its header tells {width}×{height} pixels")));
        }
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(DecodeError::TooLarge { width, height });
        }
        let header_end = FILE_HEADER + size as usize;
        // Masks follow the first 40 bytes of a header, whether it is longer or not.
        let masks = |with_alpha: bool| -> Result<[u32; 4], DecodeError> {
            let alpha = if with_alpha { u32_at(66)? } else { 0 };
            Ok([u32_at(54)?, u32_at(58)?, u32_at(62)?, alpha])
        };
        let kind = match (compression, bits) {
            (0, 1 | 4 | 8) => Kind::Indexed { runs: None },
            (1, 1 | 4 | 8) => Kind::Indexed { runs: Some(Runs::Eight) },
            (2, 1 | 4 | 8) => Kind::Indexed { runs: Some(Runs::Four) },
            (0, 16) => Kind::Packed16 { green_bits: 5 },
            (0, 24 | 32) => Kind::Bytes { red: 2, green: 1, blue: 0 },
            (3, 16 | 24 | 32) => masked(bits, masks(size >= 56)?)?,
            (0..=3, _) => return Err(content(&format!("{bits} bits a pixel are not read"))),
            _ => return Err(content(&format!("compression {compression} of BMP is not read"))),
        };
        let palette_at = header_end + if compression == 3 && size == 40 { 12 } else { 0 };
        let colors = if colors == 0 { 1 << bits.min(8) } else { colors };
        if bits <= 8 && colors > 1 << 16 {
            return Err(content(&format!("a palette of {colors} colours is none")));
        }
        let palette = if bits <= 8 { color_bytes * colors as usize } else { 0 };
        let pixels_at = match u32_at(10)? as usize {
            0 => palette_at + palette,
            at if at == header_end => at + palette,
            at => at,
        };
        Ok(Self {
            width: width as usize,
            height: height as usize,
            top_down,
            bits,
            kind,
            pixels_at,
            palette_at,
            colors: colors as usize,
            color_bytes,
        })
    }

    /// The palette, as far as the file has it.
    fn palette(&self, bytes: &[u8]) -> Palette {
        let colors = bytes
            .get(self.palette_at..)
            .unwrap_or_default()
            .chunks_exact(self.color_bytes)
            // No index is larger.
            .take(self.colors.min(256))
            .map(|color| [color[2], color[1], color[0]]);
        Palette::new(colors.collect())
    }

    /// Lines of `stride` bytes from the top of the picture down.
    fn top_to_bottom<'a>(
        &self,
        data: &'a [u8],
        stride: usize,
    ) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        let lines = data.chunks_exact(stride);
        if self.top_down { Box::new(lines) } else { Box::new(lines.rev()) }
    }
}

/// Which of the layouts that Pillow knows `masks` (red, green, blue, alpha) describe.
fn masked(bits: usize, masks: [u32; 4]) -> Result<Kind, DecodeError> {
    let bytes = |red, green, blue| Kind::Bytes { red, green, blue };
    Ok(match (bits, masks) {
        (16, [0xF800, 0x7E0, 0x1F, _]) => Kind::Packed16 { green_bits: 6 },
        (16, [0x7C00, 0x3E0, 0x1F, _]) => Kind::Packed16 { green_bits: 5 },
        (24, [0xFF_0000, 0xFF00, 0xFF, _])
        | (32, [0xFF_0000, 0xFF00, 0xFF, 0 | 0xFF00_0000] | [0, 0, 0, 0]) => bytes(2, 1, 0),
        (32, [0xFF00_0000, 0xFF_0000, 0xFF00, 0 | 0xFF]) => bytes(3, 2, 1),
        (32, [0xFF00_0000, 0xFF00, 0xFF, 0 | 0xFF_0000]) => bytes(3, 1, 0),
        (32, [0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000]) => bytes(0, 1, 2),
        (_, [red, green, blue, alpha]) => {
            return Err(content(&format!(
                "masks {red:#X}, {green:#X}, {blue:#X}, {alpha:#X} of {bits} bits are not read"
            )));
        }
    })
}

/// The bytes of uncompressed pixels, and how many each line has. The last line's padding may be left out.
fn raw<'a>(header: &Header, bytes: &'a [u8]) -> Result<(Cow<'a, [u8]>, usize), DecodeError> {
    let bits = header.width * header.bits;
    let stride = bits.div_ceil(32) * 4;
    let rest = bytes.get(header.pixels_at..).ok_or_else(cut_off)?;
    let whole = stride * header.height;
    if let Some(data) = rest.get(..whole) {
        return Ok((Cow::Borrowed(data), stride));
    }
    if rest.len() < whole - stride + bits.div_ceil(8) {
        return Err(cut_off());
    }
    let mut data = rest.to_vec();
    data.resize(whole, 0);
    Ok((Cow::Owned(data), stride))
}

/// RGB of the lines of `indices`.
fn lines(header: &Header, indices: &[u8], palette: &Palette) -> Vec<u8> {
    let lines = header.top_to_bottom(indices, header.width);
    lines.flatten().flat_map(|&index| palette.color(index)).collect()
}

/// Expands runs to indices. Skipped pixels have index 0.
fn expand(
    bytes: &[u8],
    mut at: usize,
    count: usize,
    width: usize,
    runs: Runs,
) -> Result<Vec<u8>, DecodeError> {
    let mut indices = Vec::with_capacity(count);
    let mut x = 0;
    let nibbles = |byte: u8| [byte >> 4, byte & 15];
    while indices.len() < count {
        let Some(&[length, value]) = bytes.get(at..at + 2) else {
            return Err(cut_off());
        };
        at += 2;
        let left = count - indices.len();
        match (length, value) {
            // End of the line.
            (0, 0) => {
                indices.resize(indices.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => return Err(content("its runs end before the last pixel")),
            (0, 2) => {
                let Some(&[right, up]) = bytes.get(at..at + 2) else {
                    return Err(cut_off());
                };
                at += 2;
                let skipped = usize::from(right) + usize::from(up) * width;
                indices.resize(indices.len() + skipped.min(left), 0);
                x = indices.len() % width;
            }
            // Indices one by one, filled up to pairs of bytes (of the file).
            (0, literal) => {
                let literal = usize::from(literal);
                let taken = literal.min(left);
                let length = if runs == Runs::Four { taken.div_ceil(2) } else { taken };
                let data = bytes.get(at..at + length).ok_or_else(cut_off)?;
                match runs {
                    Runs::Four => indices.extend(data.iter().flat_map(|&b| nibbles(b)).take(taken)),
                    Runs::Eight => indices.extend(data),
                }
                at = (at + length).next_multiple_of(2);
                x += literal;
            }
            (length, value) => {
                // What does not fit the line is left out.
                let length = usize::from(length).min(width.saturating_sub(x));
                match runs {
                    Runs::Four => indices.extend(nibbles(value).iter().cycle().take(length)),
                    Runs::Eight => indices.resize(indices.len() + length, value),
                }
                x += length;
            }
        }
    }
    indices.truncate(count);
    Ok(indices)
}

fn cut_off() -> DecodeError {
    content("the file is cut off")
}

fn content(text: &str) -> DecodeError {
    DecodeError::Content(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_padding_may_be_missing() {
        // 23 pixels of 3 bytes are followed by 3 bytes of padding.
        let whole = include_bytes!("../tests/decode/bmp_24.bmp");
        let pixels = decode(whole).unwrap();
        for missing in 1..=3 {
            assert_eq!(decode(&whole[..whole.len() - missing]).unwrap(), pixels, "{missing}");
        }
        let message = decode(&whole[..whole.len() - 4]).unwrap_err().to_string();
        assert_eq!(message, "the file is cut off");
    }

    #[test]
    fn kinds_that_are_not_read_are_named() {
        let refusal = |file: &[u8], changes: &[(usize, &[u8])]| {
            let mut bytes = file.to_vec();
            for (at, new) in changes {
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
            decode(&bytes).unwrap_err().to_string()
        };
        let rgb = include_bytes!("../tests/decode/bmp_24.bmp");
        let masks = include_bytes!("../tests/decode/bmp_565.bmp");
        assert!(refusal(rgb, &[(14, &[41])]).contains("header of 41 bytes"));
        assert!(refusal(rgb, &[(28, &[2])]).contains("2 bits a pixel"));
        assert!(refusal(rgb, &[(30, &[5])]).contains("compression 5"));
        assert!(refusal(rgb, &[(18, &[0])]).contains("0×17 pixels"));
        assert!(refusal(masks, &[(54, &[0, 0xF0])]).contains("masks 0xF000, 0x7E0, 0x1F"));
        // The height as a number that is negative, and as large as it goes.
        let huge = refusal(rgb, &[(18, &[0xFF, 0xFF, 0xFF, 0x7F]), (22, &[0, 0, 0, 0x80])]);
        assert!(huge.contains("are more than"), "{huge}");
    }
}
