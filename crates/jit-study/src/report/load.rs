//! Reads a folder of runs. What cannot be read is named in the study's problems; only a folder
//! without any run is an error.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

use jit_core::files::FileError;
use jit_core::input;
use jit_core::text::Show;
use jit_train::evaluation::EvalReport;

use super::curve::Curve;
use super::study::{Cell, Judged, Run, Shot, Study};
use crate::layout;
use crate::record::{Outcome, Record, RecordError};
use crate::suite::{FusionSweep, Suite};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Neither a study nor a run.
    #[error(
        "`{dir}` holds no run: expected the folder of a study ({}) or of a run (config.toml and \
         metrics.jsonl)",
        "suite.toml, runs/<name>/seed-<n>/record.json"
    )]
    Nothing {
        /// The folder.
        dir: String,
    },
    /// A study in which nothing is finished.
    #[error("`{dir}` is a study of which no run is finished yet{}", .problems.first().map(|p| format!(": {p}")).unwrap_or_default())]
    Unfinished {
        /// The folder.
        dir: String,
        /// What was found instead.
        problems: Vec<String>,
    },
    /// A single run where a study is needed.
    #[error("`{dir}` is a single run: expected the folder of a study (suite.toml and runs/)")]
    NoStudy {
        /// The folder.
        dir: String,
    },
    /// A record that cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A page could not be put together.
    #[error("cannot lay out the report: {0}")]
    Layout(String),
}

/// No configuration or suite comes near this size.
const MAX_TEXT: u64 = 4 << 20;

/// Reads the study or the run in `dir`.
///
/// # Errors
/// [`ReportError::Nothing`] where there is neither, and [`ReportError::File`] when the folder cannot
/// be listed.
pub fn read(dir: &Path) -> Result<Study, ReportError> {
    let is_study = layout::suite(dir).exists() || dir.join("runs").is_dir();
    let is_run = dir.join("metrics.jsonl").exists() || dir.join("config.toml").exists();
    match (is_study, is_run) {
        (true, _) => read_study(dir),
        (false, true) => Ok(read_single(dir)),
        (false, false) => {
            fs::read_dir(dir).map_err(FileError::at("list", dir))?;
            Err(ReportError::Nothing { dir: dir.display().to_string() })
        }
    }
}

fn read_study(dir: &Path) -> Result<Study, ReportError> {
    let mut problems = Vec::new();
    let suite = match text(&layout::suite(dir)).map(|text| Suite::from_toml(&text)) {
        Ok(Ok(suite)) => Some(suite),
        Ok(Err(error)) => {
            problems.push(format!("suite.toml is no suite: {}", one_line(&error.to_string())));
            None
        }
        Err(error) => {
            problems.push(one_line(&error.to_string()));
            None
        }
    };
    let mut cells = Vec::new();
    let planned = suite.iter().flat_map(|suite| &suite.cells).map(|cell| cell.name.clone());
    for name in in_order(planned.collect(), &dir.join("runs"))? {
        let cell = read_cell(dir, &name, suite.as_ref(), &mut problems)?;
        cells.extend((!cell.runs.is_empty()).then_some(cell));
    }
    let mut fused = Vec::new();
    for name in in_order(Vec::new(), &dir.join("fused"))? {
        let cell = read_fused(dir, &name, &mut problems)?;
        fused.extend((!cell.runs.is_empty()).then_some(cell));
    }
    order_fused(&mut fused, suite.as_ref());
    if cells.is_empty() && fused.is_empty() {
        return Err(ReportError::Unfinished { dir: dir.display().to_string(), problems });
    }
    Ok(Study { suite, single: false, cells, fused, problems })
}

/// `first`, then the other folders in `dir` by name.
fn in_order(mut first: Vec<String>, dir: &Path) -> Result<Vec<String>, FileError> {
    let rest: Vec<String> = names(dir)?.into_iter().filter(|name| !first.contains(name)).collect();
    first.extend(rest);
    Ok(first)
}

