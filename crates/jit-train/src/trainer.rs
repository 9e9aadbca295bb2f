//! The training loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jit_core::files::write_bytes_atomic;
use jit_data::Dataset;
use jit_model::Device;
use jit_model::device::Fault;

use crate::checkpoint::{self, Snapshot, State};
use crate::communicator::{Alone, Communicator, share};
use crate::config::{Role, RunConfig};
use crate::error::TrainError;
use crate::evaluation::{EvalReport, Evaluation};
use crate::feed::Feed;
use crate::journal::Journal;
use crate::learner::{Learners, Resume};
use crate::observer::{Losses, Observer, Outcome, Plan, StepReport, T_BINS};
use crate::retention;
use crate::room;
use crate::run::Run;
use crate::samples;
use crate::turns::Shared;

mod unread;

use unread::{Taken, Unread};

/// Trains in the folder `dir` until the run is finished or `stop` is set; goes on from the folder's
/// newest checkpoint if it has one. `dataset` has been checked ([`Dataset::check`]). The run records
/// the device's precision as its own.
///
/// # Errors
/// [`TrainError`]; what was saved before remains, and the same call goes on from there.
pub fn train<D: Device>(
    dev: &D,
    dir: &Path,
    config: RunConfig,
    dataset: Arc<Dataset>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    train_together(&Alone, dev, dir, config, dataset, observer, stop)
}

/// The same with several processes, each on a device of its own and with a share of every global batch.
/// The first of them alone touches the folder; a request to stop may reach any.
///
/// # Errors
/// As [`train`]. Some are the failing process's alone: then it must end, and the others with it, which
/// wait for it in vain.
pub fn train_together<D: Device>(
    comm: &dyn Communicator,
    dev: &D,
    dir: &Path,
    mut config: RunConfig,
    dataset: Arc<Dataset>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    config.train.precision = dev.precision().into();
    room::check(dev, &config, comm.size())?;
    let run = Run::open_together(comm, dir, config, dataset, observer)?;
    Trainer::new(comm, dev, run)?.train(observer, stop)
}

/// Steps that a device which runs ahead may be behind. While it computes one, the next one's images are copied
/// to it and its operations queued; more would only fill the memory with images.
const AHEAD: usize = 2;

/// A run in progress.
struct Trainer<'a, D: Device> {
    comm: &'a dyn Communicator,
    dev: &'a D,
    run: Run,
    learners: Learners<D>,
    /// Steps done.
    step: u64,
    /// Seconds spent on them.
    elapsed: f64,
    /// The newest checkpoint.
    saved: Option<PathBuf>,
    /// On the process that writes.
    journal: Option<Journal>,
    /// Where images are evaluated.
    evaluation: Option<Evaluation>,
    /// The last step whose images were.
    evaluated: u64,
    /// Whether the processes have agreed to stop.
    stopping: bool,
    /// Steps whose losses were not looked at yet.
    unread: Unread<D>,
    /// Bytes on the device between steps.
    at_rest: u64,
}

impl<'a, D: Device> Trainer<'a, D> {
    /// Initialises the weights, or restores everything from the run's checkpoint.
    fn new(comm: &'a dyn Communicator, dev: &'a D, run: Run) -> Result<Self, TrainError> {
        let config = &run.config;
        let resume = Resume { comm, step: run.step, checkpoint: run.resume.as_ref() };
        let learners = Learners::new(dev, config, resume)?;
        let (step, elapsed) = (run.step.unwrap_or_default(), run.elapsed);
        let folder = |step| run.dir.join("checkpoints").join(checkpoint::folder_name(step));
        let saved = run.step.map(folder);
        let journal = match comm.is_first() {
            true => Some(Journal::open(&run.dir, step)?),
            false => None,
        };
        let evaluation = match config.train.evaluates() {
            true => Some(Evaluation::new(comm, config, &run.dataset)?),
            false => None,
        };
        let last = journal.as_ref().map_or(0, Journal::evaluated);
        let done = comm.as_first(last == step)?;
        let evaluated = if done { step } else { 0 };
        let (stopping, unread) = (false, Unread::default());
        let at_rest = dev.memory().map_or(0, |memory| memory.live);
        Ok(Self {
            comm,
            dev,
            run,
            learners,
            step,
            elapsed,
            saved,
            journal,
            evaluation,
            evaluated,
            stopping,
            unread,
            at_rest,
        })
    }

