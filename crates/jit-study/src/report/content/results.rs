//! The table of the study: each experiment's metrics at the end of training, over its seeds.

use super::super::document::Part;
use super::super::metric::Metric;
use super::super::statistics::Estimate;
use super::super::study::{Cell, Study};
use super::super::table::{Entry, Mark, Table, decimals, numbers, words};
use super::{about, id_of, label};

/// A table for each group.
pub fn parts(study: &Study) -> Vec<Part> {
    let groups = study.groups();
    let one =
        |(i, (group, cells)): (usize, &(&str, Vec<&Cell>))| Part::Table(table(i, group, cells));
    groups.iter().enumerate().map(one).collect()
}

fn table(index: usize, group: &str, cells: &[&Cell]) -> Table {
    let metrics = Metric::known(cells.iter().copied());
    let mut columns = vec![words("experiment"), numbers("seeds")];
    columns.extend(metrics.iter().map(|metric| numbers(&metric.heading(cells.iter().copied()))));
    let estimated: Vec<Vec<Entry>> = metrics.iter().map(|metric| entries(cells, metric)).collect();
    let row = |(i, cell): (usize, &&Cell)| {
        let mut row = vec![Entry::words(label(cell)), seeds(cell)];
        row.extend(estimated.iter().map(|column| column[i].clone()));
        row
    };
    let caption = about("Metrics at the end of training, mean and interval over seeds", group);
    let how = "± is half the width of the 95 % Student t interval of the mean over seeds. ★ is the best of \
               its column; ≈ cannot be told from it: the interval of the paired difference (same seed, \
               and so the same initial weights, images and noise) holds zero, or there are fewer than \
               two such pairs. Each comparison stands at 95 % by itself; about one in twenty of those \
               without a true difference seems clear by chance.";
    // Said once, below the first table.
    let mut notes = if index == 0 { vec![how.to_string()] } else { Vec::new() };
    if cells.iter().all(|cell| cell.finished().count() < 2) {
        notes.push(
            "With one seed there is no interval: nothing here tells a difference from chance."
                .into(),
        );
    }
    if cells.iter().any(|cell| cell.diverged() > 0) {
        notes.push(
            "The mean over the seeds that did not diverge flatters an experiment, so one with diverged \
             runs is never marked."
                .into(),
        );
    }
    let notes_of = cells.iter().filter(|cell| !cell.note.is_empty());
    notes.extend(notes_of.map(|cell| format!("{}: {}", cell.name, cell.note)));
    let rows = cells.iter().enumerate().map(row).collect();
    Table { id: id_of("results", index), caption, notes, columns, rows }
}

/// How many runs stand behind a row.
fn seeds(cell: &Cell) -> Entry {
    let finished = cell.finished().count();
    match cell.diverged() {
        0 => Entry::number(finished as f64, 0),
        diverged => Entry::words(format!("{finished} + {diverged} diverged")).marked(Mark::Fault),
    }
}

/// A column: the metric of each experiment, the best marked.
pub fn entries(cells: &[&Cell], metric: &Metric) -> Vec<Entry> {
    let values: Vec<Vec<(u64, f64)>> = cells.iter().map(|cell| cell.values(metric)).collect();
    let estimates: Vec<Option<Estimate>> = values.iter().map(|values| estimate(values)).collect();
    let decimals = decimals(estimates.iter().flatten());
    let whole = |i: usize| Some((i, estimates[i].filter(|_| cells[i].diverged() == 0)?));
    let ranked: Vec<(usize, Estimate)> = (0..cells.len()).filter_map(whole).collect();
    let better =
        |a: &(usize, Estimate), b: &(usize, Estimate)| metric.is_better(a.1.mean, b.1.mean);
    let best = ranked.iter().copied().reduce(|a, b| if better(&b, &a) { b } else { a });
    let best = best.filter(|_| ranked.len() > 1);
    let mark = |i: usize| match best {
        Some((best, _)) if best == i => Mark::Best,
        Some((best, _)) if cells[i].diverged() == 0 => {
            let difference = Estimate::of_difference(&values[i], &values[best]);
            match difference.and_then(|difference| difference.is_clear()) {
                Some(true) => Mark::None,
                _ => Mark::Near,
            }
        }
        _ => Mark::None,
    };
    let entry = |(i, estimate): (usize, &Option<Estimate>)| match estimate {
        Some(estimate) => Entry::estimate(estimate, decimals).marked(mark(i)),
        None => Entry::missing(),
    };
    estimates.iter().enumerate().map(entry).collect()
}

/// The mean over seeds.
pub fn estimate(values: &[(u64, f64)]) -> Option<Estimate> {
    Estimate::of(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>())
}
