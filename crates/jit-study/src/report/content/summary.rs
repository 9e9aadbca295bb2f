//! What stands above everything else: the headline, a few facts, and for a single run its result.

use super::super::document::Part;
use super::super::metric::{METRICS, Metric};
use super::super::study::{Judged, Run, Study};
use super::super::table::{Entry, Table, numbers, words};
use super::cost::duration;
use super::counted;

/// The headline.
pub fn title(study: &Study) -> String {
    match (&study.suite, study.single) {
        (Some(suite), _) if !suite.title.is_empty() => suite.title.clone(),
        (Some(suite), _) => suite.name.clone(),
        (None, true) => format!("Run {}", study.cells[0].name),
        (None, false) => "Study".into(),
    }
}

/// What was compared, and how it was judged.
pub fn lead(study: &Study) -> String {
    let mut sentences = Vec::new();
    if let Some(suite) = study.suite.as_ref().filter(|suite| !suite.description.is_empty()) {
        sentences.push(suite.description.trim().to_string());
    }
    if !study.single {
        let trained: usize = study.cells.iter().map(|cell| cell.runs.len()).sum();
        let diverged: usize = study.cells.iter().map(|cell| cell.diverged()).sum();
        let mut text =
            format!("{}, {}", counted(study.cells.len(), "experiment"), counted(trained, "run"));
        if diverged > 0 {
            text += &format!(", of which {diverged} diverged");
        }
        if !study.fused.is_empty() {
            text +=
                &format!("; {} of two models drawing together", counted(study.fused.len(), "row"));
        }
        sentences.push(text + ".");
    }
    let mut last = study.all().flat_map(|cell| cell.finished()).filter_map(|run| run.judged.last());
    if let Some(judged) = last.next() {
        sentences.push(judges(judged));
    }
    sentences.join(" ")
}

/// Who judged how many images.
fn judges(judged: &Judged) -> String {
    let real = match judged.report.real {
        0 => "statistics of real ones".to_string(),
        n => counted(n, "real one"),
    };
    let generated = counted(judged.report.generated, "drawn image");
    format!("The network `{}` judged {generated} against {real}.", judged.extractor)
}

/// What a reader of the tables must know beforehand.
pub fn cautions(study: &Study) -> Vec<String> {
    let mut cautions = Vec::new();
    for cell in study.all() {
        for run in &cell.runs {
            if let Some((step, message)) = &run.diverged {
                cautions.push(format!(
                    "`{}`, seed {}, diverged at step {step}: {message}",
                    cell.name, run.seed
                ));
            }
        }
    }
    let mut judged: Vec<(String, usize, usize)> = study
        .all()
        .flat_map(|cell| cell.finished())
        .filter_map(|run| run.judged.last())
        .map(|judged| (judged.extractor.clone(), judged.report.generated, judged.report.real))
        .collect();
    judged.sort();
    judged.dedup();
    if judged.len() > 1 {
        let ways =
            judged.iter().map(|(by, drawn, real)| format!("{by}, {drawn} against {real} images"));
        let ways = ways.collect::<Vec<_>>().join("; ");
        cautions.push(format!(
            "The runs were not all judged alike ({ways}): their metrics cannot be compared."
        ));
    }
    cautions
}

/// The table of a single run.
pub fn parts(study: &Study) -> Vec<Part> {
    let Some(run) = study.cells.first().and_then(|cell| cell.runs.first()) else {
        return Vec::new();
    };
    let mut rows = progress(run);
    if let Some(judged) = run.judged.last() {
        rows.push(vec![Entry::words("judged at epoch"), Entry::number(judged.epoch, 2)]);
        let row = |metric: &Metric| {
            let value = metric.of(&judged.report)?;
            let name = metric.heading([&study.cells[0]]);
            Some(vec![Entry::words(name), Entry::number(value, 4)])
        };
        rows.extend(METRICS.iter().filter_map(row));
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let columns = vec![words("what"), numbers("value")];
    let caption = "The run so far".into();
    vec![Part::Table(Table { id: "result".into(), caption, notes: Vec::new(), columns, rows })]
}

/// What the last line of `metrics.jsonl` tells.
fn progress(run: &Run) -> Vec<Vec<Entry>> {
    let Some(last) = &run.curve.last else { return Vec::new() };
    let mut rows = vec![
        vec![Entry::words("steps"), Entry::number(last.step as f64, 0)],
        vec![Entry::words("epochs"), Entry::number(last.epoch, 2)],
        vec![Entry::words("time in training steps"), Entry::words(duration(last.elapsed))],
    ];
    if let Some(part) = run.curve.parts.last() {
        rows.push(vec![
            Entry::words("loss, mean of the last steps"),
            Entry::number(part.loss(), 4),
        ]);
    }
    rows
}