    fn train(
        mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        let config = self.run.config.clone();
        let images = self.run.dataset.len();
        let total = config.total_steps(images);
        observer.start(&Plan {
            first_step: self.step,
            total_steps: total,
            global_batch: config.train.global_batch,
            images,
            parameters: self.learners.parameters(),
        });
        // A run that was stopped while it drew images draws them now.
        let mut sampled = self.look_if_due(observer, stop)?;
        let share = share(config.train.global_batch, self.comm.rank(), self.comm.size());
        let mut feed = Feed::start(&config, &self.run.dataset, self.step..total, share)?;
        while self.step < total && sampled && !self.stopping {
            if !self.take_step(&mut feed, stop)? {
                break;
            }
            self.read(observer, if self.runs_ahead() { AHEAD } else { 0 })?;
            if is_due(self.step, config.train.save_every) {
                self.save(observer)?;
            }
            sampled = self.look_if_due(observer, stop)?;
        }
        self.read(observer, 0)?;
        self.save(observer)?;
        let step = self.step;
        let all = step >= total
            && sampled
            && self.final_samples(observer, stop)?
            && self.evaluate(observer, stop)?;
        if all { Ok(Outcome::Finished { step }) } else { Ok(Outcome::Stopped { step }) }
    }

    /// Whether losses may be looked at later than the step that they belong to. Several processes merge
    /// theirs in every step, and so have waited for them.
    fn runs_ahead(&self) -> bool {
        self.dev.runs_ahead() && self.comm.size() == 1
    }

    /// One optimizer step over a global batch; false, leaving everything as it was, if `stop` was set
    /// meanwhile. Several processes finish the step and stop after it: they hear of each other's wishes
    /// when they merge their losses.
    fn take_step(&mut self, feed: &mut Feed, stop: &AtomicBool) -> Result<bool, TrainError> {
        let started = Instant::now();
        let mut data_wait = Duration::ZERO;
        let alone = self.comm.size() == 1;
        let train = &self.run.config.train;
        self.learners.iter_mut().for_each(|learner| learner.begin_step(self.dev));
        let mut last = false;
        while !last {
            if alone && stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let waiting = Instant::now();
            let micro = feed.next_micro()?;
            data_wait += waiting.elapsed();
            for learner in self.learners.iter_mut() {
                learner.accumulate(self.comm, self.dev, &micro, train, self.step);
            }
            last = micro.last;
        }
        let merging = Instant::now();
        for learner in self.learners.iter_mut() {
            learner.merge(self.comm, self.dev, train)?;
        }
        if !alone {
            self.stopping = self.comm.any(stop.load(Ordering::Relaxed))?;
        }
        let merge_wait = (!alone).then(|| merging.elapsed());

        let (config, images) = (&self.run.config, self.run.dataset.len());
        let lr = config.learning_rate(config.epochs_before(self.step, images));
        let found: Vec<_> = self.learners.iter_mut().map(|l| l.found(self.dev, train)).collect();
        let step = self.step + 1;
        let mut taken = Taken { started, step, lr, data_wait, merge_wait, found, losses: None };
        // All are examined before the first moves, but where that would mean to wait: such a device
        // sees to it by itself.
        if !self.runs_ahead() {
            taken.losses = Some(self.examine(&taken)?);
        }
        for (learner, found) in self.learners.iter_mut().zip(&taken.found) {
            learner.step(self.dev, found, lr);
        }
        self.step = step;
        self.unread.steps.push_back(taken);
        Ok(true)
    }

    /// The losses of a step, which are finite numbers.
    fn examine(&self, taken: &Taken<D>) -> Result<Vec<(Losses, [u64; T_BINS])>, TrainError> {
        let losses = taken.found.iter().map(|found| {
            let losses = found.read(self.dev);
            self.require_sound()?;
            let [loss, norm] = match found.role() {
                Role::First => ["the loss", "the gradient's norm"],
                Role::Partner => ["the partner's loss", "the norm of the partner's gradient"],
            };
            self.require_finite(loss, losses.0.loss, taken)?;
            self.require_finite(norm, losses.0.grad_norm, taken)?;
            Ok(losses)
        });
        losses.collect()
    }

