//! The pickles of CIFAR's Python versions: a dictionary of texts, lists of texts and of numbers, and one
//! NumPy array of bytes. Only what these files have is read; whatever else a pickle may do is refused,
//! and nothing is ever imported or called.

use std::collections::HashMap;
use std::ops::Range;

/// More values than any of the files has.
const MAX_VALUES: usize = 1 << 21;

/// What is in a file of images.
#[derive(Debug)]
pub struct Images {
    /// A class for each.
    pub labels: Vec<u32>,
    /// Where in the file the samples are.
    pub data: Range<usize>,
}

/// The images of a pickle, whose classes are called `labels`.
///
/// # Errors
/// What in it is missing, damaged or not as in CIFAR's files.
pub fn images(bytes: &[u8], labels: &str) -> Result<Images, String> {
    let pickle = Pickle::read(bytes)?;
    let list = pickle.list(labels)?;
    let number = |&id: &u32| match pickle.values[id as usize] {
        Value::Number(n) => u32::try_from(n).map_err(|_| format!("`{labels}` has {n}")),
        _ => Err(format!("`{labels}` has what is no number")),
    };
    let labels = list.iter().map(number).collect::<Result<_, _>>()?;
    Ok(Images { labels, data: pickle.array("data")? })
}

/// The texts that a pickle has under `key`.
///
/// # Errors
/// As [`images`].
pub fn texts(bytes: &[u8], key: &str) -> Result<Vec<String>, String> {
    let pickle = Pickle::read(bytes)?;
    let text = |&id: &u32| match &pickle.values[id as usize] {
        Value::Bytes(range) => Ok(String::from_utf8_lossy(&bytes[range.clone()]).into_owned()),
        _ => Err(format!("`{key}` has what is no text")),
    };
    pickle.list(key)?.iter().map(text).collect()
}

/// A value; others are named by their number in the list of all.
#[derive(Debug)]
enum Value {
    /// What is not looked at.
    Other,
    Truth(bool),
    Number(i64),
    /// Text or bytes, by their place.
    Bytes(Range<usize>),
    List(Vec<u32>),
    Tuple(Vec<u32>),
    Dict(Vec<(u32, u32)>),
    Name(Known),
    /// What a call would have made: an array or its type.
    Made {
        by: Known,
        args: u32,
        state: Option<u32>,
    },
}

/// The names that the files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Reconstruct,
    Array,
    Type,
}

impl Known {
    fn of(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Some(Self::Reconstruct)
            }
            ("numpy", "ndarray") => Some(Self::Array),
            ("numpy", "dtype") => Some(Self::Type),
            _ => None,
        }
    }
}

struct Pickle<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<u32>,
    marks: Vec<usize>,
    memo: HashMap<u32, u32>,
    root: u32,
}

