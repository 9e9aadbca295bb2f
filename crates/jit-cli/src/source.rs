//! Where weights come from: a run's folder, one of its checkpoints, a safetensors file, or a
//! reference `.pth` file; with everything that is known about them.

use std::path::{Path, PathBuf};

use jit_core::suggest;
use jit_core::text::Show;
use jit_model::weights::{LoadedState, load_state};
use jit_train::RunConfig;
use jit_train::checkpoint::{Checkpoint, ema_file, latest, model_file};
use jit_train::config::Role;
use toml::{Table, Value};

use crate::failure::{Failure, Outcome};
use crate::flags::{ConfigArgs, FlagSet, run_options};
use crate::layers::{Layers, Origin};
use crate::shape;

/// Weights with their configuration.
pub struct Source {
    /// The file that was read.
    pub path: PathBuf,
    /// The run's configuration, or what the file tells, under preset and flags.
    pub config: RunConfig,
    /// The weights and their metadata.
    pub state: LoadedState,
    /// Class names in the order of their numbers; empty where they are not known.
    pub class_names: Vec<String>,
}

/// Finds and reads weights. `which` names a set: `model`, `ema-0.9999`, or what a `.pth` holds.
///
/// # Errors
/// When there are none, they are damaged, or the configuration is not valid for them.
pub fn open<F: FlagSet + Clone + std::fmt::Debug>(
    path: &Path,
    which: Option<&str>,
    args: &ConfigArgs<F>,
) -> Outcome<Source> {
    let mend = "add `--set model.in_context_start=N`";
    read(path, which, |layers| args.lay_over(layers), mend)
}

/// Finds and reads weights as [`open`] does, with the configuration that they have themselves.
///
/// # Errors
/// As [`open`].
pub fn open_as_it_is(path: &Path, which: Option<&str>) -> Outcome<Source> {
    let mend = "write it anew with `jit convert --set model.in_context_start=N`, and use that";
    read(path, which, |_| Ok(()), mend)
}

