//! A network's shape, read off its weights and off what a file says beside them.

use std::collections::BTreeMap;

use jit_model::ObjectiveConfig;
use jit_model::config::ModelConfig;
use jit_model::objective::{AuxHeadKind, Auxiliary};
use jit_model::params::{ParamSpec, Registry};
use jit_model::weights::{StateDict, Tensor};
use toml::{Table, Value};

/// Why weights do not tell a network's shape.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// A tensor that every JiT network has.
    #[error("the weights have no tensor `{0}`: they are not those of a JiT network")]
    Missing(&'static str),
    /// A tensor that all blocks have, in a block before the last.
    #[error(
        "the weights have no tensor `{missing}`, but they have `{later}` of the same or a later block"
    )]
    Gap {
        /// Its name.
        missing: String,
        /// A tensor of the same or a later block.
        later: String,
    },
    /// A tensor with the wrong number of axes or extents that fit nothing.
    #[error("tensor `{name}` has shape {shape:?}; expected {expected}")]
    Tensor {
        /// Its name.
        name: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// What would fit.
        expected: &'static str,
    },
    /// A tensor that the network of this configuration needs.
    #[error("the weights have no tensor `{0}`, which the configuration asks for")]
    Wanting(String),
    /// A tensor of another shape than the configuration asks for.
    #[error("tensor `{name}` has shape {found:?}, but the configuration asks for {expected:?}")]
    Differs {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The configuration's.
        expected: Vec<usize>,
    },
}

/// The keys of `[model]` that the tensors themselves tell: all but `in_context_start`,
/// `patch_embed` and the dropout.
///
/// # Errors
/// When these are not the weights of a JiT network.
pub fn from_tensors(state: &StateDict) -> Result<Table, ShapeError> {
    let find = |name: &'static str, axes: usize, expected: &'static str| {
        let tensor = state.get(name).ok_or(ShapeError::Missing(name))?;
        let fits = tensor.shape.len() == axes && !tensor.shape.contains(&0);
        fits.then_some(&tensor.shape[..]).ok_or_else(|| misfit(name, tensor, expected))
    };
    let proj1 = find("net.x_embedder.proj1.weight", 4, "[bottleneck, C, p, p]")?;
    let proj2 = find("net.x_embedder.proj2.weight", 4, "[D, bottleneck, 1, 1]")?;
    let table = find("net.y_embedder.embedding_table.weight", 2, "[classes + 1, D]")?;
    let norm = find("net.blocks.0.attn.q_norm.weight", 1, "[D / heads]")?;
    const POSITIONS: &str = "net.pos_embed";
    let positions = find(POSITIONS, 3, "[1, N, D]")?;
    let (hidden, patch, tokens) = (proj2[0], proj1[2], positions[1]);

    let grid = tokens.isqrt();
    if grid * grid != tokens {
        return Err(misfit(POSITIONS, &state[POSITIONS], "a square number of tokens"));
    }
    let context = match state.get("net.in_context_posemb") {
        Some(_) => find("net.in_context_posemb", 3, "[1, tokens, D]")?[1],
        None => 0,
    };
    let first = |i: usize| format!("net.blocks.{i}.attn.q_norm.weight");
    let depth = (0..).take_while(|&i| state.contains_key(&first(i))).count();
    // Without one tensor of a block in the middle the network would merely seem shallower.
    if let Some(later) = state.keys().find(|name| block_of(name).is_some_and(|i| i >= depth)) {
        return Err(ShapeError::Gap { missing: first(depth), later: later.clone() });
    }
    let bottleneck = state.contains_key("net.blocks.0.mlp.0.weight");
    let size = |n: usize| Value::Integer(n as i64);
    Ok([
        ("image_size", size(grid.saturating_mul(patch))),
        ("channels", size(proj1[1])),
        ("patch_size", size(patch)),
        ("hidden_size", size(hidden)),
        ("depth", size(depth)),
        ("num_heads", size(hidden / norm[0])),
        ("bottleneck_dim", size(proj1[0])),
        ("num_classes", size(table[0] - 1)),
        ("in_context_len", size(context)),
        ("mlp", Value::String(if bottleneck { "bottleneck" } else { "swiglu" }.into())),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value))
    .collect())
}

