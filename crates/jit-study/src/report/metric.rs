//! The metrics of a report: their names, and which way is better.

use jit_eval::{Report, Score, metric_name};

use super::study::Cell;

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Whether more is better.
    pub rises: bool,
    /// Whether it lies between 0 and 1.
    pub share: bool,
    score: fn(&Report) -> Option<Score>,
}

const fn metric(
    name: &'static str,
    rises: bool,
    share: bool,
    score: fn(&Report) -> Option<Score>,
) -> Metric {
    Metric { name, rises, share, score }
}

/// Precision: the share of generated images that look real.
pub const PRECISION: Metric = metric("precision", true, true, |r| r.precision);

/// Recall: the share of real images that could have been generated.
pub const RECALL: Metric = metric("recall", true, true, |r| r.recall);

/// All of them, in the order of the paper's table.
pub const METRICS: [Metric; 6] = [
    metric("FID", false, false, |r| r.fid),
    metric("IS", true, false, |r| r.inception_score),
    metric("KID", false, false, |r| r.kid),
    PRECISION,
    RECALL,
    metric("class accuracy", true, true, |r| r.class_accuracy),
];

impl Metric {
    /// Its value, if it was computed and is a number.
    pub fn of(&self, report: &Report) -> Option<f64> {
        (self.score)(report).map(|score| score.mean).filter(|mean| mean.is_finite())
    }

    /// Whether `a` is better than `b`.
    pub fn is_better(&self, a: f64, b: f64) -> bool {
        if self.rises { a > b } else { a < b }
    }

    /// The name with the number of images, if that is one for all, and an arrow to where is better.
    pub fn heading<'a>(&self, cells: impl IntoIterator<Item = &'a Cell>) -> String {
        let runs = cells.into_iter().flat_map(Cell::finished);
        let mut counts: Vec<usize> =
            runs.filter_map(|run| Some(run.judged.last()?.report.generated)).collect();
        counts.sort_unstable();
        counts.dedup();
        let name = match counts[..] {
            [count] => metric_name(self.name, count),
            _ => self.name.to_string(),
        };
        format!("{name} {}", if self.rises { "↑" } else { "↓" })
    }

    /// Those that at least one finished run has.
    pub fn known<'a>(cells: impl IntoIterator<Item = &'a Cell> + Clone) -> Vec<&'static Metric> {
        let has = |metric: &&Metric| {
            cells.clone().into_iter().any(|cell| !cell.values(metric).is_empty())
        };
        METRICS.iter().filter(has).collect()
    }
}
