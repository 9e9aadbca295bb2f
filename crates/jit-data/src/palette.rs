//! Palettes of pictures, as Pillow takes them.

/// The colours of indices.
pub struct Palette {
    colors: Vec<[u8; 3]>,
    /// Whether each index is its own grey.
    is_grey: bool,
}

impl Palette {
    /// A palette of `colors`.
    pub fn new(colors: Vec<[u8; 3]>) -> Self {
        let is_grey = colors.iter().enumerate().all(|(index, color)| *color == [index as u8; 3]);
        Self { colors, is_grey }
    }

    /// The colour of `index`. One that the palette lacks is black, but a grey among greys.
    pub fn color(&self, index: u8) -> [u8; 3] {
        match self.colors.get(usize::from(index)) {
            Some(color) => *color,
            None if self.is_grey => [index; 3],
            None => [0; 3],
        }
    }
}
