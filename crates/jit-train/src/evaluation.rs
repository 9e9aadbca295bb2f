//! Metrics of a run's images along training: what its averaged weights draw, against its own images.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use jit_data::{Dataset, digits};
use jit_eval::extractor::Images;
use jit_eval::source::{Chunk, rgb_of_planes};
use jit_eval::{Collector, EvalError, Extractors, Options, Reference, Report, Sample, metric_name};
use jit_model::{Device, Sampler};
use serde::{Deserialize, Serialize};

use crate::config::RunConfig;
use crate::draw::draw;

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
    reference: Reference,
    options: Options,
}

impl Evaluation {
    /// For a run with these images: by the embedded network for digits, else by Inception and VGG16
    /// with the published weights.
    ///
    /// # Errors
    /// [`EvalError::NoWeights`] where these are missing, and images that cannot be loaded.
    pub fn new(config: &RunConfig, dataset: &Dataset) -> Result<Self, EvalError> {
        let weights: Option<&Path> = None;
        let extractors = match config.data.path == digits::NAME {
            true => Extractors::digits()?,
            false => Extractors::inception(weights, true)?,
        };
        let reference = Reference::images(real(dataset, &extractors)?)?;
        let defaults = Options::default();
        let kid_subset = defaults.kid_subset.min(config.train.eval_count).min(reference.len());
        // The spread over resamples is for final figures.
        let options = Options { kid_subset, resamples: 0, ..defaults };
        Ok(Self { extractors, reference, options })
    }

    /// The network that looks at the images.
    pub fn extractor(&self) -> &'static str {
        self.extractors.name()
    }

    /// Draws `train.eval_count` images, classes in turn, and evaluates them; `None` if `stop` was set
    /// meanwhile.
    ///
    /// # Errors
    /// As [`jit_eval::evaluate`].
    pub fn run<D: Device>(
        &self,
        sampler: &Sampler<'_, D>,
        config: &RunConfig,
        stop: &AtomicBool,
    ) -> Result<Option<Report>, EvalError> {
        let model = &config.model;
        let classes = model.num_classes.max(1);
        let labels: Vec<u32> = (0..config.train.eval_count).map(|i| (i % classes) as u32).collect();
        let mut collector = Collector::new(&self.extractors, None);
        for labels in labels.chunks(config.train.micro_batch().min(CHUNK)) {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let first = collector.images() as u64;
            let planes = draw(sampler, config.train.sample_seed, first, labels, |_| {});
            push(&mut collector, &planes, labels, model.channels, model.image_size)?;
        }
        jit_eval::evaluate(&collector.finish()?, &self.reference, &self.options).map(Some)
    }
}

/// What the extractors say of the images of a data set.
fn real(dataset: &Dataset, extractors: &Extractors) -> Result<Sample, EvalError> {
    let count = dataset.len().min(MAX_REFERENCE);
    let ids: Vec<usize> = (0..count).map(|i| i * dataset.len() / count).collect();
    let mut collector = Collector::new(extractors, None);
    for ids in ids.chunks(CHUNK) {
        let mut planes = vec![0; ids.len() * dataset.sample_len()];
        for (&i, planes) in ids.iter().zip(planes.chunks_mut(dataset.sample_len())) {
            dataset.load(i, planes)?;
        }
        let labels: Vec<u32> = ids.iter().map(|&i| dataset.label(i)).collect();
        push(&mut collector, &planes, &labels, dataset.channels(), dataset.size())?;
    }
    collector.finish()
}

fn push(
    collector: &mut Collector<'_>,
    planes: &[u8],
    labels: &[u32],
    channels: usize,
    size: usize,
) -> Result<(), EvalError> {
    let pixels = rgb_of_planes(planes, labels.len(), channels);
    let images = Images { pixels: &pixels, batch: labels.len(), height: size, width: size };
    collector.push(Chunk { images, labels: Some(labels) })
}