/// The number of the block that a tensor belongs to.
fn block_of(name: &str) -> Option<usize> {
    name.strip_prefix("net.blocks.")?.split('.').next()?.parse().ok()
}

fn misfit(name: &'static str, tensor: &Tensor, expected: &'static str) -> ShapeError {
    ShapeError::Tensor { name, shape: tensor.shape.clone(), expected }
}

/// The values of every parameter of `registry`, in its order. Further tensors, such as the head of
/// an auxiliary loss, are left aside.
///
/// # Errors
/// When a parameter is missing or has another shape.
pub fn values(registry: &Registry, mut state: StateDict) -> Result<Vec<Vec<f32>>, ShapeError> {
    let value = |spec: &ParamSpec| {
        let name = || spec.name.clone();
        let tensor = state.remove(&spec.name).ok_or_else(|| ShapeError::Wanting(name()))?;
        if tensor.shape != spec.shape {
            let (found, expected) = (tensor.shape, spec.shape.clone());
            return Err(ShapeError::Differs { name: name(), found, expected });
        }
        Ok(tensor.into_f32())
    };
    registry.specs().iter().map(value).collect()
}

/// Sets the auxiliary loss whose head is among the weights: a state dict is only whole with it.
pub fn find_head(objective: &mut ObjectiveConfig, state: &StateDict) {
    objective.auxiliary = Auxiliary::None;
    for (auxiliary, head) in
        [(Auxiliary::Time, "time_head"), (Auxiliary::Rotation, "rotation_head")]
    {
        let linear = state.contains_key(&format!("{head}.weight"));
        if linear || state.contains_key(&format!("{head}.0.weight")) {
            objective.auxiliary = auxiliary;
            objective.auxiliary_head = if linear { AuxHeadKind::Linear } else { AuxHeadKind::Mlp };
        }
    }
}

/// What a reference checkpoint's pickled arguments tell, as a configuration: the variant, the noise
/// and how its author sampled. Arguments that are missing or make no sense tell nothing.
pub fn from_arguments(metadata: &BTreeMap<String, String>) -> Table {
    let argument = |name: &str| metadata.get(&format!("args.{name}")).map(String::as_str);
    let number = |name: &str| argument(name)?.parse::<f64>().ok().map(Value::Float);
    let text = |value: &str| Some(Value::String(value.to_string()));
    let mut root = Table::new();
    let mut put = |section: &str, key: &str, value: Option<Value>| {
        if let Some(value) = value
            && let Value::Table(inner) =
                root.entry(section).or_insert_with(|| Value::Table(Table::new()))
        {
            inner.insert(key.to_string(), value);
        }
    };
    let start = argument("model").and_then(jit_model::presets::model).map(|m| m.in_context_start);
    put("model", "in_context_start", start.map(|n| Value::Integer(n as i64)));
    let silu = argument("use_nonlinear") == Some("True");
    put("model", "patch_embed", if silu { text("silu") } else { None });
    put("objective", "t_eps", number("t_eps"));
    put("objective", "noise_scale", number("noise_scale"));
    let method = argument("sampling_method").filter(|m| ["euler", "heun"].contains(m));
    put("sample", "method", method.and_then(text));
    let steps = argument("num_sampling_steps").and_then(|s| s.parse().ok());
    put("sample", "steps", steps.map(Value::Integer));
    put("sample", "cfg_scale", number("cfg"));
    let interval = [number("interval_min"), number("interval_max")];
    let interval: Option<Vec<Value>> = interval.into_iter().collect();
    put("sample", "cfg_interval", interval.map(Value::Array));
    root
}

