//! The second model of a fusion: found, and checked against the first.

use std::path::Path;

use jit_model::fusion::{FusionMode, Parent, compatible};

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
    let second = source::open_as_it_is(Path::new(&fusion.with), average)?;
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

/// `, blended with B, weight 0.5`: what an evaluation says of the second model.
pub fn describe(first: &Source, second: &Source) -> String {
    let fusion = &first.config.fusion;
    let mode = match fusion.mode {
        FusionMode::Blend => "blended with",
        FusionMode::Guide => "guided by",
    };
    format!(", {mode} {}, weight {}", second.path.display(), fusion.weight)
}
