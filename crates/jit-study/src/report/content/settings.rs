//! What the runs' configurations differ in, and what is the same in all.

use std::collections::BTreeMap;

use jit_train::RunConfig;

use super::super::document::{Listing, Part};
use super::super::study::{Cell, Run, Study};
use super::super::table::{Entry, Table, words};
use super::{counted, paragraph};
use crate::settings::leaves;

/// The option that the seeds of an experiment differ in.
const SEED: &str = "train.seed";

/// Options by their full name.
type Options = BTreeMap<String, String>;

/// The differing options as a table, the common ones as a listing.
pub fn parts(study: &Study) -> Vec<Part> {
    if study.single {
        return study.cells[0].runs.first().map(against_defaults).unwrap_or_default();
    }
    let known = |cell: &&Cell| cell.runs.iter().any(|run| !run.config.is_empty());
    let cells: Vec<&Cell> = study.cells.iter().filter(known).collect();
    let options: Vec<Options> = cells.iter().map(|cell| of_cell(cell)).collect();
    let mut names: Vec<&String> = options.iter().flat_map(|options| options.keys()).collect();
    names.sort();
    names.dedup();
    let same =
        |name: &&String| options.windows(2).all(|pair| pair[0].get(*name) == pair[1].get(*name));
    let (common, differing): (Vec<&String>, Vec<&String>) = names.into_iter().partition(same);
    if cells.is_empty() {
        return Vec::new();
    }
    let mut parts = Vec::new();
    if !differing.is_empty() {
        let mut columns = vec![words("experiment")];
        columns.extend(differing.iter().map(|name| words(name)));
        let row = |(cell, options): (&&Cell, &Options)| {
            let value =
                |name: &&String| options.get(*name).map_or_else(Entry::missing, Entry::code);
            let mut row = vec![Entry::words(cell.name.clone())];
            row.extend(differing.iter().map(value));
            row
        };
        let rows = cells.iter().zip(&options).map(row).collect();
        let caption = "Options in which the experiments differ".into();
        let table = Table { id: "settings".into(), caption, notes: Vec::new(), columns, rows };
        parts.push(Part::Table(table));
    }
    let uneven = cells.iter().filter(|cell| !is_even(cell)).map(|cell| format!("`{}`", cell.name));
    let uneven: Vec<String> = uneven.collect();
    parts.push(paragraph(match uneven.is_empty() {
        true => format!(
            "Every run has the same value of the other {}, and runs of one experiment differ in \
             {SEED} alone.",
            counted(common.len(), "option")
        ),
        false => format!(
            "Runs of {} differ in more than {SEED}: their means compare what is not alike.",
            uneven.join(", ")
        ),
    }));
    let line =
        |name: &&String| format!("{name} = {}", options[0].get(*name).map_or("", String::as_str));
    let lines = common.iter().filter(|name| **name != SEED).map(line).collect();
    let caption = "Options that are the same in all runs".into();
    parts.push(Part::Listing(Listing { caption, lines, folded: true }));
    parts
}

/// The options of an experiment's first run, without the seed.
fn of_cell(cell: &Cell) -> Options {
    let known = cell.runs.iter().find(|run| !run.config.is_empty());
    known.map(without_seed).unwrap_or_default()
}

fn without_seed(run: &Run) -> Options {
    let mut options = flattened(&run.config);
    options.remove(SEED);
    options
}

/// Whether its runs differ in the seed alone.
fn is_even(cell: &Cell) -> bool {
    let runs = cell.runs.iter().filter(|run| !run.config.is_empty()).map(without_seed);
    runs.collect::<Vec<_>>().windows(2).all(|pair| pair[0] == pair[1])
}

/// The options of a single run that are not the default.
fn against_defaults(run: &Run) -> Vec<Part> {
    let defaults = RunConfig::default().to_toml().ok().and_then(|text| text.parse().ok());
    let defaults = flattened(&defaults.unwrap_or_default());
    let changed = flattened(&run.config).into_iter();
    let changed = changed.filter(|(name, value)| defaults.get(name) != Some(value));
    let rows: Vec<Vec<Entry>> = changed
        .map(|(name, value)| {
            let default = defaults.get(&name).map_or_else(Entry::missing, Entry::code);
            vec![Entry::code(name), Entry::code(value), default]
        })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let columns = ["option", "value", "default"].map(words).to_vec();
    let caption = "Options that are not the default".into();
    vec![Part::Table(Table { id: "settings".into(), caption, notes: Vec::new(), columns, rows })]
}

/// Name and value of each option of a configuration.
fn flattened(table: &toml::Table) -> Options {
    leaves(table).into_iter().map(|(name, value)| (name, value.to_string())).collect()
}
