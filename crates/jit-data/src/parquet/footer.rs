//! The metadata at the end of a Parquet file: columns, where their chunks lie, and what else its
//! writer said.

use std::fs::File;

use super::Fault;
use super::thrift::Reader;
use crate::place::read_at;

/// Longest metadata that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A picture takes more than this many bytes: a file has fewer rows than that allows.
const MIN_PICTURE: u64 = 16;

/// A column whose values are no structures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its names from the outermost structure on.
    pub path: Vec<String>,
    /// Type of its values.
    pub kind: Option<Physical>,
    /// Definition level of a value that is there: how many of its path may be absent.
    pub max_def: u32,
    /// Whether a row has a list of values.
    pub repeated: bool,
}

/// Types of values, as far as they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Physical {
    /// Truth values, a bit each.
    Boolean,
    /// 32-bit whole numbers.
    Int32,
    /// 64-bit whole numbers.
    Int64,
    /// 32-bit floats.
    Float,
    /// 64-bit floats.
    Double,
    /// Bytes with their length.
    Bytes,
}

/// How pages are compressed, in Parquet's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// Snappy.
    Snappy,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Something that is not read.
    Other(i64),
}

/// The values of a column in a row group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How its pages are compressed.
    pub codec: Codec,
    /// Where its first page starts.
    pub start: u64,
    /// Length of its pages in bytes.
    pub length: u64,
}

/// Some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowGroup {
    /// Number of rows.
    pub rows: u64,
    /// A chunk a leaf.
    pub chunks: Vec<Chunk>,
}

/// The metadata of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// The columns.
    pub leaves: Vec<Leaf>,
    /// The rows.
    pub groups: Vec<RowGroup>,
    /// What `huggingface` names: JSON on the data set's features.
    pub huggingface: Option<String>,
}