impl<'a> Pickle<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut pickle = Self {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            root: 0,
        };
        let read = pickle.run();
        let at = pickle.at;
        read.map_err(|what| format!("its pickle is none of CIFAR's, byte {at}: {what}"))?;
        Ok(pickle)
    }

    /// Follows the instructions to the end.
    fn run(&mut self) -> Result<(), String> {
        loop {
            match self.take(1)?[0] {
                b'.' => {
                    self.root = self.pop()?;
                    return Ok(());
                }
                0x80 => match self.take(1)?[0] {
                    0..=5 => {}
                    version => return Err(format!("protocol {version}")),
                },
                // Frames only bundle.
                0x95 => drop(self.take(8)?),
                b'N' => self.push(Value::Other)?,
                truth @ (0x88 | 0x89) => self.push(Value::Truth(truth == 0x88))?,
                b'K' => self.number(1)?,
                b'M' => self.number(2)?,
                b'J' => {
                    let n = self.unsigned(4)? as u32;
                    self.push(Value::Number(i64::from(n.cast_signed())))?;
                }
                b'U' | b'C' | 0x8C => self.sized(1)?,
                b'T' | b'B' | b'X' => self.sized(4)?,
                0x8D | 0x8E => self.sized(8)?,
                b'(' => self.marks.push(self.stack.len()),
                b']' => self.push(Value::List(Vec::new()))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b't' => {
                    let items = self.marked()?;
                    self.push(Value::Tuple(items))?;
                }
                count @ 0x85..=0x87 => {
                    let from = self.stack.len().checked_sub(usize::from(count - 0x84));
                    let items = self.stack.split_off(from.ok_or("the stack is empty")?);
                    self.push(Value::Tuple(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(&[item])?;
                }
                b'e' => {
                    let items = self.marked()?;
                    self.append(&items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.insert(&[key, value])?;
                }
                b'u' => {
                    let items = self.marked()?;
                    self.insert(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.name(module, name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let text = |id: u32| match &self.values[id as usize] {
                        Value::Bytes(range) => std::str::from_utf8(&self.bytes[range.clone()]).ok(),
                        _ => None,
                    };
                    let (Some(module), Some(name)) = (text(module), text(name)) else {
                        return Err("a name is no text".into());
                    };
                    self.name(module, name)?;
                }
                b'R' => {
                    let (args, callable) = (self.pop()?, self.pop()?);
                    let Value::Name(by) = self.values[callable as usize] else {
                        return Err("a call of what has no name".into());
                    };
                    self.push(Value::Made { by, args, state: None })?;
                }
                b'b' => {
                    let (new, object) = (self.pop()?, self.top()?);
                    match &mut self.values[object as usize] {
                        Value::Made { state, .. } => *state = Some(new),
                        _ => return Err("a state of what has none".into()),
                    }
                }
                b'q' => {
                    let key = self.unsigned(1)?;
                    self.remember(key)?;
                }
                b'r' => {
                    let key = self.unsigned(4)?;
                    self.remember(key)?;
                }
                0x94 => self.remember(self.memo.len() as u64)?,
                b'h' => {
                    let key = self.unsigned(1)?;
                    self.recall(key)?;
                }
                b'j' => {
                    let key = self.unsigned(4)?;
                    self.recall(key)?;
                }
                other => return Err(format!("instruction 0x{other:02X}")),
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or("it is cut short")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn unsigned(&mut self, size: usize) -> Result<u64, String> {
        Ok(self.take(size)?.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("a line has no end")?;
        let line = &self.take(end + 1)?[..end];
        std::str::from_utf8(line).map_err(|_| "a name is no text".into())
    }

    fn name(&mut self, module: &str, name: &str) -> Result<(), String> {
        let known = Known::of(module, name).ok_or_else(|| {
            let name: String = format!("{module}.{name}").chars().take(80).collect();
            format!("it names {name:?}, which is never called")
        })?;
        self.push(Value::Name(known))
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() == MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        self.stack.push(self.values.len() as u32);
        self.values.push(value);
        Ok(())
    }

    fn number(&mut self, size: usize) -> Result<(), String> {
        let number = self.unsigned(size)?;
        self.push(Value::Number(number as i64))
    }

    /// Bytes with their length in front, which has `size` bytes.
    fn sized(&mut self, size: usize) -> Result<(), String> {
        let length = usize::try_from(self.unsigned(size)?).map_err(|_| "it is cut short")?;
        let start = self.at;
        self.take(length)?;
        self.push(Value::Bytes(start..self.at))
    }

    fn top(&self) -> Result<u32, String> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    fn pop(&mut self) -> Result<u32, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let value = if self.stack.len() > floor { self.stack.pop() } else { None };
        value.ok_or_else(|| "the stack is empty".into())
    }

    fn marked(&mut self) -> Result<Vec<u32>, String> {
        let height = self.marks.pop().filter(|&height| height <= self.stack.len());
        Ok(self.stack.split_off(height.ok_or("there is no mark")?))
    }

    fn append(&mut self, items: &[u32]) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top as usize] {
            Value::List(list) => list.extend(items),
            _ => return Err("items of what is no list".into()),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[u32]) -> Result<(), String> {
        let (pairs, rest) = items.as_chunks::<2>();
        let top = self.top()?;
        match &mut self.values[top as usize] {
            Value::Dict(dict) if rest.is_empty() => {
                dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            _ => return Err("keys of what is no dictionary".into()),
        }
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(key as u32, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), String> {
        let id = self.memo.get(&(key as u32)).ok_or("a value that was not remembered")?;
        self.stack.push(*id);
        Ok(())
    }

    /// What the dictionary has under `key`.
    fn get(&self, key: &str) -> Result<&Value, String> {
        let Value::Dict(dict) = &self.values[self.root as usize] else {
            return Err("it is no dictionary".into());
        };
        let is = |id: u32| match &self.values[id as usize] {
            Value::Bytes(range) => self.bytes[range.clone()] == *key.as_bytes(),
            _ => false,
        };
        let found = dict.iter().rev().find(|(name, _)| is(*name));
        found.map(|(_, id)| &self.values[*id as usize]).ok_or_else(|| format!("it has no `{key}`"))
    }

    fn list(&self, key: &str) -> Result<&[u32], String> {
        match self.get(key)? {
            Value::List(items) | Value::Tuple(items) => Ok(items),
            _ => Err(format!("`{key}` is no list")),
        }
    }

    /// Where the bytes of the array under `key` are, which has to be one of bytes in rows of an image.
    fn array(&self, key: &str) -> Result<Range<usize>, String> {
        self.bytes_of(self.get(key)?).ok_or_else(|| format!("`{key}` is no array of bytes"))
    }

    fn bytes_of(&self, array: &Value) -> Option<Range<usize>> {
        let value = |id: u32| &self.values[id as usize];
        let Value::Made { by: Known::Reconstruct, state: Some(state), .. } = array else {
            return None;
        };
        let Value::Tuple(state) = value(*state) else { return None };
        let [_version, shape, kind, fortran, data] = state[..] else { return None };
        if !matches!(value(fortran), Value::Truth(false)) {
            return None;
        }
        let Value::Made { by: Known::Type, args, .. } = value(kind) else { return None };
        let Value::Tuple(args) = value(*args) else { return None };
        let Value::Bytes(name) = value(*args.first()?) else { return None };
        if !matches!(&self.bytes[name.clone()], b"u1" | b"|u1") {
            return None;
        }
        let Value::Tuple(shape) = value(shape) else { return None };
        let extent = |id: &u32| match value(*id) {
            Value::Number(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        let [count, length] = shape.iter().map(extent).collect::<Option<Vec<_>>>()?[..] else {
            return None;
        };
        let Value::Bytes(data) = value(data) else { return None };
        let fits = length == super::IMAGE && count.checked_mul(length) == Some(data.len());
        fits.then(|| data.clone())
    }
}
