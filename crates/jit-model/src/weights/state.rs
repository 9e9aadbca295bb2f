//! Choosing one set of weights (raw or averaged) out of a file that may hold several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jit_core::suggest;

use super::archive::MAX_EXPANSION;
use super::{File, Tensor, WeightsError, diffusers};

/// Tensors by the reference's names, such as `net.blocks.0.attn.qkv.weight`.
pub type StateDict = BTreeMap<String, Tensor>;

/// What [`load_state`] read.
#[derive(Debug)]
pub struct LoadedState {
    /// The tensors.
    pub tensors: StateDict,
    /// The set they are of: `model`, `model_ema1`, `ema0.9999`, …
    pub set: String,
    /// All sets in the file, sorted.
    pub available: Vec<String>,
    /// The file's metadata, see [`File::metadata`].
    pub metadata: BTreeMap<String, String>,
}

/// The set of names without a prefix.
const BARE: &str = "model";

/// Loads one set of weights from a safetensors file, a torch checkpoint or a bare state dict.
///
/// A set is what shares a prefix before `net.`: `model_ema1.net.pos_embed` belongs to `model_ema1`,
/// a bare `net.pos_embed` to `model`. A file without any `net.` is one set, `model`. The segments
/// `module` (data parallel), `_orig_mod` (compiled) and the like of wrappers are dropped from all
/// names, wherever they stand.
///
/// A network in the layout of diffusers, or without `net.` before its names, has the reference's.
///
/// Without `which`, a file's only set is taken, or `model`.
///
/// # Errors
/// [`WeightsError::UnknownSet`] lists the sets there are; else as [`File::open`] and
/// [`File::tensor`].
pub fn load_state(path: &Path, which: Option<&str>) -> Result<LoadedState, WeightsError> {
    let file = File::open(path)?;
    let mut sets = group(file.names());
    let available: Vec<String> = sets.keys().cloned().collect();
    let set = match (which, &available[..]) {
        (Some(which), _) => which,
        (None, [only]) => only,
        (None, _) => BARE,
    };
    let members = sets.remove(set).ok_or_else(|| WeightsError::UnknownSet {
        path: path.into(),
        which: set.into(),
        hint: suggest::hint(set, available.iter().map(String::as_str)),
        available: match &available[..] {
            [] => "no tensors".into(),
            sets => format!("`{}`", sets.join("`, `")),
        },
    })?;
    // Many names may share one storage. Together they must not ask for more memory than the file
    // could account for.
    let mut budget = file.len().saturating_mul(MAX_EXPANSION);
    let mut tensors = StateDict::new();
    for (name, stored) in members {
        let fault = |what: &str| WeightsError::Tensor {
            path: path.into(),
            name: stored.clone(),
            what: what.into(),
        };
        let tensor = file.tensor(&stored)?;
        budget = budget
            .checked_sub(tensor.data.len() as u64)
            .ok_or_else(|| fault("too many tensors before it share the same storage"))?;
        if tensors.insert(name, tensor).is_some() {
            return Err(fault("without the prefixes of wrappers its name occurs twice"));
        }
    }
    Ok(LoadedState { tensors, set: set.to_string(), metadata: file.metadata().clone(), available })
}

/// The set that is taken of a file unless another is asked for: a reference checkpoint's first
/// average, `model_ema1`, if it has one.
///
/// # Errors
/// As [`File::open`].
pub fn default_set(path: &Path) -> Result<Option<String>, WeightsError> {
    const AVERAGE: &str = "model_ema1";
    let file = File::open(path)?;
    let has = file.names().iter().any(|name| name.starts_with(&format!("{AVERAGE}.")));
    Ok(has.then(|| AVERAGE.to_string()))
}

/// The names in each set: without wrappers and prefix, and as they are stored.
fn group(stored: Vec<String>) -> BTreeMap<String, Vec<(String, String)>> {
    let names: Vec<String> = stored.iter().map(|name| without_wrappers(name)).collect();
    let names = diffusers::reference_names(&names).unwrap_or(names);
    let mut prefixes: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| match name.starts_with("net.") {
            true => Some(""),
            false => name.find(".net.").map(|at| &name[..at]),
        })
        .collect();
    if prefixes.is_empty() {
        prefixes.insert("");
    }
    let mut sets = BTreeMap::<String, Vec<_>>::new();
    for (name, stored) in names.iter().zip(stored) {
        let prefixed = name
            .rmatch_indices('.')
            .map(|(at, _)| (&name[..at], &name[at + 1..]))
            .find(|(prefix, _)| prefixes.contains(prefix));
        let (set, rest) = match prefixed {
            Some((prefix, rest)) => (prefix, rest),
            None if prefixes.contains("") => (BARE, &name[..]),
            // Not a weight: `optimizer.state.0.exp_avg` beside `model.net.…`.
            None => continue,
        };
        sets.entry(set.into()).or_default().push((rest.into(), stored));
    }
    sets
}

fn without_wrappers(name: &str) -> String {
    const WRAPPERS: [&str; 5] = [
        "module",
        "_orig_mod",
        "_checkpoint_wrapped_module",
        "_fsdp_wrapped_module",
        "_forward_module",
    ];
    let kept = name.split('.').filter(|segment| !WRAPPERS.contains(segment));
    kept.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sets of `names` with their members' names.
    fn sets(names: &[&str]) -> Vec<(String, Vec<String>)> {
        let grouped = group(names.iter().map(|name| name.to_string()).collect());
        let names = |members: Vec<(String, String)>| members.into_iter().map(|m| m.0).collect();
        grouped.into_iter().map(|(set, members)| (set, names(members))).collect()
    }

    #[test]
    fn prefixes_before_the_network_are_sets() {
        let found = sets(&[
            "ema0.9999.net.pos_embed",
            "ema0.9999.time_head.0.weight",
            "model.net.pos_embed",
            "optimizer.state.0.exp_avg",
            "z",
        ]);
        let expected = [
            ("ema0.9999".into(), vec!["net.pos_embed".into(), "time_head.0.weight".into()]),
            ("model".into(), vec!["net.pos_embed".into()]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn bare_names_and_other_networks_are_the_set_model() {
        let bare = sets(&["net.pos_embed", "time_head.0.weight"]);
        assert_eq!(
            bare,
            [("model".into(), vec!["net.pos_embed".into(), "time_head.0.weight".into()])]
        );
        let other = sets(&["features.0.weight"]);
        assert_eq!(other, [("model".into(), vec!["features.0.weight".into()])]);
    }

    #[test]
    fn wrappers_vanish_from_names() {
        let expected = [("model".into(), vec!["net.blocks.0.x".into()])];
        assert_eq!(sets(&["module.net.blocks.0.x"]), expected);
        assert_eq!(sets(&["_orig_mod.module.net._orig_mod.blocks.0.x"]), expected);
        assert_eq!(sets(&["model.module.net.blocks.0.x"]), expected);
        assert_eq!(sets(&["net.blocks.0._checkpoint_wrapped_module.x"]), expected);
    }
}
