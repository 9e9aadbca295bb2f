//! Metrics of a run's images along training: what its averaged weights draw, against its own images.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use jit_data::{Dataset, digits};
use jit_eval::extractor::Images;
use jit_eval::source::{Chunk, rgb_of_planes};
use jit_eval::{Collector, Extractors, Options, Part, Reference, Report, Sample, metric_name};
use jit_model::{Device, Sampler};
use serde::{Deserialize, Serialize};

use crate::communicator::{CommunicationError, Communicator};
use crate::config::RunConfig;
use crate::draw::draw;
use crate::error::TrainError;
use crate::turns::{Shared, in_turn};

/// Real images that are compared with, at most; from more, every n-th is taken.
const MAX_REFERENCE: usize = 50_000;

/// Images handled at once.
const CHUNK: usize = 64;

/// A line of `evals.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Steps done.
    pub step: u64,
    /// Passes over the data done.
    pub epoch: f64,
    /// The extractor.
    pub extractor: String,
    /// Seconds spent on drawing and judging the images.
    #[serde(default)]
    pub seconds: f64,
    /// The metrics.
    #[serde(flatten)]
    pub report: Report,
}

impl EvalReport {
    /// Name and value of every metric, with the number of images in the name.
    pub fn values(&self) -> Vec<(String, f64)> {
        let r = &self.report;
        let all = [
            ("FID", r.fid),
            ("IS", r.inception_score),
            ("KID", r.kid),
            ("precision", r.precision),
            ("recall", r.recall),
            ("class accuracy", r.class_accuracy),
        ];
        let named = |(name, score): (&str, Option<jit_eval::Score>)| {
            score.map(|score| (metric_name(name, r.generated), score.mean))
        };
        all.into_iter().filter_map(named).collect()
    }
}

/// The extractor and the features of the run's images.
pub struct Evaluation {
    extractors: Extractors,
    /// On process 0, which computes the metrics.
    reference: Option<Reference>,
    options: Options,
}

impl Evaluation {
    /// For a run with these images: by the embedded network for digits, else by Inception and VGG16
    /// with the published weights. Each process looks at some of the images.
    ///
    /// # Errors
    /// [`jit_eval::EvalError::NoWeights`] where these are missing, and images that cannot be loaded.
    pub fn new(
        comm: &dyn Communicator,
        config: &RunConfig,
        dataset: &Dataset,
    ) -> Result<Self, TrainError> {
        let weights: Option<&Path> = None;
        let extractors = match config.data.path == digits::NAME {
            true => Extractors::digits()?,
            false => Extractors::inception(weights, true)?,
        };
        let reference = real(comm, dataset, &extractors)?.map(Reference::images).transpose()?;
        let defaults = Options::default();
        let real = dataset.len().min(MAX_REFERENCE);
        let kid_subset = defaults.kid_subset.min(config.train.eval_count).min(real);
        // The spread over resamples is for final figures.
        let options = Options { kid_subset, resamples: 0, ..defaults };
        Ok(Self { extractors, reference, options })
    }

    /// The network that looks at the images.
    pub fn extractor(&self) -> &'static str {
        self.extractors.name()
    }

    /// Draws `train.eval_count` images, classes in turn, each process some of them, and evaluates them.
    ///
    /// # Errors
    /// As [`jit_eval::evaluate`].
    pub fn run<D: Device>(
        &self,
        comm: &dyn Communicator,
        sampler: &Sampler<'_, D>,
        config: &RunConfig,
        stop: &AtomicBool,
    ) -> Result<Shared<Report>, TrainError> {
        let model = &config.model;
        let (count, classes) = (config.train.eval_count, model.num_classes.max(1));
        let labels: Vec<u32> = (0..count).map(|i| (i % classes) as u32).collect();
        let batch = config.train.micro_batch().min(CHUNK);
        let drawn = |range: Range<usize>| {
            let (first, labels) = (range.start as u64, &labels[range]);
            let planes = draw(sampler, config.train.sample_seed, first, labels, |_| {})?;
            Ok((planes, labels.to_vec(), [model.channels, model.image_size]))
        };
        let sample = match look(comm, &self.extractors, (count, batch), stop, drawn)? {
            Shared::Here(sample) => sample,
            Shared::Elsewhere => return Ok(Shared::Elsewhere),
            Shared::Stopped => return Ok(Shared::Stopped),
        };
        match &self.reference {
            Some(reference) => {
                Ok(Shared::Here(jit_eval::evaluate(&sample, reference, &self.options)?))
            }
            None => Ok(Shared::Elsewhere),
        }
    }
}

/// Images as planes `[n, C, S, S]`, their classes, and C and S.
type Planes = (Vec<u8>, Vec<u32>, [usize; 2]);

/// What the extractors say of `count` images, `batch` at a time and each batch on the process whose turn
/// it is.
fn look(
    comm: &dyn Communicator,
    extractors: &Extractors,
    (count, batch): (usize, usize),
    stop: &AtomicBool,
    mut images: impl FnMut(Range<usize>) -> Result<Planes, TrainError>,
) -> Result<Shared<Sample>, TrainError> {
    let eye = Collector::new(extractors, None);
    let mut collector = Collector::new(extractors, None);
    let make = |range: Range<usize>| {
        let (planes, labels, [channels, size]) = images(range)?;
        let pixels = rgb_of_planes(&planes, labels.len(), channels);
        let images = Images { pixels: &pixels, batch: labels.len(), height: size, width: size };
        Ok::<_, TrainError>(eye.look(Chunk { images, labels: Some(&labels) })?.to_bytes())
    };
    let take = |range: Range<usize>, bytes: Vec<u8>| {
        let rank = range.start / batch % comm.size();
        collector.add(Part::from_bytes(&bytes).ok_or(CommunicationError::Garbled(rank))?);
        Ok(())
    };
    Ok(match in_turn(comm, (count, batch), stop, make, take)? {
        false => Shared::Stopped,
        true if comm.is_first() => Shared::Here(collector.finish()?),
        true => Shared::Elsewhere,
    })
}

/// What the extractors say of the images of a data set, on process 0.
fn real(
    comm: &dyn Communicator,
    dataset: &Dataset,
    extractors: &Extractors,
) -> Result<Option<Sample>, TrainError> {
    let count = dataset.len().min(MAX_REFERENCE);
    let never = AtomicBool::new(false);
    let images = |range: Range<usize>| {
        let ids: Vec<usize> = range.map(|i| i * dataset.len() / count).collect();
        let mut planes = vec![0; ids.len() * dataset.sample_len()];
        for (&i, planes) in ids.iter().zip(planes.chunks_mut(dataset.sample_len())) {
            dataset.load(i, planes)?;
        }
        let labels = ids.iter().map(|&i| dataset.label(i)).collect();
        Ok((planes, labels, [dataset.channels(), dataset.size()]))
    };
    Ok(look(comm, extractors, (count, CHUNK), &never, images)?.here())
}
