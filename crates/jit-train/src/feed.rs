//! A background thread that has the next micro-batch ready: images, noise and times.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use jit_data::{DataError, Dataset, Loader, LoaderOptions, Share};
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
    /// Whether it is the last of this process's share of the global batch.
    pub last: bool,
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
    /// Starts to prepare the images `share` of the global batch of each of the steps `steps` (counted
    /// from 0) of a run. Others are not even read.
    ///
    /// # Errors
    /// [`TrainError::Thread`] or [`TrainError::Data`] when the threads cannot be started.
    pub fn start(
        config: &RunConfig,
        dataset: &Arc<Dataset>,
        steps: Range<u64>,
        share: Range<usize>,
    ) -> Result<Self, TrainError> {
        let options = LoaderOptions {
            seed: config.train.seed,
            flip: config.data.flip,
            workers: config.data.worker_threads(),
            position: steps.start * config.train.global_batch as u64,
            share: Share {
                batch: config.train.global_batch as u64,
                first: share.start as u64,
                count: share.len() as u64,
            },
        };
        let mut loader = Loader::new(Arc::clone(dataset), options)?;
        let config = config.clone();
        let (sender, ready) = sync_channel(WAITING);
        let prepare = move || {
            for step in steps {
                for images in micro_batches(&config, &share) {
                    let last = images.end == share.end;
                    let micro = prepare(&config, &mut loader, step, images, last);
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

/// The images of each micro-batch of a share; the last may be fewer.
fn micro_batches(config: &RunConfig, share: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let (end, micro) = (share.end, config.train.micro_batch());
    share.clone().step_by(micro).map(move |first| first..end.min(first + micro))
}

fn prepare(
    config: &RunConfig,
    loader: &mut Loader,
    step: u64,
    images: Range<usize>,
    last: bool,
) -> Result<Micro, DataError> {
    let (first, count) = (images.start, images.len());
    let images = loader.next_batch(count)?;
    let labels = match loader.dataset().num_classes() {
        0 => vec![config.model.null_class(); count],
        _ => images.labels,
    };
    let (objective, model, seed) = (&config.objective, &config.model, config.train.seed);
    let draw = Draw::new(objective, model, seed, step, first as u64, &labels);
    Ok(Micro { first, x: images.x, ids: images.ids, draw, last })
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
        let mut feed = Feed::start(&config, &dataset, 0..5, 0..32).unwrap();
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
        let mut from_start = Feed::start(&config, &dataset, 0..9, 0..32).unwrap();
        let mut from_third = Feed::start(&config, &dataset, 3..9, 0..32).unwrap();
        for _ in 0..3 {
            from_start.next_micro().unwrap();
        }
        let (a, b) = (from_start.next_micro().unwrap(), from_third.next_micro().unwrap());
        assert_eq!((a.ids, a.x, a.draw), (b.ids, b.x, b.draw));
    }

    #[test]
    fn shares_are_the_global_batch_cut_into_pieces() {
        let config = small();
        let dataset = digits(&config);
        let mut whole = Feed::start(&config, &dataset, 2..4, 0..32).unwrap();
        let mut parts = [0..11, 11..22, 22..32]
            .map(|share| Feed::start(&config, &dataset, 2..4, share).unwrap());
        for _ in 0..2 {
            let whole = whole.next_micro().unwrap();
            let parts = parts.each_mut().map(|feed| feed.next_micro().unwrap());
            assert_eq!(
                parts.each_ref().map(|part| (part.first, part.last)),
                [(0, true), (11, true), (22, true)]
            );
            let joined =
                |f: fn(&Micro) -> &[f32]| parts.iter().flat_map(f).copied().collect::<Vec<f32>>();
            assert_eq!(joined(|part| &part.x), whole.x);
            let noise = parts.iter().flat_map(|part| part.draw.noise.clone());
            assert_eq!(noise.collect::<Vec<_>>(), whole.draw.noise);
            assert_eq!(joined(|part| &part.draw.t), whole.draw.t);
            let labels = parts.iter().flat_map(|part| part.draw.labels.clone());
            assert_eq!(labels.collect::<Vec<_>>(), whole.draw.labels);
        }
    }
}
