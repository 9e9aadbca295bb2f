//! Precision against recall, with the curves along which two models draw together.

use super::super::document::Part;
use super::super::figure::{Axis, Figure, Plot, Point, Series, Span, Style};
use super::super::metric::{PRECISION, RECALL};
use super::super::study::{Cell, Study};
use super::curves::{legend, within};
use super::fusion::{Sweep, sweeps};
use super::results::estimate;
use super::{about, id_of};

/// A plot for each group; nothing where neither was computed.
pub fn parts(study: &Study) -> Vec<Part> {
    if study.single {
        return Vec::new();
    }
    let all = sweeps(study);
    let one = |(i, (group, cells)): (usize, &(&str, Vec<&Cell>))| {
        let ours = |sweep: &&Sweep<'_>| cells.iter().any(|cell| cell.name == sweep.parents[0]);
        let sweeps: Vec<&Sweep<'_>> = all.iter().filter(ours).collect();
        figure(i, group, cells, &sweeps).map(Part::Figure)
    };
    study.groups().iter().enumerate().filter_map(one).collect()
}

fn figure(index: usize, group: &str, cells: &[&Cell], sweeps: &[&Sweep<'_>]) -> Option<Figure> {
    let single = |(i, cell): (usize, &&Cell)| Series {
        style: Style(i),
        line: false,
        symbols: true,
        points: point(cell, cell.name.clone()).into_iter().collect(),
    };
    let mut series: Vec<Series> = cells.iter().enumerate().map(single).collect();
    let mut legend = legend(cells);
    for (i, sweep) in sweeps.iter().enumerate() {
        let style = Style(cells.len() + i);
        let at = |cell: &&Cell| point(cell, format!("{} at {}", sweep.title, weight(cell)));
        let points = sweep.cells.iter().filter_map(at);
        // The crosses of a whole curve would hide it: they are in the table.
        let bare =
            points.map(|point| Point { y: point.y.at.into(), x: point.x.at.into(), ..point });
        series.push(Series { style, line: true, symbols: true, points: bare.collect() });
        legend.push((style, sweep.title.clone()));
    }
    if series.iter().all(|series| series.points.is_empty()) {
        return None;
    }
    let caption = "Precision against recall at the end of training: up and to the right is better. Crosses are \
                   95 % intervals over seeds; lines join the weights at which two models draw together.";
    let x = Axis { label: "recall".into(), ..Axis::default() };
    let plot = Plot { title: "precision".into(), x, y: Axis::default(), series };
    let caption = about(caption, group);
    Some(Figure { id: id_of("precision-recall", index), caption, plots: vec![plot], legend })
}

fn weight(cell: &Cell) -> f64 {
    cell.fusion().map_or(0.0, |fusion| fusion.weight)
}

fn point(cell: &Cell, name: String) -> Option<Point> {
    let recall = estimate(&cell.values(&RECALL))?;
    let precision = estimate(&cell.values(&PRECISION))?;
    let hint = format!("{name}: precision {:.4}, recall {:.4}", precision.mean, recall.mean);
    let x = Span { at: recall.mean, ends: recall.interval().map(|ends| within(ends, &RECALL)) };
    let y = Span {
        at: precision.mean,
        ends: precision.interval().map(|ends| within(ends, &PRECISION)),
    };
    Some(Point { x, y, hint })
}
