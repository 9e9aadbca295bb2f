//! Background threads that keep the next samples ready.
//!
//! Threads claim positions of the sample stream one by one and put what they load into a bounded
//! window; the caller takes samples out in order. So the batches depend on the position alone, not
//! on the number of threads nor on which of them was faster.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::order::{Draw, Order};
use crate::transform::{flip_rows, to_signed};

/// How a [`Loader`] walks through its data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Draws order and flips.
    pub seed: u64,
    /// Mirror images at random.
    pub flip: bool,
    /// Background threads, at least 1.
    pub workers: usize,
    /// The first sample of the stream to deliver: 0, or where a resumed run goes on.
    pub position: u64,
    /// Which samples to deliver from there on.
    pub share: Share,
}

/// The samples of the stream that one of several processes takes: of every `batch` samples the `count`
/// from number `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Samples that all processes take at once.
    pub batch: u64,
    /// The first of them that this one takes.
    pub first: u64,
    /// How many this one takes, at least 1.
    pub count: u64,
}

impl Share {
    /// All of them.
    pub const WHOLE: Self = Self { batch: 1, first: 0, count: 1 };

    /// How far behind the start of the stream sample number `n` of the share lies.
    fn offset(self, n: u64) -> u64 {
        n / self.count * self.batch + self.first + n % self.count
    }
}

/// Samples that follow each other in the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Images, `[B, C, S, S]`, in [−1, 1].
    pub x: Vec<f32>,
    /// Their classes, `[B]`.
    pub labels: Vec<u32>,
    /// Their numbers within the data set, `[B]`.
    pub ids: Vec<u32>,
    /// Position of the first in the stream, counted over all epochs.
    pub position: u64,
}

/// Delivers the samples of a data set in order. Dropping it stops its threads.
#[derive(Debug)]
pub struct Loader {
    shared: Arc<Shared>,
    /// Samples delivered.
    delivered: u64,
    threads: Vec<JoinHandle<()>>,
}

/// The window holds up to this many bytes of decoded pixels …
const WINDOW_BYTES: usize = 64 << 20;
/// … and this many samples.
const WINDOW_SAMPLES: usize = 512;

#[derive(Debug)]
struct Shared {
    dataset: Arc<Dataset>,
    /// Where the stream starts.
    start: u64,
    share: Share,
    state: Mutex<State>,
    /// A sample became ready.
    ready: Condvar,
    /// The window moved, or the loader was dropped.
    room: Condvar,
}

#[derive(Debug)]
struct State {
    order: Order,
    /// Next sample, counted within the share from 0, that no thread has claimed.
    claim: u64,
    /// Samples below this may be claimed.
    limit: u64,
    samples: BTreeMap<u64, Result<Sample, DataError>>,
    stopped: bool,
}

#[derive(Debug)]
struct Sample {
    draw: Draw,
    /// `[C, S, S]`, not yet mirrored.
    planes: Vec<u8>,
}

impl Loader {
    /// Starts the threads; they fill the window at once.
    ///
    /// # Errors
    /// [`DataError::Thread`] when no thread can be started, [`DataError::Option`] for an empty
    /// data set.
    pub fn new(dataset: Arc<Dataset>, options: LoaderOptions) -> Result<Self, DataError> {
        if dataset.is_empty() {
            return Err(DataError::Option {
                option: "data.path",
                value: "an empty data set".to_owned(),
                expected: "at least one image is needed".to_owned(),
            });
        }
        let window = (WINDOW_BYTES / dataset.sample_len()).clamp(2, WINDOW_SAMPLES) as u64;
        let state = State {
            order: Order::new(options.seed, dataset.len(), options.flip),
            claim: 0,
            limit: window,
            samples: BTreeMap::new(),
            stopped: false,
        };
        let shared = Arc::new(Shared {
            dataset,
            start: options.position,
            share: options.share,
            state: Mutex::new(state),
            ready: Condvar::new(),
            room: Condvar::new(),
        });
        let mut loader = Self { shared, delivered: 0, threads: Vec::new() };
        for i in 0..options.workers.max(1) {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new().name(format!("loader-{i}"));
            match thread.spawn(move || shared.work()) {
                Ok(handle) => loader.threads.push(handle),
                Err(error) if i == 0 => return Err(DataError::Thread(error)),
                // Fewer threads change nothing but speed.
                Err(_) => break,
            }
        }
        Ok(loader)
    }

