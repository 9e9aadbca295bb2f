//! Every option of a run as data: path, type, default and explanation, read from the schema of its
//! configuration, so that configuration files, flags, help and documentation cannot disagree.

use std::fmt;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value as Json;
use toml::Table;

/// One option of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionSpec {
    /// Where it stands: `model.patch_size`.
    pub path: String,
    /// What it takes.
    pub kind: Kind,
    /// Its built-in value; `None` where it is unset unless given.
    pub default: Option<toml::Value>,
    /// What it means.
    pub doc: String,
}

/// The type of an option.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number; the flag tells whether it may be negative.
    Integer {
        /// Whether negative values are valid.
        signed: bool,
    },
    /// A number.
    Number,
    /// Free text.
    Text,
    /// One of these names.
    Choice(Vec<String>),
    /// A list; with its length where that is fixed.
    List(Box<Kind>, Option<usize>),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Bool => f.write_str("true or false"),
            Kind::Integer { signed: true } => f.write_str("a whole number"),
            Kind::Integer { signed: false } => f.write_str("a whole number, 0 or more"),
            Kind::Number => f.write_str("a number"),
            Kind::Text => f.write_str("text"),
            Kind::Choice(names) => {
                let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
                f.write_str(&quoted.join(" or "))
            }
            Kind::List(item, None) => write!(f, "a list, each {item}"),
            Kind::List(item, Some(n)) => write!(f, "a list of {n}, each {item}"),
        }
    }
}

impl Kind {
    /// Whether `value` is of this type.
    pub fn accepts(&self, value: &toml::Value) -> bool {
        match (self, value) {
            (Kind::Bool, toml::Value::Boolean(_)) => true,
            (Kind::Integer { signed }, toml::Value::Integer(i)) => *signed || *i >= 0,
            (Kind::Number, toml::Value::Integer(_) | toml::Value::Float(_)) => true,
            (Kind::Text, toml::Value::String(_)) => true,
            (Kind::Choice(names), toml::Value::String(s)) => names.contains(s),
            (Kind::List(item, length), toml::Value::Array(values)) => {
                length.is_none_or(|n| n == values.len()) && values.iter().all(|v| item.accepts(v))
            }
            _ => false,
        }
    }

    /// A value given as text, on the command line: names and texts need no quotes, lists no
    /// brackets. `None` where it is not of this type.
    pub fn parse(&self, text: &str) -> Option<toml::Value> {
        let value = match self {
            Kind::Text | Kind::Choice(_) => toml::Value::String(text.to_string()),
            Kind::List(item, _) => {
                let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
                let parts = inner.split(',').map(str::trim).filter(|p| !p.is_empty());
                let unquote = |p: &'_ str| p.trim_matches('"').to_string();
                toml::Value::Array(parts.map(|p| item.parse(&unquote(p))).collect::<Option<_>>()?)
            }
            Kind::Bool | Kind::Integer { .. } | Kind::Number => {
                format!("x = {}", text.trim()).parse::<Table>().ok()?.remove("x")?
            }
        };
        self.accepts(&value).then_some(value)
    }

    /// What stands for the value in a help text.
    pub fn placeholder(&self) -> &'static str {
        match self {
            Kind::Bool => "BOOL",
            Kind::Integer { .. } => "N",
            Kind::Number => "X",
            Kind::Text => "TEXT",
            Kind::Choice(_) => "NAME",
            Kind::List(..) => "A,B",
        }
    }
}

/// All options of a configuration, sorted by path.
#[derive(Clone, Debug)]
pub struct Options {
    specs: Vec<OptionSpec>,
    sections: Vec<String>,
    defaults: Table,
}

