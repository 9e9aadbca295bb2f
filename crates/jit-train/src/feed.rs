//! A background thread that has the next micro-batch ready: images, noise and times.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use jit_data::{DataError, Dataset, Loader, LoaderOptions};
use jit_model::objective::Draw;

use crate::config::RunConfig;
use crate::error::TrainError;

/// A micro-batch, ready for the network.
#[derive(Debug)]
pub struct Micro {
    /// Index of its first image in the global batch.
    pub first: usize,
    /// Clean images, `[B, C, S, S]`.
    pub x: Vec<f32>,
    /// Numbers of the images within the data set, `[B]`.
    pub ids: Vec<u32>,
    /// Noise, times, labels and rotations.
    pub draw: Draw,
}

/// Micro-batches waiting for the network, besides the one being prepared. One suffices: preparing
/// takes far less time than training.
const WAITING: usize = 1;

/// Delivers micro-batches in order. Dropping it stops its thread.
#[derive(Debug)]
pub struct Feed {
    ready: Option<Receiver<Result<Micro, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Starts to prepare the steps `steps` (counted from 0) of a run.
    ///
    /// # Errors
    /// [`TrainError::Thread`] or [`TrainError::Data`] when the threads cannot be started.
    pub fn start(
        config: &RunConfig,
        dataset: &Arc<Dataset>,
        steps: std::ops::Range<u64>,
    ) -> Result<Self, TrainError> {
        let options = LoaderOptions {
            seed: config.train.seed,
            flip: config.data.flip,
            workers: config.data.worker_threads(),
            position: steps.start * config.train.global_batch as u64,
        };
        let mut loader = Loader::new(Arc::clone(dataset), options)?;
        let config = config.clone();
        let (sender, ready) = sync_channel(WAITING);
        let prepare = move || {
            for step in steps {
                for (first, count) in micro_batches(&config) {
                    let micro = prepare(&config, &mut loader, step, first, count);
                    let failed = micro.is_err();
                    // Nobody receives any more once the feed is dropped.
                    if sender.send(micro).is_err() || failed {
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("feed".into()).spawn(prepare);
        Ok(Self { ready: Some(ready), thread: Some(thread.map_err(TrainError::Thread)?) })
    }

    /// The next micro-batch, waiting for it if need be.
    ///
    /// # Errors
    /// [`TrainError::Data`] naming a file that cannot be read.
    pub fn next_micro(&mut self) -> Result<Micro, TrainError> {
        let micro = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        Ok(micro.ok_or(TrainError::FeedEnded)??)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // First the receiver, so that a thread that waits to send wakes up.
        drop(self.ready.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it was already noticed as the missing micro-batch.
            let _ = thread.join();
        }
    }
}

/// (first image, number of images) of each micro-batch; the last may be smaller.
fn micro_batches(config: &RunConfig) -> impl Iterator<Item = (usize, usize)> {
    let (global, micro) = (config.train.global_batch, config.train.micro_batch());
    (0..global).step_by(micro).map(move |first| (first, micro.min(global - first)))
}

fn prepare(
    config: &RunConfig,
    loader: &mut Loader,
    step: u64,
    first: usize,
    count: usize,
) -> Result<Micro, DataError> {
    let images = loader.next_batch(count)?;
    let labels = match loader.dataset().num_classes() {
        0 => vec![config.model.null_class(); count],
        _ => images.labels,
    };
    let (objective, model, seed) = (&config.objective, &config.model, config.train.seed);
    let draw = Draw::new(objective, model, seed, step, first as u64, &labels);
    Ok(Micro { first, x: images.x, ids: images.ids, draw })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{digits, small};

    #[test]
    fn uneven_epochs_lose_no_image() {
        // 80 images, 32 a step in micro-batches of 12, 12 and 8: five steps are two epochs.
        let mut config = small();
        config.train.batch_size = 12;
        let dataset = digits(&config);
        assert_eq!(dataset.len(), 80);
        let mut feed = Feed::start(&config, &dataset, 0..5).unwrap();
        let mut seen = Vec::new();
        let mut sizes = Vec::new();
        for _ in 0..15 {
            let micro = feed.next_micro().unwrap();
            sizes.push((micro.first, micro.ids.len()));
            seen.extend(micro.ids);
        }
        assert_eq!(sizes[..4], [(0, 12), (12, 12), (24, 8), (0, 12)]);
        for epoch in seen.chunks(80) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            assert_eq!(epoch, (0..80).collect::<Vec<_>>());
        }
        assert!(matches!(feed.next_micro(), Err(TrainError::FeedEnded)), "five steps, no more");
    }

    #[test]
    fn a_later_start_delivers_the_same() {
        let config = small();
        let dataset = digits(&config);
        let mut from_start = Feed::start(&config, &dataset, 0..9).unwrap();
        let mut from_third = Feed::start(&config, &dataset, 3..9).unwrap();
        for _ in 0..3 {
            from_start.next_micro().unwrap();
        }
        let (a, b) = (from_start.next_micro().unwrap(), from_third.next_micro().unwrap());
        assert_eq!((a.ids, a.x, a.draw), (b.ids, b.x, b.draw));
    }
}
