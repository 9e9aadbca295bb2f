//! NumPy's `.npz`: a zip archive of `.npy` arrays, each a short header in Python's syntax and then
//! the numbers. Samples leave in this format (`arr_0`, as ADM's tools expect) and reference
//! statistics come in it (`mu`, `sigma`).

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jit_core::files::FileError;
use jit_core::output;
use jit_core::suggest;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use super::WeightsError;
use super::archive::Archive;
use super::tensor::{Dtype, Tensor, TensorData, View, checked_count};

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself refuses longer headers unless told otherwise.
const MAX_HEADER: u64 = 10_000;

/// An open `.npz` archive, whose arrays are read one at a time when asked for.
pub struct Npz {
    path: PathBuf,
    archive: Archive,
}

impl Npz {
    /// Opens an archive, compressed or not.
    ///
    /// # Errors
    /// [`WeightsError`] when the file cannot be read or is no zip archive.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Ok(Self { path: path.into(), archive: Archive::open(path)? })
    }

    /// The names of the arrays.
    pub fn names(&self) -> Vec<String> {
        let names = self.archive.names();
        names.iter().filter_map(|name| Some(name.strip_suffix(".npy")?.to_string())).collect()
    }

    /// Reads an array. One in Fortran's order is brought into row-major order.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] with the nearest name if there is none of this name; other kinds
    /// when it is damaged or its elements are none of u8, bool, i32, i64, f16, f32, f64.
    pub fn array(&self, name: &str) -> Result<Tensor, WeightsError> {
        self.entry(name, |size, source| {
            let (dtype, view) = match read_header(size, source)? {
                Ok(header) => header,
                Err(what) => return Ok(Err(what)),
            };
            let count = view.checked_count().unwrap_or(0);
            let data = TensorData::decode(dtype, count, source)?;
            Ok(Ok(Tensor { data: data.gather(&view), shape: view.shape }))
        })
    }

    /// Hands the shape and the bytes of an array of u8 to `read`, so that images beyond memory can
    /// be read a few at a time. What `read` leaves is checked all the same.
    ///
    /// # Errors
    /// As [`Npz::array`], and for elements of another type or in Fortran's order.
    pub fn read_u8<T>(
        &self,
        name: &str,
        read: impl FnOnce(&[usize], &mut dyn Read) -> io::Result<T>,
    ) -> Result<T, WeightsError> {
        self.entry(name, |size, source| {
            let (dtype, view) = match read_header(size, source)? {
                Ok(header) => header,
                Err(what) => return Ok(Err(what)),
            };
            match dtype {
                Dtype::U8 if view.is_row_major() => read(&view.shape, source).map(Ok),
                Dtype::U8 => Ok(Err("it is in Fortran's order; save a C-ordered array".into())),
                _ => Ok(Err(format!("expected an array of uint8, found one of {dtype:?}"))),
            }
        })
    }

    /// Reads the entry of an array; the inner error of `read` is of its content.
    fn entry<T>(
        &self,
        name: &str,
        read: impl FnOnce(u64, &mut dyn Read) -> io::Result<Result<T, String>>,
    ) -> Result<T, WeightsError> {
        let names = self.names();
        if !names.iter().any(|known| known == name) {
            return Err(WeightsError::Missing {
                path: self.path.clone(),
                name: name.into(),
                hint: suggest::hint(name, names.iter().map(String::as_str)),
            });
        }
        let read = self.archive.entry(&format!("{name}.npy"), read)?;
        read.map_err(|what| WeightsError::Tensor {
            path: self.path.clone(),
            name: name.into(),
            what,
        })
    }
}

/// Reads the header of a `.npy` of `size` bytes, which must be those of its array; the inner error
/// is of its content.
fn read_header(size: u64, source: &mut dyn Read) -> io::Result<Result<(Dtype, View), String>> {
    let mut start = [0; 8];
    source.read_exact(&mut start)?;
    let (length_size, version) = (if start[6] == 1 { 2 } else { 4 }, start[6]);
    if !start.starts_with(MAGIC) || !(1..=3).contains(&version) {
        return Ok(Err("it is no .npy array of version 1 to 3".into()));
    }
    let mut length = [0; 4];
    source.read_exact(&mut length[..length_size])?;
    let length = u64::from(u32::from_le_bytes(length));
    if length > MAX_HEADER {
        return Ok(Err(format!("its header claims {length} bytes")));
    }
    let mut header = vec![0; length as usize];
    source.read_exact(&mut header)?;
    let (dtype, view) = match parse_header(&String::from_utf8_lossy(&header)) {
        Ok(header) => header,
        Err(what) => return Ok(Err(what)),
    };
    let data = size.saturating_sub(8 + length_size as u64 + length);
    let count = view.checked_count();
    if count.and_then(|n| n.checked_mul(dtype.size())).map(|n| n as u64) != Some(data) {
        return Ok(Err(format!(
            "{data} bytes of data are no {dtype:?} array of shape {:?}",
            view.shape
        )));
    }
    Ok(Ok((dtype, view)))
}

