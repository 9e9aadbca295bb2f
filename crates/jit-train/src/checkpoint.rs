//! Checkpoints: folders `step-NNNNNNNN` that are whole or absent.
//!
//! Each holds `model.safetensors` and `ema-<decay>.safetensors` with the reference's names,
//! `optimizer.safetensors` with the moments as `m.<name>` and `v.<name>`, of a partner the same in
//! files of its own whose names begin with `partner-`, the run's `config.toml`, and `state.json` with everything else and the length and CRC-32C of each file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use jit_core::files::{FileError, create_dir_atomic, write_bytes_atomic};
use jit_model::params::{ParamSpec, Params, Registry};
use jit_model::weights::{File as WeightsFile, write_safetensors};
use jit_model::{Device, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::config::{Role, RunConfig};
use crate::error::TrainError;
use crate::optimizer::{Optimizer, OptimizerState};

/// The version of the layout that this program writes, and the only one it reads.
const FORMAT: u32 = 1;
const STATE: &str = "state.json";
const CONFIG: &str = "config.toml";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// No `state.json` or `config.toml` is longer, 2²⁷ bytes: room for a million class names.
const MAX_TEXT: u64 = 1 << 27;

/// `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of the layout.
    pub format: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Samples of the endless stream seen: where the data go on.
    pub position: u64,
    /// The run's seed.
    pub seed: u64,
    /// Seconds spent on training steps.
    pub elapsed: f64,
    /// Never removed when old checkpoints are.
    pub keep: bool,
    /// [`jit_data::Manifest::fingerprint`] of the images.
    pub data: String,
    /// Where the images were.
    pub source: String,
    /// Class names in the order of their numbers; empty without classes.
    pub class_names: Vec<String>,
    /// The other files.
    pub files: BTreeMap<String, Digest>,
}

/// What a file must be to be undamaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Its length.
    pub bytes: u64,
    /// CRC-32C (Castagnoli) of its content.
    pub crc32c: u32,
}

/// An undamaged checkpoint on disk.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub dir: PathBuf,
    /// Its state.
    pub state: State,
    /// The configuration of the run that wrote it.
    pub config: RunConfig,
}

/// What is in a folder of checkpoints.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest undamaged one.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are damaged, newest first, and why.
    pub damaged: Vec<(PathBuf, TrainError)>,
}

/// The folder name of a checkpoint.
pub fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The file that holds a network's average with this decay.
pub fn ema_file(role: Role, decay: f64) -> String {
    format!("{}ema-{decay}.safetensors", role.prefix())
}

/// The file that holds a network's weights.
pub fn model_file(role: Role) -> String {
    role.prefix().to_owned() + MODEL
}

fn optimizer_file(role: Role) -> String {
    role.prefix().to_owned() + OPTIMIZER
}

