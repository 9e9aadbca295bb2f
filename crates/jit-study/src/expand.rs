//! A suite's cells written out: every value of every axis over every named cell.

use toml::Value;

use crate::error::StudyError;
use crate::settings::put;
use crate::suite::{Axis, Cell, Suite};

/// More cells than any study has.
const MAX_CELLS: usize = 10_000;

/// Replaces the axes by the cells that they stand for, and checks what does not depend on options.
///
/// # Errors
/// [`StudyError::Value`] naming the key.
pub fn expand(mut suite: Suite) -> Result<Suite, StudyError> {
    let name = suite.name.clone();
    let wrong = |key, value: &dyn std::fmt::Display, expected| {
        Err(StudyError::Value { suite: name.clone(), key, value: value.to_string(), expected })
    };
    let mut cells = std::mem::take(&mut suite.cells);
    let axes = std::mem::take(&mut suite.axes);
    if cells.is_empty() && !axes.is_empty() {
        cells.push(Cell::default());
    }
    for axis in &axes {
        if axis.values.is_empty() {
            return wrong("axes.values", &"[]", "at least one value");
        }
        if cells.len() * axis.values.len() > MAX_CELLS {
            return wrong("axes", &axis.option, "10000 cells or fewer");
        }
        cells = cells
            .iter()
            .flat_map(|cell| axis.values.iter().map(|value| along(cell, axis, value)))
            .collect();
    }
    const NAMES: &str = "letters, digits, `-`, `_` and `.`, up to 80 of them, each name once";
    if !is_name(&suite.name) {
        return wrong("name", &suite.name, NAMES);
    }
    if cells.is_empty() {
        return wrong("cells", &"[]", "at least one cell or axis");
    }
    for (i, cell) in cells.iter().enumerate() {
        if !is_name(&cell.name) || cells[..i].iter().any(|other| other.name == cell.name) {
            return wrong("cells.name", &cell.name, NAMES);
        }
    }
    let known = |cell: &str| cells.iter().any(|c| c.name == cell);
    if let Some(baseline) = suite.baseline.as_ref().filter(|name| !known(name)) {
        return wrong("baseline", baseline, "the name of a cell");
    }
    if let Some(row) = suite.published.iter().find(|row| !known(&row.cell)) {
        return wrong("published.cell", &row.cell, "the name of a cell");
    }
    for sweep in &suite.fusions {
        if let Some(parent) = sweep.parents.iter().find(|parent| !known(parent)) {
            return wrong("fusions.parents", parent, "the names of two cells");
        }
        if sweep.weights.len() > MAX_CELLS || !sweep.weights.iter().all(|w| w.is_finite()) {
            return wrong("fusions.weights", &sweep.name, "finite numbers, 10000 of them or fewer");
        }
        let sweeps = suite.fusions.iter().filter(|other| other.name == sweep.name);
        if !is_name(&sweep.name) || sweeps.count() > 1 {
            return wrong("fusions.name", &sweep.name, NAMES);
        }
    }
    if suite.seeds.is_empty() || suite.seeds.len() > MAX_CELLS {
        return wrong("seeds", &suite.seeds.len(), "a list of 1 to 10000 seeds");
    }
    suite.seeds.sort_unstable();
    suite.seeds.dedup();
    suite.cells = cells;
    Ok(suite)
}

/// A cell at one value of an axis.
fn along(cell: &Cell, axis: &Axis, value: &Value) -> Cell {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let join = |a: &str, b: &str, between: &str| match a.is_empty() {
        true => b.to_string(),
        false => format!("{a}{between}{b}"),
    };
    let key = axis.option.rsplit('.').next().unwrap_or(&axis.option);
    let label = if axis.label.is_empty() { key } else { &axis.label };
    let heading = format!("{label} {text}");
    let group = match axis.group {
        true => join(&cell.group, &heading, ", "),
        false => cell.group.clone(),
    };
    let mut set = cell.set.clone();
    put(&mut set, &axis.option, value.clone());
    Cell {
        name: join(&cell.name, &folder_name(&text), "-"),
        title: join(&cell.title, &heading, ", "),
        group,
        note: cell.note.clone(),
        set,
    }
}

/// A value as a part of a folder's name: `[0.1, 1.0]` is `0.1_1.0`.
fn folder_name(value: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { ' ' };
    let spaced: String = value.chars().map(kept).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join("_")
}

/// Whether a name can be a folder's on every system.
fn is_name(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=80).contains(&name.len()) && name.chars().all(valid) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<Suite, String> {
        let text = format!("name = 'grid'\ntitle = 'A grid'\n{text}");
        expand(Suite::from_toml(&text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn axes_multiply_the_cells() {
        let suite = expanded(
            "[[axes]]\noption = 'model.patch_size'\nvalues = [7, 14]\nlabel = 'patch'\ngroup = true\n\
             [[axes]]\noption = 'objective.loss'\nvalues = ['x', 'v']",
        )
        .unwrap();
        let names: Vec<&str> = suite.cells.iter().map(|cell| &*cell.name).collect();
        assert_eq!(names, ["7-x", "7-v", "14-x", "14-v"]);
        let last = &suite.cells[3];
        assert_eq!((&*last.title, &*last.group), ("patch 14, loss v", "patch 14"));
        assert_eq!(last.set["objective"]["loss"].as_str(), Some("v"));
        assert_eq!(last.set["model"]["patch_size"].as_integer(), Some(14));
        assert!(suite.axes.is_empty());
        let both = expanded(
            "[[cells]]\nname = 'a'\n[[cells]]\nname = 'b'\n\
             [[axes]]\noption = 'sample.cfg_interval'\nvalues = [[0.1, 1.0]]",
        );
        let names: Vec<String> = both.unwrap().cells.into_iter().map(|cell| cell.name).collect();
        assert_eq!(names, ["a-0.1_1.0", "b-0.1_1.0"]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let message = |text: &str| expanded(text).unwrap_err();
        assert!(message("").contains("cells = []"));
        assert!(message("[[cells]]\nname = '../a'").contains("cells.name = ../a"));
        assert!(message("[[cells]]\nname = 'a'\n[[cells]]\nname = 'a'").contains("each name once"));
        assert!(message("baseline = 'b'\n[[cells]]\nname = 'a'").contains("baseline = b"));
        assert!(message("seeds = []\n[[cells]]\nname = 'a'").contains("seeds"));
        assert!(message("[[axes]]\noption = 'a.b'\nvalues = []").contains("axes.values"));
        let published = "[[cells]]\nname = 'a'\n[[published]]\ncell = 'b'";
        assert!(message(published).contains("published.cell = b"));
        let sweep = "[[cells]]\nname = 'a'\n[[fusions]]\nname = 'f'\nparents = ['a', 'c']\n\
                     mode = 'blend'\nschedule = 'constant'\nweights = [0.5]";
        assert!(message(sweep).contains("fusions.parents = c"));
    }
}