impl Options {
    /// The options of `T`: its fields from the schema, its defaults from [`Default`].
    pub fn of<T: JsonSchema + Serialize + Default>() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<T>();
        // By way of text: it holds an f32 in its shortest form, where a `Value` would show the
        // digits of the f64 nearest to it.
        let defaults = toml::to_string(&T::default()).ok().and_then(|t| t.parse::<Table>().ok());
        let defaults = defaults.unwrap_or_default();
        let mut options = Self { specs: Vec::new(), sections: Vec::new(), defaults };
        options.collect("", schema.as_value());
        options
    }

    /// The options, sorted by path.
    pub fn specs(&self) -> &[OptionSpec] {
        &self.specs
    }

    /// The option at `path`.
    pub fn get(&self, path: &str) -> Option<&OptionSpec> {
        self.specs.iter().find(|s| s.path == path)
    }

    /// Whether `path` is a section: a table of options.
    pub fn is_section(&self, path: &str) -> bool {
        self.sections.iter().any(|s| s == path)
    }

    /// The built-in values, as a configuration file would hold them.
    pub fn defaults(&self) -> &Table {
        &self.defaults
    }

    /// `" (did you mean `model.depth`?)"` for a path that does not exist, or nothing.
    pub fn hint(&self, path: &str) -> String {
        let known = || self.specs.iter().map(|s| s.path.as_str());
        let near = jit_core::suggest::hint(path, known().chain(self.sections.iter().map(|s| &**s)));
        if !near.is_empty() {
            return near;
        }
        // The right name in the wrong section (or in none).
        let last = path.rsplit('.').next().unwrap_or(path);
        let names = known().map(|p| p.rsplit('.').next().unwrap_or(p));
        let Some(name) = jit_core::suggest::nearest(last, names) else { return String::new() };
        let full = known().find(|p| p.rsplit('.').next() == Some(name));
        full.map_or(String::new(), |p| format!(" (did you mean `{p}`?)"))
    }

    fn collect(&mut self, path: &str, schema: &Json) {
        if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
            self.sections.push(path.to_string());
            for (name, property) in properties {
                let dot = if path.is_empty() { "" } else { "." };
                self.collect(&format!("{path}{dot}{name}"), property);
            }
            return;
        }
        let doc = schema.get("description").and_then(Json::as_str).unwrap_or_default();
        self.specs.push(OptionSpec {
            path: path.to_string(),
            kind: kind(schema),
            default: lookup(&self.defaults, path).cloned(),
            // Doc comments are wrapped for the source's width.
            doc: doc.split_whitespace().collect::<Vec<_>>().join(" "),
        });
    }
}

/// The value at a dotted path.
pub fn lookup<'a>(table: &'a Table, path: &str) -> Option<&'a toml::Value> {
    match path.split_once('.') {
        None => table.get(path),
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
    }
}

fn kind(schema: &Json) -> Kind {
    let choices = choices(schema);
    if !choices.is_empty() {
        return Kind::Choice(choices);
    }
    // `Option<T>` is the type beside `null`.
    if let Some(some) = schema.get("anyOf").and_then(Json::as_array) {
        let inner = some.iter().find(|s| s.get("type").and_then(Json::as_str) != Some("null"));
        return inner.map_or(Kind::Text, kind);
    }
    let name = match schema.get("type") {
        Some(Json::Array(names)) => names.iter().find_map(|n| n.as_str().filter(|n| *n != "null")),
        Some(name) => name.as_str(),
        None => None,
    };
    match name {
        Some("boolean") => Kind::Bool,
        Some("integer") => {
            let format = schema.get("format").and_then(Json::as_str).unwrap_or_default();
            Kind::Integer { signed: !format.starts_with("uint") }
        }
        Some("number") => Kind::Number,
        Some("array") => {
            let item = schema.get("items").map_or(Kind::Text, kind);
            let bound = |key| schema.get(key).and_then(Json::as_u64);
            let fixed = bound("minItems").filter(|n| bound("maxItems") == Some(*n));
            Kind::List(Box::new(item), fixed.map(|n| n as usize))
        }
        _ => Kind::Text,
    }
}

/// The names of an enum without data: `enum`, `const`, or a `oneOf` of both.
fn choices(schema: &Json) -> Vec<String> {
    let text = |v: &Json| v.as_str().map(str::to_string);
    if let Some(one_of) = schema.get("oneOf").and_then(Json::as_array) {
        return one_of.iter().flat_map(choices).collect();
    }
    match (schema.get("enum").and_then(Json::as_array), schema.get("const")) {
        (Some(names), _) => names.iter().filter_map(text).collect(),
        (None, Some(name)) => text(name).into_iter().collect(),
        (None, None) => Vec::new(),
    }
}

/// The options as a Markdown page, one table a section.
pub fn markdown(options: &Options) -> String {
    let mut page = String::from(
        "# Options\n\n\
         Every option of a run. Each can stand in a file for `--config` (`[section]`, then `key = \
         value`), in a preset, or on the command line as `--set section.key=value`; later ones \
         override earlier ones: built-in values, `--config`, `--preset`, flags and `--set`.\n\n\
         This page is `jit options --markdown`.\n",
    );
    let mut section = None;
    for spec in options.specs() {
        let (name, key) = spec.path.rsplit_once('.').unwrap_or(("", &spec.path));
        if section != Some(name) {
            let title = if name.is_empty() { "Top level" } else { name };
            page += &format!("\n## {title}\n\n| key | value | default | |\n|---|---|---|---|\n");
            section = Some(name);
        }
        let default = spec.default.as_ref().map_or("unset".into(), |d| format!("`{d}`"));
        let cell = |s: &str| s.replace('|', "\\|");
        let kind = cell(&spec.kind.to_string());
        page += &format!("| `{key}` | {kind} | {} | {} |\n", cell(&default), cell(&spec.doc));
    }
    page
}

