//! The safetensors format: an 8-byte length, a JSON header with types, shapes and offsets, then the
//! numbers. Tensors are read one at a time and written as a stream, so that no file is ever in
//! memory whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jit_core::files::FileError;
use jit_core::output;
use safetensors::tensor::Metadata;
use serde_json::json;

use super::tensor::{Dtype, Tensor, TensorData, checked_count};
use super::{TensorInfo, WeightsError};

/// The format's own limit for the header's length.
const MAX_HEADER: u64 = 100_000_000;

/// An open safetensors file.
pub(super) struct Safetensors {
    path: PathBuf,
    file: Mutex<File>,
    /// Where the numbers begin.
    start: u64,
    header: Metadata,
    metadata: BTreeMap<String, String>,
}

impl Safetensors {
    /// Reads the header and checks it against the length of the file.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let damaged = |what: String| WeightsError::damaged(path, what);
        let mut file = jit_core::input::open(path)?;
        let file_len = file.metadata().map_err(FileError::at("read", path))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(FileError::at("read", path))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER.min(file_len.saturating_sub(8)) {
            return Err(damaged(format!(
                "its header claims {length} bytes of a file of {file_len}"
            )));
        }
        let mut header = Vec::new();
        Read::take(&mut file, length)
            .read_to_end(&mut header)
            .map_err(FileError::at("read", path))?;
        // Deserialising also checks that the tensors fill the data without gaps or overlaps and
        // that each has the size its shape and type ask for.
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| damaged(format!("its header: {e}")))?;
        let (start, data) = (8 + length, header.data_len() as u64);
        if start.checked_add(data) != Some(file_len) {
            return Err(damaged(format!(
                "its header describes {data} bytes of tensors, but {} follow it; \
                 the file may be cut short",
                file_len - start
            )));
        }
        let metadata = header.metadata().iter().flatten();
        let metadata = metadata.map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Self { path: path.into(), file: Mutex::new(file), start, header, metadata })
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names of the tensors in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub fn info(&self, name: &str) -> Option<TensorInfo> {
        let info = self.header.info(name)?;
        Some(TensorInfo { dtype: dtype_of(info.dtype), shape: info.shape.clone() })
    }

    /// Reads the tensor `name`.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        let Some(info) = self.header.info(name) else { return Ok(None) };
        let dtype = dtype_of(info.dtype).ok_or_else(|| WeightsError::Dtype {
            path: self.path.clone(),
            name: name.into(),
            dtype: format!("{:?}", info.dtype),
        })?;
        // Opening has compared the offsets with the shape and with the length of the file.
        let (from, to) = info.data_offsets;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| {
                let mut source = BufReader::new(&mut *file);
                TensorData::decode(dtype, (to - from) / dtype.size(), &mut source)
            })
            .map(|data| Some(Tensor { shape: info.shape.clone(), data }))
            .map_err(FileError::at("read", &self.path))
            .map_err(WeightsError::from)
    }
}

fn dtype_of(dtype: safetensors::Dtype) -> Option<Dtype> {
    Some(match dtype {
        safetensors::Dtype::F32 => Dtype::F32,
        safetensors::Dtype::F64 => Dtype::F64,
        safetensors::Dtype::F16 => Dtype::F16,
        safetensors::Dtype::BF16 => Dtype::BF16,
        safetensors::Dtype::I64 => Dtype::I64,
        safetensors::Dtype::I32 => Dtype::I32,
        safetensors::Dtype::U8 => Dtype::U8,
        safetensors::Dtype::BOOL => Dtype::Bool,
        _ => return None,
    })
}

/// Writes f32 tensors (name, shape, elements in row-major order) and string metadata as a
/// safetensors file to where a user points ([`output::write`]): in the given order, and with bytes that
/// depend on nothing but the arguments.
///
/// # Errors
/// [`WeightsError::Tensor`] when a name occurs twice or elements and shape disagree, and
/// [`WeightsError::File`] when the file cannot be written.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a [usize], &'a [f32])>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let fault = |name: &str, what: &str| WeightsError::Tensor {
        path: path.into(),
        name: name.into(),
        what: what.into(),
    };
    let tensors: Vec<_> = tensors.into_iter().collect();
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0;
    for &(name, shape, data) in &tensors {
        if checked_count(shape) != Some(data.len()) {
            return Err(fault(name, &format!("{} elements have no shape {shape:?}", data.len())));
        }
        let end = offset + size_of_val(data);
        let info = json!({ "dtype": "F32", "shape": shape, "data_offsets": [offset, end] });
        if name == "__metadata__" || header.insert(name.into(), info).is_some() {
            return Err(fault(name, "its name is taken"));
        }
        offset = end;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    // Spaces align the numbers to 8 bytes, as the format recommends.
    header.resize(header.len().next_multiple_of(8), b' ');
    output::write(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors.iter().try_for_each(|(_, _, data)| write_f32(out, data))
    })?;
    Ok(())
}

/// Little-endian elements, converted a small block at a time.
fn write_f32(out: &mut dyn Write, data: &[f32]) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(1 << 16);
    for block in data.chunks(1 << 14) {
        buffer.clear();
        buffer.extend(block.iter().flat_map(|x| x.to_le_bytes()));
        out.write_all(&buffer)?;
    }
    Ok(())
}
