//! `jit ablate`: every run of a study, trained and judged alike.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jit_core::text::Show;
use jit_study::report::Report;
use jit_study::{Ended, Plan, Study, StudyError, StudyObserver, Suite, store, suites};
use jit_train::RunConfig;
use jit_train::config::PrecisionChoice;

use crate::cli::AblateArgs;
use crate::device::{DeviceError, DeviceName, cpu};
use crate::failure::{Failure, Outcome};
use crate::flags::run_options;
use crate::layers::{Layers, Origin};
use crate::study_watch::StudyWatch;
use crate::terminal::say;
use crate::{interrupt, presets};

mod dry_run;
mod workers;

use super::report;
use workers::Workers;

/// Works on the study until all its runs are finished, and makes its page then, or until a signal comes.
///
/// # Errors
/// A suite or options that make no sense, unusable images, or whatever a run fails on but its own
/// numbers.
pub fn run(args: &AblateArgs, device: DeviceName, out: &mut dyn Write) -> Outcome {
    let mut suite = suites::open(&args.suite).map_err(Failure::usage)?;
    if let Some(seeds) = args.seeds {
        suite.seeds = (0..seeds).collect();
    }
    let dir = args.out.clone().unwrap_or_else(|| PathBuf::from("studies").join(&suite.name));
    let mut base = base(args, &suite)?;
    if base.train.precision == PrecisionChoice::Auto {
        // All runs of a study in one, whatever machine joins.
        let recorded = store::precision(&dir)?;
        base.train.precision = match recorded {
            Some(recorded) => recorded,
            None => device.open(PrecisionChoice::Auto)?.precision(),
        };
    }
    let images = images(&mut base, &suite, args.dry_run)?;
    let command = command(args, device, base.train.precision);
    let mut plan = Plan::new(suite, base).map_err(Failure::usage)?;
    if !args.only.is_empty() {
        plan.keep(&args.only).map_err(Failure::usage)?;
    }
    if args.dry_run {
        return dry_run::print(&plan, device, &dir, images, out);
    }
    let stop = interrupt::flag()?;
    store::settle(&dir, &plan.suite).map_err(explain)?;
    let rows = match plan.fusions.len() {
        0 => format!("{} runs", plan.runs.len()),
        fusions => format!("{} runs and {fusions} fusions", plan.runs.len()),
    };
    let study = Work { dir: dir.clone(), plan, command, device };
    if args.worker {
        workers::stop_with_parent(Arc::clone(&stop))?;
        study.work(&mut Quiet, &stop)?;
        return Ok(());
    }
    let workers = Workers::start(args, device, &dir)?;
    let mut watch = StudyWatch::new();
    let ended = study.work(&mut watch, &stop);
    watch.finish();
    let helped = workers.finish();
    match ended? {
        Ended::Stopped => writeln!(out, "stopped; the same command goes on")?,
        Ended::Finished => {
            helped?;
            writeln!(out, "all {rows} of the study in {} are finished", dir.shown())?;
            if watch.diverged > 0 {
                writeln!(
                    out,
                    "{} of those done now diverged, which their records say",
                    watch.diverged
                )?;
            }
            report::write_html(&Report::read(&dir)?, &dir.join(report::HTML), out)?;
        }
    }
    Ok(())
}

/// Tells nothing: a process that helps another.
struct Quiet;

impl StudyObserver for Quiet {}

/// A study and the device that works on it.
struct Work {
    dir: PathBuf,
    plan: Plan,
    command: String,
    device: DeviceName,
}

impl Work {
    fn work(self, observer: &mut dyn StudyObserver, stop: &AtomicBool) -> Outcome<Ended> {
        let Self { dir, plan, command, device } = self;
        let ended = match device {
            DeviceName::Cpu => {
                let make = |precision| Ok(cpu(precision));
                Study { dir, plan, command, device: &make }.work(observer, stop)
            }
            #[cfg(feature = "wgpu")]
            DeviceName::Wgpu(index) => {
                let make =
                    |precision| crate::device::wgpu(index, precision).map_err(|e| e.to_string());
                Study { dir, plan, command, device: &make }.work(observer, stop)
            }
            #[cfg(any(feature = "cuda", feature = "cuda-emulator"))]
            DeviceName::Cuda(_) | DeviceName::CudaEmulator => {
                let make = |precision| device.cuda(precision).map_err(|e| e.to_string());
                Study { dir, plan, command, device: &make }.work(observer, stop)
            }
            #[allow(unreachable_patterns)]
            name => return Ok(Err(DeviceError::NotCompiled { name })?),
        };
        ended.map_err(explain)
    }
}

/// The options that all runs share: preset, suite and flags over the built-in values.
fn base(args: &AblateArgs, suite: &Suite) -> Outcome<RunConfig> {
    let options = run_options();
    let mut layers = Layers::new(&options);
    if let Some(name) = &suite.preset {
        let table = presets::table(name).map_err(Failure::usage)?;
        layers.add(&table, Origin::Preset(name.clone())).map_err(Failure::usage)?;
    }
    layers.add(&suite.base, Origin::Suite(suite.name.clone())).map_err(Failure::usage)?;
    if let Some(data) = &args.data {
        let origin = Origin::Flag(format!("--data {data}"));
        layers.set("data.path", data, origin).map_err(Failure::usage)?;
    }
    for assignment in &args.set {
        layers.assign(assignment).map_err(Failure::usage)?;
    }
    let config: RunConfig = layers.build().map_err(Failure::usage)?;
    config.validate().map_err(Failure::usage)?;
    Ok(config)
}

/// Number of images, which also tell the number of classes; an estimate may do with what the suite
/// says of images that are not at hand.
fn images(base: &mut RunConfig, suite: &Suite, dry_run: bool) -> Outcome<usize> {
    let (model, seed) = (&base.model, base.train.seed);
    match jit_data::open(&base.data, model.image_size, model.channels, seed) {
        Ok(dataset) => {
            dataset.describe().iter().for_each(|line| say(line));
            base.model.num_classes = dataset.num_classes();
            Ok(dataset.len())
        }
        Err(error) => match suite.images.filter(|_| dry_run) {
            Some(images) => Ok(images),
            None => Err(Failure::from(error).help("give the images with --data")),
        },
    }
}

/// The command line that repeats this study, but for which runs and where.
fn command(args: &AblateArgs, device: DeviceName, precision: PrecisionChoice) -> String {
    let mut words = vec!["jit".to_string(), "ablate".into(), "--suite".into(), quoted(&args.suite)];
    if device != DeviceName::Cpu {
        words.extend(["--device".into(), device.to_string()]);
    }
    if let Some(data) = &args.data {
        words.extend(["--data".into(), quoted(data)]);
    }
    if let Some(seeds) = args.seeds {
        words.extend(["--seeds".into(), seeds.to_string()]);
    }
    for assignment in &args.set {
        words.extend(["--set".into(), quoted(assignment)]);
    }
    let name = match precision {
        PrecisionChoice::Bf16 => "bf16",
        PrecisionChoice::F32 => "f32",
        PrecisionChoice::Auto => "auto",
    };
    if !args.set.iter().any(|assignment| assignment.starts_with("train.precision")) {
        words.extend(["--set".into(), format!("train.precision={name}")]);
    }
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Which failures of a study are the command line's.
fn explain(error: StudyError) -> Failure {
    match error {
        StudyError::Differs { .. } | StudyError::Stale { .. } => Failure::usage(error),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_spaces_and_quotes_are_quoted() {
        assert_eq!(quoted("train.max_steps=30"), "train.max_steps=30");
        assert_eq!(quoted("my photos"), "'my photos'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
