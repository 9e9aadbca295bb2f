//! ILSVRC's development kit: the ground truth of the validation set, and a MATLAB file that tells
//! which WordNet id a number stands for.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use flate2::read::{GzDecoder, ZlibDecoder};
use tar::Archive;

use crate::error::DataError;

/// Most bytes of the archive once decompressed, and of the MATLAB file.
const MAX_BYTES: u64 = 512 << 20;

const TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
const META: &str = "meta.mat";

/// The WordNet ids of the validation pictures, in the order of their names.
///
/// # Errors
/// [`DataError::Archive`] for what is damaged or no development kit.
pub fn classes(path: &Path) -> Result<Vec<String>, DataError> {
    let file = jit_core::input::open(path)?;
    read(file).map_err(|reason| DataError::Archive { path: path.to_path_buf(), reason })
}

fn read(file: impl Read) -> Result<Vec<String>, String> {
    let damaged = |error: std::io::Error| format!("it is damaged or no .tar.gz: {error}");
    let (mut truth, mut meta) = (None, None);
    let mut tar = Archive::new(GzDecoder::new(file).take(MAX_BYTES));
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let file = match name.rsplit('/').next() {
            Some(TRUTH) => &mut truth,
            Some(META) => &mut meta,
            _ => continue,
        };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        *file = Some(bytes);
    }
    let missing = |name| format!("it holds no `{name}`: expected ILSVRC2012_devkit_t12.tar.gz");
    let meta = meta.ok_or_else(|| missing(META))?;
    let truth = truth.ok_or_else(|| missing(TRUTH))?;
    let ids = synsets(&meta).ok_or_else(|| format!("its `{META}` is damaged"))?;
    let number = |line: &str| {
        let id = line.trim().parse::<u32>().ok().and_then(|number| ids.get(&number));
        id.cloned().ok_or_else(|| format!("`{TRUTH}` has `{line}`, which `{META}` does not tell"))
    };
    String::from_utf8_lossy(&truth).lines().map(number).collect()
}

/// The WordNet id of each number in a level-5 MATLAB file with the structures `synsets`.
fn synsets(file: &[u8]) -> Option<HashMap<u32, String>> {
    const HEADER: usize = 128;
    const COMPRESSED: u32 = 15;
    let mut rest = file.get(HEADER..)?;
    while !rest.is_empty() {
        let (kind, bytes) = element(&mut rest)?;
        let mut plain = Vec::new();
        let mut matrix = bytes;
        if kind == COMPRESSED {
            ZlibDecoder::new(bytes).take(MAX_BYTES).read_to_end(&mut plain).ok()?;
            matrix = element(&mut &plain[..])?.1;
        }
        if let Some(found) = structures(matrix) {
            return Some(found);
        }
    }
    None
}

/// A MATLAB element: its type and its bytes, which are padded to eight unless they are few.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let word = |bytes: &[u8]| bytes.first_chunk().map(|b| u32::from_le_bytes(*b));
    let head = word(rest)?;
    if head >> 16 != 0 {
        let bytes = rest.get(4..4 + (head >> 16) as usize)?;
        *rest = rest.get(8..)?;
        return Some((head & 0xFFFF, bytes));
    }
    let length = word(rest.get(4..)?)? as usize;
    let bytes = rest.get(8..)?.get(..length)?;
    let padding = if head == 15 { 0 } else { length.wrapping_neg() % 8 };
    *rest = rest.get(8 + length + padding..).unwrap_or_default();
    Some((head, bytes))
}

const STRUCTURE: u8 = 2;
const TEXT: u8 = 4;

/// Class of a matrix, and what stands behind its flags, dimensions and name.
fn matrix(mut rest: &[u8]) -> Option<(u8, &[u8])> {
    let class = *element(&mut rest)?.1.first()?;
    let _dimensions = element(&mut rest)?;
    let _name = element(&mut rest)?;
    Some((class, rest))
}

/// Numbers and WordNet ids of an array of structures that has them.
fn structures(bytes: &[u8]) -> Option<HashMap<u32, String>> {
    let (class, mut rest) = matrix(bytes)?;
    if class != STRUCTURE {
        return None;
    }
    let width = element(&mut rest)?.1.first_chunk().map(|b| u32::from_le_bytes(*b))? as usize;
    let names = element(&mut rest)?.1;
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    let fields: Vec<String> = names.chunks(width.max(1)).map(name).collect();
    let position = |wanted| fields.iter().position(|field| field == wanted);
    let (id, wnid) = (position("ILSVRC2012_ID")?, position("WNID")?);
    let mut found = HashMap::new();
    while !rest.is_empty() {
        let mut values = Vec::with_capacity(fields.len().min(64));
        for _ in &fields {
            values.push(element(&mut rest)?.1);
        }
        found.insert(number(values[id])?, text(values[wnid])?);
    }
    Some(found)
}

/// A number, in whatever type it was small enough for.
fn number(bytes: &[u8]) -> Option<u32> {
    let (_, mut rest) = matrix(bytes)?;
    let (kind, bytes) = element(&mut rest)?;
    match kind {
        1 | 2 => bytes.first().map(|&b| u32::from(b)),
        3 | 4 => bytes.first_chunk().map(|b| u32::from(u16::from_le_bytes(*b))),
        5 | 6 => bytes.first_chunk().map(|b| u32::from_le_bytes(*b)),
        9 => bytes.first_chunk().map(|b| f64::from_le_bytes(*b) as u32),
        _ => None,
    }
}

/// Text, a character in one byte or two.
fn text(bytes: &[u8]) -> Option<String> {
    let (class, mut rest) = matrix(bytes)?;
    let (kind, bytes) = element(&mut rest)?;
    let wide = matches!(kind, 3 | 4 | 17);
    let ascii = bytes.iter().step_by(if wide { 2 } else { 1 }).map(|&b| char::from(b));
    (class == TEXT).then(|| ascii.collect())
}
