//! The configuration of a run, laid down in layers: built-in values, a file, a preset, flags. Each
//! layer sets only the keys it holds, and every key remembers who set it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jit_core::text::Show;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::options::{Kind, OptionSpec, Options};

/// Who set a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file given as `--config`, or a run's own.
    File(PathBuf),
    /// A preset.
    Preset(String),
    /// What the runs of a suite share.
    Suite(String),
    /// A flag, `--set` among them.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => write!(f, "`{}`", path.shown()),
            Origin::Preset(name) => write!(f, "preset `{name}`"),
            Origin::Suite(name) => write!(f, "suite `{name}`"),
            Origin::Flag(flag) => write!(f, "`{}`", flag.shown()),
        }
    }
}

/// Why a layer cannot be laid down.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A key that no option has.
    #[error("{origin}: there is no option `{}`{hint}", path.shown())]
    UnknownKey {
        /// Who set it.
        origin: Origin,
        /// The key.
        path: String,
        /// The nearest valid key, or nothing.
        hint: String,
    },
    /// A value of the wrong type.
    #[error("{origin}: `{path}` cannot be {}; expected {expected}", value.shown())]
    WrongType {
        /// Who set it.
        origin: Origin,
        /// The key.
        path: String,
        /// The value.
        value: String,
        /// What would be valid, with the nearest valid name if one is near.
        expected: String,
    },
    /// A `--set` that is not an assignment.
    #[error("`--set {0}`: expected section.key=value")]
    NoAssignment(String),
    /// A file that is not TOML.
    #[error("{origin} is no valid TOML: {source}")]
    Syntax {
        /// The file.
        origin: Origin,
        /// Line, column and what is wrong there.
        source: toml::de::Error,
    },
    /// What the types alone do not rule out.
    #[error("the configuration is not valid: {0}")]
    Invalid(#[from] toml::de::Error),
}

/// A configuration in the making.
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    options: &'a Options,
    merged: Table,
    origins: BTreeMap<String, Origin>,
}

impl<'a> Layers<'a> {
    /// The built-in values.
    pub fn new(options: &'a Options) -> Self {
        Self { options, merged: options.defaults().clone(), origins: BTreeMap::new() }
    }

    /// Lays a TOML document over what is there.
    ///
    /// # Errors
    /// [`LayerError`] naming `origin`, the key and what would be valid; nothing is changed then.
    pub fn add_text(&mut self, text: &str, origin: Origin) -> Result<(), LayerError> {
        let table = text
            .parse::<Table>()
            .map_err(|source| LayerError::Syntax { origin: origin.clone(), source })?;
        self.add(&table, origin)
    }

    /// Lays a table over what is there.
    ///
    /// # Errors
    /// As [`Layers::add_text`].
    pub fn add(&mut self, table: &Table, origin: Origin) -> Result<(), LayerError> {
        let mut leaves = Vec::new();
        self.check(table, "", &origin, &mut leaves)?;
        for (path, value) in leaves {
            self.put(&path, value, origin.clone());
        }
        Ok(())
    }

    /// Sets one option from text, as a flag gives it.
    ///
    /// # Errors
    /// As [`Layers::add_text`].
    pub fn set(&mut self, path: &str, text: &str, origin: Origin) -> Result<(), LayerError> {
        let Some(spec) = self.options.get(path) else {
            return Err(self.unknown(path, origin));
        };
        let Some(value) = spec.kind.parse(text) else {
            let value = Value::String(text.to_string());
            return Err(wrong_type(path, &value, spec, origin));
        };
        self.put(path, value, origin);
        Ok(())
    }

    /// Sets one option from `section.key=value`.
    ///
    /// # Errors
    /// As [`Layers::add_text`], or where there is no `=`.
    pub fn assign(&mut self, assignment: &str) -> Result<(), LayerError> {
        let Some((path, value)) = assignment.split_once('=') else {
            return Err(LayerError::NoAssignment(assignment.to_string()));
        };
        let origin = Origin::Flag(format!("--set {assignment}"));
        self.set(path.trim(), value.trim(), origin)
    }