/// Reads `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse_header(header: &str) -> Result<(Dtype, View), String> {
    let after = |key: &str| {
        let at = header.find(&format!("'{key}':"));
        at.map(|at| header[at + key.len() + 3..].trim_start())
            .ok_or_else(|| format!("its header has no `{key}`"))
    };
    let descr = after("descr")?.split('\'').nth(1).unwrap_or_default();
    let dtype = match descr {
        "|u1" => Dtype::U8,
        "|b1" => Dtype::Bool,
        "<i4" => Dtype::I32,
        "<i8" => Dtype::I64,
        "<f2" => Dtype::F16,
        "<f4" => Dtype::F32,
        "<f8" => Dtype::F64,
        _ => return Err(format!("elements of NumPy's type `{descr}` cannot be read")),
    };
    let shape = after("shape")?;
    let shape = shape.strip_prefix('(').and_then(|s| Some(s.split_once(')')?.0));
    let extents = shape.ok_or("its shape is no tuple")?.split(',').map(str::trim);
    let shape = extents
        .filter(|extent| !extent.is_empty())
        .map(|extent| extent.parse().map_err(|_| format!("its shape has `{extent}`")))
        .collect::<Result<Vec<usize>, _>>()?;
    // Fortran's order is a matter of strides: the first axis turns fastest.
    let fortran = after("fortran_order")?.starts_with("True");
    let mut strides = vec![1usize; shape.len()];
    let mut stride = 1usize;
    for i in 0..shape.len() {
        let axis = if fortran { i } else { shape.len() - 1 - i };
        strides[axis] = stride;
        stride = stride.saturating_mul(shape[axis]);
    }
    Ok((dtype, View { offset: 0, shape, strides }))
}

/// Writes an uncompressed `.npz` to where a user points ([`output::write`]); `fill` adds the arrays.
///
/// # Errors
/// [`FileError`] naming `path` when it cannot be written or `fill` fails.
pub fn write_npz(
    path: &Path,
    fill: impl FnOnce(&mut NpzWriter<'_>) -> io::Result<()>,
) -> Result<(), FileError> {
    output::write(path, |out| {
        let mut writer = NpzWriter { zip: ZipWriter::new_stream(out) };
        fill(&mut writer)?;
        writer.zip.finish()?;
        Ok(())
    })
}

/// Adds arrays to the archive of [`write_npz`].
pub struct NpzWriter<'a> {
    zip: ZipWriter<StreamWriter<&'a mut dyn Write>>,
}

impl NpzWriter<'_> {
    /// Adds an array.
    ///
    /// # Errors
    /// When writing fails, or shape and elements disagree.
    pub fn array(&mut self, name: &str, tensor: &Tensor) -> io::Result<()> {
        let bytes = |out: &mut dyn Write| match &tensor.data {
            TensorData::U8(v) => out.write_all(v),
            TensorData::I64(v) => v.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())),
            TensorData::F32(v) => v.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())),
            TensorData::F64(v) => v.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())),
        };
        let (descr, size) = match &tensor.data {
            TensorData::U8(_) => ("|u1", 1),
            TensorData::I64(_) => ("<i8", 8),
            TensorData::F32(_) => ("<f4", 4),
            TensorData::F64(_) => ("<f8", 8),
        };
        self.entry(name, descr, size, &tensor.shape, bytes)
    }

    /// Adds an array of bytes that need not be in memory at once: `fill` writes exactly the
    /// product of `shape`, for images `[N, S, S, 3]`.
    ///
    /// # Errors
    /// When writing fails, or `fill` writes more or less.
    pub fn stream_u8(
        &mut self,
        name: &str,
        shape: &[usize],
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.entry(name, "|u1", 1, shape, fill)
    }

    fn entry(
        &mut self,
        name: &str,
        descr: &str,
        element: u64,
        shape: &[usize],
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let count = checked_count(shape).and_then(|n| (n as u64).checked_mul(element));
        let size = count.ok_or_else(|| io::Error::other(format!("shape {shape:?} overflows")))?;
        let header = header(descr, shape);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(size + header.len() as u64 >= u64::from(u32::MAX));
        self.zip.start_file(format!("{name}.npy"), options)?;
        self.zip.write_all(&header)?;
        let mut counted = Counted { out: &mut self.zip, left: size };
        // Small writes are gathered: the archive's checksum and seams cost per call.
        let mut buffered = io::BufWriter::with_capacity(1 << 16, &mut counted);
        fill(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        match counted.left {
            0 => Ok(()),
            left => Err(io::Error::other(format!("array `{name}` lacks {left} of {size} bytes"))),
        }
    }
}

/// The start of a `.npy`, padded so that the numbers begin at a multiple of 64 bytes. Version 1.
fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    // A tuple of one element ends in a comma.
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut dict = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}",
        shape.trim_end()
    );
    let before = MAGIC.len() + 4;
    let padded = (before + dict.len() + 1).next_multiple_of(64) - before - 1;
    dict.extend(std::iter::repeat_n(' ', padded - dict.len()));
    dict.push('\n');
    [MAGIC, &[1, 0], &(dict.len() as u16).to_le_bytes(), dict.as_bytes()].concat()
}

/// A writer that takes a fixed number of bytes.
struct Counted<W> {
    out: W,
    left: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("more bytes are written than the shape has"));
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
