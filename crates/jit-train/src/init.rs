//! What a run's weights are before its first step: random, or those of another run.

use std::path::{Path, PathBuf};

use jit_model::init::initial_values;
use jit_model::params::Registry;
use jit_model::weights::{StateDict, default_set, load_state, weights_in};

use crate::checkpoint::{self, Checkpoint, ema_file, model_file};
use crate::config::{Role, RunConfig};
use crate::error::TrainError;

/// Tensors that are named in a message.
const NAMED: usize = 5;

/// A value for each parameter of `registry`, in its order. Heads of auxiliary losses that the file lacks
/// are random.
///
/// # Errors
/// [`TrainError::Init`] naming the tensors that the file lacks or has in other shapes.
pub fn first_values(registry: &Registry, config: &RunConfig) -> Result<Vec<Vec<f32>>, TrainError> {
    let mut values = initial_values(registry, config.train.seed);
    if config.train.init.is_empty() {
        return Ok(values);
    }
    let (path, mut state) = load(Path::new(&config.train.init))?;
    let mut wrong = Vec::new();
    for (spec, value) in registry.specs().iter().zip(&mut values) {
        if config.train.reinit.iter().any(|group| group.has(&spec.name)) {
            continue;
        }
        match state.remove(&spec.name) {
            Some(tensor) if tensor.shape == spec.shape => *value = tensor.into_f32(),
            Some(tensor) => wrong.push(format!(
                "`{}` has shape {:?}, and the run's has {:?}",
                spec.name, tensor.shape, spec.shape
            )),
            None if spec.name.starts_with("net.") => {
                wrong.push(format!("`{}` is missing", spec.name));
            }
            None => {}
        }
    }
    match &wrong[..] {
        [] => Ok(values),
        all => {
            let more = match all.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let what = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ") + &more;
            // The other tensors fit, so the number of classes is all that differs.
            let classes = all.iter().all(|line| line.contains("`net.y_embedder."));
            let mend = match classes {
                true => "add --reinit class_embed to learn the classes anew",
                false => "give the run the shape of these weights (--preset, or [model])",
            };
            Err(TrainError::Init { path, what, mend })
        }
    }
}

/// The weights at `path`, and the file that holds them.
fn load(path: &Path) -> Result<(PathBuf, StateDict), TrainError> {
    if !path.is_dir() {
        return state(path.to_path_buf());
    }
    let of = |checkpoint: Checkpoint| {
        let file = match checkpoint.config.optim.ema_decay.first() {
            Some(&decay) => ema_file(Role::First, decay),
            None => model_file(Role::First),
        };
        checkpoint.dir.join(file)
    };
    if path.join("state.json").exists() {
        return state(of(Checkpoint::open(path)?));
    }
    let nested = path.join("checkpoints");
    let found = checkpoint::latest(if nested.is_dir() { &nested } else { path })?;
    match (found.checkpoint, found.damaged.into_iter().next(), weights_in(path)) {
        (Some(checkpoint), ..) => state(of(checkpoint)),
        (None, Some((_, error)), _) => Err(error),
        (None, None, Some(file)) => state(file),
        (None, None, None) => Err(TrainError::Init {
            path: path.into(),
            what: "it holds neither checkpoints nor weights".into(),
            mend: "give a file of weights, or the folder of a run",
        }),
    }
}

fn state(path: PathBuf) -> Result<(PathBuf, StateDict), TrainError> {
    let set = default_set(&path)?;
    let state = load_state(&path, set.as_deref())?;
    Ok((path, state.tensors))
}