/// The block before which the class tokens enter, as the reference preset of this width and depth
/// has it.
pub fn known_context_start(model: &ModelConfig) -> Option<usize> {
    let presets = jit_model::presets::names();
    let shapes = presets.iter().filter_map(|name| jit_model::presets::model(name));
    let alike = |p: &ModelConfig| (p.hidden_size, p.depth) == (model.hidden_size, model.depth);
    shapes.into_iter().find(alike).map(|p| p.in_context_start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jit_model::Net;
    use jit_model::config::MlpKind;
    use jit_model::weights::TensorData;

    fn state(model: &ModelConfig) -> StateDict {
        let net = Net::new(model);
        let tensor = |shape: &[usize], n| Tensor {
            shape: shape.to_vec(),
            data: TensorData::F32(vec![0.0; n]),
        };
        let specs = net.registry().specs().iter();
        specs.map(|s| (s.name.clone(), tensor(&s.shape, s.numel()))).collect()
    }

    #[test]
    fn the_tensors_tell_the_shape() {
        let model = ModelConfig {
            image_size: 12,
            channels: 1,
            patch_size: 4,
            hidden_size: 24,
            depth: 3,
            num_heads: 2,
            bottleneck_dim: 6,
            num_classes: 7,
            in_context_len: 5,
            in_context_start: 4,
            mlp: MlpKind::Bottleneck,
            ..ModelConfig::default()
        };
        for (context, mlp) in [(5, MlpKind::Bottleneck), (0, MlpKind::Swiglu)] {
            let model = ModelConfig { in_context_len: context, mlp, ..model.clone() };
            let found: ModelConfig = from_tensors(&state(&model)).unwrap().try_into().unwrap();
            assert_eq!(found, model);
        }
    }

    #[test]
    fn a_gap_does_not_make_the_network_shallower() {
        let model =
            ModelConfig { image_size: 32, depth: 3, num_classes: 1, ..ModelConfig::default() };
        for (block, later) in [(1, "net.blocks.1."), (2, "net.blocks.2.")] {
            let mut state = state(&model);
            let missing = format!("net.blocks.{block}.attn.q_norm.weight");
            state.remove(&missing);
            match from_tensors(&state).unwrap_err() {
                ShapeError::Gap { missing: found, later: other } => {
                    assert_eq!(found, missing);
                    assert!(other.starts_with(later), "{other}");
                }
                other => panic!("{other}"),
            }
        }
        // Any other tensor is missed when the values are taken.
        let mut state = state(&model);
        state.remove("net.blocks.1.mlp.w3.bias").unwrap();
        let message = values(Net::new(&model).registry(), state).unwrap_err().to_string();
        assert!(message.contains("`net.blocks.1.mlp.w3.bias`"), "{message}");
    }

    #[test]
    fn other_weights_are_told_apart() {
        assert_eq!(
            from_tensors(&StateDict::new()),
            Err(ShapeError::Missing("net.x_embedder.proj1.weight"))
        );
        let model =
            ModelConfig { image_size: 32, depth: 1, num_classes: 1, ..ModelConfig::default() };
        let mut state = state(&model);
        state.get_mut("net.pos_embed").unwrap().shape = vec![1, 5, 768];
        let message = from_tensors(&state).unwrap_err().to_string();
        assert!(message.contains("`net.pos_embed` has shape [1, 5, 768]"), "{message}");
    }

    #[test]
    fn pickled_arguments_tell_the_variant_and_the_sampler() {
        let arguments = [
            ("args.model", "JiT-L/16"),
            ("args.use_nonlinear", "True"),
            ("args.sampling_method", "euler"),
            ("args.num_sampling_steps", "25"),
            ("args.cfg", "2.9"),
            ("args.interval_min", "0.1"),
            ("args.interval_max", "1.0"),
            ("args.noise_scale", "nonsense"),
        ];
        let metadata = arguments.map(|(k, v)| (k.to_string(), v.to_string())).into();
        let table = from_arguments(&metadata);
        let get = |path| crate::options::lookup(&table, path).map(ToString::to_string);
        assert_eq!(get("model.in_context_start").as_deref(), Some("8"));
        assert_eq!(get("model.patch_embed").as_deref(), Some("\"silu\""));
        assert_eq!(get("sample.method").as_deref(), Some("\"euler\""));
        assert_eq!(get("sample.cfg_interval").as_deref(), Some("[0.1, 1.0]"));
        assert_eq!(get("objective.noise_scale"), None);
        assert_eq!(from_arguments(&BTreeMap::new()), Table::new());
    }

    #[test]
    fn a_reference_shape_tells_where_class_tokens_enter() {
        let large = jit_model::presets::model("JiT-L/32").unwrap();
        assert_eq!(known_context_start(&large), Some(8));
        assert_eq!(known_context_start(&ModelConfig { depth: 5, ..large }), None);
    }
}