    /// The data set being delivered.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.shared.dataset
    }

    /// Position of the next sample: what a checkpoint saves.
    pub fn position(&self) -> u64 {
        self.shared.position(self.delivered)
    }

    /// The next `count` samples of the stream, waiting for them if need be.
    ///
    /// # Errors
    /// The failure of the first image of the batch that did not load, naming its file.
    pub fn next_batch(&mut self, count: usize) -> Result<Batch, DataError> {
        let dataset = &self.shared.dataset;
        let size = dataset.size();
        let mut batch = Batch {
            x: Vec::with_capacity(count * dataset.sample_len()),
            labels: Vec::with_capacity(count),
            ids: Vec::with_capacity(count),
            position: self.position(),
        };
        for _ in 0..count {
            let Sample { draw, planes } = self.shared.take(self.delivered)?;
            self.delivered += 1;
            let start = batch.x.len();
            batch.x.extend(planes.iter().map(|&p| to_signed(p)));
            if draw.flip {
                flip_rows(&mut batch.x[start..], size);
            }
            batch.labels.push(dataset.label(draw.image as usize));
            batch.ids.push(draw.image);
        }
        Ok(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to clean up.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where in the stream sample number `n` of the share lies.
    fn position(&self, n: u64) -> u64 {
        self.start + self.share.offset(n)
    }

    /// A thread's life: claim a sample, load it, hand it over.
    fn work(&self) {
        while let Some((n, draw)) = self.claim() {
            let mut planes = vec![0; self.dataset.sample_len()];
            let loaded = self.dataset.load(draw.image as usize, &mut planes);
            let sample = loaded.map(|()| Sample { draw, planes });
            self.lock().samples.insert(n, sample);
            self.ready.notify_one();
        }
    }

    /// The next sample to load, once the window has room; `None` when the loader is dropped.
    fn claim(&self) -> Option<(u64, Draw)> {
        let mut state = self.lock();
        while !state.stopped && state.claim >= state.limit {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return None;
        }
        let n = state.claim;
        state.claim += 1;
        let draw = state.order.at(self.position(n));
        Some((n, draw))
    }

    /// Waits for sample number `n`, the next in order, and moves the window by one.
    fn take(&self, n: u64) -> Result<Sample, DataError> {
        let mut state = self.lock();
        loop {
            if let Some(sample) = state.samples.remove(&n) {
                state.limit += 1;
                self.room.notify_one();
                return sample;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits::Split;
    use crate::grid::save_png;

    /// Eleven digits, so that few batch sizes divide an epoch.
    fn eleven() -> Arc<Dataset> {
        let digits = Dataset::digits(Split::Train, 28, 1).unwrap();
        Arc::new(digits.subset(11.0 / 8000.0, 0))
    }

    fn loader(workers: usize, position: u64) -> Loader {
        let options = LoaderOptions { seed: 5, flip: true, workers, position, share: Share::WHOLE };
        Loader::new(eleven(), options).unwrap()
    }

    fn joined(batches: Vec<Batch>) -> (Vec<f32>, Vec<u32>, Vec<u32>) {
        let mut all = (Vec::new(), Vec::new(), Vec::new());
        for batch in batches {
            all.0.extend(batch.x);
            all.1.extend(batch.labels);
            all.2.extend(batch.ids);
        }
        all
    }

    #[test]
    fn the_stream_depends_neither_on_workers_nor_on_batch_sizes() {
        let expected = joined(vec![loader(1, 0).next_batch(60).unwrap()]);
        for workers in [1, 2, 5] {
            let mut loader = loader(workers, 0);
            let sizes = [7, 1, 16, 4, 32];
            let batches = sizes.map(|n| loader.next_batch(n).unwrap()).to_vec();
            assert_eq!(batches[2].position, 8);
            assert_eq!(joined(batches), expected);
            assert_eq!(loader.position(), 60);
        }
    }

    #[test]
    fn a_loader_started_anywhere_continues_the_stream() {
        let whole = loader(2, 0).next_batch(40).unwrap();
        let sample = eleven().sample_len();
        for position in [1, 10, 11, 12, 30] {
            let rest = loader(2, position).next_batch(40 - position as usize).unwrap();
            assert_eq!(rest.position, position);
            assert_eq!(rest.ids, whole.ids[position as usize..]);
            assert_eq!(rest.x, whole.x[position as usize * sample..]);
        }
    }

    #[test]
    fn shares_are_the_stream_cut_into_pieces() {
        let (whole, sample) = (loader(1, 3).next_batch(30).unwrap(), eleven().sample_len());
        // Of every ten samples the first four, and the last six.
        for (first, count) in [(0, 4), (4, 6)] {
            let share = Share { batch: 10, first, count };
            let options = LoaderOptions { seed: 5, flip: true, workers: 2, position: 3, share };
            let mut loader = Loader::new(eleven(), options).unwrap();
            for step in 0..3 {
                let batch = loader.next_batch(count as usize).unwrap();
                let at = (step * 10 + first) as usize;
                assert_eq!(batch.position, 3 + at as u64);
                assert_eq!(batch.ids, whole.ids[at..at + count as usize]);
                assert_eq!(batch.x, whole.x[at * sample..(at + count as usize) * sample]);
            }
        }
    }

    #[test]
    fn batches_run_on_over_epochs_and_lose_no_image() {
        let mut loader = loader(2, 0);
        let mut seen = [0; 11];
        for _ in 0..11 {
            loader.next_batch(4).unwrap().ids.iter().for_each(|&id| seen[id as usize] += 1);
        }
        assert_eq!(seen, [4; 11]);
    }

    #[test]
    fn values_are_the_images_mirrored_or_not() {
        let dataset = eleven();
        let batch = loader(1, 0).next_batch(44).unwrap();
        let mut flips = 0;
        for (x, &id) in batch.x.chunks_exact(dataset.sample_len()).zip(&batch.ids) {
            let mut planes = vec![0; dataset.sample_len()];
            dataset.load(id as usize, &mut planes).unwrap();
            let straight: Vec<f32> = planes.iter().map(|&p| to_signed(p)).collect();
            let mut mirrored = straight.clone();
            flip_rows(&mut mirrored, 28);
            assert!(x == straight || x == mirrored);
            flips += usize::from(x == mirrored);
        }
        assert!((10..34).contains(&flips), "{flips} of 44");
    }

    #[test]
    fn an_error_in_a_thread_reaches_the_caller_with_the_files_name() {
        let root = tempfile::tempdir().unwrap();
        for i in 0..6 {
            save_png(&root.path().join(format!("{i}.png")), &[i; 16], 4, 4, 1).unwrap();
        }
        std::fs::write(root.path().join("3.png"), "broken").unwrap();
        let dataset = Arc::new(Dataset::folder(root.path(), 4, 1).unwrap());
        let options =
            LoaderOptions { seed: 0, flip: false, workers: 2, position: 0, share: Share::WHOLE };
        let mut loader = Loader::new(dataset, options).unwrap();
        let error = loader.next_batch(6).unwrap_err().to_string();
        assert!(error.contains("3.png") && error.contains("not a PNG"), "{error}");
    }

    #[test]
    fn dropping_a_loader_with_a_full_window_stops_its_threads() {
        let mut loader = loader(3, 0);
        loader.next_batch(1).unwrap();
        let shared = Arc::downgrade(&loader.shared);
        drop(loader);
        assert!(shared.upgrade().is_none(), "a thread still holds the loader's state");
    }
}