/// The checkpoints in `dir`, oldest first, by their names alone.
///
/// # Errors
/// [`FileError`] when the folder cannot be listed; one that does not exist holds none.
pub fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, FileError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FileError::at("list", dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FileError::at("list", dir))?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("step-")?.parse().ok());
        found.extend(step.map(|step| (step, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// The newest undamaged checkpoint in `dir`. Leftovers of interrupted saves are not considered:
/// they never got their final name.
///
/// # Errors
/// [`TrainError::File`] when something cannot be read that is there, and [`TrainError::Format`]
/// for a checkpoint of another version of this program, which must not be skipped silently.
pub fn latest(dir: &Path) -> Result<Found, TrainError> {
    let mut found = Found::default();
    for (_, path) in list(dir)?.into_iter().rev() {
        match Checkpoint::open(&path) {
            Ok(checkpoint) => {
                found.checkpoint = Some(checkpoint);
                break;
            }
            Err(error) if is_damage(&error) => found.damaged.push((path, error)),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn is_damage(error: &TrainError) -> bool {
    match error {
        TrainError::File(error) => error.source.kind() == ErrorKind::NotFound,
        TrainError::Damaged { .. } => true,
        _ => false,
    }
}

impl Checkpoint {
    /// Reads the state and compares every file with its length and checksum.
    ///
    /// # Errors
    /// [`TrainError::Damaged`] naming the file, [`TrainError::Format`] for another version's
    /// checkpoint, [`TrainError::File`] when a file cannot be read.
    pub fn open(dir: &Path) -> Result<Self, TrainError> {
        let path = dir.join(STATE);
        let damaged = |path: &Path, what: String| TrainError::Damaged { path: path.into(), what };
        let text = read_text(&path)?;
        let unreadable = |e: serde_json::Error| damaged(&path, format!("cannot be read: {e}"));
        let Format { format } = serde_json::from_str(&text).map_err(unreadable)?;
        if format != FORMAT {
            return Err(TrainError::Format { path, found: format, expected: FORMAT });
        }
        let state: State = serde_json::from_str(&text).map_err(unreadable)?;
        let listed = |name: &str| match state.files.contains_key(name) {
            true => Ok(()),
            false => Err(damaged(&path, format!("does not list `{name}`"))),
        };
        listed(CONFIG)?;
        for (name, expected) in &state.files {
            let path = dir.join(name);
            // A name is a name: no other folder is ever read.
            if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
                return Err(damaged(&path, "is outside of its checkpoint".into()));
            }
            let found = digest(&path)?;
            if found.bytes != expected.bytes {
                let what = format!("has {} bytes instead of {}", found.bytes, expected.bytes);
                return Err(damaged(&path, what));
            }
            if found.crc32c != expected.crc32c {
                return Err(damaged(&path, "is damaged: its checksum is wrong".into()));
            }
        }
        let file = dir.join(CONFIG);
        let config = RunConfig::from_toml(&read_text(&file)?)
            .map_err(|error| damaged(&file, format!("cannot be read: {error}")))?;
        config.validate()?;
        for &role in config.roles() {
            listed(&model_file(role))?;
            listed(&optimizer_file(role))?;
        }
        Ok(Self { dir: dir.into(), state, config })
    }

    /// The raw weights of a network, in registry order.
    ///
    /// # Errors
    /// [`TrainError::Damaged`] when names or shapes are not those of `registry`.
    pub fn weights(&self, role: Role, registry: &Registry) -> Result<Vec<Vec<f32>>, TrainError> {
        self.read(&model_file(role), registry, |_| true, &[""]).map(|mut sets| sets.remove(0))
    }

    /// The average of a network's weights with this decay.
    ///
    /// # Errors
    /// As [`Checkpoint::weights`].
    pub fn average(
        &self,
        role: Role,
        decay: f64,
        registry: &Registry,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let file = ema_file(role, decay);
        self.read(&file, registry, |_| true, &[""]).map(|mut sets| sets.remove(0))
    }

    /// The moments and averages of a network's optimizer.
    ///
    /// # Errors
    /// As [`Checkpoint::weights`].
    pub fn optimizer(&self, role: Role, registry: &Registry) -> Result<OptimizerState, TrainError> {
        let trained = |spec: &ParamSpec| spec.trainable;
        let mut moments = self.read(&optimizer_file(role), registry, trained, &["m.", "v."])?;
        let v = moments.remove(1);
        let m = moments.remove(0);
        let decays = &self.config.optim.ema_decay;
        let average = |decay: &f64| self.average(role, *decay, registry);
        let averages = decays.iter().map(average).collect::<Result<_, _>>()?;
        Ok(OptimizerState { step: self.state.step, m, v, averages })
    }

    /// One value for each parameter and prefix; empty for parameters that `wanted` leaves out.
    fn read(
        &self,
        file: &str,
        registry: &Registry,
        wanted: impl Fn(&ParamSpec) -> bool,
        prefixes: &[&str],
    ) -> Result<Vec<Vec<Vec<f32>>>, TrainError> {
        let path = self.dir.join(file);
        let damaged = |what: String| TrainError::Damaged { path: path.clone(), what };
        let file = WeightsFile::open(&path)?;
        let expected = registry.specs().iter().filter(|spec| wanted(spec)).count();
        let found = file.names().len();
        if found > expected * prefixes.len() {
            let expected = expected * prefixes.len();
            return Err(damaged(format!("has {found} tensors; the network needs {expected}")));
        }
        let value = |prefix: &str, spec: &ParamSpec| {
            if !wanted(spec) {
                return Ok(Vec::new());
            }
            let name = format!("{prefix}{}", spec.name);
            if let Some(shape) = file.shape(&name).filter(|shape| *shape != spec.shape) {
                let expected = &spec.shape;
                let what =
                    format!("has `{name}` of shape {shape:?}; the network needs {expected:?}");
                return Err(damaged(what));
            }
            Ok(file.tensor(&name)?.into_f32())
        };
        let set = |prefix: &&str| {
            registry.specs().iter().map(|spec| value(prefix, spec)).collect::<Result<Vec<_>, _>>()
        };
        prefixes.iter().map(set).collect()
    }
}

/// The part of `state.json` that every version has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// What a checkpoint holds of a network.
pub struct Learned<'a, D: Device> {
    /// Which of the run's networks it is.
    pub role: Role,
    /// Its shape.
    pub model: &'a ModelConfig,
    /// The parameters' declarations.
    pub registry: &'a Registry,
    /// The weights.
    pub params: &'a Params<D>,
    /// Moments and averages.
    pub optimizer: &'a Optimizer<D>,
}

/// What a checkpoint is made of.
pub struct Snapshot<'a, D: Device> {
    /// The device that holds the weights.
    pub dev: &'a D,
    /// The networks.
    pub learned: Vec<Learned<'a, D>>,
    /// The run's configuration.
    pub config: &'a RunConfig,
    /// Everything else; its `format` and `files` are filled in.
    pub state: State,
}

/// Writes a checkpoint into the folder `dir` of checkpoints and returns its path. It appears whole
/// or not at all, and is durable when this returns.
///
/// # Errors
/// [`TrainError::File`] when the file system refuses, for instance because it is full.
pub fn save<D: Device>(dir: &Path, snapshot: Snapshot<'_, D>) -> Result<PathBuf, TrainError> {
    let path = dir.join(folder_name(snapshot.state.step));
    create_dir_atomic(&path, |folder| fill(folder, snapshot))?;
    Ok(path)
}

fn fill<D: Device>(folder: &Path, s: Snapshot<'_, D>) -> Result<(), TrainError> {
    let Snapshot { dev, learned, config, mut state } = s;
    let mut files = vec![CONFIG.to_owned()];
    for learned in &learned {
        files.extend(write_learned(folder, dev, learned, config, &state)?);
    }
    let toml = config.to_toml().map_err(|error| TrainError::Damaged {
        path: folder.join(CONFIG),
        what: format!("cannot be written: {error}"),
    })?;
    write_bytes_atomic(&folder.join(CONFIG), toml.as_bytes())?;

    state.format = FORMAT;
    state.files = files
        .into_iter()
        .map(|name| digest(&folder.join(&name)).map(|digest| (name, digest)))
        .collect::<Result<_, _>>()?;
    write_json(&folder.join(STATE), &state)
}

/// Writes the weights, averages and moments of a network; returns the names of the files.
fn write_learned<D: Device>(
    folder: &Path,
    dev: &D,
    learned: &Learned<'_, D>,
    config: &RunConfig,
    state: &State,
) -> Result<Vec<String>, TrainError> {
    let &Learned { role, model, registry, params, optimizer } = learned;
    let specs = registry.specs();
    let write = |name: &str, set: &str, values: &[Vec<f32>]| {
        let tensors = specs.iter().zip(values);
        let tensors = tensors.map(|(spec, v)| (&spec.name[..], &spec.shape[..], &v[..]));
        write_safetensors(&folder.join(name), tensors, &metadata(model, config, state, set))
    };
    let mut files = vec![model_file(role), optimizer_file(role)];
    write(&files[0], "model", &params.download(dev))?;
    write_moments(&folder.join(&files[1]), specs, &optimizer.moments(dev))?;
    for (index, &decay) in config.optim.ema_decay.iter().enumerate() {
        let file = ema_file(role, decay);
        write(&file, &format!("ema{decay}"), &optimizer.average(dev, params, index))?;
        files.push(file);
    }
    Ok(files)
}

/// `m.<name>` and `v.<name>` of every trained parameter.
fn write_moments(
    path: &Path,
    specs: &[ParamSpec],
    (m, v): &(Vec<Vec<f32>>, Vec<Vec<f32>>),
) -> Result<(), TrainError> {
    let mut named = Vec::new();
    for (prefix, values) in [("m", m), ("v", v)] {
        for (spec, value) in specs.iter().zip(values).filter(|(spec, _)| spec.trainable) {
            named.push((format!("{prefix}.{}", spec.name), &spec.shape, value));
        }
    }
    let tensors = named.iter().map(|(name, shape, value)| (&name[..], &shape[..], &value[..]));
    Ok(write_safetensors(path, tensors, &BTreeMap::new())?)
}

/// What lets a weight file be used without the rest of its checkpoint.
fn metadata(
    model: &ModelConfig,
    config: &RunConfig,
    state: &State,
    set: &str,
) -> BTreeMap<String, String> {
    let json = |value: serde_json::Result<String>| value.unwrap_or_default();
    [
        ("config", json(serde_json::to_string(model))),
        ("objective", json(serde_json::to_string(&config.objective))),
        ("class_names", json(serde_json::to_string(&state.class_names))),
        ("set", set.to_owned()),
        ("step", state.step.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Writes JSON for people: indented, with a newline at the end.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let failed = |e: serde_json::Error| TrainError::Damaged {
        path: path.into(),
        what: format!("cannot be written: {e}"),
    };
    let mut text = serde_json::to_string_pretty(value).map_err(failed)?;
    text.push('\n');
    Ok(write_bytes_atomic(path, text.as_bytes())?)
}

/// A text file of at most [`MAX_TEXT`] bytes.
fn read_text(path: &Path) -> Result<String, TrainError> {
    let damaged = |what: &str| TrainError::Damaged { path: path.into(), what: what.into() };
    let file = jit_core::input::open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(FileError::at("read", path))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(damaged("is too long"));
    }
    String::from_utf8(bytes).map_err(|_| damaged("is not text"))
}

fn digest(path: &Path) -> Result<Digest, FileError> {
    let mut file = jit_core::input::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut digest = Digest { bytes: 0, crc32c: 0 };
    loop {
        match file.read(&mut buffer).map_err(FileError::at("read", path))? {
            0 => return Ok(digest),
            n => {
                digest.bytes += n as u64;
                digest.crc32c = crc32c::crc32c_append(digest.crc32c, &buffer[..n]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
