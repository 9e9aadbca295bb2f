//! Two models drawing together: is there a weight that beats both?
//!
//! What the parents offer without fusing is a mixture of their images: the straight line between them
//! in the plane of recall and precision. A fused model gains where it lies beyond that line: more
//! precision than any point of the line with at least its recall, or the other way round.

use super::super::document::Part;
use super::super::metric::{Metric, PRECISION, RECALL};
use super::super::statistics::Estimate;
use super::super::study::{Cell, Study};
use super::super::table::{Entry, Mark, Table, decimals, numbers, words};
use super::results::entries;
use super::{label, paragraph};

/// Fused experiments that differ in the weight alone.
pub struct Sweep<'a> {
    /// How the parents meet, in words.
    pub title: String,
    /// The parents' names.
    pub parents: [String; 2],
    /// By weight.
    pub cells: Vec<&'a Cell>,
}

/// The sweeps of a study, in its order.
pub fn sweeps(study: &Study) -> Vec<Sweep<'_>> {
    let mut sweeps: Vec<Sweep<'_>> = Vec::new();
    for cell in &study.fused {
        let Some(fusion) = cell.fusion() else { continue };
        let [a, b] = &fusion.parents;
        let title = match fusion.mode.as_str() {
            "guide" => format!("{a} guided by {b}, {}", fusion.schedule),
            mode => format!("{a} + {b}, {mode}, {}", fusion.schedule),
        };
        match sweeps.last_mut().filter(|sweep| sweep.title == title) {
            Some(sweep) => sweep.cells.push(cell),
            None => {
                sweeps.push(Sweep { title, parents: fusion.parents.clone(), cells: vec![cell] })
            }
        }
    }
    sweeps
}

/// A table and a verdict for each sweep.
pub fn parts(study: &Study) -> Vec<Part> {
    let mut parts = Vec::new();
    for (i, sweep) in sweeps(study).iter().enumerate() {
        let parent = |name: &String| study.cells.iter().find(|cell| cell.name == *name);
        let [a, b] = sweep.parents.each_ref().map(parent);
        let gains: Vec<Gains> = sweep.cells.iter().map(|cell| gains(cell, a, b)).collect();
        parts.push(paragraph(verdict(sweep, &gains)));
        parts.push(Part::Table(table(i, sweep, a, b, &gains)));
    }
    parts
}

/// What a fused model gains over mixtures of its parents' images.
struct Gains {
    precision: Gain,
    recall: Gain,
}

enum Gain {
    /// Some run is not there.
    Unknown,
    /// More of the other than any mixture has, with so many of the seeds.
    Beyond { seeds: usize, of: usize },
    /// So much more with as much of the other.
    By(Estimate),
}

fn gains(cell: &Cell, a: Option<&Cell>, b: Option<&Cell>) -> Gains {
    let (Some(a), Some(b)) = (a, b) else {
        return Gains { precision: Gain::Unknown, recall: Gain::Unknown };
    };
    Gains {
        precision: gain(cell, a, b, &RECALL, &PRECISION),
        recall: gain(cell, a, b, &PRECISION, &RECALL),
    }
}

/// How much more of `gained` there is with as much of `held`.
fn gain(cell: &Cell, a: &Cell, b: &Cell, held: &Metric, gained: &Metric) -> Gain {
    let all = |cell: &Cell| {
        let gained = cell.values(gained);
        let both = cell.values(held).into_iter();
        let pair = |(seed, x)| Some((seed, (x, gained.iter().find(|(s, _)| *s == seed)?.1)));
        both.filter_map(pair).collect::<Vec<(u64, (f64, f64))>>()
    };
    let (a, b) = (all(a), all(b));
    let of = |side: &[(u64, (f64, f64))], seed| side.iter().find(|(s, _)| *s == seed).map(|p| p.1);
    let (mut beyond, mut by) = (0, Vec::new());
    for (seed, (x, y)) in all(cell) {
        let (Some(a), Some(b)) = (of(&a, seed), of(&b, seed)) else { continue };
        match best_with(a, b, x) {
            Some(best) => by.push(y - best),
            None => beyond += 1,
        }
    }
    match (beyond, Estimate::of(&by)) {
        (0, Some(estimate)) => Gain::By(estimate),
        (0, None) => Gain::Unknown,
        (seeds, _) => Gain::Beyond { seeds, of: seeds + by.len() },
    }
}

/// The largest y on the line from `a` to `b` where x is at least `least`; `None` where it never is.
fn best_with(a: (f64, f64), b: (f64, f64), least: f64) -> Option<f64> {
    let (low, high) = if a.0 <= b.0 { (a, b) } else { (b, a) };
    if least > high.0 {
        return None;
    }
    let part = if high.0 > low.0 { ((least - low.0) / (high.0 - low.0)).max(0.0) } else { 0.0 };
    Some(high.1.max(low.1 + part * (high.1 - low.1)))
}

