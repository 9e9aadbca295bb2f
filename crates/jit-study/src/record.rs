//! What came out of a run: all that a table or a figure needs, in one small file, without the
//! weights. Written once, when the run and its evaluations are done.

use std::path::Path;

use jit_core::files::{FileError, write_bytes_atomic};
use jit_core::input;
use jit_train::evaluation::EvalReport;
use serde::{Deserialize, Serialize};

/// A finished row of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The suite's name.
    pub suite: String,
    /// The cell's name: what was varied.
    pub cell: String,
    /// Seed of the training.
    pub seed: u64,
    /// The cell as a heading.
    pub title: String,
    /// A shell command that repeats the row.
    pub command: String,
    /// SHA-256 of the effective configuration, in hex.
    pub config_hash: String,
    /// Where it was computed.
    pub hardware: Hardware,
    /// Precision of the linear layers: `f32` or `bf16`.
    pub precision: String,
    /// Trained and fixed parameters.
    pub parameters: u64,
    /// Operations of a training step for one image.
    pub flops_per_image: u64,
    /// Optimizer steps done; of a fused row 0, and likewise below.
    pub steps: u64,
    /// Images trained on.
    pub images: u64,
    /// Seconds spent on training steps.
    pub train_seconds: f64,
    /// Seconds spent on drawing and judging images.
    pub eval_seconds: f64,
    /// When the run was started, RFC 3339 in UTC.
    pub started: String,
    /// When it was finished.
    pub finished: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The evaluations along training, in order; of a fused row one.
    pub evaluations: Vec<Evaluation>,
    /// The training loss at the end; none where no step was done.
    #[serde(rename = "final")]
    pub last: Option<FinalLoss>,
    /// Of two models that draw together, which and how.
    pub fusion: Option<Fusion>,
}

/// How a run ended: `"outcome": "finished"`, or `"diverged"` with two more keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// All steps were done.
    Finished,
    /// Something was no finite number any more: a result, too.
    Diverged {
        /// The optimizer step, from 1.
        diverged_at: u64,
        /// What it was.
        message: String,
    },
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// The processor's name, `unknown` where the system does not tell.
    pub processor: String,
    /// The instruction set of the kernels.
    pub kernels: String,
    /// Threads computed with.
    pub threads: usize,
    /// The machine's memory; 0 where the system does not tell.
    pub memory_bytes: u64,
}

/// Images of one step, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Step, epoch, extractor, seconds and metrics, as a line of `evals.jsonl` has them.
    #[serde(flatten)]
    pub eval: EvalReport,
    /// The share of the run that was done.
    pub fraction: f64,
    /// The weights that drew: `ema-0.999`, or `model`.
    pub weights: String,
    /// Images drawn.
    pub count: usize,
    /// The sample grid of this step, relative to the record's folder; none where none was drawn.
    pub samples: Option<String>,
}

/// The training loss at the end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinalLoss {
    /// Mean total loss over the last 5 % of the steps.
    pub loss: f64,
    /// Mean diffusion loss over the same steps.
    pub diffusion: f64,
    /// Mean diffusion loss by t over the same steps; bins without images are left out.
    pub per_t_bin: Vec<TBin>,
}

/// The mean loss of the images with t in `[low, high)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TBin {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Mean diffusion loss.
    pub loss: f64,
}

/// Two models drawing together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fusion {
    /// The cells whose runs of the same seed draw.
    pub parents: [String; 2],
    /// How their predictions meet: `blend`, (1 − w)·A + w·B, or `guide`, A + w·(A − B).
    pub mode: String,
    /// How the weight varies with t: `constant`, `rising`, `falling`, `early` or `late`, as
    /// [`crate::fusion::Shape`] says.
    pub schedule: String,
    /// The weight w.
    pub weight: f64,
}

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a record.
    #[error(
        "`{path}` is no record of a run: {source}; remove it, and the command that wrote it writes \
         it anew"
    )]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// No record comes near this size.
const MAX_BYTES: u64 = 16 << 20;