/// The names in a folder, sorted; none where there is no folder.
fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::at("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(FileError::at("list", dir))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

/// By the suite's sweeps, then by the weight.
fn order_fused(fused: &mut [Cell], suite: Option<&Suite>) {
    let kind = |cell: &Cell| {
        cell.fusion().map(|f| (f.parents.clone(), f.mode.clone(), f.schedule.clone()))
    };
    let sweep = |cell: &Cell| {
        let sweeps = suite.map_or(&[][..], |suite| &suite.fusions);
        let of = |s: &FusionSweep| {
            (s.parents.clone(), s.mode.name().to_string(), s.schedule.name().to_string())
        };
        sweeps.iter().position(|s| Some(of(s)) == kind(cell)).unwrap_or(usize::MAX)
    };
    let weight = |cell: &Cell| cell.fusion().map_or(0.0, |fusion| fusion.weight);
    fused.sort_by(|a, b| {
        let by_sweep = sweep(a).cmp(&sweep(b)).then_with(|| kind(a).cmp(&kind(b)));
        by_sweep.then_with(|| weight(a).total_cmp(&weight(b)))
    });
}

fn read_cell(
    dir: &Path,
    name: &str,
    suite: Option<&Suite>,
    problems: &mut Vec<String>,
) -> Result<Cell, FileError> {
    let planned = suite.and_then(|suite| suite.cell(name));
    if let (Some(suite), None) = (suite, planned) {
        problems.push(format!("`{name}` is no experiment of the suite `{}`", suite.name));
    }
    let mut seeds: BTreeMap<u64, bool> = BTreeMap::new();
    if let (Some(suite), Some(_)) = (suite, planned) {
        seeds.extend(suite.seeds.iter().map(|seed| (*seed, true)));
    }
    for folder in names(&dir.join("runs").join(name))? {
        let seed = folder.strip_prefix("seed-").and_then(|seed| seed.parse().ok());
        if let Some(seed) = seed {
            seeds.entry(seed).or_insert(false);
        }
    }
    let mut runs = Vec::new();
    let mut missing = Vec::new();
    for seed in seeds.into_keys() {
        let path = layout::record(dir, name, seed);
        match Record::read(&path) {
            Ok(Some(record)) => {
                runs.push(run_of(layout::run(dir, name, seed), seed, record, problems))
            }
            Ok(None) => missing.push(seed.to_string()),
            Err(error) => problems.push(one_line(&error.to_string())),
        }
    }
    if !missing.is_empty() {
        problems.push(format!("`{name}` has no finished run with seed {}", missing.join(", ")));
    }
    let recorded = runs.iter().find_map(|run| run.record.as_ref());
    let title = recorded.map_or_else(|| name.to_string(), |record| record.title.clone());
    Ok(Cell {
        name: name.into(),
        title: planned.map_or(title, |cell| cell.title().to_string()),
        group: planned.map_or_else(String::new, |cell| cell.group.clone()),
        note: planned.map_or_else(String::new, |cell| cell.note.clone()),
        runs,
    })
}

fn read_fused(dir: &Path, name: &str, problems: &mut Vec<String>) -> Result<Cell, FileError> {
    let folder = dir.join("fused").join(name);
    let mut runs = Vec::new();
    for file in names(&folder)? {
        let seed = file.strip_prefix("seed-").and_then(|rest| rest.strip_suffix(".json"));
        let Some(seed) = seed.and_then(|seed| seed.parse::<u64>().ok()) else { continue };
        match Record::read(&layout::fused(dir, name, seed)) {
            Ok(Some(record)) => runs.push(judged_run(folder.clone(), seed, record)),
            Ok(None) => {}
            Err(error) => problems.push(one_line(&error.to_string())),
        }
    }
    runs.sort_by_key(|run| run.seed);
    let title = runs.iter().find_map(|run| run.record.as_ref()).map(|record| record.title.clone());
    let title = title.filter(|title| !title.is_empty()).unwrap_or_else(|| name.into());
    Ok(Cell { name: name.into(), title, group: String::new(), note: String::new(), runs })
}

/// What a record says by itself.
fn judged_run(dir: PathBuf, seed: u64, record: Record) -> Run {
    let diverged = match &record.outcome {
        Outcome::Finished => None,
        Outcome::Diverged { diverged_at, message } => Some((*diverged_at, message.clone())),
    };
    // Several weights may have been judged at a step: those of the last evaluation tell.
    let weights = record.evaluations.last().map(|last| last.weights.clone());
    let told = record.evaluations.iter().filter(|e| Some(&e.weights) == weights.as_ref());
    let (mut judged, mut shots) = (Vec::new(), Vec::new());
    for evaluation in told {
        let EvalReport { epoch, extractor, report, step, .. } = evaluation.eval.clone();
        judged.push(Judged { epoch, extractor, report });
        // A record may come from anywhere: no path leads out of its folder.
        let inside = |path: &&String| {
            Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
        };
        if let Some(path) = evaluation.samples.as_ref().filter(inside) {
            let order = (1e6 * evaluation.fraction) as u64;
            let label = format!("epoch {} (step {step})", short(epoch));
            shots.push(Shot { order, label, path: dir.join(path) });
        }
    }
    let per_t = record.last.as_ref().map_or_else(Vec::new, |last| last.per_t_bin.clone());
    let (curve, config) = (Curve::default(), toml::Table::new());
    Run { dir, seed, record: Some(record), diverged, judged, shots, per_t, curve, config }
}

/// A number with at most one digit after the point.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

/// What a record and the folder of its run say.
fn run_of(dir: PathBuf, seed: u64, record: Record, problems: &mut Vec<String>) -> Run {
    let mut run = judged_run(dir, seed, record);
    add_files(&mut run, problems);
    run
}

/// Reads the configuration and the losses of a run.
fn add_files(run: &mut Run, problems: &mut Vec<String>) {
    let path = run.dir.join("config.toml");
    match text(&path).map(|text| text.parse::<toml::Table>()) {
        Ok(Ok(config)) => run.config = config,
        Ok(Err(error)) => problems.push(format!(
            "`{}` is no configuration: {}",
            path.shown(),
            one_line(&error.to_string())
        )),
        Err(error) => problems.push(one_line(&error.to_string())),
    }
    let path = run.dir.join("metrics.jsonl");
    let read = |file| Curve::read(BufReader::new(file)).map_err(FileError::at("read", &path));
    match input::open(&path).and_then(read) {
        Ok(curve) => {
            if curve.damaged > 0 {
                let lines = if curve.damaged == 1 { "line is" } else { "lines are" };
                problems.push(format!(
                    "`{}`: {} {lines} damaged and left out",
                    path.shown(),
                    curve.damaged
                ));
            }
            run.curve = curve;
        }
        Err(error) => problems.push(error.to_string()),
    }
}

/// The folder of a run as a study of its own.
fn read_single(dir: &Path) -> Study {
    let mut problems = Vec::new();
    let record = Record::read(&dir.join(layout::RECORD)).unwrap_or_else(|error| {
        problems.push(one_line(&error.to_string()));
        None
    });
    let name = dir
        .canonicalize()
        .ok()
        .and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
    let name = name.unwrap_or_else(|| "run".into());
    let mut run = match record {
        Some(record) => judged_run(dir.into(), record.seed, record),
        None => Run {
            dir: dir.into(),
            seed: 0,
            record: None,
            diverged: None,
            judged: evaluations(dir, &mut problems),
            shots: Vec::new(),
            per_t: Vec::new(),
            curve: Curve::default(),
            config: toml::Table::new(),
        },
    };
    add_files(&mut run, &mut problems);
    if run.shots.is_empty() {
        run.shots = grids(&dir.join("samples"), &mut problems);
    }
    if run.per_t.is_empty() {
        run.per_t = run.curve.per_t();
    }
    let seed = run.config.get("train").and_then(|train| train.get("seed")?.as_integer());
    run.seed = seed.map_or(run.seed, |seed| seed as u64);
    let cell = Cell {
        title: name.clone(),
        name,
        group: String::new(),
        note: String::new(),
        runs: vec![run],
    };
    Study { suite: None, single: true, cells: vec![cell], fused: Vec::new(), problems }
}

/// The lines of `evals.jsonl`; a run without evaluations has none.
fn evaluations(dir: &Path, problems: &mut Vec<String>) -> Vec<Judged> {
    let path = dir.join("evals.jsonl");
    let text = match text(&path) {
        Ok(text) => text,
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(one_line(&error.to_string()));
            return Vec::new();
        }
    };
    let mut judged = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match serde_json::from_str::<EvalReport>(line) {
            Ok(EvalReport { epoch, extractor, report, .. }) => {
                judged.push(Judged { epoch, extractor, report })
            }
            Err(error) => problems.push(format!("`{}`, line {number}: {error}", path.shown())),
        }
    }
    judged
}

/// The grids that training has left in `dir`.
fn grids(dir: &Path, problems: &mut Vec<String>) -> Vec<Shot> {
    let names = names(dir).unwrap_or_else(|error| {
        problems.push(error.to_string());
        Vec::new()
    });
    let shot = |name: String| {
        let step: u64 = name.strip_prefix("step-")?.strip_suffix(".png")?.parse().ok()?;
        Some(Shot { order: step, label: format!("step {step}"), path: dir.join(name) })
    };
    let mut shots: Vec<Shot> = names.into_iter().filter_map(shot).collect();
    shots.sort_by_key(|shot| shot.order);
    shots
}

/// A file of text.
fn text(path: &Path) -> Result<String, FileError> {
    input::read_text(path, MAX_TEXT)
}

/// An error's words without the excerpt that follows them.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
