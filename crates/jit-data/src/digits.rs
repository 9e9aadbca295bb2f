//! The embedded default data set: 10 000 MNIST digits, so that a first run needs no download.

use std::sync::OnceLock;

use crate::decode::{DecodeError, decode_bytes};
use crate::error::DataError;

/// The name by which the data set is asked for.
pub const NAME: &str = "digits";

/// Side of a digit in pixels.
pub const SIDE: usize = 28;

/// Digits to train on; the sheet's order is random, so the rest holds every class too.
const TRAIN: usize = 8_000;
const TOTAL: usize = 10_000;
/// Tiles in a row of the sheet.
const COLUMNS: usize = 100;

static SHEET: &[u8] = include_bytes!("../data/mnist10k.png");
static LABELS: &[u8; TOTAL] = include_bytes!("../data/mnist10k.labels");

/// A part of the digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The first 8 000.
    Train,
    /// The last 2 000.
    HeldOut,
}

impl Split {
    /// Tiles of the sheet that belong to it.
    pub fn range(self) -> std::ops::Range<usize> {
        match self {
            Split::Train => 0..TRAIN,
            Split::HeldOut => TRAIN..TOTAL,
        }
    }
}

/// The digit that tile `tile` (below 10 000) shows.
pub fn label(tile: usize) -> u32 {
    u32::from(LABELS[tile])
}

/// Names of the ten classes.
pub fn class_names() -> Vec<String> {
    (0..10).map(|d: u8| d.to_string()).collect()
}

/// Every tile, `[10000, 28, 28]`, white on black; the sheet is decoded once.
///
/// # Errors
/// [`DataError::Decode`] if the sheet compiled into the program is unusable.
pub fn tiles() -> Result<&'static [u8], DataError> {
    static TILES: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(tiles) = TILES.get() {
        return Ok(tiles);
    }
    let failed = |source| DataError::Decode { path: "<embedded digits>".into(), source };
    let sheet = decode_bytes(SHEET).map_err(failed)?.into_luma();
    if (sheet.width(), sheet.height()) != (COLUMNS * SIDE, TOTAL / COLUMNS * SIDE) {
        return Err(failed(DecodeError::Content("the sheet has the wrong size".to_owned())));
    }
    let mut tiles = Vec::with_capacity(TOTAL * SIDE * SIDE);
    for tile in 0..TOTAL {
        let (top, left) = (tile / COLUMNS * SIDE, tile % COLUMNS * SIDE);
        for y in top..top + SIDE {
            tiles.extend_from_slice(&sheet.row(y)[left..left + SIDE]);
        }
    }
    Ok(TILES.get_or_init(|| tiles))
}

/// Whether digits can be shown at `size`: as they are, or on a 2-pixel black margin.
pub fn supports(size: usize) -> bool {
    size == SIDE || size == SIDE + 4
}

/// Writes a tile `[28, 28]` to planes `[channels, size, size]`, centred on black, one grey value
/// for all channels. `size` is one that [`supports`] accepts.
pub fn write_planes(tile: &[u8], size: usize, out: &mut [u8]) {
    let margin = (size - SIDE) / 2;
    out.fill(0);
    for plane in out.chunks_exact_mut(size * size) {
        let rows = plane.chunks_exact_mut(size).skip(margin);
        for (row, source) in rows.zip(tile.chunks_exact(SIDE)) {
            row[margin..margin + SIDE].copy_from_slice(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_splits_hold_every_class_in_fair_numbers() {
        for split in [Split::Train, Split::HeldOut] {
            let mut counts = [0; 10];
            split.range().for_each(|tile| counts[label(tile) as usize] += 1);
            let fair = split.range().len() / 10;
            assert!(counts.iter().all(|&c| c > fair * 3 / 4), "{split:?}: {counts:?}");
        }
        assert_eq!(Split::Train.range().len() + Split::HeldOut.range().len(), 10_000);
    }

    #[test]
    fn tiles_are_cut_where_the_digits_are() {
        let tiles = tiles().unwrap();
        assert_eq!(tiles.len(), 10_000 * 28 * 28);
        // MNIST centres a 20×20 digit in the tile: a shifted cut would put ink on the border.
        let mean = |inside: bool| {
            let values = tiles.iter().enumerate().filter_map(|(i, &v)| {
                let (y, x) = (i / SIDE % SIDE, i % SIDE);
                let is_inside = (4..24).contains(&y) && (4..24).contains(&x);
                (is_inside == inside).then_some(f64::from(v))
            });
            values.sum::<f64>() / 10_000.0
        };
        assert!(mean(true) > 20.0 * mean(false), "{} {}", mean(true), mean(false));
    }

    #[test]
    fn a_label_names_the_digit_on_its_tile() {
        // Ones have the least ink of all digits, zeros the most: a shift by one tile or a
        // transposed sheet would make all classes alike.
        let tiles = tiles().unwrap();
        let mut ink = [(0.0, 0); 10];
        for (tile, pixels) in tiles.chunks_exact(SIDE * SIDE).enumerate() {
            let (sum, count) = &mut ink[label(tile) as usize];
            *sum += pixels.iter().map(|&v| f64::from(v)).sum::<f64>();
            *count += 1;
        }
        let ink = ink.map(|(sum, count)| sum / f64::from(count));
        assert!((2..10).all(|d| ink[1] < 0.75 * ink[d] && ink[d] < 0.95 * ink[0]), "{ink:?}");
    }

    #[test]
    fn padding_centres_the_digit() {
        let tile: Vec<u8> = (0..SIDE * SIDE).map(|i| (i % 255 + 1) as u8).collect();
        let mut out = vec![7; 2 * 32 * 32];
        write_planes(&tile, 32, &mut out);
        assert_eq!(out[2 * 32 + 2], tile[0]);
        assert_eq!(out[29 * 32 + 29], tile[SIDE * SIDE - 1]);
        assert_eq!(out.iter().filter(|&&v| v > 0).count(), 2 * SIDE * SIDE);
        let mut same = vec![0; SIDE * SIDE];
        write_planes(&tile, SIDE, &mut same);
        assert_eq!(same, tile);
    }
}
