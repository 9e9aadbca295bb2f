//! A suite: what is compared with what, as a TOML file.
//!
//! ```toml
//! name = "depth"
//! title = "Does depth pay?"
//! preset = "digits"
//! seeds = [0, 1, 2]
//!
//! [base]
//! train.max_steps = 300
//!
//! [[cells]]
//! name = "shallow"
//! set.model.depth = 2
//!
//! [[cells]]
//! name = "deep"
//! set.model.depth = 6
//! ```

use jit_model::fusion::FusionMode;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::fusion::Shape;

/// What is compared. The effective suite in a study's folder has every option of a run in `base`,
/// and its axes written out as cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// A short name, also of folders.
    pub name: String,
    /// A heading.
    pub title: String,
    /// What the study asks, in a few sentences.
    #[serde(default)]
    pub description: String,
    /// The cell that others are compared with; the first where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// The preset under the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Seeds of the training; each cell is run with each.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// Images of the data set, for the estimate of the cost where they are not at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// When and how the runs are judged.
    #[serde(default)]
    pub evaluation: EvaluationPlan,
    /// Options that all runs share.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub base: Table,
    /// What is varied, each with a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<Cell>,
    /// What is varied, as a grid: every value of the first axis with every one of the second, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axes: Vec<Axis>,
    /// Pairs of cells that draw together, once both are trained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fusions: Vec<FusionSweep>,
    /// Figures that were published for the same cells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Where these come from and what must be said of them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub published_note: String,
}

fn one_seed() -> Vec<u64> {
    vec![0]
}

/// A variant: named settings over the base.
#[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// A short name, also of a folder.
    pub name: String,
    /// A heading; the name where it is empty.
    #[serde(default)]
    pub title: String,
    /// Cells of a group are shown together.
    #[serde(default)]
    pub group: String,
    /// What a reader should know.
    #[serde(default)]
    pub note: String,
    /// The settings, as in a configuration file.
    #[serde(default)]
    pub set: Table,
}

impl Cell {
    /// The heading.
    pub fn title(&self) -> &str {
        if self.title.is_empty() { &self.name } else { &self.title }
    }
}

/// An option and the values that it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// The option: `model.patch_size`.
    pub option: String,
    /// Its values.
    pub values: Vec<Value>,
    /// What it is called in headings; the option's own name where it is empty.
    #[serde(default)]
    pub label: String,
    /// Whether cells with the same value form a group.
    #[serde(default)]
    pub group: bool,
}

/// When and how the runs are judged: with the same noise and labels for all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationPlan {
    /// The shares of a run after which it is judged and a sample grid drawn.
    pub fractions: Vec<f64>,
    /// Images drawn each time.
    pub count: usize,
    /// Images in a sample grid.
    pub samples: usize,
    /// Seed of their noise.
    pub seed: u64,
}

impl Default for EvaluationPlan {
    /// The epochs of the paper's figures: 100, 300, 600, 900 and 999 of 1000.
    fn default() -> Self {
        Self { fractions: vec![0.1, 0.3, 0.6, 0.9, 1.0], count: 1000, samples: 40, seed: 0 }
    }
}

/// Two cells that draw together, with a sweep over the weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionSweep {
    /// A short name; the weight is appended to it.
    pub name: String,
    /// A heading; the name where it is empty.
    #[serde(default)]
    pub title: String,
    /// The two cells.
    pub parents: [String; 2],
    /// `blend`, (1 − w)·A + w·B, or `guide`, A + w·(A − B).
    pub mode: FusionMode,
    /// How the weight varies with t: `constant`, `rising`, `falling`, `early` or `late`.
    pub schedule: Shape,
    /// The weights w, each a row.
    pub weights: Vec<f32>,
}

/// Figures that were published for a cell, with the columns under their right names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The cell.
    pub cell: String,
    /// Fréchet inception distance.
    pub fid: Option<f64>,
    /// Inception score.
    pub inception_score: Option<f64>,
    /// Kernel inception distance.
    pub kid: Option<f64>,
    /// Precision.
    pub precision: Option<f64>,
    /// Recall.
    pub recall: Option<f64>,
}

impl Suite {
    /// A suite from TOML text.
    ///
    /// # Errors
    /// On syntax errors, unknown keys and wrong types, with the place in the text.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// This suite as TOML text.
    ///
    /// # Errors
    /// When a value does not fit TOML, such as a seed beyond its integers.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// The name of the cell that others are compared with; `None` without cells.
    pub fn baseline(&self) -> Option<&str> {
        self.baseline.as_deref().or_else(|| self.cells.first().map(|cell| &*cell.name))
    }

    /// The cell of this name.
    pub fn cell(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPTH: &str = r#"
name = "depth"
title = "Does depth pay?"
preset = "digits"
seeds = [0, 1]
[base]
train.max_steps = 300
[[cells]]
name = "shallow"
set.model.depth = 2
[[cells]]
name = "deep"
title = "Six blocks"
set.model.depth = 6
[[published]]
cell = "deep"
fid = 3.5
"#;

    #[test]
    fn a_suite_reads_back_as_it_was() {
        let suite = Suite::from_toml(DEPTH).unwrap();
        assert_eq!(suite.evaluation, EvaluationPlan::default());
        assert_eq!(suite.baseline(), Some("shallow"));
        assert_eq!(suite.cell("shallow").unwrap().title(), "shallow");
        let deep = suite.cell("deep").unwrap();
        assert_eq!((deep.title(), &deep.set["model"]["depth"]), ("Six blocks", &6.into()));
        assert_eq!(suite.published[0].kid, None);
        assert_eq!(Suite::from_toml(&suite.to_toml().unwrap()).unwrap(), suite);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let message = Suite::from_toml("name = 'a'\ntitle = 'b'\nsede = [1]").unwrap_err();
        assert!(message.to_string().contains("sede"), "{message}");
    }
}
