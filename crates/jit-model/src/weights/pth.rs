//! PyTorch's `.pth` and `.pt` files: what `torch.save` has written since version 1.6, a zip archive
//! of a pickle (`<root>/data.pkl`) and one raw storage for each tensor (`<root>/data/<key>`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::pickle::{Id, Pickle, Value};
use super::tensor::{Dtype, Tensor, TensorData, View};
use super::{TensorInfo, WeightsError};

/// Above this size a pickle is refused. A checkpoint's takes some hundred bytes a tensor.
const MAX_PICKLE: u64 = 64 << 20;
/// torch has no tensors of more dimensions.
const MAX_DIMENSIONS: usize = 64;
/// How deep dicts and lists are searched for tensors: `optimizer.state.0.exp_avg` lies at 4.
const MAX_DEPTH: usize = 8;

/// An open `.pth` file. Tensors are named by the path that leads to them from the pickled value:
/// `model.net.pos_embed`, `optimizer.state.0.exp_avg`.
pub struct PthFile {
    path: PathBuf,
    /// The folder inside the archive, with a slash at its end, or nothing.
    root: String,
    archive: Archive,
    pickle: Pickle,
    /// Scalars other than tensors by their path, as text.
    metadata: BTreeMap<String, String>,
    /// Where in the pickle each tensor is described.
    tensors: BTreeMap<String, Id>,
}

impl PthFile {
    /// Opens the file and reads its pickle, without executing anything in it.
    ///
    /// # Errors
    /// [`WeightsError`] when the archive or the pickle is damaged, beyond the limits, or not
    /// little-endian.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let archive = Archive::open(path)?;
        let names = archive.names();
        let root = names
            .iter()
            .filter_map(|name| name.strip_suffix("data.pkl"))
            .filter(|root| root.is_empty() || root.ends_with('/'))
            .min_by_key(|root| root.len())
            .ok_or_else(|| WeightsError::UnknownFormat {
                path: path.into(),
                found: "a zip archive without the `data.pkl` that torch.save writes".into(),
            })?
            .to_string();
        let byte_order = format!("{root}byteorder");
        if names.contains(&byte_order) && read_bytes(&archive, path, &byte_order, 16)? != b"little"
        {
            return Err(WeightsError::damaged(
                path,
                "it was saved on a big-endian machine; save it again on a little-endian one",
            ));
        }
        let bytes = read_bytes(&archive, path, &format!("{root}data.pkl"), MAX_PICKLE)?;
        let pickle =
            Pickle::parse(&bytes).map_err(|e| WeightsError::damaged(path, e.to_string()))?;
        let mut index = Index { budget: 16 * bytes.len() + (1 << 16), ..Index::default() };
        index
            .walk(pickle.root(), String::new(), 0)
            .map_err(|what| WeightsError::damaged(path, what))?;
        let Index { metadata, tensors, .. } = index;
        Ok(Self { path: path.into(), root, archive, pickle, metadata, tensors })
    }

    /// The pickled value: usually a dict of state dicts, the epoch and the arguments.
    pub fn root(&self) -> Value<'_> {
        self.pickle.root()
    }

    /// Numbers and strings beside the tensors by their path, as Python prints them: `epoch`,
    /// `args.img_size`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names of all tensors, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// The type and shape of the tensor `name`; `None` if there is none, or no sense in it.
    pub(super) fn info(&self, name: &str) -> Option<TensorInfo> {
        let stored = Stored::describe(self.pickle.value(*self.tensors.get(name)?))?;
        Some(TensorInfo { dtype: dtype_of(stored.class), shape: stored.view.shape })
    }

    /// Reads the tensor `name`, a contiguous copy if it is a strided view.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        let Some(&id) = self.tensors.get(name) else { return Ok(None) };
        let fault = |what: &str| WeightsError::Tensor {
            path: self.path.clone(),
            name: name.into(),
            what: what.into(),
        };
        let stored = Stored::describe(self.pickle.value(id));
        let Stored { class, key, len, view } =
            stored.ok_or_else(|| fault("its description makes no sense"))?;
        let dtype = dtype_of(class).ok_or_else(|| WeightsError::Dtype {
            path: self.path.clone(),
            name: name.into(),
            dtype: class.into(),
        })?;
        if let Some(what) = view.fault(len) {
            return Err(fault(what));
        }
        let bytes = (len as u64).checked_mul(dtype.size() as u64);
        let bytes = bytes.ok_or_else(|| fault("its storage's size overflows"))?;
        let entry = format!("{}data/{key}", self.root);
        let data = self.archive.entry(&entry, |size, source| {
            if size < bytes {
                return Ok(Err(size));
            }
            TensorData::decode(dtype, len, source).map(Ok)
        })?;
        match data {
            Ok(data) => Ok(Some(Tensor { data: data.gather(&view), shape: view.shape })),
            Err(size) => Err(fault(&format!(
                "its storage `{entry}` has {size} bytes, {len} elements of {dtype:?} need {bytes}"
            ))),
        }
    }
}