impl Record {
    /// Reads a record; `None` where there is none.
    ///
    /// # Errors
    /// [`RecordError`] for a file that cannot be read or is no record.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        let text = match input::read_text(path, MAX_BYTES) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let record = serde_json::from_str(&text);
        record.map(Some).map_err(|source| {
            let path = path.display().to_string();
            RecordError::Malformed { path, source }
        })
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// [`RecordError`] when the file system refuses.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let text = serde_json::to_string_pretty(self).map_err(|source| {
            let path = path.display().to_string();
            RecordError::Malformed { path, source }
        })?;
        Ok(write_bytes_atomic(path, (text + "\n").as_bytes())?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use jit_eval::{Report, Score};

    pub(crate) fn example() -> Record {
        let score = |mean| Some(Score { mean, spread: 0.25 });
        let report = Report {
            generated: 500,
            real: 8000,
            fid: score(12.5),
            inception_score: None,
            kid: score(0.125),
            precision: score(0.75),
            recall: score(0.5),
            class_accuracy: score(0.875),
        };
        let extractor = "digits".to_string();
        let eval = EvalReport { step: 30, epoch: 1.5, extractor, seconds: 2.5, report };
        Record {
            suite: "paper".into(),
            cell: "exp1".into(),
            seed: 2,
            title: "SiLU embedding, bottleneck MLP".into(),
            command: "jit ablate --suite paper --only exp1/seed-2 --out again".into(),
            config_hash: "ab".repeat(32),
            hardware: Hardware {
                processor: "unknown".into(),
                kernels: "avx2".into(),
                threads: 2,
                memory_bytes: 1 << 33,
            },
            precision: "bf16".into(),
            parameters: 1000,
            flops_per_image: 2000,
            steps: 300,
            images: 19_200,
            train_seconds: 10.5,
            eval_seconds: 2.5,
            started: "2026-01-02T03:04:05Z".into(),
            finished: "2026-01-02T03:05:05Z".into(),
            outcome: Outcome::Finished,
            evaluations: vec![Evaluation {
                eval,
                fraction: 0.1,
                weights: "ema-0.99".into(),
                count: 500,
                samples: Some("samples/step-00000030.png".into()),
            }],
            last: Some(FinalLoss {
                loss: 0.5,
                diffusion: 0.25,
                per_t_bin: vec![TBin { low: 0.1, high: 0.2, loss: 0.25 }],
            }),
            fusion: None,
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a").join("record.json");
        assert_eq!(Record::read(&path).unwrap(), None);
        let finished = example();
        finished.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(finished.clone()));
        let (diverged_at, message) = (7, "the loss is not a finite number".to_string());
        let fusion = Fusion {
            parents: ["baseline".into(), "exp1".into()],
            mode: "blend".into(),
            schedule: "rising".into(),
            weight: 0.5,
        };
        let diverged = Record {
            outcome: Outcome::Diverged { diverged_at, message },
            last: None,
            fusion: Some(fusion),
            ..finished
        };
        diverged.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(diverged));
    }

    #[test]
    fn the_file_has_the_keys_that_readers_know() {
        let json = serde_json::to_value(example()).unwrap();
        assert_eq!(json["outcome"], "finished");
        assert_eq!(json["final"]["per_t_bin"][0]["high"], 0.2);
        let evaluation = &json["evaluations"][0];
        assert_eq!((&evaluation["step"], &evaluation["count"]), (&30.into(), &500.into()));
        assert_eq!(evaluation["fid"]["mean"], 12.5);
        assert_eq!(evaluation["samples"], "samples/step-00000030.png");
        let message = String::from("the loss");
        let outcome = Outcome::Diverged { diverged_at: 7, message };
        let json = serde_json::to_value(Record { outcome, ..example() }).unwrap();
        assert_eq!((&json["outcome"], &json["diverged_at"]), (&"diverged".into(), &7.into()));
    }

    #[test]
    fn a_file_that_is_no_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        std::fs::write(&path, "{\"suite\": 3}").unwrap();
        let message = Record::read(&path).unwrap_err().to_string();
        assert!(message.contains("record.json` is no record of a run"), "{message}");
    }
}