/// The options as aligned text for a terminal.
pub fn text(options: &Options) -> String {
    let width = options.specs().iter().map(|s| s.path.len()).max().unwrap_or(0);
    let mut out = String::new();
    for spec in options.specs() {
        let default = spec.default.as_ref().map_or("unset".into(), ToString::to_string);
        let (path, kind) = (&spec.path, &spec.kind);
        out += &format!("{path:width$}  {default}\n{:width$}  {}\n", "", spec.doc);
        out += &format!("{:width$}  [{kind}]\n", "");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, JsonSchema, Default)]
    struct Root {
        /// How to
        /// grow.
        growth: Growth,
        plain: Option<u32>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Growth {
        /// Rate.
        rate: f32,
        method: Method,
        steps: usize,
        offset: i64,
        name: String,
        interval: [f32; 2],
        decays: Vec<f64>,
        fast: bool,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Method {
        /// One.
        Euler,
        /// Two.
        HeunTwo,
    }

    impl Default for Growth {
        fn default() -> Self {
            Self {
                rate: 0.05,
                method: Method::HeunTwo,
                steps: 3,
                offset: -1,
                name: "a".into(),
                interval: [0.1, 1.0],
                decays: vec![0.5],
                fast: false,
            }
        }
    }

    #[test]
    fn the_schema_becomes_a_list_of_typed_options() {
        let options = Options::of::<Root>();
        let get = |path: &str| options.get(path).unwrap();
        assert_eq!(get("growth.rate").kind, Kind::Number);
        assert_eq!(get("growth.rate").default.as_ref().unwrap().to_string(), "0.05");
        assert_eq!(get("growth.rate").doc, "Rate.");
        let names = vec!["euler".to_string(), "heun-two".to_string()];
        assert_eq!(get("growth.method").kind, Kind::Choice(names));
        assert_eq!(get("growth.steps").kind, Kind::Integer { signed: false });
        assert_eq!(get("growth.offset").kind, Kind::Integer { signed: true });
        assert_eq!(get("growth.interval").kind, Kind::List(Box::new(Kind::Number), Some(2)));
        assert_eq!(get("growth.decays").kind, Kind::List(Box::new(Kind::Number), None));
        assert_eq!(get("growth.fast").kind, Kind::Bool);
        assert_eq!(get("plain").kind, Kind::Integer { signed: false });
        assert_eq!(get("plain").default, None);
        assert!(options.is_section("growth") && !options.is_section("growth.rate"));
    }

    #[test]
    fn texts_are_read_by_the_type_of_their_option() {
        let options = Options::of::<Root>();
        let parse = |path: &str, text: &str| {
            options.get(path).unwrap().kind.parse(text).map(|v| v.to_string())
        };
        assert_eq!(parse("growth.rate", "1e-3").as_deref(), Some("0.001"));
        assert_eq!(parse("growth.rate", "2").as_deref(), Some("2"));
        assert_eq!(parse("growth.rate", "fast"), None);
        assert_eq!(parse("growth.steps", "-1"), None);
        assert_eq!(parse("growth.steps", "1.5"), None);
        assert_eq!(parse("growth.offset", "-7").as_deref(), Some("-7"));
        assert_eq!(parse("growth.method", "euler").as_deref(), Some("\"euler\""));
        assert_eq!(parse("growth.method", "eulr"), None);
        assert_eq!(parse("growth.name", "12").as_deref(), Some("\"12\""));
        assert_eq!(parse("growth.interval", "0.2,0.8").as_deref(), Some("[0.2, 0.8]"));
        assert_eq!(parse("growth.interval", "[0.2, 0.8]").as_deref(), Some("[0.2, 0.8]"));
        assert_eq!(parse("growth.interval", "0.2"), None);
        assert_eq!(parse("growth.fast", "true").as_deref(), Some("true"));
        assert_eq!(parse("growth.fast", "1\ny = 2"), None);
    }

    #[test]
    fn a_typo_or_a_forgotten_section_finds_its_option() {
        let options = Options::of::<Root>();
        assert_eq!(options.hint("growth.ratt"), " (did you mean `growth.rate`?)");
        assert_eq!(options.hint("steps"), " (did you mean `growth.steps`?)");
        assert_eq!(options.hint("model.interval"), " (did you mean `growth.interval`?)");
        assert_eq!(options.hint("qqq"), "");
    }
}
