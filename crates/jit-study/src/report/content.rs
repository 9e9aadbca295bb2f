//! What a report says: a study as a document.

use super::document::{Document, Part};
use super::study::{Cell, Study};

mod cost;
mod curves;
mod differences;
mod evolution;
mod fusion;
mod published;
mod repeat;
mod results;
mod scatter;
mod settings;
mod summary;

/// The report on a study or a run.
pub fn document(study: &Study) -> Document {
    let mut warnings = study.problems.clone();
    warnings.extend(summary::cautions(study));
    let (gallery, missing) = evolution::parts(study);
    warnings.extend(missing);
    let mut document = Document {
        title: summary::title(study),
        lead: summary::lead(study),
        warnings,
        sections: Vec::new(),
    };
    if study.single {
        document.push("result", "Result", summary::parts(study));
    } else {
        document.push("results", "Results", results::parts(study));
        document.push("differences", "Against the baseline", differences::parts(study));
        document.push("published", "Beside the published figures", published::parts(study));
    }
    document.push("samples", "Samples along training", gallery);
    document.push("curves", "Metrics along training", curves::metrics(study));
    document.push("precision-recall", "Precision and recall", scatter::parts(study));
    document.push("fusion", "Two models drawing together", fusion::parts(study));
    document.push("loss", "Training loss", curves::loss(study));
    document.push("by-t", "Loss by time", curves::by_t(study));
    document.push("settings", "Settings", settings::parts(study));
    document.push("cost", "Hardware, time and cost", cost::parts(study));
    document.push("repeat", "Repeat it", repeat::parts(study));
    document
}

/// An experiment's name and heading in a table.
fn label(cell: &Cell) -> String {
    match cell.title == cell.name {
        true => cell.name.clone(),
        false => format!("{} · {}", cell.name, cell.title),
    }
}

/// An id of a part that each group has one of.
fn id_of(name: &str, group: usize) -> String {
    if group == 0 { name.into() } else { format!("{name}-{}", group + 1) }
}

/// `text`, and the group that it is about, if there are several.
fn about(text: &str, group: &str) -> String {
    if group.is_empty() { text.into() } else { format!("{group}: {text}") }
}

/// A paragraph.
fn paragraph(text: impl Into<String>) -> Part {
    Part::Text(text.into())
}

/// `1 seed`, `3 seeds`.
fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
