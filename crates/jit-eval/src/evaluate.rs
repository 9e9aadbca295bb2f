//! All metrics of one set of generated images.

use serde::{Deserialize, Serialize};

use crate::fid::{Root, spread_from};
use crate::{
    EvalError, Features, Gaussian, Moments, PrecisionRecall, inception_score, kid_of_subsets,
    precision_recall,
};
use crate::{kid, moments};

/// A value and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The value; of several parts their mean.
    pub mean: f64,
    /// Standard deviation over the parts.
    pub spread: f64,
}

impl Score {
    /// Mean and (population) standard deviation, as torch-fidelity reports them.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        Self { mean, spread: variance.sqrt() }
    }

    /// A share of `n` cases, with its binomial deviation.
    fn share(mean: f64, n: usize) -> Self {
        Self { mean, spread: (mean * (1.0 - mean) / n as f64).sqrt() }
    }
}

/// What the metrics need to know of one set of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// For FID and KID, and for precision and recall where no other network sees to them.
    pub features: Features,
    /// For IS and class accuracy; absent where the network has no classes.
    pub logits: Option<Features>,
    /// For precision and recall, where another network than that of FID sees to them.
    pub neighbours: Option<Features>,
    /// The classes asked for, where they are known.
    pub labels: Option<Vec<u32>>,
}

impl Sample {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.features.rows()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the first `count` images.
    pub fn truncate(&mut self, count: usize) {
        let parts = [self.logits.as_mut(), self.neighbours.as_mut(), Some(&mut self.features)];
        parts.into_iter().flatten().for_each(|features| features.truncate(count));
        if let Some(labels) = &mut self.labels {
            labels.truncate(count);
        }
    }

    fn neighbours(&self) -> &Features {
        self.neighbours.as_ref().unwrap_or(&self.features)
    }
}

/// What generated images are compared with.
#[derive(Clone, Debug)]
pub struct Reference {
    gaussian: Gaussian,
    sample: Option<Sample>,
}

impl Reference {
    /// Real images.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] for fewer than two.
    pub fn images(sample: Sample) -> Result<Self, EvalError> {
        let gaussian = Moments::of(&sample.features).gaussian()?;
        // No metric asks what is seen in real images.
        let sample = Sample { logits: None, labels: None, ..sample };
        Ok(Self { gaussian, sample: Some(sample) })
    }

    /// Statistics of real images, which FID alone can use.
    pub fn statistics(gaussian: Gaussian) -> Self {
        Self { gaussian, sample: None }
    }

    /// Number of real images; 0 where the statistics do not tell.
    pub fn len(&self) -> usize {
        self.gaussian.count
    }

    /// Whether nothing is known of the number of images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A metric that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Fréchet inception distance.
    Fid,
    /// Inception score.
    Is,
    /// Kernel inception distance.
    Kid,
    /// Precision and recall.
    PrecisionRecall,
    /// The share of images read as the class asked for.
    ClassAccuracy,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 5] =
        [Self::Fid, Self::Is, Self::Kid, Self::PrecisionRecall, Self::ClassAccuracy];
}

/// How to evaluate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
    /// What to compute.
    pub metrics: Vec<Metric>,
    /// Parts over which IS is averaged.
    pub splits: usize,
    /// Random subsets of KID.
    pub kid_subsets: usize,
    /// Images in each.
    pub kid_subset: usize,
    /// k of precision and recall.
    pub neighbours: usize,
    /// Bootstrap resamples behind the spread of FID; 0 for none.
    pub resamples: usize,
    /// Seed of subsets and resamples.
    pub seed: u64,
}

impl Default for Options {
    /// Those of the paper (spec §6).
    fn default() -> Self {
        Self {
            metrics: Metric::ALL.to_vec(),
            splits: 10,
            kid_subsets: 100,
            kid_subset: 1000,
            neighbours: 3,
            resamples: 20,
            seed: 0,
        }
    }
}

impl Options {
    /// Refuses numbers of images that a metric cannot do with, before anything takes long; `real` is
    /// `None` where only statistics are known.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] naming the metric and how to mend it.
    pub fn check(&self, generated: usize, real: Option<usize>) -> Result<(), EvalError> {
        self.metrics.iter().try_for_each(|&metric| self.check_one(metric, generated, real))
    }

    /// Takes out the metrics that [`Options::check`] would refuse, and returns each with the reason.
    pub fn leave_out(&mut self, generated: usize, real: Option<usize>) -> Vec<(Metric, EvalError)> {
        let metrics = std::mem::take(&mut self.metrics);
        let mut left_out = Vec::new();
        for metric in metrics {
            match self.check_one(metric, generated, real) {
                Ok(()) => self.metrics.push(metric),
                Err(reason) => left_out.push((metric, reason)),
            }
        }
        left_out
    }

    fn check_one(
        &self,
        metric: Metric,
        generated: usize,
        real: Option<usize>,
    ) -> Result<(), EvalError> {
        match (metric, real) {
            (Metric::Fid, _) => moments::check(generated),
            (Metric::Is, _) => inception_score::check(generated, self.splits),
            (Metric::Kid, Some(real)) => {
                kid::check(generated, self.kid_subset, "generated")?;
                kid::check(real, self.kid_subset, "real")
            }
            (Metric::PrecisionRecall, Some(real)) => {
                precision_recall::check(generated, self.neighbours, "generated")?;
                precision_recall::check(real, self.neighbours, "real")
            }
            _ => Ok(()),
        }
    }
}

