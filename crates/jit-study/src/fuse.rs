//! A row of two models: they draw together, and what they draw is judged as each alone was.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use jit_core::files::write_bytes_atomic;
use jit_model::Device;
use jit_train::checkpoint::{Checkpoint, latest};
use jit_train::config::Role;
use jit_train::evaluation::EvalReport;
use jit_train::pair::Pair;
use jit_train::{Alone, TrainError, samples};

use crate::clock::now;
use crate::error::StudyError;
use crate::fusion::PlannedFusion;
use crate::images::Images;
use crate::layout;
use crate::plan::PlannedRun;
use crate::record::{Evaluation, Hardware, Outcome, Record};
use crate::worker::Study;

impl<D: Device> Study<'_, D> {
    /// Draws and judges one row, and writes its record and grid; `None` if `stop` was set meanwhile.
    pub(crate) fn fuse(
        &self,
        row: &PlannedFusion,
        parents: [&PlannedRun; 2],
        images: &mut Images,
        stop: &AtomicBool,
    ) -> Result<Option<Record>, StudyError> {
        let (started, clock) = (now(), Instant::now());
        let config = &parents[0].config;
        let in_data_set = images.of(config)?.len();
        let judge = images.judge(config)?;
        let dev = (self.device)(config.train.precision).map_err(StudyError::Device)?;
        let failed =
            |source: TrainError| StudyError::Fusion { row: row.label(), source: Box::new(source) };
        let mut evaluations = Vec::new();
        let ended = self.parents_ended(row)?;
        if let Outcome::Finished = ended {
            let [a, b] = parents.map(|run| self.checkpoint(run));
            let (a, b) = (a.map_err(failed)?, b.map_err(failed)?);
            let pair = Pair::open(&dev, (&a, Role::First), (&b, Role::First)).map_err(failed)?;
            let judged = pair.evaluate(judge, row.fusion(), stop).map_err(failed)?;
            let Some(report) = judged else { return Ok(None) };
            let (sampler, grid) = (pair.sampler(row.fusion()), format!("seed-{}.png", row.seed));
            let drawn = samples::draw(&Alone, &sampler, config, stop).map_err(failed)?;
            let Some(drawn) = drawn.here() else { return Ok(None) };
            let folder = layout::fused_folder(&self.dir, &row.cell);
            write_bytes_atomic(&folder.join(&grid), &drawn.png)?;
            evaluations.push(Evaluation {
                fraction: 1.0,
                weights: config.weights_name(),
                count: report.generated,
                samples: Some(grid),
                eval: EvalReport {
                    step: a.state.step,
                    epoch: config.epochs_before(a.state.step, in_data_set),
                    extractor: judge.extractor().into(),
                    seconds: clock.elapsed().as_secs_f64(),
                    report,
                },
            });
        }
        let record = Record {
            suite: self.plan.suite.name.clone(),
            cell: row.cell.clone(),
            seed: row.seed,
            title: row.title.clone(),
            command: self.repeat(&row.label()),
            config_hash: self.fused_hash(row, parents)?,
            hardware: Hardware::here(),
            precision: crate::worker::precision_name(&dev).into(),
            parameters: 0,
            flops_per_image: 0,
            steps: 0,
            images: 0,
            train_seconds: 0.0,
            eval_seconds: clock.elapsed().as_secs_f64(),
            started,
            finished: now(),
            outcome: ended,
            evaluations,
            last: None,
            fusion: Some(row.described()),
        };
        record.write(&layout::fused(&self.dir, &row.cell, row.seed))?;
        Ok(Some(record))
    }

    /// What a row is known by.
    pub(crate) fn fused_hash(
        &self,
        row: &PlannedFusion,
        [a, b]: [&PlannedRun; 2],
    ) -> Result<String, StudyError> {
        Ok(row.config_hash([&a.config_hash()?, &b.config_hash()?]))
    }

    /// Whether there are two models to draw with: a parent that diverged takes the row with it.
    fn parents_ended(&self, row: &PlannedFusion) -> Result<Outcome, StudyError> {
        for parent in &row.parents {
            let record = Record::read(&layout::record(&self.dir, parent, row.seed))?;
            if let Some(Outcome::Diverged { diverged_at, .. }) = record.map(|record| record.outcome)
            {
                let message = format!("`{parent}` diverged");
                return Ok(Outcome::Diverged { diverged_at, message });
            }
        }
        Ok(Outcome::Finished)
    }

    /// The last checkpoint of a run.
    fn checkpoint(&self, run: &PlannedRun) -> Result<Checkpoint, TrainError> {
        let dir = layout::run(&self.dir, &run.cell, run.seed).join("checkpoints");
        let found = latest(&dir)?;
        found.checkpoint.ok_or_else(|| TrainError::Damaged {
            path: dir,
            what: "holds no checkpoint; remove the run's folder to train it anew".into(),
        })
    }
}