impl Gain {
    fn is_clear(&self) -> bool {
        match self {
            Self::By(estimate) => estimate.mean > 0.0 && estimate.is_clear() == Some(true),
            Self::Beyond { seeds, of } => seeds == of && *of > 1,
            Self::Unknown => false,
        }
    }

    fn entry(&self, decimals: usize) -> Entry {
        let mark = if self.is_clear() { Mark::Better } else { Mark::None };
        match self {
            Self::By(estimate) => Entry::estimate(estimate, decimals).signed().marked(mark),
            Self::Beyond { seeds, of } => {
                Entry::words(format!("beyond both ({seeds} of {of} seeds)")).marked(mark)
            }
            Self::Unknown => Entry::missing(),
        }
    }
}

fn table(
    index: usize,
    sweep: &Sweep<'_>,
    a: Option<&Cell>,
    b: Option<&Cell>,
    gains: &[Gains],
) -> Table {
    let cells: Vec<&Cell> = a.into_iter().chain(sweep.cells.iter().copied()).chain(b).collect();
    let first = usize::from(a.is_some());
    let metrics = Metric::known(cells.iter().copied());
    let mut columns = vec![words("model"), numbers("weight")];
    columns.extend(metrics.iter().map(|metric| numbers(&metric.heading(cells.iter().copied()))));
    columns.extend(["precision gained", "recall gained"].map(numbers));
    let by_metric: Vec<Vec<Entry>> = metrics.iter().map(|metric| entries(&cells, metric)).collect();
    let size = |pick: fn(&Gains) -> &Gain| {
        decimals(gains.iter().filter_map(|gains| match pick(gains) {
            Gain::By(estimate) => Some(estimate),
            _ => None,
        }))
    };
    let digits = (size(|gains| &gains.precision), size(|gains| &gains.recall));
    let row = |(i, cell): (usize, &&Cell)| {
        let gains = i.checked_sub(first).and_then(|i| gains.get(i));
        let (name, weight) = match gains {
            Some(_) => (Entry::words("together"), cell.fusion().map(|fusion| fusion.weight)),
            None => (Entry::words(label(cell)), None),
        };
        let weight = weight.map_or_else(Entry::missing, |weight| Entry::number(weight, 2));
        let mut row = vec![name, weight];
        row.extend(by_metric.iter().map(|column| column[i].clone()));
        row.push(gains.map_or_else(Entry::missing, |gains| gains.precision.entry(digits.0)));
        row.push(gains.map_or_else(Entry::missing, |gains| gains.recall.entry(digits.1)));
        row
    };
    let how = "Gained: above the straight line between the parents (what a mixture of their images offers) at \
         equal or more of the other, mean and 95 % interval over seeds; ▲ where that is clear. \
         Beyond both: with more of the other than either parent has.";
    // Said once, below the first table.
    let notes = if index == 0 { vec![how.into()] } else { Vec::new() };
    let rows = cells.iter().enumerate().map(row).collect();
    Table {
        id: format!("fusion-{}", index + 1),
        caption: sweep.title.clone(),
        notes,
        columns,
        rows,
    }
}

/// The answer to the question, in a sentence.
fn verdict(sweep: &Sweep<'_>, gains: &[Gains]) -> String {
    let weights = |clear: fn(&Gains) -> bool| {
        let clear = sweep.cells.iter().zip(gains).filter(|(_, gains)| clear(gains));
        let weight = |cell: &Cell| cell.fusion().map_or_else(String::new, |f| f.weight.to_string());
        clear.map(|(cell, _)| weight(cell)).collect::<Vec<_>>().join(", ")
    };
    let told = |weights: String, what: &str| match weights.as_str() {
        "" => format!("no weight clearly has more {what}"),
        _ => format!("more {what} is clear at weight {weights}"),
    };
    let precision = told(weights(|gains| gains.precision.is_clear()), "precision at equal recall");
    let recall = told(weights(|gains| gains.recall.is_clear()), "recall at equal precision");
    let beats = "Does a weight beat both parents?";
    format!("{}: {beats} Of {} tried, {precision}, and {recall}.", sweep.title, gains.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixtures_of_the_parents_lie_on_their_line() {
        // Recall and precision of a precise and a diverse parent.
        let (a, b) = ((0.2, 0.9), (0.6, 0.5));
        let close = |least, expected: f64| {
            let found = [best_with(a, b, least).unwrap(), best_with(b, a, least).unwrap()];
            assert!(found.iter().all(|found| (found - expected).abs() < 1e-12), "{found:?}");
        };
        close(0.4, 0.7);
        close(0.2, 0.9);
        close(0.6, 0.5);
        // Less recall than either parent has is worth no more than the precise parent.
        close(0.1, 0.9);
        assert_eq!(best_with(a, b, 0.61), None);
        // A parent that is better in both is the best of all mixtures.
        assert_eq!(best_with((0.2, 0.5), (0.6, 0.9), 0.3), Some(0.9));
        assert_eq!(best_with((0.5, 0.5), (0.5, 0.7), 0.5), Some(0.7));
    }
}
