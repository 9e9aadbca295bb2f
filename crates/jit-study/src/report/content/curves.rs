//! Losses and metrics along training, and the loss by t at its end.

use super::super::document::Part;
use super::super::figure::{Axis, Figure, Plot, Point, Series, Span, Style};
use super::super::metric::Metric;
use super::super::statistics::Estimate;
use super::super::study::{Cell, Run, Study};
use super::{about, id_of};
use crate::record::TBin;

/// Training loss against epochs.
pub fn loss(study: &Study) -> Vec<Part> {
    let caption = Caption {
        what: "Training loss, each point a mean over consecutive steps.",
        over_seeds: "Lines are means over seeds, in a band from the least to the largest. Losses of \
                     different spaces, or with an auxiliary part, have different scales.",
    };
    for_groups(study, "loss", &caption, |cells| {
        let series = cells.iter().enumerate().map(|(i, cell)| Series {
            style: Style(i),
            line: true,
            symbols: false,
            points: loss_points(cell),
        });
        let y = Axis { log: true, ..Axis::default() };
        vec![Plot { title: "loss".into(), x: epochs(), y, series: series.collect() }]
    })
}

/// Each metric against epochs.
pub fn metrics(study: &Study) -> Vec<Part> {
    let caption = Caption {
        what: "What the averaged weights draw, judged along training.",
        over_seeds: "Lines are means over seeds, in a band of their 95 % interval.",
    };
    for_groups(study, "metrics", &caption, |cells| {
        let known = Metric::known(cells.iter().copied());
        let plot = |metric: &&Metric| {
            let series = cells.iter().enumerate().map(|(i, cell)| Series {
                style: Style(i),
                line: true,
                symbols: true,
                points: metric_points(cell, metric),
            });
            let title = metric.heading(cells.iter().copied());
            Plot { title, x: epochs(), y: Axis::default(), series: series.collect() }
        };
        known.iter().map(plot).collect()
    })
}

/// Diffusion loss by t at the end of training.
pub fn by_t(study: &Study) -> Vec<Part> {
    let caption = Caption {
        what: "Mean diffusion loss of the images with t in each tenth of [0, 1], over the last \
               twentieth of the steps; t = 0 is noise, t = 1 the image.",
        over_seeds: "Lines are means over seeds, in a band of their 95 % interval.",
    };
    for_groups(study, "loss-by-t", &caption, |cells| {
        let series = cells.iter().enumerate().map(|(i, cell)| Series {
            style: Style(i),
            line: true,
            symbols: true,
            points: by_t_points(cell),
        });
        let x = Axis { label: "t".into(), within: Some((0.0, 1.0)), ..Axis::default() };
        let y = Axis { log: true, ..Axis::default() };
        vec![Plot { title: "diffusion loss".into(), x, y, series: series.collect() }]
    })
}

/// What a figure shows, and what there is to say of seeds where it shows several.
struct Caption {
    what: &'static str,
    over_seeds: &'static str,
}

/// A figure for each group in which anything is to be seen.
fn for_groups(
    study: &Study,
    id: &str,
    caption: &Caption,
    plots: impl Fn(&[&Cell]) -> Vec<Plot>,
) -> Vec<Part> {
    let mut parts = Vec::new();
    for (i, (group, cells)) in study.groups().into_iter().enumerate() {
        let plots = plots(&cells);
        let seen = |plot: &Plot| plot.series.iter().any(|series| !series.points.is_empty());
        if plots.iter().any(seen) {
            let legend = match study.single {
                true => Vec::new(),
                false => seen_in(&plots, legend(&cells)),
            };
            let caption = match study.single {
                true => caption.what.to_string(),
                false => about(&format!("{} {}", caption.what, caption.over_seeds), group),
            };
            parts.push(Part::Figure(Figure { id: id_of(id, i), caption, plots, legend }));
        }
    }
    parts
}

/// The part of a legend that something was drawn for.
fn seen_in(plots: &[Plot], legend: Vec<(Style, String)>) -> Vec<(Style, String)> {
    let all = || plots.iter().flat_map(|plot| &plot.series);
    let seen = |style| all().any(|series| series.style == style && !series.points.is_empty());
    legend.into_iter().filter(|(style, _)| seen(*style)).collect()
}

/// The experiments' names.
pub fn legend(cells: &[&Cell]) -> Vec<(Style, String)> {
    cells.iter().enumerate().map(|(i, cell)| (Style(i), cell.name.clone())).collect()
}

fn epochs() -> Axis {
    Axis { label: "epochs".into(), ..Axis::default() }
}

fn loss_points(cell: &Cell) -> Vec<Point> {
    let longest = cell.runs.iter().map(|run| run.curve.parts.len()).max().unwrap_or(0);
    let point = |i: usize| {
        let parts = || cell.runs.iter().filter_map(move |run| run.curve.parts.get(i));
        let losses: Vec<f64> =
            parts().map(|part| part.loss()).filter(|loss| loss.is_finite()).collect();
        let mean = Estimate::of(&losses)?.mean;
        let low = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let ends = (losses.len() > 1).then_some((low, high));
        let x = parts().next()?.epoch().into();
        Some(Point { x, y: Span { at: mean, ends }, hint: String::new() })
    };
    (0..longest).filter_map(point).collect()
}

/// The mean over the finished runs, evaluation by evaluation.
fn metric_points(cell: &Cell, metric: &Metric) -> Vec<Point> {
    let runs: Vec<&Run> = cell.finished().collect();
    let longest = runs.iter().map(|run| run.judged.len()).max().unwrap_or(0);
    let point = |i: usize| {
        let judged = || runs.iter().filter_map(move |run| run.judged.get(i));
        let values: Vec<f64> = judged().filter_map(|judged| metric.of(&judged.report)).collect();
        let estimate = Estimate::of(&values)?;
        let epoch = judged().next()?.epoch;
        let hint = format!("{}, epoch {epoch:.4}: {:.5}", cell.name, estimate.mean);
        let ends = estimate.interval().map(|ends| within(ends, metric));
        Some(Point { x: epoch.into(), y: Span { at: estimate.mean, ends }, hint })
    };
    (0..longest).filter_map(point).collect()
}

/// The interval of a share ends at 0 and 1.
pub fn within((low, high): (f64, f64), metric: &Metric) -> (f64, f64) {
    if metric.share { (low.max(0.0), high.min(1.0)) } else { (low, high) }
}

fn by_t_points(cell: &Cell) -> Vec<Point> {
    let mut bins: Vec<(f64, f64)> =
        cell.finished().flat_map(|run| &run.per_t).map(|bin| (bin.low, bin.high)).collect();
    bins.sort_by(|a, b| a.0.total_cmp(&b.0));
    bins.dedup();
    let point = |(low, high): (f64, f64)| {
        let here = |bin: &&TBin| (bin.low, bin.high) == (low, high);
        let losses = cell.finished().filter_map(|run| Some(run.per_t.iter().find(here)?.loss));
        let estimate = Estimate::of(&losses.collect::<Vec<_>>())?;
        let hint = format!("{}, t from {low:.1} to {high:.1}: {:.5}", cell.name, estimate.mean);
        // On an axis of ratios an interval that reaches zero has no lower end: it is left out.
        let ends = estimate.interval().filter(|(low, _)| *low > 0.0);
        Some(Point { x: (0.5 * (low + high)).into(), y: Span { at: estimate.mean, ends }, hint })
    };
    bins.into_iter().filter_map(point).collect()
}
