//! Grids of samples from fixed noise and labels: the same images at every step of a run, growing
//! clearer. They are drawn with the first average of the weights.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use jit_data::grid::{grid, png_bytes};
use jit_model::{Device, Sampler};

use crate::communicator::Communicator;
use crate::config::RunConfig;
use crate::draw;
use crate::error::TrainError;
use crate::turns::{Shared, in_turn};

/// A grid as a PNG file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// `[height, width, channels]`
    pub shape: [usize; 3],
    /// The file.
    pub png: Vec<u8>,
}

/// Pixels between the images of a grid.
const PADDING: usize = 2;

/// At most this many images are drawn at once, so that a grid of large images needs no more memory
/// than training and a request to stop is soon heard. The images do not depend on it.
const MAX_BATCH: usize = 16;

/// Up to this many classes have a column each.
const MAX_COLUMNS: usize = 20;

/// Draws the grid of `config`, each process some of its images.
///
/// # Errors
/// [`jit_data::DataError::Encode`] for a number of channels that PNG does not have.
pub fn draw<D: Device>(
    comm: &dyn Communicator,
    sampler: &Sampler<'_, D>,
    config: &RunConfig,
    stop: &AtomicBool,
) -> Result<Shared<Grid>, TrainError> {
    let model = &config.model;
    let (classes, count) = (classes(config), config.train.sample_count);
    let mut images = Vec::new();
    let labels: Vec<u32> = (0..count).map(|i| classes[i % classes.len()]).collect();
    let batch = config.train.micro_batch().min(MAX_BATCH);
    let make = |range: Range<usize>| {
        let (first, labels) = (range.start as u64, &labels[range]);
        draw::draw(sampler, config.train.sample_seed, first, labels, |_| {})
    };
    let take = |_, drawn| {
        images.extend::<Vec<u8>>(drawn);
        Ok::<_, TrainError>(())
    };
    if !in_turn(comm, (count, batch), stop, make, take)? {
        return Ok(Shared::Stopped);
    }
    if !comm.is_first() {
        return Ok(Shared::Elsewhere);
    }
    let columns = columns(classes.len(), count);
    let sheet = grid(&images, model.channels, model.image_size, columns, PADDING);
    let png = png_bytes(&sheet.pixels, sheet.width, sheet.height, sheet.channels)?;
    Ok(Shared::Here(Grid { shape: [sheet.height, sheet.width, sheet.channels], png }))
}

/// The classes that the images of a grid have in turn; the null class where there are none.
fn classes(config: &RunConfig) -> Vec<u32> {
    match (&config.train.sample_classes[..], config.model.num_classes as u32) {
        ([], 0) => vec![0],
        ([], classes) => (0..classes).collect(),
        (chosen, _) => chosen.to_vec(),
    }
}

/// A column for each class if they are few, else a square.
fn columns(classes: usize, count: usize) -> usize {
    match classes {
        2..=MAX_COLUMNS => classes,
        _ => (count as f64).sqrt().ceil() as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::communicator::Alone;
    use crate::communicator::threads::together;
    use crate::testing::small;
    use jit_model::init::initial_values;
    use jit_model::{Cpu, Denoiser, Params};

    #[test]
    fn a_class_has_a_column() {
        let mut config = small();
        assert_eq!(classes(&config), (0..10).collect::<Vec<_>>());
        assert_eq!(columns(10, 40), 10);
        config.train.sample_classes = vec![7];
        assert_eq!(classes(&config), [7]);
        assert_eq!(columns(1, 40), 7);
        config.train.sample_classes.clear();
        config.model.num_classes = 0;
        assert_eq!(classes(&config), [0]);
        config.model.num_classes = 1000;
        assert_eq!(columns(classes(&config).len(), 64), 8);
    }

    #[test]
    fn the_grid_does_not_depend_on_the_batch_size() {
        let mut config = small();
        config.train.sample_count = 5;
        let denoiser = Denoiser::new(&Cpu::F32, &config.model, &config.objective);
        let mut values = initial_values(denoiser.registry(), 1);
        // A new network predicts zero: make it draw something.
        for value in values.iter_mut().flatten().filter(|value| **value == 0.0) {
            *value = 0.03;
        }
        let params = Params::upload(&Cpu::F32, denoiser.registry(), &values);
        let never = AtomicBool::new(false);
        let sampling = config.sample.clone();
        let sampler = denoiser.sampler(&Cpu::F32, &params, &sampling);
        let whole = draw(&Alone, &sampler, &config, &never).unwrap().here().unwrap();
        config.train.batch_size = 2;
        let parts = draw(&Alone, &sampler, &config, &never).unwrap().here().unwrap();
        assert_eq!(whole, parts);
        assert_eq!(whole.shape[1], 5 * (28 + PADDING) + PADDING);
        let several = together(3, |comm| {
            let sampler = denoiser.sampler(&Cpu::F32, &params, &sampling);
            draw(comm, &sampler, &config, &never).unwrap()
        });
        assert_eq!(several, [Shared::Here(whole), Shared::Elsewhere, Shared::Elsewhere]);
        let stopped = draw(&Alone, &sampler, &config, &AtomicBool::new(true)).unwrap();
        assert_eq!(stopped, Shared::Stopped);
    }
}