/// The metrics of one set of images against another; absent where they were not asked for or cannot
/// be known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Generated images.
    pub generated: usize,
    /// Real images, 0 where the statistics do not tell.
    pub real: usize,
    /// Fréchet inception distance; the spread is that of a bootstrap over the generated images.
    pub fid: Option<Score>,
    /// Inception score of the generated images, over splits.
    pub inception_score: Option<Score>,
    /// Kernel inception distance, over random subsets.
    pub kid: Option<Score>,
    /// Share of generated images that look real; the spread is binomial.
    pub precision: Option<Score>,
    /// Share of real images that could have been generated; the spread is binomial.
    pub recall: Option<Score>,
    /// Share of generated images read as the class asked for; the spread is binomial.
    pub class_accuracy: Option<Score>,
}

/// The metrics asked for of `generated` against `reference`.
///
/// # Errors
/// As the metrics themselves; above all [`EvalError::TooFew`].
pub fn evaluate(
    generated: &Sample,
    reference: &Reference,
    options: &Options,
) -> Result<Report, EvalError> {
    let asked = |metric| options.metrics.contains(&metric);
    let mut report = Report {
        generated: generated.len(),
        real: reference.len(),
        fid: None,
        inception_score: None,
        kid: None,
        precision: None,
        recall: None,
        class_accuracy: None,
    };
    if asked(Metric::Fid) {
        let root = Root::of(&reference.gaussian)?;
        let mean = root.fid(&Moments::of(&generated.features).gaussian()?)?;
        let spread = match options.resamples {
            0 => 0.0,
            n => spread_from(&root, &generated.features, n, options.seed)?,
        };
        report.fid = Some(Score { mean, spread });
    }
    if let (true, Some(logits)) = (asked(Metric::Is), &generated.logits) {
        report.inception_score = Some(inception_score(logits, options.splits)?);
    }
    if let (true, Some(real)) = (asked(Metric::Kid), &reference.sample) {
        let (ours, theirs) = (&generated.features, &real.features);
        let (subsets, size) = (options.kid_subsets, options.kid_subset);
        report.kid = Some(kid_of_subsets(ours, theirs, subsets, size, options.seed)?);
    }
    if let (true, Some(real)) = (asked(Metric::PrecisionRecall), &reference.sample) {
        let (ours, theirs) = (generated.neighbours(), real.neighbours());
        let PrecisionRecall { precision, recall } =
            precision_recall(ours, theirs, options.neighbours)?;
        report.precision = Some(Score::share(precision, ours.rows()));
        report.recall = Some(Score::share(recall, theirs.rows()));
    }
    if let (true, Some(logits), Some(labels)) =
        (asked(Metric::ClassAccuracy), &generated.logits, &generated.labels)
    {
        report.class_accuracy = class_accuracy(logits, labels);
    }
    Ok(report)
}

/// The share of images whose largest logit is that of the class asked for, with its binomial
/// deviation; `None` where there is no image.
pub fn class_accuracy(logits: &Features, classes: &[u32]) -> Option<Score> {
    let right = |(i, &class): (usize, &u32)| {
        let row = logits.row(i);
        let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        best == Some(class as usize)
    };
    let n = classes.len().min(logits.rows());
    let hits = classes.iter().take(n).enumerate().filter(|&case| right(case)).count();
    (n > 0).then(|| Score::share(hits as f64 / n as f64, n))
}

/// The name of a metric from `images` images: `FID` from 50 000 or more, else `FID-2k` and the like,
/// since it falls with their number.
pub fn metric_name(metric: &str, images: usize) -> String {
    match images {
        50_000.. => metric.to_string(),
        0..1000 => format!("{metric}-{images}"),
        _ if images.is_multiple_of(1000) => format!("{metric}-{}k", images / 1000),
        _ => format!("{metric}-{:.1}k", images as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_images_are_in_the_name() {
        let name = |n| metric_name("FID", n);
        assert_eq!([name(50_000), name(2000), name(1500)], ["FID", "FID-2k", "FID-1.5k"]);
        assert_eq!([name(999), name(100_000)], ["FID-999", "FID"]);
    }

    #[test]
    fn only_what_few_images_do_not_tell_is_left_out() {
        let mut options = Options::default();
        assert!(options.check(270, Some(5000)).is_err());
        let left_out = options.leave_out(270, Some(5000));
        assert_eq!(left_out.len(), 1);
        assert!(left_out[0].0 == Metric::Kid && left_out[0].1.to_string().contains("1000"));
        options.check(270, Some(5000)).unwrap();
        let mut options = Options { kid_subset: 270, ..Options::default() };
        assert!(options.leave_out(270, Some(5000)).is_empty());
        let gone: Vec<Metric> = options.leave_out(3, Some(5000)).iter().map(|out| out.0).collect();
        assert_eq!(gone, [Metric::Is, Metric::Kid, Metric::PrecisionRecall]);
    }

    #[test]
    fn class_accuracy_counts_the_largest_logits() {
        let logits = Features::new(3, vec![0.0, 2.0, 1.0, 5.0, 2.0, 1.0, 0.0, 0.0, 1.0]).unwrap();
        let score = class_accuracy(&logits, &[1, 1, 2]).unwrap();
        assert!((score.mean - 2.0 / 3.0).abs() < 1e-12 && score.spread > 0.2);
        assert_eq!(class_accuracy(&logits, &[]), None);
    }
}