    /// Reports the steps that were not yet, but for the last `but`, once their losses are known.
    fn read(&mut self, observer: &mut dyn Observer, but: usize) -> Result<(), TrainError> {
        let images = self.run.dataset.len();
        while self.unread.steps.len() > but
            && let Some(mut taken) = self.unread.steps.pop_front()
        {
            let losses = match taken.losses.take() {
                Some(losses) => losses,
                None => self.examine(&taken)?,
            };
            // From when the step before was done, or this one begun: a device that runs ahead does not
            // tell when it begins.
            let since = self.unread.read.map_or(taken.started, |read| read.max(taken.started));
            let now = Instant::now();
            self.unread.read = Some(now);
            let seconds = now.duration_since(since).as_secs_f64();
            self.elapsed += seconds;
            let mut losses = losses.into_iter();
            let (first, images_by_t) = losses.next().unwrap_or_default();
            let config = &self.run.config;
            let report = StepReport {
                step: taken.step,
                epoch: config.epochs_before(taken.step, images),
                loss: first.loss,
                diffusion: first.diffusion,
                auxiliary: first.auxiliary,
                lr: taken.lr,
                grad_norm: first.grad_norm,
                loss_by_t: first.loss_by_t,
                images_by_t,
                images_per_second: config.train.global_batch as f64 / seconds,
                data_wait: taken.data_wait.as_secs_f64(),
                merge_wait: taken.merge_wait.map(|wait| wait.as_secs_f64()),
                elapsed: self.elapsed,
                partner: losses.next().map(|(losses, _)| losses),
            };
            if let Some(journal) = &mut self.journal
                && report.step.is_multiple_of(config.train.log_every)
            {
                journal.step(&report)?;
            }
            observer.step(&report);
        }
        Ok(())
    }

    /// Stops a run whose device failed.
    fn require_sound(&self) -> Result<(), TrainError> {
        match self.dev.fault() {
            None => Ok(()),
            Some(Fault::Failed(reason)) => Err(TrainError::Device { reason }),
            Some(Fault::OutOfMemory { limit }) => {
                let batch = self.run.config.train.micro_batch();
                let peak = self.dev.memory().map_or(0, |memory| memory.peak);
                let fits = match limit {
                    Some(limit) => fitting_batch(batch, self.at_rest, peak, limit),
                    None => Some(batch / 2).filter(|&half| half > 0),
                };
                let checkpoints = self.run.config.train.checkpoint_blocks;
                Err(TrainError::OutOfMemory { batch, needed: peak, limit, fits, checkpoints })
            }
        }
    }

    /// Stops a run that has diverged, before it spoils its weights or its checkpoints.
    fn require_finite(
        &self,
        what: &'static str,
        value: f64,
        taken: &Taken<D>,
    ) -> Result<(), TrainError> {
        match value.is_finite() {
            true => Ok(()),
            false => {
                let (step, lr, last_good) = (taken.step, taken.lr, self.saved.clone());
                Err(TrainError::NotFinite { what, step, lr, last_good })
            }
        }
    }

    /// Saves a checkpoint of the last step, unless there is one.
    fn save(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.read(observer, 0)?;
        let checkpoints = self.run.dir.join("checkpoints");
        if self.saved.as_deref() == Some(&checkpoints.join(checkpoint::folder_name(self.step))) {
            return Ok(());
        }
        let (config, images) = (&self.run.config, self.run.dataset.len());
        // The last step's update may have overflowed although its loss was finite.
        let norms: Vec<f64> = self.learners.iter().map(|learner| learner.norm(self.dev)).collect();
        self.require_sound()?;
        if !norms.iter().all(|norm| norm.is_finite()) {
            let step = self.step;
            let last = config.epochs_before(step.saturating_sub(1), images);
            let (lr, last_good) = (config.learning_rate(last), self.saved.clone());
            return Err(TrainError::NotFinite { what: "a weight", step, lr, last_good });
        }
        // Processors that compute with other instructions round otherwise.
        let help = "do the hosts have different processors? JIT_CPU=avx2, say, makes them alike";
        self.comm.agree("norm of the weights", &format!("{norms:?}"), help)?;
        let Some(journal) = &self.journal else {
            self.saved = Some(checkpoints.join(checkpoint::folder_name(self.step)));
            return Ok(());
        };
        journal.sync()?;
        let state = State {
            step: self.step,
            position: self.step * config.train.global_batch as u64,
            seed: config.train.seed,
            elapsed: self.elapsed,
            keep: retention::is_kept(&config.train, self.step),
            data: self.run.data.clone(),
            source: self.run.source.clone(),
            class_names: self.run.dataset.class_names().to_vec(),
            ..State::default()
        };
        let path = checkpoint::save(
            &checkpoints,
            Snapshot { dev: self.dev, learned: self.learners.learned(), config, state },
        )?;
        retention::prune(&checkpoints, config.train.keep_last)?;
        observer.checkpoint(self.step, &path);
        self.saved = Some(path);
        Ok(())
    }

