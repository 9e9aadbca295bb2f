//! `jit train`: start a run, or continue the one in the same folder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jit_core::input::{self, MAX_CONFIG};
use jit_core::text::Show;
use jit_data::Dataset;
use jit_data::dataset::Damage;
use jit_model::Cpu;
use jit_train::communicator::{self, CommunicationError};
use jit_train::config::PrecisionChoice;
use jit_train::room;
use jit_train::{Communicator, Observer, Outcome as Ending, RunConfig, Silent, TrainError};

use super::data::{left_out, watched};
use crate::cli::TrainArgs;
use crate::device::{DeviceName, on_device};
use crate::failure::{Failure, Outcome};
use crate::flags::run_options;
use crate::interrupt;
use crate::layers::{Layers, Origin};
use crate::presets::folder_name;
use crate::terminal::{Watch, say};

/// Trains until the run is finished or a signal comes.
///
/// # Errors
/// A wrong configuration, unusable images, or whatever training fails on.
pub fn run(
    args: &TrainArgs,
    device: DeviceName,
    comm: &dyn Communicator,
    out: &mut dyn Write,
) -> Outcome {
    let options = run_options();
    let layers = args.config.layers(&options)?;
    let mut config: RunConfig = layers.build().map_err(Failure::usage)?;
    config.model.validate().map_err(Failure::usage)?;
    let dir = folder(args);
    // Before the images: Ctrl-C works while they are checked, too.
    let stop = interrupt::flag()?;
    let mut dataset = jit_data::open(
        &config.data,
        config.model.image_size,
        config.model.channels,
        config.train.seed,
    )
    .map_err(|error| match layers.origin("data.path") {
        Some(_) => error.into(),
        None => Failure::usage(error).help("give your images with --data DIR"),
    })?;
    if config.model.num_classes == 0 && dataset.num_classes() > 0 && is_asked(&layers) {
        dataset = dataset.without_classes();
    }
    config.model.num_classes = classes(&config, &dataset, &layers)?;
    dataset.describe().iter().for_each(|line| say(line));
    config.validate().map_err(Failure::usage)?;
    if device == DeviceName::Cpu {
        // Before the images, which may be checked for an hour.
        room::check(&Cpu::F32, &config, comm.size()).map_err(explain)?;
    }
    check(comm, &mut dataset, &config)?;

    let opened = device.open(precision(comm, &dir, &config)?)?;
    let mut watch = Watch::default();
    let observer: &mut dyn Observer = if comm.is_first() { &mut watch } else { &mut Silent };
    let dataset = Arc::new(dataset);
    let ending = on_device!(&opened, dev => {
        jit_train::train_together(comm, dev, &dir, config, dataset, observer, &stop)
    });
    watch.finish();
    match ending.map_err(explain)? {
        Ending::Finished { step } => {
            let already = watch.plan().is_some_and(|plan| plan.first_step >= plan.total_steps);
            let done = if already { "was finished already" } else { "finished" };
            writeln!(out, "the run in {} {done} after {step} steps", dir.shown())?;
            let samples = dir.join("samples.png");
            if samples.exists() {
                writeln!(out, "samples: {}", samples.shown())?;
            }
            writeln!(out, "more:    jit sample --checkpoint {}", dir.shown())?;
        }
        Ending::Stopped { step } => {
            writeln!(out, "stopped after step {step}; the same command continues")?;
        }
    }
    Ok(())
}

/// The precision asked for; without any, a run goes on in the one that it has recorded, on whatever
/// machine.
fn precision(comm: &dyn Communicator, dir: &Path, config: &RunConfig) -> Outcome<PrecisionChoice> {
    let recorded = || {
        let text = input::read_text(&dir.join("config.toml"), MAX_CONFIG).ok()?;
        Some(RunConfig::from_toml(&text).ok()?.train.precision)
    };
    let here = match config.train.precision {
        PrecisionChoice::Auto => recorded().unwrap_or(PrecisionChoice::Auto),
        asked => asked,
    };
    // Process 0 has the run's folder.
    let choices = [PrecisionChoice::Auto, PrecisionChoice::F32, PrecisionChoice::Bf16];
    let index = choices.iter().position(|&choice| choice == here).unwrap_or_default();
    let index = comm.broadcast(vec![index as u8])?;
    let choice = index.first().and_then(|&i| choices.get(usize::from(i)));
    Ok(*choice.ok_or(CommunicationError::Garbled(0))?)
}

