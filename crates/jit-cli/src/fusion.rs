//! The second model of a fusion: found, and checked against the first.

use std::ffi::OsStr;
use std::path::Path;

use jit_core::text::Show;
use jit_model::fusion::{FusionMode, Parent, compatible};
use jit_train::config::Role;

use crate::failure::{Failure, Outcome};
use crate::source::{self, Source};

/// The model that `[fusion]` asks for beside the first, if any. It is as its own file says: options
/// of the command line are the first's.
///
/// # Errors
/// Weights that cannot be read, or that draw other images than the first.
pub fn second(first: &Source) -> Outcome<Option<Source>> {
    let fusion = &first.config.fusion;
    if fusion.with.is_empty() {
        return Ok(None);
    }
    let average = Some(&*fusion.average).filter(|name| !name.is_empty());
    let second = match first.config.draws_with_partner() {
        true => partner(first, average)?,
        false => source::open_as_it_is(Path::new(&fusion.with), average)?,
    };
    let names = [first, &second].map(|source| source.path.display().to_string());
    fn parent<'a>(name: &'a str, source: &'a Source) -> Parent<'a> {
        Parent { name, model: &source.config.model, objective: &source.config.objective }
    }
    compatible(parent(&names[0], first), parent(&names[1], &second)).map_err(Failure::usage)?;
    let known = !first.class_names.is_empty() && !second.class_names.is_empty();
    if known && first.class_names != second.class_names {
        let [a, b] = names;
        let message = format!("`{a}` and `{b}` cannot be fused: their classes have other names");
        return Err(Failure::usage(message).help("train both on the same classes"));
    }
    Ok(Some(second))
}

/// The network that was trained along with the first, with the same set of its weights unless another
/// is asked for.
fn partner(first: &Source, average: Option<&str>) -> Outcome<Source> {
    let path = &first.path;
    let parts = (path.parent(), path.file_stem().and_then(OsStr::to_str));
    let (Some(folder), Some(set)) = parts else {
        return Err(Failure::new(format!("`{}` lies in no checkpoint", path.shown())));
    };
    let (set, prefix) = (average.unwrap_or(set), Role::Partner.prefix());
    let set = if set.starts_with(prefix) { set.to_string() } else { format!("{prefix}{set}") };
    source::open_as_it_is(folder, Some(&set))
}

/// `, blended with B, weight 0.5`: what an evaluation says of the second model.
pub fn describe(first: &Source, second: &Source) -> String {
    let fusion = &first.config.fusion;
    let mode = match fusion.mode {
        FusionMode::Blend => "blended with",
        FusionMode::Guide => "guided by",
    };
    format!(", {mode} {}, weight {}", second.path.shown(), fusion.weight)
}
