//! NumPy archives of images and their classes: `images` and `labels`, `arr_0` and `arr_1` as ADM's tools
//! write them, `x_train` and `y_train`, `train_images` and `train_labels`.

use jit_core::text::Show;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use crate::error::DataError;
use crate::folder::Folder;
use crate::members::{MAX_CLASSES, Member};
use crate::pixels::{Pixels, Shape, Store, numbers};
use crate::place::{Place, read_range};
use crate::scan::ScanOptions;
use crate::{splits, zipped};

/// How the name of such an archive ends.
pub const EXTENSION: &str = "npz";

/// Images that are compressed are held in memory, up to this many bytes.
const MAX_MEMORY: u64 = 4 << 30;

/// Longest array of classes, in bytes.
const MAX_LABEL_BYTES: u64 = 1 << 30;

/// NumPy itself refuses longer headers unless told otherwise.
const MAX_HEADER: usize = 10_000;

/// Lists the images of an archive.
///
/// # Errors
/// [`DataError::Archive`] saying which array is missing, damaged or of another kind than expected.
pub fn file(path: &Path, options: &ScanOptions) -> Result<Folder, DataError> {
    let refused = |reason: String| DataError::Archive { path: path.to_path_buf(), reason };
    let mut strays = Vec::new();
    let members = zipped::members(path, &mut strays)?;
    let stem = |member: &Member| member.name.with_extension("").to_string_lossy().into_owned();
    let of = |role: &[&str]| -> Vec<(String, &Member)> {
        let fits = |member: &&Member| is(&stem(member), role);
        let split = |member: &Member| splits::told(&stem(member)).unwrap_or_default().to_owned();
        members.iter().filter(fits).map(|member| (split(member), member)).collect()
    };
    let chosen = splits::choose(path, of(&IMAGES), &options.split)?;
    let [images] = chosen.taken[..] else {
        let names: Vec<String> = members.iter().map(stem).collect();
        let reason = match chosen.taken.len() {
            0 => "it has no array of images",
            _ => "it has several arrays of images",
        };
        let names = names.join("`, `");
        return Err(refused(format!("{reason} (`images`, `arr_0`, `x`) among `{names}`")));
    };
    let split = splits::told(&stem(images)).unwrap_or_default();
    let labels = of(&LABELS).into_iter().find(|(name, _)| name == split).map(|(_, member)| member);
    let name = stem(images);
    let (header, start) = header(images, path).map_err(refused)?;
    let (count, shape) = image_shape(&header).map_err(|r| refused(format!("`{name}` {r}")))?;
    let stride = shape.samples().unwrap_or_default();
    let (store, start) = match &images.place {
        Place::Range { archive, offset } => (Store::File(Arc::clone(archive)), offset + start),
        _ if images.bytes > MAX_MEMORY => {
            let reason = format!(
                "`{name}` is compressed and has {} bytes: save it by `np.savez`",
                images.bytes
            );
            return Err(refused(reason));
        }
        _ => (Store::Memory(whole(images, path)?.into()), start),
    };
    let mut folder = Folder {
        form: "a NumPy archive",
        split: chosen.split,
        notes: chosen.note.into_iter().collect(),
        strays,
        ..Folder::default()
    };
    let mut classes = Vec::new();
    match labels {
        None => folder.notes.push("it has no array of classes (`labels`, `arr_1`, `y`)".to_owned()),
        Some(member) => {
            let name = stem(member);
            if member.bytes > MAX_LABEL_BYTES {
                return Err(refused(format!("`{name}` has {} bytes", member.bytes)));
            }
            let bytes = whole(member, path)?;
            classes = labels_of(&bytes, count).map_err(|r| refused(format!("`{name}` {r}")))?;
            folder.class_names = numbers(&classes);
            folder.classes_from = format!("`{name}`");
        }
    }
    let pixels = Pixels { store, start, stride, shape, path: path.to_path_buf() };
    folder.files = pixels.entries(&name, &classes, count);
    if folder.files.is_empty() {
        return Err(DataError::Empty { root: path.to_path_buf() });
    }
    Ok(folder)
}

const IMAGES: [&str; 6] = ["images", "image", "imgs", "x", "data", "arr_0"];
const LABELS: [&str; 6] = ["labels", "label", "y", "targets", "classes", "arr_1"];

/// Whether an array has a role by its name, in which a word may tell a split.
fn is(name: &str, role: &[&str]) -> bool {
    let plain = |name: &str| role.iter().any(|known| name.eq_ignore_ascii_case(known));
    let words: Vec<&str> = name.split('_').filter(|word| splits::told(word).is_none()).collect();
    plain(name) || plain(&words.join("_"))
}

/// The bytes of an array's file.
fn whole(member: &Member, path: &Path) -> Result<Vec<u8>, DataError> {
    let damaged = || DataError::Archive {
        path: path.to_path_buf(),
        reason: format!("`{}` is damaged: save it anew", member.name.shown()),
    };
    match &member.place {
        Place::Range { archive, offset } => read_range(archive, *offset, member.bytes),
        Place::Deflated { archive, offset, packed } => {
            let stored = read_range(archive, *offset, *packed)?;
            crate::place::inflate(&stored, member.bytes).ok_or_else(damaged)
        }
        _ => Err(damaged()),
    }
}

/// What the header of an array says.
#[derive(Debug)]
struct Header {
    /// NumPy's name of its type.
    kind: String,
    shape: Vec<u64>,
}