/// An entry of at most `limit` bytes.
fn read_bytes(
    archive: &Archive,
    path: &Path,
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, WeightsError> {
    let bytes = archive.entry(name, |size, source| {
        if size > limit {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map(|_| Some(bytes))
    })?;
    bytes.ok_or_else(|| {
        WeightsError::damaged(path, format!("entry `{name}` is longer than {limit} bytes"))
    })
}

/// The tensors and scalars that can be reached from the pickled value.
#[derive(Default)]
struct Index {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Id>,
    /// Bytes that may still be kept. A value that is shared many times over has more paths leading
    /// to it than the file has bytes; an honest checkpoint has far fewer.
    budget: usize,
}

impl Index {
    fn walk(&mut self, value: Value<'_>, name: String, depth: usize) -> Result<(), String> {
        let scalar = value.scalar_text();
        let bytes = name.len() + scalar.as_ref().map_or(0, String::len) + 8;
        self.budget = self
            .budget
            .checked_sub(bytes)
            .ok_or("its pickle repeats the same values too many times over")?;
        if let Some(text) = scalar {
            self.metadata.insert(name, text);
        } else if value.as_call().is_some_and(|((module, name), _)| is_rebuild(module, name)) {
            self.tensors.insert(name, value.id());
        } else if depth < MAX_DEPTH {
            if let Some(entries) = value.entries() {
                for (key, value) in entries {
                    if let Some(key) = key.scalar_text() {
                        self.walk(value, join(&name, &key), depth + 1)?;
                    }
                }
            } else if let Some(items) = value.items() {
                // Numbers in a list have no name that anyone would ask for.
                for (i, item) in items.enumerate().filter(|(_, item)| !item.is_scalar()) {
                    self.walk(item, join(&name, &i.to_string()), depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

const MODULE: &str = "torch._utils";
const REBUILD: &str = "_rebuild_tensor_v2";
const REBUILD_PARAMETER: &str = "_rebuild_parameter";
/// How tensors are described whose type has no storage class, such as those of 8-bit floats.
const REBUILD_TYPED: &str = "_rebuild_tensor_v3";

/// Whether a call makes a tensor of any kind, also of those that cannot be read.
fn is_rebuild(module: &str, name: &str) -> bool {
    let tensor = name.starts_with("_rebuild_") && name.contains("tensor");
    module == MODULE && (name == REBUILD_PARAMETER || tensor)
}

/// What the pickle says of a tensor.
struct Stored<'a> {
    /// torch's storage class, such as `FloatStorage`.
    class: &'a str,
    key: &'a str,
    /// Elements in the storage.
    len: usize,
    view: View,
}

impl<'a> Stored<'a> {
    /// Reads a call of torch's rebuilding functions; `None` if it makes no sense.
    fn describe(value: Value<'a>) -> Option<Self> {
        let ((module, name), args) = match value.as_call()? {
            // (tensor, requires_grad, hooks)
            ((MODULE, REBUILD_PARAMETER), args) => args.items()?.next()?.as_call()?,
            call => call,
        };
        let mut args = match name {
            _ if module != MODULE => return None,
            REBUILD => args.items()?,
            REBUILD_TYPED => {
                // The same, and then the type.
                let shape = sizes(args.items()?.nth(2)?)?;
                let class = args.items()?.nth(6)?.as_global()?.1;
                return Some(Self::unreadable(class, shape));
            }
            // Sparse, quantised and the like.
            other => return is_rebuild(module, other).then(|| Self::unreadable(other, Vec::new())),
        };
        // (storage, offset, shape, strides, requires_grad, hooks)
        let (storage, offset, shape, strides) =
            (args.next()?, args.next()?, args.next()?, args.next()?);
        // ("storage", class, key, device, elements)
        let mut id = storage.as_persistent()?.items()?.skip(1);
        let (class, key, _device, len) = (id.next()?, id.next()?, id.next()?, id.next()?);
        Some(Self {
            class: class.as_global()?.1,
            key: key.as_str()?,
            len: len.as_usize()?,
            view: View {
                offset: offset.as_usize()?,
                shape: sizes(shape)?,
                strides: sizes(strides)?,
            },
        })
    }

    /// A tensor of a type that no weights have.
    fn unreadable(class: &'a str, shape: Vec<usize>) -> Self {
        let view = View { offset: 0, strides: vec![0; shape.len()], shape };
        Self { class, key: "", len: 0, view }
    }
}

fn sizes(tuple: Value<'_>) -> Option<Vec<usize>> {
    let items = tuple.items().filter(|items| items.len() <= MAX_DIMENSIONS)?;
    items.map(Value::as_usize).collect()
}

/// The element type of a storage class.
fn dtype_of(class: &str) -> Option<Dtype> {
    Some(match class {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        _ => return None,
    })
}
