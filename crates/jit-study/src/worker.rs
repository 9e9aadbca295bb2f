//! One process that works on a study: it takes the next run that nobody has finished and nobody
//! holds, until there is none.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use jit_data::Dataset;
use jit_model::Device;
use jit_model::device::Precision;
use jit_train::config::PrecisionChoice;
use jit_train::evaluation::EvalReport;
use jit_train::{Observer, StepReport, TrainError, train};

use crate::claim::{Claim, Holder, claim};
use crate::collect::{Ending, collect};
use crate::error::StudyError;
use crate::estimate::Estimate;
use crate::fusion::PlannedFusion;
use crate::images::Images;
use crate::layout;
use crate::observer::StudyObserver;
use crate::plan::{Plan, PlannedRun};
use crate::progress::Progress;
use crate::record::{Outcome, Record};

/// Time between two looks at what others hold.
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
    /// Makes the device for a run, or says why there is none.
    pub device: &'a dyn Fn(PrecisionChoice) -> Result<D, String>,
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
        let tasks = self.tasks(&mut images)?;
        let total = tasks.iter().map(|task| task.estimate.flops()).sum();
        let mut progress = Progress::new(tasks.len(), total);
        loop {
            let mut held: Vec<(String, Holder)> = Vec::new();
            let (mut worked, mut left) = (false, false);
            for task in &tasks {
                if stop.load(Ordering::Relaxed) {
                    return Ok(Ended::Stopped);
                }
                if self.is_finished(task)? {
                    continue;
                }
                left = true;
                if !self.can_begin(task) {
                    continue;
                }
                let claim = match claim(&self.folder(task))? {
                    Err(holder) => {
                        held.push((task.label(), holder));
                        continue;
                    }
                    Ok(claim) => claim,
                };
                // Whoever held it may have finished it just now.
                if self.is_finished(task)? {
                    continue;
                }
                worked = true;
                self.look(&tasks, &mut progress, held.len());
                let record = match task.what {
                    What::Run(run) => {
                        observer.run_started(run, &progress);
                        let (estimate, progress) = (&task.estimate, &mut progress);
                        let mut relay = Relay { run, estimate, observer, progress, steps: 0 };
                        self.carry_out(run, &claim, images.of(&run.config)?, &mut relay, stop)?
                    }
                    What::Row(row, parents) => {
                        observer.fusing(row, &progress);
                        let record = self.fuse(row, parents, &mut images, stop)?;
                        progress.advance(task.estimate.flops());
                        record
                    }
                };
                let Some(record) = record else { return Ok(Ended::Stopped) };
                self.look(&tasks, &mut progress, held.len());
                observer.finished(&task.label(), &record, &progress);
            }
            if !left {
                return Ok(Ended::Finished);
            }
            // What others hold may come free, should they die.
            if !worked {
                self.look(&tasks, &mut progress, held.len());
                observer.waiting(&held, &progress);
                sleep(PATIENCE);
            }
        }
    }

    /// All runs, then all rows of two models, with what each costs.
    fn tasks(&self, images: &mut Images) -> Result<Vec<Task<'_>>, StudyError> {
        let mut tasks = Vec::new();
        for run in &self.plan.runs {
            let estimate = Estimate::of(&run.config, images.of(&run.config)?.len());
            tasks.push(Task { what: What::Run(run), estimate });
        }
        for row in &self.plan.fusions {
            if let Some([a, b]) = self.plan.parents(row) {
                let estimate = Estimate::of_pair(&a.config, &b.config);
                tasks.push(Task { what: What::Row(row, [a, b]), estimate });
            }
        }
        Ok(tasks)
    }

    /// Where a task's claim lies.
    fn folder(&self, task: &Task<'_>) -> PathBuf {
        match task.what {
            What::Run(run) => layout::run(&self.dir, &run.cell, run.seed),
            What::Row(row, _) => layout::fused_folder(&self.dir, &row.cell),
        }
    }

    /// Where its record does.
    fn record(&self, task: &Task<'_>) -> PathBuf {
        match task.what {
            What::Run(run) => layout::record(&self.dir, &run.cell, run.seed),
            What::Row(row, _) => layout::fused(&self.dir, &row.cell, row.seed),
        }
    }

    /// Two models draw together once both are trained.
    fn can_begin(&self, task: &Task<'_>) -> bool {
        match task.what {
            What::Run(_) => true,
            What::Row(row, _) => {
                let trained = |cell| layout::record(&self.dir, cell, row.seed).exists();
                row.parents.iter().all(|cell| trained(cell))
            }
        }
    }

    /// Whether a task has its record, which must be of the same options.
    fn is_finished(&self, task: &Task<'_>) -> Result<bool, StudyError> {
        let path = self.record(task);
        let Some(record) = Record::read(&path)? else { return Ok(false) };
        let hash = match task.what {
            What::Run(run) => run.config_hash()?,
            What::Row(row, parents) => self.fused_hash(row, parents)?,
        };
        if record.config_hash == hash { Ok(true) } else { Err(StudyError::Stale { path }) }
    }

    /// Looks at what is finished.
    fn look(&self, tasks: &[Task<'_>], progress: &mut Progress, others: usize) {
        let finished = tasks.iter().filter(|task| self.record(task).exists());
        let (mut count, mut operations) = (0, 0.0);
        for task in finished {
            count += 1;
            operations += task.estimate.flops();
        }
        progress.look(count, operations, others);
    }

    /// Trains and judges one run, and writes its record; `None` if `stop` was set meanwhile.
    fn carry_out(
        &self,
        run: &PlannedRun,
        claim: &Claim,
        dataset: Arc<Dataset>,
        relay: &mut Relay<'_>,
        stop: &AtomicBool,
    ) -> Result<Option<Record>, StudyError> {
        let dir = layout::run(&self.dir, &run.cell, run.seed);
        let dev = (self.device)(run.config.train.precision).map_err(StudyError::Device)?;
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
        let ending = Ending {
            suite: &self.plan.suite.name,
            command: self.repeat(&run.label()),
            precision: precision_name(&dev),
            total,
            started: &claim.started,
            outcome,
        };
        let record = collect(&dir, run, ending)?;
        record.write(&dir.join(layout::RECORD))?;
        Ok(Some(record))
    }

    /// The command that repeats a row.
    pub(crate) fn repeat(&self, label: &str) -> String {
        format!("{} --only {label} --out again", self.command)
    }
}

/// `f32` or `bf16`
pub(crate) fn precision_name<D: Device>(dev: &D) -> &'static str {
    match dev.precision() {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

/// Something that ends with a record.
struct Task<'a> {
    what: What<'a>,
    estimate: Estimate,
}

/// What it is.
#[derive(Clone, Copy)]
enum What<'a> {
    Run(&'a PlannedRun),
    Row(&'a PlannedFusion, [&'a PlannedRun; 2]),
}

impl Task<'_> {
    fn label(&self) -> String {
        match self.what {
            What::Run(run) => run.label(),
            What::Row(row, _) => row.label(),
        }
    }
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
