//! What a report is made of: experiments, their runs, and what could not be read.

use std::path::PathBuf;

use jit_eval::Report;

use super::curve::Curve;
use super::metric::Metric;
use crate::record::{Fusion, Record, TBin};
use crate::suite::Suite;

/// A folder of runs, read.
#[derive(Clone, Debug)]
pub struct Study {
    /// What was to be compared; none for a single run, or where the file is missing or damaged.
    pub suite: Option<Suite>,
    /// Whether this is one run and no comparison.
    pub single: bool,
    /// The experiments in the suite's order.
    pub cells: Vec<Cell>,
    /// Pairs of experiments drawing together.
    pub fused: Vec<Cell>,
    /// What is missing, damaged or unexpected, for whoever reads the report.
    pub problems: Vec<String>,
}

/// An experiment: runs that differ in the seed alone.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its short name.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// Experiments of a group are shown together.
    pub group: String,
    /// What a reader should know.
    pub note: String,
    /// Its runs by seed.
    pub runs: Vec<Run>,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its folder.
    pub dir: PathBuf,
    /// Its seed.
    pub seed: u64,
    /// Cost, machine and command; none for a run outside of a study.
    pub record: Option<Record>,
    /// The step and the reason, if something was no finite number any more.
    pub diverged: Option<(u64, String)>,
    /// What its images were worth along training.
    pub judged: Vec<Judged>,
    /// Grids of its images along training.
    pub shots: Vec<Shot>,
    /// Diffusion loss by t at the end.
    pub per_t: Vec<TBin>,
    /// Losses along training.
    pub curve: Curve,
    /// Its configuration.
    pub config: toml::Table,
}

/// Metrics of one step.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Passes over the data done.
    pub epoch: f64,
    /// The network that judged.
    pub extractor: String,
    /// The metrics.
    pub report: Report,
}

/// A grid of images of one step.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Where it stands along the run; equal for the same place in another run.
    pub order: u64,
    /// The step or epoch in words.
    pub label: String,
    /// The PNG file.
    pub path: PathBuf,
}

impl Run {
    /// Height and width of its images, as its configuration says.
    pub fn image_size(&self) -> Option<usize> {
        self.config.get("model")?.get("image_size")?.as_integer()?.try_into().ok()
    }
}

impl Study {
    /// The experiment that others are compared with.
    pub fn baseline(&self) -> Option<&Cell> {
        let named = self.suite.as_ref().and_then(|suite| suite.baseline());
        named.map_or(self.cells.first(), |name| self.cells.iter().find(|cell| cell.name == name))
    }

    /// The experiments by their groups, in order.
    pub fn groups(&self) -> Vec<(&str, Vec<&Cell>)> {
        let mut groups: Vec<(&str, Vec<&Cell>)> = Vec::new();
        for cell in &self.cells {
            match groups.iter_mut().find(|(group, _)| *group == cell.group) {
                Some((_, cells)) => cells.push(cell),
                None => groups.push((&cell.group, vec![cell])),
            }
        }
        groups
    }

    /// All experiments, fused ones too.
    pub fn all(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().chain(&self.fused)
    }
}

impl Cell {
    /// The runs that came to their end.
    pub fn finished(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.diverged.is_none())
    }

    /// The number of runs that did not, for something was no finite number any more.
    pub fn diverged(&self) -> usize {
        self.runs.len() - self.finished().count()
    }

    /// A metric at the end of each finished run, with its seed.
    pub fn values(&self, metric: &Metric) -> Vec<(u64, f64)> {
        let of = |run: &Run| Some((run.seed, metric.of(&run.judged.last()?.report)?));
        self.finished().filter_map(of).collect()
    }

    /// Which models draw together, and how.
    pub fn fusion(&self) -> Option<&Fusion> {
        self.runs.iter().find_map(|run| run.record.as_ref()?.fusion.as_ref())
    }
}
