//! What `jit eval` prints: values with their spread, beside those of real images.

use std::io::Write;

use jit_core::text::Show;
use jit_eval::{EvalError, Metric, Options, Report, Score, metric_name};
use serde::Serialize;

use super::KID_SUBSET;
use crate::failure::Outcome;

/// The real images.
#[derive(Clone, Debug, Serialize)]
pub struct Real {
    /// Where they are.
    pub path: String,
    /// How they were brought to size.
    pub protocol: &'static str,
    /// That size.
    pub resolution: usize,
    /// Whether FID is taken from statistics and the other metrics from images in the same file.
    pub from_both: bool,
}

/// A whole evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// What was judged.
    pub generated: String,
    /// What it was compared with.
    pub reference: Real,
    /// The network.
    pub extractor: &'static str,
    /// SHA-256 of its weights.
    pub weights: String,
    /// How the metrics were computed.
    pub options: Options,
    /// The metrics of the generated images.
    pub metrics: Report,
    /// The metrics of held-out real images: nothing generated should do better.
    pub floor: Option<Report>,
    /// Metrics that could not be computed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// A metric that could not be computed.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// Which.
    pub metric: Metric,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    /// With the reason in words.
    pub fn new((metric, reason): (Metric, EvalError)) -> Self {
        Self { metric, reason: reason.to_string() }
    }
}

/// A metric's name, its values, and how values are written.
struct Row {
    name: &'static str,
    of: fn(&Report) -> Option<Score>,
    percent: bool,
}

const fn row(name: &'static str, of: fn(&Report) -> Option<Score>, percent: bool) -> Row {
    Row { name, of, percent }
}

/// Standard deviations of a normal distribution to either side of the mean that hold 95 % of it.
const NORMAL_95: f64 = 1.96;

const ROWS: [Row; 6] = [
    row("FID", |r| r.fid, false),
    row("IS", |r| r.inception_score, false),
    row("KID", |r| r.kid, false),
    row("precision", |r| r.precision, true),
    row("recall", |r| r.recall, true),
    row("class accuracy", |r| r.class_accuracy, true),
];

/// Prints the table.
///
/// # Errors
/// When `out` cannot be written.
pub fn text(evaluation: &Evaluation, paper_columns: bool, out: &mut dyn Write) -> Outcome {
    let Evaluation { generated, reference, extractor, weights, options, metrics, floor, left_out } =
        evaluation;
    writeln!(out, "generated  {} images: {}", metrics.generated, generated.shown())?;
    let real = match metrics.real {
        n if reference.from_both => format!("statistics (mu, sigma) and {n} images (arr_0) of"),
        0 => "statistics of".to_string(),
        n => format!("{n} images:"),
    };
    let (size, protocol) = (reference.resolution, reference.protocol);
    writeln!(out, "reference  {real} {} ({size}×{size}, protocol {protocol})", reference.path)?;
    writeln!(out, "extractor  {extractor} (weights {}…)", weights.get(..8).unwrap_or(weights))?;
    writeln!(out)?;
    let held_out = floor.as_ref().map(|_| "held-out real (floor)").unwrap_or_default();
    writeln!(out, "{}", format!("{:<21}{:<22}{held_out}", "metric", "generated").trim_end())?;
    for row in &ROWS {
        let Some(score) = (row.of)(metrics) else { continue };
        let name = metric_name(row.name, metrics.generated);
        let beside = floor.as_ref().and_then(|floor| {
            let value = written((row.of)(floor)?, row.percent);
            let other = floor.generated != metrics.generated;
            Some(if other { format!("{value} ({} images)", floor.generated) } else { value })
        });
        let beside = beside.unwrap_or_default();
        let value = written(score, row.percent);
        let line = match reference.from_both {
            true => {
                let source = taken_from(row.name, metrics.real);
                // As wide as `1.0000 ± 0.1000 (1500 images)` and a gap, where there is a column.
                let width = if floor.is_some() { 34 } else { 0 };
                format!("{name:<21}{value:<22}{beside:<width$}{source}")
            }
            false => format!("{name:<21}{value:<22}{beside}"),
        };
        writeln!(out, "{}", line.trim_end())?;
    }
    if let (true, Some(precision), Some(recall)) =
        (paper_columns, metrics.precision, metrics.recall)
    {
        let (p, r) = (written(recall, true), written(precision, true));
        writeln!(out, "\nin the paper's swapped columns: precision {p}, recall {r}")?;
    }
    writeln!(out)?;
    for note in notes(options, metrics) {
        writeln!(out, "{note}")?;
    }
    for LeftOut { reason, .. } in left_out {
        writeln!(out, "Left out: {}.", reason.shown())?;
    }
    Ok(())
}

/// What of a reference that holds both a metric is taken from; nothing of those that need none.
fn taken_from(metric: &str, images: usize) -> String {
    match metric {
        "FID" => "from mu, sigma".to_string(),
        "KID" | "precision" | "recall" => format!("from {images} images (arr_0)"),
        _ => String::new(),
    }
}

