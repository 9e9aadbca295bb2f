//! One process that works on a study: it takes the next run that nobody has finished and nobody
//! holds, until there is none.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use jit_model::Device;
use jit_model::device::Precision;
use jit_train::config::PrecisionChoice;
use jit_train::evaluation::EvalReport;
use jit_train::{Observer, StepReport, TrainError, train};

use crate::claim::{Claim, Holder, claim};
use crate::collect::{Ending, collect};
use crate::error::StudyError;
use crate::estimate::Estimate;
use crate::images::Images;
use crate::layout;
use crate::observer::StudyObserver;
use crate::plan::{Plan, PlannedRun};
use crate::progress::Progress;
use crate::record::{Outcome, Record};

/// Time between two looks at runs that others hold.
const PATIENCE: Duration = Duration::from_millis(500);

/// How a process's work on a study ended, if not by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every run has its record.
    Finished,
    /// It was asked to stop; the same command goes on.
    Stopped,
}

/// A study and how to work on it.
pub struct Study<'a, D: Device> {
    /// Its folder.
    pub dir: PathBuf,
    /// Its runs.
    pub plan: Plan,
    /// The command that repeats a run, up to the run's name.
    pub command: String,
    /// Makes the device for a run.
    pub device: &'a dyn Fn(PrecisionChoice) -> D,
}

impl<D: Device> Study<'_, D> {
    /// Works until every run of the plan has its record, whoever writes it, or until `stop` is set.
    ///
    /// A run whose numbers cease to be finite has its record, too, and the study goes on.
    ///
    /// # Errors
    /// [`StudyError`] for whatever else a run fails on; finished runs keep their records.
    pub fn work(
        &self,
        observer: &mut dyn StudyObserver,
        stop: &AtomicBool,
    ) -> Result<Ended, StudyError> {
        let mut images = Images::default();
        let mut work = Vec::new();
        for run in &self.plan.runs {
            let dataset = images.of(&run.config)?;
            work.push(Estimate::of(&run.config, dataset.len()));
        }
        let total = work.iter().map(Estimate::flops).sum();
        let mut progress = Progress::new(self.plan.runs.len(), total);
        loop {
            let mut held: Vec<(String, Holder)> = Vec::new();
            let mut worked = false;
            for (run, estimate) in self.plan.runs.iter().zip(&work) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(Ended::Stopped);
                }
                if self.is_finished(run)? {
                    continue;
                }
                match claim(&layout::run(&self.dir, &run.cell, run.seed))? {
                    Err(holder) => held.push((run.label(), holder)),
                    // Whoever held it may have finished it just now.
                    Ok(_) if self.is_finished(run)? => {}
                    Ok(claim) => {
                        worked = true;
                        let (finished, done) = self.finished(&work)?;
                        progress.look(finished, done, held.len());
                        observer.run_started(run, &progress);
                        let mut relay =
                            Relay { run, estimate, observer, progress: &mut progress, steps: 0 };
                        let dataset = images.of(&run.config)?;
                        match self.carry_out(run, &claim, dataset, &mut relay, stop)? {
                            None => return Ok(Ended::Stopped),
                            Some(record) => {
                                let (finished, done) = self.finished(&work)?;
                                progress.look(finished, done, held.len());
                                observer.run_finished(run, &record, &progress);
                            }
                        }
                    }
                }
            }
            let (finished, done) = self.finished(&work)?;
            progress.look(finished, done, held.len());
            if finished == self.plan.runs.len() {
                return Ok(Ended::Finished);
            }
            // Runs that others hold may come free, should these die.
            if !worked {
                observer.waiting(&held, &progress);
                sleep(PATIENCE);
            }
        }
    }

    /// Trains and judges one run, and writes its record; `None` if `stop` was set meanwhile.
    fn carry_out(
        &self,
        run: &PlannedRun,
        claim: &Claim,
        dataset: std::sync::Arc<jit_data::Dataset>,
        relay: &mut Relay<'_>,
        stop: &AtomicBool,
    ) -> Result<Option<Record>, StudyError> {
        let dir = layout::run(&self.dir, &run.cell, run.seed);
        let dev = (self.device)(run.config.train.precision);
        let total = run.config.total_steps(dataset.len());
        let outcome = match train(&dev, &dir, run.config.clone(), dataset, relay, stop) {
            Ok(jit_train::Outcome::Finished { .. }) => Outcome::Finished,
            Ok(jit_train::Outcome::Stopped { .. }) => return Ok(None),
            Err(TrainError::NotFinite { what, step, .. }) => {
                let message = format!("{what} is not a finite number");
                Outcome::Diverged { diverged_at: step, message }
            }
            Err(source) => {
                let (cell, seed, source) = (run.cell.clone(), run.seed, Box::new(source));
                return Err(StudyError::Run { cell, seed, source });
            }
        };
        let precision = match dev.precision() {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        let ending = Ending {
            suite: &self.plan.suite.name,
            command: self.repeat(run),
            precision,
            total,
            started: &claim.started,
            outcome,
        };
        let record = collect(&dir, run, ending)?;
        record.write(&dir.join(layout::RECORD))?;
        Ok(Some(record))
    }

    /// The command that repeats a run.
    fn repeat(&self, run: &PlannedRun) -> String {
        format!("{} --only {} --out again", self.command, run.label())
    }

    /// Whether a run has its record, which must be of the same options.
    fn is_finished(&self, run: &PlannedRun) -> Result<bool, StudyError> {
        let path = layout::record(&self.dir, &run.cell, run.seed);
        match Record::read(&path)? {
            None => Ok(false),
            Some(record) if record.config_hash == run.config_hash()? => Ok(true),
            Some(_) => Err(StudyError::Stale { path }),
        }
    }

    /// How many runs are finished, and their operations.
    fn finished(&self, work: &[Estimate]) -> Result<(usize, f64), StudyError> {
        let (mut runs, mut operations) = (0, 0.0);
        for (run, estimate) in self.plan.runs.iter().zip(work) {
            if has_record(&self.dir, run) {
                runs += 1;
                operations += estimate.flops();
            }
        }
        Ok((runs, operations))
    }
}

fn has_record(study: &Path, run: &PlannedRun) -> bool {
    layout::record(study, &run.cell, run.seed).exists()
}

/// Passes on what a run tells, and counts its operations.
struct Relay<'a> {
    run: &'a PlannedRun,
    estimate: &'a Estimate,
    observer: &'a mut dyn StudyObserver,
    progress: &'a mut Progress,
    steps: u64,
}

impl Observer for Relay<'_> {
    fn start(&mut self, plan: &jit_train::Plan) {
        self.steps = plan.total_steps;
        let share = plan.first_step as f64 / plan.total_steps.max(1) as f64;
        self.progress.found(share * self.estimate.flops());
    }

    fn step(&mut self, report: &StepReport) {
        self.progress.advance(self.estimate.training_flops / self.steps.max(1) as f64);
        self.observer.step(self.run, report, self.steps, self.progress);
    }

    fn sampling(&mut self, step: u64) {
        self.observer.drawing(self.run, step);
    }

    fn evaluating(&mut self, step: u64) {
        self.observer.drawing(self.run, step);
    }

    fn evaluated(&mut self, report: &EvalReport) {
        let looks = self.run.config.train.eval_steps(self.steps).count().max(1);
        self.progress.advance(self.estimate.drawing_flops / looks as f64);
        self.observer.evaluated(self.run, report, self.progress);
    }

    fn warning(&mut self, message: &str) {
        self.observer.warning(self.run, message);
    }
}