    /// Who set an option; `None` where it has its built-in value.
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.origins.get(path)
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`LayerError::Invalid`] where the types alone did not rule a value out.
    pub fn build<T: DeserializeOwned>(&self) -> Result<T, LayerError> {
        Ok(self.merged.clone().try_into()?)
    }

    fn check(
        &self,
        table: &Table,
        path: &str,
        origin: &Origin,
        leaves: &mut Vec<(String, Value)>,
    ) -> Result<(), LayerError> {
        for (key, value) in table {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (self.options.get(&path), value) {
                (Some(spec), value) if spec.kind.accepts(value) => {
                    leaves.push((path, value.clone()));
                }
                (Some(spec), value) => return Err(wrong_type(&path, value, spec, origin.clone())),
                (None, Value::Table(inner)) if self.options.is_section(&path) => {
                    self.check(inner, &path, origin, leaves)?;
                }
                (None, _) => return Err(self.unknown(&path, origin.clone())),
            }
        }
        Ok(())
    }

    fn unknown(&self, path: &str, origin: Origin) -> LayerError {
        LayerError::UnknownKey { origin, path: path.to_string(), hint: self.options.hint(path) }
    }

    fn put(&mut self, path: &str, value: Value, origin: Origin) {
        let mut table = &mut self.merged;
        let mut keys: Vec<&str> = path.split('.').collect();
        let leaf = keys.pop().unwrap_or(path);
        for key in keys {
            let section = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = section else { return };
            table = inner;
        }
        table.insert(leaf.to_string(), value);
        self.origins.insert(path.to_string(), origin);
    }
}

fn wrong_type(path: &str, value: &Value, spec: &OptionSpec, origin: Origin) -> LayerError {
    let hint = match (&spec.kind, value) {
        (Kind::Choice(names), Value::String(s)) => {
            jit_core::suggest::hint(s, names.iter().map(String::as_str))
        }
        (Kind::Text, _) => " in quotes".to_string(),
        _ => String::new(),
    };
    LayerError::WrongType {
        origin,
        path: path.to_string(),
        value: value.to_string(),
        expected: format!("{}{hint}", spec.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        model: Model,
        seed: u64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Model {
        depth: usize,
        rate: f32,
        mlp: Mlp,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Mlp {
        Swiglu,
        Bottleneck,
    }

    impl Default for Model {
        fn default() -> Self {
            Self { depth: 12, rate: 0.1, mlp: Mlp::Swiglu }
        }
    }

    fn file() -> Origin {
        Origin::File("a.toml".into())
    }

    #[test]
    fn each_layer_overrides_the_one_before_where_it_says_something() {
        let options = Options::of::<Config>();
        let mut layers = Layers::new(&options);
        layers.add_text("seed = 3\n[model]\ndepth = 4\nrate = 1", file()).unwrap();
        layers.add_text("[model]\nmlp = \"bottleneck\"", Origin::Preset("p".into())).unwrap();
        layers.assign("model.depth = 5").unwrap();
        let config: Config = layers.build().unwrap();
        let model = Model { depth: 5, rate: 1.0, mlp: Mlp::Bottleneck };
        assert_eq!(config, Config { model, seed: 3 });
        assert_eq!(layers.origin("seed"), Some(&file()));
        assert_eq!(layers.origin("model.mlp"), Some(&Origin::Preset("p".into())));
        let untouched: Config = Layers::new(&options).build().unwrap();
        assert_eq!(untouched, Config::default());
    }

    #[test]
    fn errors_name_the_file_the_key_and_what_would_be_right() {
        let options = Options::of::<Config>();
        let message =
            |text: &str| Layers::new(&options).add_text(text, file()).unwrap_err().to_string();
        assert_eq!(
            message("[model]\ndepht = 4"),
            "`a.toml`: there is no option `model.depht` (did you mean `model.depth`?)"
        );
        assert_eq!(
            message("[modle]\ndepth = 4"),
            "`a.toml`: there is no option `modle` (did you mean `model`?)"
        );
        assert_eq!(
            message("[model]\ndepth = \"four\""),
            "`a.toml`: `model.depth` cannot be \"four\"; expected a whole number, 0 or more"
        );
        assert_eq!(
            message("[model]\nmlp = \"swigul\""),
            "`a.toml`: `model.mlp` cannot be \"swigul\"; expected `swiglu` or `bottleneck` \
             (did you mean `swiglu`?)"
        );
        assert!(message("model = 3").contains("there is no option `model`"));
        assert!(message("seed = ").contains("`a.toml` is no valid TOML"));
        let set = |text: &str| Layers::new(&options).assign(text).unwrap_err().to_string();
        assert_eq!(set("seed"), "`--set seed`: expected section.key=value");
        assert_eq!(
            set("seed=-1"),
            "`--set seed=-1`: `seed` cannot be \"-1\"; expected a whole number, 0 or more"
        );
    }
}