/// `mend` says how to give the one key that neither weights nor presets may tell.
fn read(
    path: &Path,
    which: Option<&str>,
    lay_over: impl FnOnce(&mut Layers<'_>) -> Outcome,
    mend: &str,
) -> Outcome<Source> {
    let options = run_options();
    let mut layers = Layers::new(&options);
    let mut role = Role::First;
    let (file, state) = match checkpoint_in(path)? {
        Some(checkpoint) => {
            let (file, set) = set_in(&checkpoint, which)?;
            role = set;
            let config = checkpoint.config.to_toml()?;
            let origin = Origin::File(checkpoint.dir.join("config.toml"));
            layers.add_text(&config, origin).map_err(Failure::usage)?;
            let state = load_state(&file, None)?;
            (file, state)
        }
        None => {
            let which = which.map_or_else(|| default_set(path), |set| Ok(Some(set.to_string())))?;
            let state = load_state(path, which.as_deref())?;
            let origin = || Origin::File(path.to_path_buf());
            for told in [shape::from_arguments(&state.metadata), described(&state)] {
                layers.add(&told, origin())?;
            }
            let model = shape::from_tensors(&state.tensors).map_err(|e| {
                Failure::from(e).help("`jit` reads the weights of JiT networks with their names")
            })?;
            let model = Table::from_iter([("model".to_string(), Value::Table(model))]);
            layers.add(&model, origin())?;
            (path.to_path_buf(), state)
        }
    };
    lay_over(&mut layers)?;
    let mut config: RunConfig = layers.build().map_err(Failure::usage)?;
    if config.model.in_context_len > 0 && layers.origin("model.in_context_start").is_none() {
        config.model.in_context_start =
            shape::known_context_start(&config.model).ok_or_else(|| unknown_start(&file, mend))?;
    }
    config.validate().map_err(Failure::usage)?;
    if let (Role::Partner, Some(model)) = (role, config.partner_model()) {
        config.model = model;
    }
    refuse_unused(&config, &layers)?;
    let names = state.metadata.get("class_names").map(|text| serde_json::from_str(text));
    let class_names = names.and_then(Result::ok).unwrap_or_default();
    Ok(Source { path: file, config, state, class_names })
}

/// Refuses flags that say how to fuse where there is nothing to fuse with.
fn refuse_unused(config: &RunConfig, layers: &Layers<'_>) -> Outcome {
    if !config.fusion.with.is_empty() {
        return Ok(());
    }
    let keys = ["fusion.average", "fusion.mode", "fusion.weight"];
    let mut origins = keys.into_iter().filter_map(|key| layers.origin(key));
    match origins.find(|origin| matches!(origin, Origin::Flag(_))) {
        None => Ok(()),
        Some(origin) => {
            let message = format!("{origin}: there is no second model");
            Err(Failure::usage(message).help("give one with --fuse"))
        }
    }
}

fn unknown_start(path: &Path, mend: &str) -> Failure {
    let message = format!(
        "`{}` does not tell before which block the class tokens enter, and no preset has its shape",
        path.shown()
    );
    Failure::usage(message).help(mend)
}

/// The checkpoint that a folder is, or the newest in the folder of a run.
fn checkpoint_in(path: &Path) -> Outcome<Option<Checkpoint>> {
    if !path.is_dir() {
        return Ok(None);
    }
    if path.join("state.json").exists() {
        return Ok(Some(Checkpoint::open(path)?));
    }
    let nested = path.join("checkpoints");
    let folder = if nested.is_dir() { &nested } else { path };
    let found = latest(folder)?;
    match (found.checkpoint, found.damaged.into_iter().next()) {
        (Some(checkpoint), _) => Ok(Some(checkpoint)),
        (None, Some((_, error))) => Err(error.into()),
        (None, None) => {
            let message = format!("`{}` holds no checkpoint", path.shown());
            let help = "give the folder of a run (with `checkpoints/`) or of one checkpoint";
            Err(Failure::new(message).help(help))
        }
    }
}

/// The file of a set of weights in a checkpoint: the first average unless another is asked for.
fn set_in(checkpoint: &Checkpoint, which: Option<&str>) -> Outcome<(PathBuf, Role)> {
    let Checkpoint { config, dir, .. } = checkpoint;
    let sets = |&role: &Role| {
        let averages = config.optim.ema_decay.iter().map(move |&decay| ema_file(role, decay));
        averages.chain([model_file(role)]).map(move |file| (file, role))
    };
    let files: Vec<(String, Role)> = config.roles().iter().flat_map(sets).collect();
    let name = |file: &str| file.trim_end_matches(".safetensors").to_string();
    let chosen = match which {
        None => files.first(),
        Some(which) => files.iter().find(|(file, _)| name(file) == which),
    };
    chosen.map(|(file, role)| (dir.join(file), *role)).ok_or_else(|| {
        let names: Vec<String> = files.iter().map(|(file, _)| name(file)).collect();
        let which = which.unwrap_or_default();
        let hint = suggest::hint(which, names.iter().map(String::as_str));
        let dir = dir.shown();
        let has = names.join("`, `");
        Failure::usage(format!("`{dir}` has no weights `{which}`{hint}; it has `{has}`"))
    })
}

/// A reference checkpoint's first average, `model_ema1`, if it has one.
fn default_set(path: &Path) -> Outcome<Option<String>> {
    const AVERAGE: &str = "model_ema1";
    let file = jit_model::weights::File::open(path)?;
    let has = file.names().iter().any(|name| name.starts_with(&format!("{AVERAGE}.")));
    Ok(has.then(|| AVERAGE.to_string()))
}

/// What our own weight files say of themselves: `config` and `objective` as JSON.
fn described(state: &LoadedState) -> Table {
    let section = |key: &str| {
        let mut table: Table = serde_json::from_str(state.metadata.get(key)?).ok()?;
        // The name that golden cases use.
        if let Some(size) = table.remove("input_size") {
            table.insert("image_size".to_string(), size);
        }
        Some(Value::Table(table))
    };
    let sections = [("model", section("config")), ("objective", section("objective"))];
    sections.into_iter().filter_map(|(name, table)| Some((name.to_string(), table?))).collect()
}
