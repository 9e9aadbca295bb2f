//! What was published for the same experiments, and whether our changes go the same way.

use super::super::document::Part;
use super::super::metric::{METRICS, Metric};
use super::super::statistics::Estimate;
use super::super::study::{Cell, Study};
use super::super::table::{Entry, Mark, Table, decimals, numbers, words};
use super::differences::difference;
use super::results::estimate;
use super::{label, paragraph};
use crate::suite::{Published, Suite};

/// Two tables and what they come to; nothing where nothing was published.
pub fn parts(study: &Study) -> Vec<Part> {
    let Some(suite) = study.suite.as_ref().filter(|suite| !suite.published.is_empty()) else {
        return Vec::new();
    };
    let find = |row: &Published| study.cells.iter().find(|cell| cell.name == row.cell);
    let pairs: Vec<(&Published, Option<&Cell>)> =
        suite.published.iter().map(|row| (row, find(row))).collect();
    let shown = |metric: &&Metric| suite.published.iter().any(|row| figure(row, metric).is_some());
    let metrics: Vec<&Metric> = METRICS.iter().filter(shown).collect();
    let mut parts = vec![paragraph(suite.published_note.trim())];
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    parts.push(Part::Table(side_by_side(&pairs, &metrics)));
    parts.extend(directions(study, suite, &pairs, &metrics));
    parts
}

/// A published figure.
fn figure(row: &Published, metric: &Metric) -> Option<f64> {
    match metric.name {
        "FID" => row.fid,
        "IS" => row.inception_score,
        "KID" => row.kid,
        "precision" => row.precision,
        "recall" => row.recall,
        _ => None,
    }
}

fn side_by_side(pairs: &[(&Published, Option<&Cell>)], metrics: &[&Metric]) -> Table {
    let mut columns = vec![words("experiment")];
    let mut rows: Vec<Vec<Entry>> = pairs
        .iter()
        .map(|(row, cell)| vec![Entry::words(cell.map_or_else(|| row.cell.clone(), label))])
        .collect();
    for metric in metrics {
        columns.push(numbers(&format!("{}, published", metric.name)));
        columns.push(numbers("ours"));
        let ours = |cell: &Option<&Cell>| estimate(&cell.as_ref()?.values(metric));
        let ours: Vec<Option<Estimate>> = pairs.iter().map(|(_, cell)| ours(cell)).collect();
        let decimals = decimals(ours.iter().flatten());
        let digits = if metric.share || metric.name == "KID" { 4 } else { 2 };
        for (place, ((published, _), ours)) in rows.iter_mut().zip(pairs.iter().zip(&ours)) {
            let number = |value| Entry::number(value, digits);
            place.push(figure(published, metric).map_or_else(Entry::missing, number));
            place.push(ours.map_or_else(Entry::missing, |ours| Entry::estimate(&ours, decimals)));
        }
    }
    let notes = vec![
        "The published figures are of one run each, with other images, another network to judge \
         them and another number of samples: compare orders and directions, not values."
            .into(),
    ];
    let caption = "Published figures beside ours".into();
    Table { id: "published".into(), caption, notes, columns, rows }
}

/// Whether each change against the baseline goes the same way, and how many do.
fn directions(
    study: &Study,
    suite: &Suite,
    pairs: &[(&Published, Option<&Cell>)],
    metrics: &[&Metric],
) -> Option<Part> {
    let baseline = study.baseline()?;
    let reference = suite.published.iter().find(|row| row.cell == baseline.name)?;
    let mut rows = Vec::new();
    let mut counts = [0; 3];
    for (row, cell) in pairs.iter().filter(|(row, _)| row.cell != baseline.name) {
        for metric in metrics {
            let published = figure(row, metric).zip(figure(reference, metric));
            let ours = cell.and_then(|cell| difference(cell, baseline, metric));
            let (Some((theirs, base)), Some(ours)) = (published, ours) else { continue };
            let same = (theirs - base).signum() == ours.mean.signum();
            let (verdict, mark, kind) = match (ours.is_clear(), same) {
                (Some(true), true) => ("the same way", Mark::Better, 0),
                (Some(true), false) => ("the other way", Mark::Worse, 1),
                _ => ("undecided", Mark::None, 2),
            };
            counts[kind] += 1;
            rows.push(vec![
                Entry::words(row.cell.clone()),
                Entry::words(metric.name),
                Entry::number(theirs - base, digits_of(base)).signed(),
                Entry::estimate(&ours, decimals([&ours])).signed(),
                Entry { mark, ..Entry::words(verdict) },
            ]);
        }
    }
    let [same, other, undecided] = counts;
    let notes = vec![format!(
        "Of {} changes, ours clearly go the same way as the published in {same}, clearly the other way in \
         {other}, and in {undecided} our interval holds zero.",
        rows.len()
    )];
    let columns = ["experiment", "metric"].map(words).into_iter();
    let changes = ["published change", "our change"].map(numbers).into_iter();
    let columns = columns.chain(changes).chain([words("ours goes")]).collect();
    let caption = format!("Changes against {}", baseline.name);
    let table = Table { id: "directions".into(), caption, notes, columns, rows };
    (!table.rows.is_empty()).then_some(Part::Table(table))
}

/// Digits that show four figures of a published value.
fn digits_of(value: f64) -> usize {
    decimals([&Estimate { mean: value, half_width: None, count: 1 }]).min(4)
}
