//! Rows of two models that draw together: a sweep over the weight, planned for every seed.

use jit_model::fusion::{Fusion, FusionError, FusionMode, WeightSchedule};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::StudyError;
use crate::record;
use crate::suite::{FusionSweep, Suite};

/// How the weight w of a sweep varies from noise, t = 0, to image, t = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// w throughout.
    Constant,
    /// From 0 to w in a straight line.
    Rising,
    /// From w to 0 in a straight line.
    Falling,
    /// w up to t = 0.5, then 0.
    Early,
    /// 0 up to t = 0.5, then w.
    Late,
}

impl Shape {
    /// The weight along t.
    pub fn schedule(self, w: f32) -> WeightSchedule {
        match self {
            Self::Constant => WeightSchedule::Constant(w),
            Self::Rising => WeightSchedule::Ramp { from: 0.0, to: w },
            Self::Falling => WeightSchedule::Ramp { from: w, to: 0.0 },
            Self::Early => WeightSchedule::Step { from: w, to: 0.0, at: 0.5 },
            Self::Late => WeightSchedule::Step { from: 0.0, to: w, at: 0.5 },
        }
    }

    /// Its name in suites and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Rising => "rising",
            Self::Falling => "falling",
            Self::Early => "early",
            Self::Late => "late",
        }
    }
}

/// One row of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedFusion {
    /// Its name, also of a folder.
    pub cell: String,
    /// A heading.
    pub title: String,
    /// The seed of both parents' training.
    pub seed: u64,
    /// The parents' cells.
    pub parents: [String; 2],
    /// How their predictions meet.
    pub mode: FusionMode,
    /// How the weight varies.
    pub shape: Shape,
    /// The weight.
    pub weight: f32,
}

impl PlannedFusion {
    /// The rows of a suite's sweeps: those of the first seed, then of the second, and so on.
    ///
    /// # Errors
    /// [`StudyError::Weight`] for a blend beyond its two models.
    pub fn all(suite: &Suite) -> Result<Vec<Self>, StudyError> {
        let mut rows = Vec::new();
        for &seed in &suite.seeds {
            for sweep in &suite.fusions {
                for &weight in &sweep.weights {
                    let row = Self::of(sweep, weight, seed);
                    let source = |source: FusionError| StudyError::Weight {
                        sweep: sweep.name.clone(),
                        source,
                    };
                    row.fusion().validate().map_err(source)?;
                    rows.push(row);
                }
            }
        }
        Ok(rows)
    }

    fn of(sweep: &FusionSweep, weight: f32, seed: u64) -> Self {
        let heading = if sweep.title.is_empty() { &sweep.name } else { &sweep.title };
        Self {
            cell: format!("{}-{weight}", sweep.name),
            title: format!("{heading}, weight {weight}"),
            seed,
            parents: sweep.parents.clone(),
            mode: sweep.mode,
            shape: sweep.schedule,
            weight,
        }
    }

    /// `blend-0.5/seed-2`
    pub fn label(&self) -> String {
        format!("{}/seed-{}", self.cell, self.seed)
    }

    /// How the two draw.
    pub fn fusion(&self) -> Fusion {
        Fusion { mode: self.mode, weight: self.shape.schedule(self.weight) }
    }

    /// The same for a record.
    pub fn described(&self) -> record::Fusion {
        record::Fusion {
            parents: self.parents.clone(),
            mode: self.mode.name().into(),
            schedule: self.shape.name().into(),
            // By way of text: 0.1, not 0.10000000149011612.
            weight: self.weight.to_string().parse().unwrap_or(f64::from(self.weight)),
        }
    }

    /// SHA-256 over all that decides the row: both parents' options, and how they draw.
    pub fn config_hash(&self, parents: [&str; 2]) -> String {
        let Fusion { weight, .. } = self.fusion();
        let [a, b] = parents;
        let text = format!("{a}\n{b}\n{}\n{weight}\n", self.mode.name());
        jit_core::hex(&Sha256::digest(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(sweep: &str) -> Result<Vec<PlannedFusion>, StudyError> {
        let text = format!(
            "name = 's'\ntitle = 'S'\nseeds = [0, 1]\n[[cells]]\nname = 'a'\n[[cells]]\nname = 'b'\n\
             [[fusions]]\nname = 'mix'\nparents = ['a', 'b']\n{sweep}"
        );
        PlannedFusion::all(&Suite::from_toml(&text).unwrap())
    }

    #[test]
    fn a_sweep_has_a_row_for_each_weight_and_seed() {
        let rows = rows("mode = 'blend'\nschedule = 'rising'\nweights = [0.1, 1.0]").unwrap();
        let labels: Vec<String> = rows.iter().map(PlannedFusion::label).collect();
        assert_eq!(labels, ["mix-0.1/seed-0", "mix-1/seed-0", "mix-0.1/seed-1", "mix-1/seed-1"]);
        let ramp = WeightSchedule::Ramp { from: 0.0, to: 0.1 };
        assert_eq!(rows[0].fusion(), Fusion { mode: FusionMode::Blend, weight: ramp });
        let told = rows[0].described();
        assert_eq!((&*told.mode, &*told.schedule, told.weight), ("blend", "rising", 0.1));
        assert_ne!(rows[0].config_hash(["x", "y"]), rows[1].config_hash(["x", "y"]));
        assert_ne!(rows[0].config_hash(["x", "y"]), rows[0].config_hash(["x", "z"]));
        assert_eq!(rows[0].config_hash(["x", "y"]), rows[2].config_hash(["x", "y"]));
    }

    #[test]
    fn a_blend_stays_between_its_parents() {
        let message = rows("mode = 'blend'\nschedule = 'late'\nweights = [1.5]").unwrap_err();
        assert!(
            message.to_string().starts_with("fusion `mix`: fusion.weight = 0..1.5@0.5"),
            "{message}"
        );
        assert!(rows("mode = 'guide'\nschedule = 'late'\nweights = [1.5]").is_ok());
    }

    #[test]
    fn shapes_vary_along_t() {
        use Shape::{Constant, Early, Falling, Late, Rising};
        let ends = |shape: Shape| [0.0, 0.25, 0.75, 1.0].map(|t| shape.schedule(2.0).at(t));
        assert_eq!(ends(Constant), [2.0; 4]);
        assert_eq!(ends(Rising), [0.0, 0.5, 1.5, 2.0]);
        assert_eq!(ends(Falling), [2.0, 1.5, 0.5, 0.0]);
        assert_eq!(ends(Early), [2.0, 2.0, 0.0, 0.0]);
        assert_eq!(ends(Late), [0.0, 0.0, 2.0, 2.0]);
        for shape in [Constant, Rising, Falling, Early, Late] {
            let json = serde_json::to_value(shape).unwrap();
            assert_eq!(json.as_str(), Some(shape.name()));
        }
    }
}
