//! What lies beside weights in a folder of the Hugging Face hub.

use jit_core::text::Show;
use std::io::Read;
use std::path::Path;

use jit_core::files::FileError;
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::failure::{Failure, Outcome};

/// No description of a network is longer.
const MAX_CONFIG: u64 = 1 << 20;

/// What the `config.json` beside the weights at `path` tells that the tensors do not, if it is that
/// of a JiT network in diffusers: before which block the class tokens enter.
///
/// # Errors
/// When there is such a file that cannot be read.
pub fn described(path: &Path) -> Outcome<Table> {
    let config = path.with_file_name("config.json");
    if !config.is_file() {
        return Ok(Table::new());
    }
    let mut text = Vec::new();
    let file = jit_core::input::open(&config)?;
    file.take(MAX_CONFIG).read_to_end(&mut text).map_err(FileError::at("read", &config))?;
    let json: Json = serde_json::from_slice(&text)
        .map_err(|error| Failure::new(format!("`{}` is no JSON: {error}", config.shown())))?;
    Ok(told_by(&json))
}

fn told_by(json: &Json) -> Table {
    let text = |key: &str| json.get(key).and_then(Json::as_str);
    if text("_class_name") != Some("JiTTransformer2DModel") {
        return Table::new();
    }
    // Older files give the name of the preset instead.
    let preset = text("model_type").or_else(|| text("model_name"));
    let preset = preset.and_then(jit_model::presets::model).map(|model| model.in_context_start);
    let given = json.get("in_context_start").and_then(Json::as_u64);
    let start = given.and_then(|n| usize::try_from(n).ok()).or(preset);
    let model = start.map(|start| {
        Value::Table(Table::from_iter([(
            "in_context_start".to_string(),
            Value::Integer(i64::try_from(start).unwrap_or(i64::MAX)),
        )]))
    });
    model.map(|model| ("model".to_string(), model)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_class_tokens_is_told_by_number_or_preset() {
        let start =
            |json| told_by(&json).get("model").and_then(|m| m.get("in_context_start").cloned());
        let class = "JiTTransformer2DModel";
        let given = serde_json::json!({"_class_name": class, "in_context_start": 3});
        assert_eq!(start(given), Some(Value::Integer(3)));
        let named = serde_json::json!({"_class_name": class, "model_type": "JiT-H/16"});
        assert_eq!(start(named), Some(Value::Integer(10)));
        assert_eq!(start(serde_json::json!({"_class_name": class})), None);
        assert_eq!(start(serde_json::json!({"in_context_start": 3})), None);
    }
}
