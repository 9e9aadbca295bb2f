//! Files of tensors: safetensors, PyTorch checkpoints and `.npz` in, safetensors and `.npz` out.
//!
//! Files are untrusted. A header's claims are checked against the length of the file before memory
//! is reserved, and a pickle is read as data: nothing in it is ever executed.

mod archive;
mod npz;
mod pickle;
mod pth;
mod safetensors;
mod state;
mod tensor;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use jit_core::files::FileError;
use jit_core::suggest;
use jit_core::text::Show;

pub use npz::{Npz, NpzWriter, write_npz};
pub use pickle::Value;
pub use pth::PthFile;
pub use safetensors::write_safetensors;
pub use state::{LoadedState, StateDict, load_state};
pub use tensor::{Dtype, Tensor, TensorData};

use self::safetensors::Safetensors;

/// Why weights cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is of another kind.
    #[error(
        "`{}` is {found}; weights are read from safetensors files and from `.pth` files that \
         torch.save wrote", path.shown()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// The file was saved by torch before 1.6 or with the old serialisation.
    #[error(
        "`{0}` is in torch's old format, from before version 1.6; save it anew in Python: \
         `torch.save(torch.load(\"{0}\", map_location=\"cpu\"), \"new.pth\")`", path.shown()
    )]
    Legacy {
        /// The file.
        path: PathBuf,
    },
    /// The file contradicts itself.
    #[error("`{}` is damaged: {}", path.shown(), what.shown())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A tensor's elements are of a type that no weights have.
    #[error(
        "tensor `{}` of `{}` has elements of type {}; \
         F32, F64, F16, BF16, I64, I32, U8 and Bool can be read", name.shown(), path.shown(), dtype.shown()
    )]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The type as the file calls it.
        dtype: String,
    },
    /// A tensor's description does not fit its data.
    #[error("tensor `{}` of `{}`: {}", name.shown(), path.shown(), what.shown())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is no such tensor.
    #[error("`{}` has no tensor `{}`{}", path.shown(), name.shown(), hint.shown())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor asked for.
        name: String,
        /// The nearest name, if any is near.
        hint: String,
    },
    /// There is no such set of weights.
    #[error(
        "`{}` has no weights `{}`{}; it has {}",
        path.shown(), which.shown(), hint.shown(), available.shown()
    )]
    UnknownSet {
        /// The file.
        path: PathBuf,
        /// The set asked for.
        which: String,
        /// The nearest name, if any is near.
        hint: String,
        /// The sets there are.
        available: String,
    },
}

impl WeightsError {
    fn damaged(path: &Path, what: impl Into<String>) -> Self {
        WeightsError::Damaged { path: path.into(), what: what.into() }
    }
}

/// What a file says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The element type in the file; `None` if it cannot be read.
    pub dtype: Option<Dtype>,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

/// An open file of named tensors, which are read one at a time when asked for.
pub struct File {
    path: PathBuf,
    len: u64,
    content: Content,
}

enum Content {
    Safetensors(Safetensors),
    Pth(PthFile),
}

impl File {
    /// Opens a safetensors file or a torch checkpoint, told apart by content.
    ///
    /// # Errors
    /// [`WeightsError`] when the file cannot be read, is of another kind, or its header, directory
    /// or pickle is damaged.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = jit_core::input::open(path)?;
        let len = file.metadata().map_err(FileError::at("read", path))?.len();
        let mut first = Vec::new();
        file.take(9).read_to_end(&mut first).map_err(FileError::at("read", path))?;
        let content = match first[..] {
            [b'P', b'K', 3, 4, ..] => Content::Pth(PthFile::open(path)?),
            // The header's length comes first; torch's old format begins with a pickle.
            [_, _, _, _, _, _, _, _, b'{'] => Content::Safetensors(Safetensors::open(path)?),
            [0x80, 2..=5, ..] => return Err(WeightsError::Legacy { path: path.into() }),
            [] => return Err(unknown(path, "empty")),
            _ => return Err(unknown(path, "of an unknown kind")),
        };
        Ok(Self { path: path.into(), len, content })
    }

    /// The names of all tensors. Those of a torch checkpoint are paths into it, such as
    /// `model_ema1.net.pos_embed` or `optimizer.state.0.exp_avg`.
    pub fn names(&self) -> Vec<String> {
        match &self.content {
            Content::Safetensors(file) => file.names(),
            Content::Pth(file) => file.names(),
        }
    }

    /// The strings of a safetensors header, or the numbers and strings of a torch checkpoint by
    /// their path and as Python prints them (`epoch`, `args.img_size`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        match &self.content {
            Content::Safetensors(file) => file.metadata(),
            Content::Pth(file) => file.metadata(),
        }
    }

    /// Type and shape of a tensor, without reading it; `None` if there is none of that name.
    pub fn info(&self, name: &str) -> Option<TensorInfo> {
        match &self.content {
            Content::Safetensors(file) => file.info(name),
            Content::Pth(file) => file.info(name),
        }
    }

    /// The shape of a tensor, without reading it; `None` if there is none of that name.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.info(name).map(|info| info.shape)
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] with the nearest name if there is none of this name, and other
    /// kinds when its elements cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Tensor, WeightsError> {
        let found = match &self.content {
            Content::Safetensors(file) => file.tensor(name)?,
            Content::Pth(file) => file.tensor(name)?,
        };
        found.ok_or_else(|| WeightsError::Missing {
            path: self.path.clone(),
            name: name.into(),
            hint: suggest::hint(name, self.names().iter().map(String::as_str)),
        })
    }

    /// The opened torch checkpoint, if this is one.
    pub fn as_pth(&self) -> Option<&PthFile> {
        match &self.content {
            Content::Safetensors(_) => None,
            Content::Pth(file) => Some(file),
        }
    }

    /// The length of the file in bytes.
    fn len(&self) -> u64 {
        self.len
    }
}

fn unknown(path: &Path, found: &str) -> WeightsError {
    WeightsError::UnknownFormat { path: path.into(), found: found.into() }
}
