//! A decoded picture: 8-bit samples, rows of interleaved channels.

/// A picture in memory, `[height, width, channels]` u8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raster {
    width: usize,
    height: usize,
    channels: usize,
    data: Vec<u8>,
}

impl Raster {
    /// Wraps samples laid out `[height, width, channels]`; `None` when a side is zero, the channels
    /// are neither 1 (grey) nor 3 (RGB), or `data` is not exactly that long.
    pub fn new(width: usize, height: usize, channels: usize, data: Vec<u8>) -> Option<Self> {
        let expected = width.checked_mul(height)?.checked_mul(channels)?;
        (matches!(channels, 1 | 3) && expected > 0 && data.len() == expected).then_some(Self {
            width,
            height,
            channels,
            data,
        })
    }

    /// [`Raster::new`] for samples this crate computed itself, whose number is right by design.
    pub(crate) fn from_parts(width: usize, height: usize, channels: usize, data: Vec<u8>) -> Self {
        debug_assert!(data.len() == width * height * channels);
        Self { width, height, channels, data }
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Samples a pixel: 1 for grey, 3 for RGB.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The samples, `[height, width, channels]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Row `y`, `[width, channels]`.
    pub(crate) fn row(&self, y: usize) -> &[u8] {
        let stride = self.width * self.channels;
        &self.data[y * stride..][..stride]
    }

    /// RGB to one channel as Pillow's `convert('L')`: ITU-R 601 luma in 16-bit fixed point. The
    /// weights sum to 2¹⁶, so grey pixels keep their value. A grey picture is returned as it is.
    pub fn into_luma(self) -> Raster {
        if self.channels != 3 {
            return self;
        }
        let luma = |p: &[u8]| {
            let sum = u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471;
            ((sum + 0x8000) >> 16) as u8
        };
        let data = self.data.chunks_exact(3).map(luma).collect();
        Raster { channels: 1, data, ..self }
    }

    /// Copies the samples to `out` plane by plane, `[channels, height, width]`.
    ///
    /// `out` has exactly as many elements as the picture has samples.
    pub fn write_planes(&self, out: &mut [u8]) {
        debug_assert_eq!(out.len(), self.data.len());
        for (c, plane) in out.chunks_exact_mut(self.width * self.height).enumerate() {
            for (o, pixel) in plane.iter_mut().zip(self.data.chunks_exact(self.channels)) {
                *o = pixel[c];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luma_has_pillows_values_and_keeps_greys() {
        // Image.new('RGB', (1, 1), rgb).convert('L') in Pillow.
        let cases =
            [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([10, 200, 33], 124)];
        for (rgb, grey) in cases {
            let one = Raster::new(1, 1, 3, rgb.to_vec()).unwrap();
            assert_eq!(one.into_luma().data(), [grey], "{rgb:?}");
        }
        for v in 0..=255 {
            assert_eq!(Raster::new(1, 1, 3, vec![v; 3]).unwrap().into_luma().data(), [v]);
        }
    }

    #[test]
    fn planes_hold_one_channel_each() {
        let image = Raster::new(2, 1, 3, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let mut planes = [0; 6];
        image.write_planes(&mut planes);
        assert_eq!(planes, [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn a_wrong_length_is_no_picture() {
        assert_eq!(Raster::new(2, 2, 3, vec![0; 11]), None);
        assert_eq!(Raster::new(0, 2, 3, vec![]), None);
        assert_eq!(Raster::new(1, 1, 2, vec![0; 2]), None);
        assert_eq!(Raster::new(usize::MAX, 2, 3, vec![]), None);
    }
}