/// The run's folder: what `--out` says, or `runs/` and the name of the preset or file.
fn folder(args: &TrainArgs) -> PathBuf {
    if let Some(out) = &args.out {
        return out.clone();
    }
    let stem = |path: &PathBuf| {
        let stem = path.file_stem()?.to_string_lossy().into_owned();
        // A run's own `config.toml` continues that run.
        let parent = path.parent().and_then(|p| p.file_name());
        Some(match (&stem[..], parent) {
            ("config", Some(parent)) => parent.to_string_lossy().into_owned(),
            _ => stem,
        })
    };
    let preset = args.config.preset.as_deref().map(folder_name);
    let name = preset.or_else(|| args.config.config.as_ref().and_then(stem));
    PathBuf::from("runs").join(name.unwrap_or_else(|| "default".into()))
}

/// Whether the number of classes was asked for, and not left to the data.
fn is_asked(layers: &Layers<'_>) -> bool {
    matches!(layers.origin("model.num_classes"), Some(Origin::File(_) | Origin::Flag(_)))
}

/// The number of classes is the data's; one that a file or a flag gives must agree.
fn classes(config: &RunConfig, dataset: &Dataset, layers: &Layers<'_>) -> Outcome<usize> {
    let (have, need) = (config.model.num_classes, dataset.num_classes());
    match layers.origin("model.num_classes") {
        Some(origin @ (Origin::File(_) | Origin::Flag(_))) if have != need => {
            let data = &config.data.path;
            let message = format!(
                "{origin} sets model.num_classes = {have}, but the images in `{data}` have {need} \
                 classes"
            );
            let help = format!("leave it out, set it to {need}, or to 0 to train without classes");
            Err(Failure::usage(message).help(help))
        }
        _ => Ok(need),
    }
}

/// Decodes every file once before training starts, each process its share, and has all processes
/// conclude the same.
fn check(comm: &dyn Communicator, dataset: &mut Dataset, config: &RunConfig) -> Outcome {
    let (rank, size) = (comm.rank(), comm.size());
    let mut done_is = "checked".to_owned();
    if size > 1 {
        // What one tells of image 7 must be about image 7 of the others.
        let (images, help) = (dataset.manifest().fingerprint(), "all hosts need the same images");
        comm.agree("fingerprint of the images", &images, help)?;
        done_is = format!("checked by process {rank} of {size}");
    }
    let share = communicator::share(dataset.len(), rank, size);
    let threads = config.data.worker_threads();
    let damage = watched(&done_is, share.len(), |progress| {
        Ok(dataset.check_share(share.clone(), threads, progress))
    })?;
    let damage = all_damage(comm, &damage)?;
    if config.data.skip_damaged {
        left_out(&dataset.leave_out(&damage)?);
        return Ok(());
    }
    Ok(dataset.refuse(&damage)?)
}

/// What all processes have found, on all of them.
fn all_damage(comm: &dyn Communicator, mine: &Damage) -> Result<Damage, CommunicationError> {
    let garbled = |rank| move |_| CommunicationError::Garbled(rank);
    let told = serde_json::to_vec(mine).map_err(garbled(comm.rank()))?;
    let mut all = Damage::new();
    for (rank, found) in comm.all_gather(told)?.iter().enumerate() {
        all.extend(serde_json::from_slice::<Damage>(found).map_err(garbled(rank))?);
    }
    Ok(all)
}

/// Which failures of training are the command line's.
fn explain(error: TrainError) -> Failure {
    match error {
        TrainError::Config(_)
        | TrainError::Differs { .. }
        | TrainError::Classes { .. }
        | TrainError::NoRoom { .. }
        | TrainError::TooManyProcesses { .. } => Failure::usage(error),
        error => error.into(),
    }
}
