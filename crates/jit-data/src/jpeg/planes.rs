//! Component planes to RGB: libjpeg's upsampling (`jdsample.c`) and colour conversion
//! (`jdcolor.c`), for the pictures whose colours or samplings the decoder does not know.

use libjpeg_turbo_rs::RawImage;

use super::stream::{Color, Component, Frame};
use crate::decode::DecodeError;

/// RGB of a decoded picture's planes.
///
/// # Errors
/// [`DecodeError::Content`] for sampling factors that do not divide each other, as libjpeg.
pub fn to_rgb(raw: &RawImage, frame: &Frame, color: Color) -> Result<Vec<u8>, DecodeError> {
    let (width, height) = (frame.width, frame.height);
    let planes = frame
        .components
        .iter()
        .enumerate()
        .map(|(index, component)| Plane::new(raw, index, component, frame))
        .collect::<Result<Vec<_>, _>>()?;
    let mut rows = vec![vec![0; width]; planes.len()];
    let mut rgb = vec![0; 3 * width * height];
    for (y, out) in rgb.chunks_exact_mut(3 * width).enumerate() {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.row(y, row);
        }
        convert(color, &rows, out);
    }
    Ok(rgb)
}

fn convert(color: Color, rows: &[Vec<u8>], out: &mut [u8]) {
    for (x, pixel) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let at = |component: usize| rows[component][x];
        *pixel = match color {
            Color::Grey => [at(0); 3],
            Color::Rgb => [at(0), at(1), at(2)],
            Color::YCbCr => ycc_to_rgb(at(0), at(1), at(2)),
            // Adobe's files hold inverted ink, so that colours and black multiply as light does.
            Color::Cmyk => [at(0), at(1), at(2)].map(|light| multiply(light, at(3))),
            Color::Ycck => ycc_to_rgb(at(0), at(1), at(2)).map(|ink| multiply(255 - ink, at(3))),
        };
    }
}

/// `light · black / 255`, rounded.
fn multiply(light: u8, black: u8) -> u8 {
    ((u16::from(light) * u16::from(black) + 127) / 255) as u8
}

/// libjpeg's fixed-point conversion, with 16 fractional bits.
fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    // 1.402, 0.71414, 0.34414 and 1.772.
    const RED_CR: i32 = 91_881;
    const GREEN_CR: i32 = 46_802;
    const GREEN_CB: i32 = 22_554;
    const BLUE_CB: i32 = 116_130;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((RED_CR * cr + HALF) >> 16);
    let green = y + ((-GREEN_CB * cb - GREEN_CR * cr + HALF) >> 16);
    let blue = y + ((BLUE_CB * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// How a plane becomes as large as the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upsampling {
    /// It is.
    Full,
    /// Twice as wide, by a triangle filter.
    Wider,
    /// Twice as high, by a triangle filter.
    Higher,
    /// Both at once, rounded once.
    Both,
    /// Each sample so many times across and down.
    Repeat(usize, usize),
}

/// One component.
struct Plane<'a> {
    samples: &'a [u8],
    stride: usize,
    /// Size without the padding to whole blocks.
    width: usize,
    height: usize,
    upsampling: Upsampling,
}

impl<'a> Plane<'a> {
    fn new(
        raw: &'a RawImage,
        index: usize,
        component: &Component,
        frame: &Frame,
    ) -> Result<Self, DecodeError> {
        let (full_across, full_down) = frame.full();
        let (across, down) = (component.across, component.down);
        let wrong = || {
            let factors: Vec<String> =
                frame.components.iter().map(|c| format!("{}x{}", c.across, c.down)).collect();
            DecodeError::Content(format!(
                "its sampling factors {} do not divide each other",
                factors.join(", ")
            ))
        };
        if across == 0 || down == 0 || full_across % across != 0 || full_down % down != 0 {
            return Err(wrong());
        }
        let width = (frame.width * across).div_ceil(full_across);
        let height = (frame.height * down).div_ceil(full_down);
        // The triangle filter wants three columns.
        let upsampling = match (full_across / across, full_down / down) {
            (1, 1) => Upsampling::Full,
            (2, 1) if width > 2 => Upsampling::Wider,
            (1, 2) => Upsampling::Higher,
            (2, 2) if width > 2 => Upsampling::Both,
            (columns, rows) => Upsampling::Repeat(columns, rows),
        };
        let samples = raw.planes.get(index).map(Vec::as_slice).unwrap_or_default();
        let stride = raw.plane_widths.get(index).copied().unwrap_or_default();
        if stride < width || samples.len() < stride * height {
            return Err(DecodeError::Content("the decoder left a plane too small".to_owned()));
        }
        Ok(Self { samples, stride, width, height, upsampling })
    }

    /// Row `y` of the plane, its last row from there on.
    fn samples(&self, y: usize) -> &[u8] {
        let start = y.min(self.height - 1) * self.stride;
        &self.samples[start..start + self.width]
    }

    /// Of two rows that an output row `y` lies between in a plane of half the height: the near
    /// one, and the far one.
    fn neighbours(&self, y: usize) -> (&[u8], &[u8]) {
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { near + 1 };
        (self.samples(near), self.samples(far))
    }

    /// Fills row `y` of the picture.
    fn row(&self, y: usize, out: &mut [u8]) {
        match self.upsampling {
            Upsampling::Full => out.copy_from_slice(&self.samples(y)[..out.len()]),
            Upsampling::Repeat(columns, rows) => {
                let samples = self.samples(y / rows);
                for (x, value) in out.iter_mut().enumerate() {
                    *value = samples[x / columns];
                }
            }
            Upsampling::Higher => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let (near, far) = self.neighbours(y);
                for ((value, &near), &far) in out.iter_mut().zip(near).zip(far) {
                    *value = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            Upsampling::Wider => {
                let samples = self.samples(y);
                widen(out, self.width, |x| u16::from(samples[x]), 2, [1, 2]);
            }
            Upsampling::Both => {
                let (near, far) = self.neighbours(y);
                let sum = |x: usize| 3 * u16::from(near[x]) + u16::from(far[x]);
                widen(out, self.width, sum, 4, [8, 7]);
            }
        }
    }
}

/// Twice as wide: three parts of the nearest sample and one of the next on that side, shifted right
/// by `shift`. `bias` is what is added to left and right halves before.
fn widen(out: &mut [u8], width: usize, at: impl Fn(usize) -> u16, shift: u32, bias: [u16; 2]) {
    for (x, value) in out.iter_mut().enumerate() {
        let near = x / 2;
        let far = if x.is_multiple_of(2) { near.checked_sub(1) } else { Some(near + 1) };
        // At the edges a sample stands for itself.
        let far = far.filter(|&far| far < width).unwrap_or(near);
        *value = ((3 * at(near) + at(far) + bias[x % 2]) >> shift) as u8;
    }
}
