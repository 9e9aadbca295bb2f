//! Named configurations: small ones from files, the reference's from its model shapes and recipe.

use toml::Table;

/// The presets that are files.
const FILES: [(&str, &str); 2] = [
    ("digits", include_str!("../../../presets/digits.toml")),
    ("tiny-32", include_str!("../../../presets/tiny-32.toml")),
];

/// What every `JiT-*` preset shares beside the shape.
const RECIPE: &str = include_str!("../../../presets/jit-recipe.toml");

/// Why there is no preset.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    /// No preset has the name.
    #[error("there is no preset `{name}`{hint}; presets are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The nearest one, or nothing.
        hint: String,
        /// All of them.
        known: String,
    },
    /// A preset that is not TOML: a defect of this build.
    #[error("the preset `{name}` is broken: {source}")]
    Broken {
        /// The name.
        name: String,
        /// Where.
        source: toml::de::Error,
    },
}

/// The names of all presets.
pub fn names() -> Vec<String> {
    let files = FILES.iter().map(|(name, _)| name.to_string());
    files.chain(jit_model::presets::names()).collect()
}

/// The keys that the preset `name` sets.
///
/// # Errors
/// [`PresetError::Unknown`] with the nearest name and all of them.
pub fn table(name: &str) -> Result<Table, PresetError> {
    let broken = |source| PresetError::Broken { name: name.to_string(), source };
    if let Some((_, text)) = FILES.iter().find(|(file, _)| *file == name) {
        return text.parse().map_err(broken);
    }
    let Some(model) = jit_model::presets::model(name) else {
        let known = names();
        let hint = jit_core::suggest::hint(name, known.iter().map(String::as_str));
        return Err(PresetError::Unknown { name: name.into(), hint, known: known.join(", ") });
    };
    let mut table: Table = RECIPE.parse().map_err(broken)?;
    // The shape's own keys only: variant, channels and classes stay whatever the file says, and
    // the number of classes is the data's.
    let rounded = |x: f32| toml::Value::Float((f64::from(x) * 1e6).round() / 1e6);
    let size = |n: usize| toml::Value::Integer(n as i64);
    let shape = [
        ("image_size", size(model.image_size)),
        ("patch_size", size(model.patch_size)),
        ("hidden_size", size(model.hidden_size)),
        ("depth", size(model.depth)),
        ("num_heads", size(model.num_heads)),
        ("bottleneck_dim", size(model.bottleneck_dim)),
        ("in_context_len", size(model.in_context_len)),
        ("in_context_start", size(model.in_context_start)),
        ("attention_dropout", rounded(model.attention_dropout)),
        ("projection_dropout", rounded(model.projection_dropout)),
    ];
    let shape = shape.into_iter().map(|(k, v)| (k.to_string(), v)).collect::<Table>();
    table.insert("model".into(), toml::Value::Table(shape));
    if let (Some(guidance), Some(toml::Value::Table(sample))) =
        (jit_model::presets::guidance(name), table.get_mut("sample"))
    {
        sample.insert("cfg_scale".into(), rounded(guidance));
    }
    Ok(table)
}

/// A preset's name, or any other, as the name of a folder.
pub fn folder_name(name: &str) -> String {
    name.replace(['/', '\\'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::run_options;
    use crate::layers::{Layers, Origin};
    use jit_train::RunConfig;

    fn config(name: &str) -> RunConfig {
        let options = run_options();
        let mut layers = Layers::new(&options);
        layers.add(&table(name).unwrap(), Origin::Preset(name.into())).unwrap();
        layers.build().unwrap()
    }

    #[test]
    fn every_preset_is_a_valid_configuration() {
        for name in names() {
            config(&name).validate().unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }

    #[test]
    fn a_reference_preset_has_its_shape_and_the_recipe() {
        let c = config("JiT-H/32");
        let shape = jit_model::presets::model("JiT-H/32").unwrap();
        assert_eq!(c.model, shape);
        assert_eq!((c.train.global_batch, c.train.epochs), (1024, 600.0));
        assert_eq!(c.optim.ema_decay, [0.9999, 0.9996, 0.9998]);
        assert_eq!((c.sample.steps, c.peak_lr()), (50, 2e-4));
        assert_eq!((c.sample.cfg_scale, config("JiT-B/16").sample.cfg_scale), (2.3, 3.0));
        assert_eq!(c.model.attention_dropout, 0.0);
    }

    #[test]
    fn an_unknown_preset_names_the_nearest() {
        let message = table("jit-b16").unwrap_err().to_string();
        assert!(message.contains("there is no preset `jit-b16` (did you mean `JiT-B/16`?)"));
        assert!(message.contains("digits, tiny-32, JiT-B/16"), "{message}");
        assert_eq!(folder_name("JiT-B/16"), "JiT-B-16");
    }
}