fn written(score: Score, percent: bool) -> String {
    match percent {
        true => format!("{:.2} % ± {:.2} %", 100.0 * score.mean, 100.0 * score.spread),
        false => {
            let digits = if score.mean.abs() < 0.1 { 6 } else { 4 };
            format!("{:.digits$} ± {:.digits$}", score.mean, score.spread)
        }
    }
}

/// What one must know to read the values.
fn notes(options: &Options, metrics: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let mut spreads = Vec::new();
    if metrics.fid.is_some() && options.resamples > 0 {
        spreads.push(format!("FID: {} bootstrap samples", options.resamples));
    }
    if metrics.inception_score.is_some() {
        spreads.push(format!("IS: {} splits", options.splits));
    }
    if metrics.kid.is_some() {
        spreads.push(format!("KID: {} subsets of {}", options.kid_subsets, options.kid_subset));
    }
    if metrics.kid.is_some() && options.kid_subset < KID_SUBSET {
        notes.push(format!(
            "KID is of subsets of {}, not of the usual {KID_SUBSET}: its spread is not that of others.",
            options.kid_subset
        ));
    }
    if metrics.precision.is_some() || metrics.class_accuracy.is_some() {
        spreads.push("shares: binomial".into());
    }
    if !spreads.is_empty() {
        notes.push(format!("± is one standard deviation ({}).", spreads.join("; ")));
    }
    if metrics.precision.is_some() {
        notes.push(format!(
            "Precision: share of generated images near real ones; recall: share of real images near \
             generated ones; k = {}.",
            options.neighbours
        ));
    }
    if let (Some(fid), true) = (metrics.fid, options.resamples > 0) {
        let (name, reach) = (metric_name("FID", metrics.generated), NORMAL_95 * fid.spread);
        let (low, high) = (fid.mean - reach, fid.mean + reach);
        notes.push(format!("95 % interval of {name} by the bootstrap: {low:.4} to {high:.4}."));
    }
    let from_statistics = metrics.kid.is_none() && metrics.precision.is_none();
    let more = [Metric::Kid, Metric::PrecisionRecall].iter().any(|m| options.metrics.contains(m));
    if from_statistics && more {
        notes.push("KID, precision and recall need the reference images, not statistics.".into());
    }
    if metrics.generated < 50_000 && metrics.fid.is_some() {
        notes
            .push("FID falls with the number of images: compare only figures from as many.".into());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> Evaluation {
        let score = |mean, spread| Some(Score { mean, spread });
        let metrics = Report {
            generated: 2000,
            real: 8000,
            fid: score(3.25, 0.125),
            inception_score: score(9.5, 0.1),
            kid: score(0.00123, 0.0004),
            precision: score(0.9, 0.01),
            recall: score(0.5, 0.02),
            class_accuracy: None,
        };
        Evaluation {
            generated: "runs/digits".into(),
            reference: Real {
                path: "digits".into(),
                protocol: "jit",
                resolution: 28,
                from_both: false,
            },
            extractor: "digits",
            weights: "0123456789abcdef".into(),
            options: Options { kid_subset: 270, ..Options::default() },
            left_out: vec![LeftOut { metric: Metric::Kid, reason: "too\nfew".into() }],
            floor: Some(Report { generated: 1500, fid: score(1.0, 0.1), ..metrics.clone() }),
            metrics,
        }
    }

    #[test]
    fn values_stand_beside_the_floor_and_the_count_in_the_name() {
        let mut page = Vec::new();
        text(&evaluation(), true, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for part in [
            "FID-2k               3.2500 ± 0.1250       1.0000 ± 0.1000 (1500 images)\n",
            "KID-2k               0.001230 ± 0.000400",
            "precision-2k         90.00 % ± 1.00 %",
            "in the paper's swapped columns: precision 50.00 % ± 2.00 %, recall 90.00 % ± 1.00 %",
            "95 % interval of FID-2k by the bootstrap: 3.0050 to 3.4950.",
            "extractor  digits (weights 01234567…)",
            "KID is of subsets of 270, not of the usual 1000",
            "Left out: too\\nfew.\n",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!page.contains("class accuracy"), "{page}");
    }

    #[test]
    fn a_reference_of_statistics_and_images_says_what_is_from_which() {
        let mut evaluation = evaluation();
        evaluation.reference.from_both = true;
        for floor in [evaluation.floor.take(), None] {
            let mut page = Vec::new();
            text(&Evaluation { floor, ..evaluation.clone() }, false, &mut page).unwrap();
            let page = String::from_utf8(page).unwrap();
            assert!(page.contains("reference  statistics (mu, sigma) and 8000 images (arr_0) of"));
            let line = |name: &str| page.lines().find(|l| l.starts_with(name)).unwrap().to_string();
            assert!(line("FID-2k").ends_with("  from mu, sigma"), "{page}");
            assert!(line("recall-2k").ends_with("  from 8000 images (arr_0)"), "{page}");
            assert!(!line("IS-2k").contains("from"), "{page}");
        }
    }
}
