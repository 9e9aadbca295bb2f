//! What a process says of its share of some images, as bytes for process 0.

use jit_eval::Part;

/// Parts, each with its images' height and width.
#[derive(Debug, Default)]
pub struct Frames {
    /// Of each part height, width and length as little-endian u64, and the part.
    pub bytes: Vec<u8>,
    /// How much of them has been read.
    read: usize,
}

impl Frames {
    /// Adds a part.
    pub fn push(&mut self, size: [usize; 2], part: &Part) {
        let part = part.to_bytes();
        self.bytes.extend(Self::sides(size));
        self.bytes.extend((part.len() as u64).to_le_bytes());
        self.bytes.extend(part);
    }

    /// Height and width alone.
    pub fn sides(size: [usize; 2]) -> Vec<u8> {
        size.map(|side| (side as u64).to_le_bytes()).concat()
    }

    /// The next part; `None` at the end, or where the bytes make no sense.
    pub fn pop(&mut self) -> Option<([usize; 2], Part)> {
        let (size, length) = (self.pop_size()?, self.number()?);
        let part = self.bytes.get(self.read..self.read.checked_add(length)?)?;
        self.read += length;
        Some((size, Part::from_bytes(part)?))
    }

    /// The next height and width.
    pub fn pop_size(&mut self) -> Option<[usize; 2]> {
        Some([self.number()?, self.number()?])
    }

    fn number(&mut self) -> Option<usize> {
        let bytes = self.bytes.get(self.read..)?.first_chunk::<8>()?;
        self.read += 8;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    }
}

impl From<Vec<u8>> for Frames {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, read: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_out_as_they_went_in() {
        let mut frames = Frames::default();
        frames.push([3, 4], &Part::default());
        frames.push([5, 6], &Part::default());
        let mut read = Frames::from(frames.bytes.clone());
        assert_eq!(read.pop(), Some(([3, 4], Part::default())));
        assert_eq!(read.pop(), Some(([5, 6], Part::default())));
        assert_eq!(read.pop(), None);
        let cut = frames.bytes.len() / 2 - 1;
        assert_eq!(Frames::from(frames.bytes[..cut].to_vec()).pop(), None);
    }
}
