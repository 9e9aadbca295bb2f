//! The commands that repeat each row.

use super::super::document::{Listing, Part};
use super::super::study::Study;
use super::paragraph;

/// A command for each run; for a single run the one that trains it anew.
pub fn parts(study: &Study) -> Vec<Part> {
    let recorded = study.all().flat_map(|cell| &cell.runs).filter_map(|run| run.record.as_ref());
    let lines: Vec<String> = recorded.map(|record| record.command.clone()).collect();
    let mut parts = Vec::new();
    if !lines.is_empty() {
        parts.push(Part::Listing(Listing {
            caption: "Each run by itself".into(),
            lines,
            folded: false,
        }));
    }
    if study.single {
        let text = "The run's folder has its whole configuration. This trains it anew:";
        let lines = vec!["jit train --config config.toml --out again".to_string()];
        parts.push(Part::Listing(Listing { caption: text.into(), lines, folded: false }));
    } else if let Some(suite) = &study.suite {
        parts.insert(
            0,
            paragraph(format!("The suite `{}` is in the study's suite.toml.", suite.name)),
        );
    }
    parts
}
