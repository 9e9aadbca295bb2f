//! What each experiment changes against the baseline, seed by seed.

use super::super::document::Part;
use super::super::metric::Metric;
use super::super::statistics::Estimate;
use super::super::study::{Cell, Study};
use super::super::table::{Entry, Mark, Table, decimals, numbers, words};
use super::label;

/// The table; nothing without a baseline or without anything to compare with it.
pub fn parts(study: &Study) -> Vec<Part> {
    let Some(baseline) = study.baseline() else { return Vec::new() };
    let others: Vec<&Cell> = study.cells.iter().filter(|cell| cell.name != baseline.name).collect();
    let metrics = Metric::known([baseline]);
    if others.is_empty() || metrics.is_empty() {
        return Vec::new();
    }
    let mut columns = vec![words("experiment"), numbers("pairs")];
    columns.extend(metrics.iter().map(|metric| numbers(&metric.heading(&study.cells))));
    let differences: Vec<Vec<Entry>> =
        metrics.iter().map(|metric| column(&others, baseline, metric)).collect();
    let row = |(i, cell): (usize, &&Cell)| {
        let mut row =
            vec![Entry::words(label(cell)), Entry::number(pairs(cell, baseline) as f64, 0)];
        row.extend(differences.iter().map(|column| column[i].clone()));
        row
    };
    let notes = vec![
        "Mean of the differences between runs of the same seed and its 95 % Student t interval. ▲ is \
         clearly better, ▼ clearly worse: the interval does not hold zero. What has no sign is \
         undecided at this number of seeds."
            .into(),
    ];
    let rows = others.iter().enumerate().map(row).collect();
    let caption = format!("Difference to {}", label(baseline));
    vec![Part::Table(Table { id: "differences".into(), caption, notes, columns, rows })]
}

/// Seeds that both have finished.
fn pairs(cell: &Cell, baseline: &Cell) -> usize {
    let shared = |seed| baseline.finished().any(|run| run.seed == seed);
    cell.finished().filter(|run| shared(run.seed)).count()
}

fn column(cells: &[&Cell], baseline: &Cell, metric: &Metric) -> Vec<Entry> {
    let differences: Vec<Option<Estimate>> =
        cells.iter().map(|cell| difference(cell, baseline, metric)).collect();
    let decimals = decimals(differences.iter().flatten());
    let entry = |difference: &Option<Estimate>| match difference {
        Some(difference) => {
            Entry::estimate(difference, decimals).signed().marked(mark(difference, metric))
        }
        None => Entry::missing(),
    };
    differences.iter().map(entry).collect()
}

/// How much more of a metric an experiment has than the baseline, with the same seeds.
pub fn difference(cell: &Cell, baseline: &Cell, metric: &Metric) -> Option<Estimate> {
    Estimate::of_difference(&cell.values(metric), &baseline.values(metric))
}

/// Clearly better or worse, or neither.
fn mark(difference: &Estimate, metric: &Metric) -> Mark {
    match (difference.is_clear(), metric.is_better(difference.mean, 0.0)) {
        (Some(true), true) => Mark::Better,
        (Some(true), false) => Mark::Worse,
        _ => Mark::None,
    }
}
