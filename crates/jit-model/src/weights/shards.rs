//! Weights that lie in several safetensors files, as an index beside them tells.

use jit_core::text::Show;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use jit_core::files::FileError;
use serde::Deserialize;

use super::safetensors::Safetensors;
use super::tensor::Tensor;
use super::{TensorInfo, WeightsError};

/// How the name of an index ends.
const INDEX: &str = ".safetensors.index.json";
/// No index is longer: a line of some 100 bytes for each tensor.
const MAX_INDEX: u64 = 64 << 20;
/// What weights are called in a folder of the hub, the more particular names first.
const NAMES: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// The index, as the hub writes it.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Opened shards.
pub(super) struct Shards {
    path: PathBuf,
    shards: Vec<Safetensors>,
    /// Which shard holds a tensor.
    places: BTreeMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

/// Whether a file is an index, by its name.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(INDEX))
}

/// The weights in a folder as the hub has them: `model.safetensors`, an index of its shards, or the
/// same in the folder `transformer`.
pub fn weights_in(folder: &Path) -> Option<PathBuf> {
    [folder.to_path_buf(), folder.join("transformer")]
        .iter()
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .flat_map(|stem| {
            [INDEX, ".safetensors"].map(|ending| {
                let mut name = stem.clone().into_os_string();
                name.push(ending);
                PathBuf::from(name)
            })
        })
        .find(|path| path.is_file())
}

impl Shards {
    /// Reads the index and the headers of its shards.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let damaged = |what: String| WeightsError::damaged(path, what);
        let file = jit_core::input::open(path)?;
        let mut text = Vec::new();
        let read = file.take(MAX_INDEX + 1).read_to_end(&mut text);
        read.map_err(FileError::at("read", path))?;
        if text.len() as u64 > MAX_INDEX {
            return Err(damaged(format!("an index is at most {MAX_INDEX} bytes long")));
        }
        let index: Index =
            serde_json::from_slice(&text).map_err(|e| damaged(format!("no index: {e}")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut numbers = BTreeMap::<&str, usize>::new();
        let (mut shards, mut places) = (Vec::new(), BTreeMap::new());
        for (tensor, shard) in &index.weight_map {
            let number = match numbers.get(&shard[..]) {
                Some(number) => *number,
                None => {
                    if !is_plain(shard) {
                        return Err(damaged(format!(
                            "it names the file {shard:?}; shards lie beside their index"
                        )));
                    }
                    shards.push(Safetensors::open(&folder.join(shard))?);
                    numbers.insert(shard, shards.len() - 1);
                    shards.len() - 1
                }
            };
            if shards[number].info(tensor).is_none() {
                return Err(damaged(format!("it has `{tensor}` in {shard:?}, which lacks it")));
            }
            places.insert(tensor.clone(), number);
        }
        let metadata = shards.iter().flat_map(|shard| shard.metadata().clone()).collect();
        Ok(Self { path: path.into(), shards, places, metadata })
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The length of all shards in bytes.
    pub fn len(&self) -> u64 {
        self.shards.iter().map(Safetensors::len).sum()
    }

    pub fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    pub fn info(&self, name: &str) -> Option<TensorInfo> {
        self.shards[*self.places.get(name)?].info(name)
    }

    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        match self.places.get(name).and_then(|&number| self.shards.get(number)) {
            Some(shard) => shard.tensor(name),
            None => Ok(None),
        }
    }
}

impl std::fmt::Debug for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} shards of {}", self.shards.len(), self.path.shown())
    }
}

/// Whether `name` is that of a file beside the index.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!(parts.next(), Some(Component::Normal(part)) if part == name);
    plain && parts.next().is_none() && !name.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::super::{File, load_state, write_safetensors};
    use super::*;

    fn shard(folder: &Path, name: &str, tensors: &[(&str, f32)]) {
        let tensors =
            tensors.iter().map(|(name, value)| (*name, &[1][..], std::slice::from_ref(value)));
        write_safetensors(&folder.join(name), tensors, &BTreeMap::new()).unwrap();
    }

    fn index(folder: &Path, map: serde_json::Value) -> PathBuf {
        let path = folder.join("model.safetensors.index.json");
        let text = serde_json::json!({"metadata": {"total_size": 8}, "weight_map": map});
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    #[test]
    fn shards_are_read_as_one_file() {
        let dir = tempfile::tempdir().unwrap();
        shard(dir.path(), "a.safetensors", &[("net.a", 1.0), ("net.b", 2.0)]);
        shard(dir.path(), "b.safetensors", &[("net.c", 3.0)]);
        let map = serde_json::json!({
            "net.a": "a.safetensors", "net.b": "a.safetensors", "net.c": "b.safetensors",
        });
        let path = index(dir.path(), map);
        assert_eq!(weights_in(dir.path()).unwrap(), path);
        let file = File::open(&path).unwrap();
        assert_eq!(file.names(), ["net.a", "net.b", "net.c"]);
        assert_eq!(file.shape("net.c").unwrap(), [1]);
        let state = load_state(&path, None).unwrap();
        let values: Vec<Vec<f32>> = state.tensors.into_values().map(|t| t.into_f32()).collect();
        assert_eq!(values, [[1.0], [2.0], [3.0]]);
    }

    #[test]
    fn an_index_that_lies_or_leads_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        shard(dir.path(), "out.safetensors", &[("a", 1.0)]);
        shard(&inner, "in.safetensors", &[("a", 1.0)]);
        let absolute = dir.path().join("out.safetensors").display().to_string();
        for name in ["../out.safetensors", &absolute, "./in.safetensors", "..", "", "x\\in"] {
            let path = index(&inner, serde_json::json!({ "a": name }));
            let message = File::open(&path).err().unwrap().to_string();
            assert!(message.contains("shards lie beside their index"), "{name}: {message}");
        }
        let path = index(&inner, serde_json::json!({"b": "in.safetensors"}));
        let message = File::open(&path).err().unwrap().to_string();
        assert!(message.contains("`b` in \"in.safetensors\", which lacks it"), "{message}");
        let path = index(&inner, serde_json::json!({"a": "absent.safetensors"}));
        assert!(File::open(&path).err().unwrap().to_string().contains("absent.safetensors"));
        std::fs::write(&path, "{\"weight_map\": 3}").unwrap();
        assert!(File::open(&path).err().unwrap().to_string().contains("no index"));
    }
}