    /// Draws the grid of this step and evaluates what is drawn, each if it is due and was not done;
    /// false if `stop` was set meanwhile.
    fn look_if_due(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<bool, TrainError> {
        let train = &self.run.config.train;
        let total = self.run.config.total_steps(self.run.dataset.len());
        let listed = train.eval_steps(total).any(|step| step == self.step);
        let sample = listed || is_due(self.step, train.sample_every);
        let evaluate = listed || is_due(self.step, train.eval_every);
        if sample || evaluate {
            self.read(observer, 0)?;
        }
        let sampled = !sample || self.samples(observer, stop)?;
        Ok(sampled && (!evaluate || self.evaluate(observer, stop)?))
    }

    /// The last grid, which is also `samples.png`; false if `stop` was set meanwhile.
    fn final_samples(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<bool, TrainError> {
        if self.run.config.train.sample_count == 0 {
            return Ok(true);
        }
        if !self.samples(observer, stop)? {
            return Ok(false);
        }
        if self.comm.is_first() {
            let (grid, path) = (self.grid(), self.run.dir.join("samples.png"));
            std::fs::read(&grid)
                .map_err(jit_core::files::FileError::at("read", &grid))
                .and_then(|png| write_bytes_atomic(&path, &png))?;
            observer.samples(self.step, &path);
        }
        Ok(true)
    }

    /// Where this step's grid is, or will be.
    fn grid(&self) -> PathBuf {
        self.run.dir.join(format!("samples/step-{:08}.png", self.step))
    }

    /// Draws this step's grid if it is missing; false if `stop` was set meanwhile.
    fn samples(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<bool, TrainError> {
        let config = &self.run.config;
        let path = self.grid();
        if config.train.sample_count == 0 || self.comm.as_first(path.exists())? {
            return Ok(true);
        }
        observer.sampling(self.step);
        let averaged = self.learners.averaged(self.dev, config);
        let sampler = self.learners.sampler(self.dev, &averaged, config);
        match samples::draw(self.comm, &sampler, config, stop)? {
            Shared::Stopped => return Ok(false),
            Shared::Elsewhere => {}
            Shared::Here(grid) => {
                write_bytes_atomic(&path, &grid.png)?;
                if let Some(journal) = &mut self.journal {
                    journal.samples(self.step, &grid)?;
                }
                observer.samples(self.step, &path);
            }
        }
        Ok(true)
    }

    /// Evaluates what the weights of this step draw, unless that was done; false if `stop` was set
    /// meanwhile. Training draws its random numbers by step, and so takes no notice.
    fn evaluate(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<bool, TrainError> {
        let Some(evaluation) = &self.evaluation else { return Ok(true) };
        if self.step == 0 || self.evaluated == self.step {
            return Ok(true);
        }
        observer.evaluating(self.step);
        let started = Instant::now();
        let config = &self.run.config;
        let averaged = self.learners.averaged(self.dev, config);
        let sampler = self.learners.sampler(self.dev, &averaged, config);
        let report = match evaluation.run(self.comm, &sampler, config, stop)? {
            Shared::Stopped => return Ok(false),
            report => report.here(),
        };
        self.evaluated = self.step;
        let Some(report) = report else { return Ok(true) };
        let report = EvalReport {
            step: self.step,
            epoch: config.epochs_before(self.step, self.run.dataset.len()),
            extractor: evaluation.extractor().into(),
            seconds: started.elapsed().as_secs_f64(),
            report,
        };
        if let Some(journal) = &mut self.journal {
            journal.evaluation(&report)?;
        }
        observer.evaluated(&report);
        Ok(true)
    }
}

/// The micro-batch whose activations fit `limit` bytes, if those of `batch` images take a device from
/// `at_rest` to `peak`: activations are proportional to the images, but for a little (partial sums, rounded sizes) for which
/// a thirty-second is left free. `None` if not one image fits.
fn fitting_batch(batch: usize, at_rest: u64, peak: u64, limit: u64) -> Option<usize> {
    let of_an_image = peak.saturating_sub(at_rest).div_ceil(batch as u64).max(1);
    let room = limit.saturating_sub(at_rest);
    let fits = (room - room / 32) / of_an_image;
    usize::try_from(fits)
        .ok()
        .map(|fits| fits.min(batch.saturating_sub(1)))
        .filter(|&fits| fits > 0)
}

/// Whether something that happens every so many steps (0: never) happens at `step`.
fn is_due(step: u64, every: u64) -> bool {
    step > 0 && every > 0 && step.is_multiple_of(every)
}

#[cfg(test)]
mod tests;