impl Footer {
    /// Reads the metadata of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(file: &mut File) -> Result<Self, Fault> {
        const MAGIC: [u8; 4] = *b"PAR1";
        let length = file.metadata()?.len();
        let mut tail = [0; 8];
        if length < 12 {
            return Err(Fault::new("it is no Parquet file: it is too short"));
        }
        read_at(file, length - 8, &mut tail)?;
        let [a, b, c, d, magic @ ..] = tail;
        if magic != MAGIC {
            let mut head = [0; 4];
            read_at(file, 0, &mut head)?;
            return Err(Fault::new(match head == MAGIC {
                true => "it is cut short or still being written: copy it anew",
                false if magic == *b"PARE" => "it is encrypted, which is not read",
                false => "it is no Parquet file",
            }));
        }
        let size = u64::from(u32::from_le_bytes([a, b, c, d]));
        if size > length - 12 || size > MAX_BYTES {
            let all = format!("a file of {length}, and at most {MAX_BYTES} are read");
            return Err(Fault::new(format!("it claims {size} bytes of metadata in {all}")));
        }
        let mut bytes = vec![0; size as usize];
        read_at(file, length - 8 - size, &mut bytes)?;
        let footer = Self::parse(&bytes)?;
        footer.check(length - 8 - size)?;
        Ok(footer)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut schema = Vec::new();
        let mut footer = Self::default();
        Reader::new(bytes).structure(&mut |r, id, _| {
            match id {
                2 => schema = r.all(Element::read)?,
                4 => footer.groups = r.all(row_group)?,
                5 => r.list(&mut |r| {
                    let (key, value) = key_value(r)?;
                    if key == "huggingface" {
                        footer.huggingface = Some(value);
                    }
                    Ok(())
                })?,
                8 => return Err(Fault::new("it is encrypted, which is not read")),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        footer.leaves = leaves(&schema)?;
        Ok(footer)
    }

    /// That what the metadata claims is possible in `length` bytes.
    fn check(&self, length: u64) -> Result<(), Fault> {
        let mut rows = 0u64;
        for (i, group) in self.groups.iter().enumerate() {
            if group.chunks.len() != self.leaves.len() {
                let (have, need) = (group.chunks.len(), self.leaves.len());
                let reason = format!("row group {i} has {have} columns, and the schema {need}");
                return Err(Fault::new(reason));
            }
            rows = rows.saturating_add(group.rows);
            let outside = |c: &&Chunk| c.start.checked_add(c.length).is_none_or(|e| e > length);
            if let Some(chunk) = group.chunks.iter().find(outside) {
                let Chunk { start, length: bytes, .. } = chunk;
                let reason = format!("row group {i} claims {bytes} bytes from {start} on");
                return Err(Fault::new(format!("{reason}, and there are {length}: copy it anew")));
            }
        }
        if rows > length / MIN_PICTURE {
            return Err(Fault::new(format!("it claims {rows} pictures in {length} bytes")));
        }
        Ok(())
    }
}

/// A node of the schema, in depth-first order.
struct Element {
    name: String,
    kind: Option<i64>,
    repetition: i64,
    children: u64,
}

impl Element {
    fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut element = Self { name: String::new(), kind: None, repetition: 0, children: 0 };
        r.structure(&mut |r, id, _| {
            match id {
                1 => element.kind = Some(r.int()?),
                3 => element.repetition = r.int()?,
                4 => element.name = r.text()?,
                5 => element.children = r.count()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(element)
    }
}

/// The columns of a schema, the root being its first element.
fn leaves(schema: &[Element]) -> Result<Vec<Leaf>, Fault> {
    /// An open structure: children still to come, and what its members inherit.
    struct Open {
        left: u64,
        leaf: Leaf,
    }
    const DEEP: usize = 32;
    let mut elements = schema.iter();
    let root = elements.next().ok_or_else(|| Fault::new("it has no schema"))?;
    let leaf = Leaf { path: Vec::new(), kind: None, max_def: 0, repeated: false };
    let mut open = vec![Open { left: root.children, leaf }];
    let mut leaves = Vec::new();
    while let Some(parent) = open.last_mut() {
        if parent.left == 0 {
            open.pop();
            continue;
        }
        parent.left -= 1;
        let mut leaf = parent.leaf.clone();
        let element = elements.next().ok_or_else(|| Fault::new("its schema ends too early"))?;
        leaf.path.push(element.name.clone());
        leaf.max_def += u32::from(element.repetition != 0);
        leaf.repeated |= element.repetition == 2;
        if element.children > 0 {
            if open.len() == DEEP {
                return Err(Fault::new("its schema is nested too deeply"));
            }
            open.push(Open { left: element.children, leaf });
            continue;
        }
        leaf.kind = match element.kind {
            Some(0) => Some(Physical::Boolean),
            Some(1) => Some(Physical::Int32),
            Some(2) => Some(Physical::Int64),
            Some(4) => Some(Physical::Float),
            Some(5) => Some(Physical::Double),
            Some(6) => Some(Physical::Bytes),
            _ => None,
        };
        leaves.push(leaf);
    }
    Ok(leaves)
}

fn row_group(r: &mut Reader<'_>) -> Result<RowGroup, Fault> {
    let mut group = RowGroup { rows: 0, chunks: Vec::new() };
    r.structure(&mut |r, id, _| {
        match id {
            1 => group.chunks = r.all(chunk)?,
            3 => group.rows = r.count()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(group)
}

fn chunk(r: &mut Reader<'_>) -> Result<Chunk, Fault> {
    let mut found = None;
    r.structure(&mut |r, id, _| {
        match id {
            1 => return Err(Fault::new("its columns lie in other files, which is not read")),
            3 => found = Some(column(r)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    found.ok_or_else(|| Fault::new("a column has no metadata; it may be encrypted"))
}

fn column(r: &mut Reader<'_>) -> Result<Chunk, Fault> {
    let (mut codec, mut length, mut data, mut dictionary) = (None, None, None, None);
    r.structure(&mut |r, id, _| {
        match id {
            4 => codec = Some(r.int()?),
            7 => length = Some(r.count()?),
            9 => data = Some(r.count()?),
            11 => dictionary = Some(r.count()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let (Some(codec), Some(length), Some(data)) = (codec, length, data) else {
        return Err(Fault::new("the metadata of a column is not complete"));
    };
    // Some writers say 0 where there is no dictionary.
    let start = dictionary.filter(|&d| d > 0 && d < data).unwrap_or(data);
    let codec = match codec {
        0 => Codec::None,
        1 => Codec::Snappy,
        2 => Codec::Gzip,
        6 => Codec::Zstd,
        other => Codec::Other(other),
    };
    Ok(Chunk { codec, start, length })
}

fn key_value(r: &mut Reader<'_>) -> Result<(String, String), Fault> {
    let (mut key, mut value) = (String::new(), String::new());
    r.structure(&mut |r, id, _| {
        match id {
            1 => key = r.text()?,
            2 => value = r.text()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((key, value))
}