/// The header of an array's file and where its numbers start. They are all there.
fn header(member: &Member, path: &Path) -> Result<(Header, u64), String> {
    let most = (MAX_HEADER + 12) as u64;
    let name = member.name.shown();
    let head = match &member.place {
        Place::Range { .. } => member.head(most),
        Place::Deflated { archive, offset, packed } => {
            // Deflate grows what it holds by less than this.
            read_range(archive, *offset, (*packed).min(2 * most)).map(|stored| {
                let mut head = Vec::new();
                let _cut = flate2::read::DeflateDecoder::new(&stored[..])
                    .take(most)
                    .read_to_end(&mut head);
                head
            })
        }
        _ => Ok(Vec::new()),
    };
    let head = head.map_err(|error| format!("`{}`: {error}", path.shown()))?;
    parse(&head, member.bytes).map_err(|reason| format!("`{name}` {reason}"))
}

/// Reads the header in front of an array's file of `length` bytes, which have to be what it claims.
fn parse(bytes: &[u8], length: u64) -> Result<(Header, u64), String> {
    let mut source = Cursor::new(bytes);
    let mut start = [0; 8];
    let short = |_| "is no NumPy array: it is too short".to_owned();
    source.read_exact(&mut start).map_err(short)?;
    if !start.starts_with(b"\x93NUMPY") || !(1..=3).contains(&start[6]) {
        return Err("is no NumPy array of version 1 to 3".into());
    }
    let mut size = [0; 4];
    let width = if start[6] == 1 { 2 } else { 4 };
    source.read_exact(&mut size[..width]).map_err(short)?;
    let size = u32::from_le_bytes(size) as usize;
    if size > MAX_HEADER {
        return Err(format!("has a header that claims {size} bytes"));
    }
    let mut text = vec![0; size];
    source.read_exact(&mut text).map_err(short)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let after = |key: &str| {
        let at = text.find(&format!("'{key}':"));
        at.map(|at| text[at + key.len() + 3..].trim_start())
            .ok_or_else(|| format!("has a header without `{key}`"))
    };
    let kind = after("descr")?.split('\'').nth(1).unwrap_or_default().to_owned();
    if !after("fortran_order")?.starts_with("False") {
        return Err("is in Fortran's order: save it as `np.ascontiguousarray(…)`".into());
    }
    let shape = after("shape")?.strip_prefix('(').and_then(|s| Some(s.split_once(')')?.0));
    let shape = shape.ok_or("has a shape that is no tuple")?.split(',').map(str::trim);
    let shape = shape.filter(|extent| !extent.is_empty()).map(str::parse);
    let shape = shape.collect::<Result<Vec<u64>, _>>().map_err(|_| "has a shape that is none")?;
    let start = source.position();
    let each = kind.get(2..).and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0);
    let claimed = shape.iter().try_fold(each, |n, &extent| n.checked_mul(extent));
    if claimed.and_then(|n| n.checked_add(start)) != Some(length) {
        let have = length.saturating_sub(start);
        return Err(format!("claims {shape:?} of `{kind}` and has {have} bytes"));
    }
    Ok((Header { kind, shape }, start))
}

/// The number of images and their shape.
fn image_shape(header: &Header) -> Result<(u64, Shape), String> {
    let Header { kind, shape } = header;
    if kind != "|u1" {
        return Err(format!("is of `{kind}`: expected images of 8 bits (`uint8`)"));
    }
    let colours = |n: u64| matches!(n, 1 | 3);
    let (count, height, width, channels, planar) = match shape[..] {
        [n, h, w] => (n, h, w, 1, false),
        [n, h, w, c] if colours(c) => (n, h, w, c, false),
        [n, c, h, w] if colours(c) => (n, h, w, c, true),
        _ => return Err(format!("is {shape:?}: expected [N, H, W, 3], [N, H, W, 1] or [N, H, W]")),
    };
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let shape =
        Shape { height: size(height), width: size(width), channels: size(channels), planar };
    match shape.samples() {
        Some(_) => Ok((count, shape)),
        None => Err(format!("has images of {height} × {width}, which are none")),
    }
}

/// Classes as whole numbers, one for each of `count` images.
fn labels_of(bytes: &[u8], count: u64) -> Result<Vec<u32>, String> {
    let (Header { kind, shape }, start) = parse(bytes, bytes.len() as u64)?;
    if !matches!(shape[..], [n] | [n, 1] if n == count) {
        return Err(format!("is {shape:?}: expected a class for each of {count} images"));
    }
    let width = match &*kind {
        "|u1" | "|i1" => 1,
        "<u2" | "<i2" => 2,
        "<u4" | "<i4" => 4,
        "<u8" | "<i8" => 8,
        _ => return Err(format!("is of `{kind}`: expected whole numbers")),
    };
    let signed = kind.as_bytes().get(1) == Some(&b'i');
    let values = bytes.get(start as usize..).unwrap_or_default().chunks_exact(width);
    values
        .enumerate()
        .map(|(i, value)| {
            let negative = signed && value.last().is_some_and(|byte| byte & 0x80 != 0);
            let number = value.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
            let number = u32::try_from(number).ok().filter(|n| !negative && *n < MAX_CLASSES);
            number.ok_or_else(|| format!("gives image {i} no class from 0 on"))
        })
        .collect()
}

#[cfg(test)]
mod tests;
