//! All metrics of one set of generated images.

use serde::Serialize;

use crate::{
    EvalError, Features, Gaussian, Moments, PrecisionRecall, fid, fid_spread, inception_score,
    kid_of_subsets, precision_recall,
};

/// A value and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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

/// The features of one side.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// For FID, KID and, if they come from one network, precision and recall.
    pub features: &'a Features,
    /// For IS.
    pub logits: Option<&'a Features>,
    /// For precision and recall.
    pub neighbours: &'a Features,
}

/// How to evaluate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
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
            splits: 10,
            kid_subsets: 100,
            kid_subset: 1000,
            neighbours: 3,
            resamples: 20,
            seed: 0,
        }
    }
}

/// The metrics of one set of images against another. What needs features of real images is absent
/// where only their statistics are known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Generated images.
    pub generated: usize,
    /// Real images, 0 where the statistics do not tell.
    pub real: usize,
    /// Fréchet inception distance; the spread is that of a bootstrap.
    pub fid: Score,
    /// Inception score of the generated images, over splits.
    pub inception_score: Option<Score>,
    /// Kernel inception distance, over random subsets of `kid_subset` images.
    pub kid: Option<Score>,
    /// Images of a KID subset.
    pub kid_subset: usize,
    /// Share of generated images that look real.
    pub precision: Option<Score>,
    /// Share of real images that could have been generated.
    pub recall: Option<Score>,
}

/// Every metric of `generated`, against the features of `real` images.
///
/// # Errors
/// As the metrics themselves; above all [`EvalError::TooFew`].
pub fn evaluate(
    generated: Side<'_>,
    real: Side<'_>,
    options: &Options,
) -> Result<Report, EvalError> {
    let gaussian = Moments::of(real.features).gaussian()?;
    let mut report = against_statistics(generated, &gaussian, options)?;
    let size = options.kid_subset;
    let (subsets, seed) = (options.kid_subsets, options.seed);
    report.kid = Some(kid_of_subsets(generated.features, real.features, subsets, size, seed)?);
    let (ours, theirs) = (generated.neighbours, real.neighbours);
    let PrecisionRecall { precision, recall } = precision_recall(ours, theirs, options.neighbours)?;
    report.precision = Some(Score::share(precision, ours.rows()));
    report.recall = Some(Score::share(recall, theirs.rows()));
    Ok(report)
}

/// FID and IS alone, which statistics of real images suffice for.
///
/// # Errors
/// As the metrics themselves.
pub fn against_statistics(
    generated: Side<'_>,
    real: &Gaussian,
    options: &Options,
) -> Result<Report, EvalError> {
    let distance = fid(&Moments::of(generated.features).gaussian()?, real)?;
    let spread = match options.resamples {
        0 => 0.0,
        n => fid_spread(generated.features, real, n, options.seed)?,
    };
    let logits = generated.logits.filter(|logits| logits.dim() > 1);
    Ok(Report {
        generated: generated.features.rows(),
        real: real.count,
        fid: Score { mean: distance, spread },
        inception_score: logits.map(|l| inception_score(l, options.splits)).transpose()?,
        kid: None,
        kid_subset: options.kid_subset,
        precision: None,
        recall: None,
    })
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
    fn class_accuracy_counts_the_largest_logits() {
        let logits = Features::new(3, vec![0.0, 2.0, 1.0, 5.0, 2.0, 1.0, 0.0, 0.0, 1.0]).unwrap();
        let score = class_accuracy(&logits, &[1, 1, 2]).unwrap();
        assert!((score.mean - 2.0 / 3.0).abs() < 1e-12 && score.spread > 0.2);
        assert_eq!(class_accuracy(&logits, &[]), None);
    }
}
