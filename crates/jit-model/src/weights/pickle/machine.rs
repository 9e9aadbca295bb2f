//! The pickle interpreter: opcodes in, an arena of values out.

use std::collections::HashMap;

use super::opcode as op;
use super::{EMPTY_TUPLE, FALSE, Id, NONE, Node, Object, PickleError, TRUE};

/// Above this many values a pickle is refused: a checkpoint needs some ten a tensor.
const MAX_NODES: usize = 1 << 22;

/// The stack machine that a pickle is a program for.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Stack heights at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        // The constants, at the indices NONE, FALSE, TRUE and EMPTY_TUPLE.
        let nodes =
            vec![Node::None, Node::Bool(false), Node::Bool(true), Node::Sequence(Vec::new())];
        Self { bytes, at: 0, nodes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Runs the program and returns the arena with the index of the pickled value.
    pub fn run(mut self) -> Result<(Vec<Node>, Id), PickleError> {
        match self.interpret() {
            Ok(root) => Ok((self.nodes, root)),
            Err(what) => Err(PickleError { offset: self.at, what }),
        }
    }

    /// Runs to STOP and returns the value left on the stack.
    fn interpret(&mut self) -> Step<Id> {
        loop {
            match self.u8()? {
                op::STOP => return self.pop(),
                op::PROTO => match self.u8()? {
                    0..=5 => {}
                    version => return Err(format!("protocol {version} is not known")),
                },
                // Only a hint for buffering.
                op::FRAME => drop(self.take(8)?),

                op::NONE => self.stack.push(NONE),
                op::NEWTRUE => self.stack.push(TRUE),
                op::NEWFALSE => self.stack.push(FALSE),
                op::BININT1 => self.small_integer(1)?,
                op::BININT2 => self.small_integer(2)?,
                op::BININT => {
                    let bytes = self.take(4)?;
                    self.long(bytes)?;
                }
                op::LONG1 => self.sized(1).and_then(|b| self.long(b))?,
                op::LONG4 => self.sized(4).and_then(|b| self.long(b))?,
                op::BINFLOAT => self.float()?,
                op::SHORT_BINUNICODE => self.sized(1).and_then(|b| self.string(b))?,
                op::BINUNICODE => self.sized(4).and_then(|b| self.string(b))?,
                op::BINUNICODE8 => self.sized(8).and_then(|b| self.string(b))?,
                op::SHORT_BINSTRING => self.sized(1).and_then(|b| self.string_or_bytes(b))?,
                op::BINSTRING => self.sized(4).and_then(|b| self.string_or_bytes(b))?,
                op::SHORT_BINBYTES => self.sized(1).and_then(|_| self.push(Node::Skipped))?,
                op::BINBYTES => self.sized(4).and_then(|_| self.push(Node::Skipped))?,
                op::BINBYTES8 | op::BYTEARRAY8 => {
                    self.sized(8).and_then(|_| self.push(Node::Skipped))?;
                }

                op::MARK => self.marks.push(self.stack.len()),
                op::POP => drop(self.pop()?),
                op::POP_MARK => drop(self.pop_mark()?),
                op::DUP => self.stack.push(self.top()?),

                op::EMPTY_TUPLE => self.stack.push(EMPTY_TUPLE),
                op::TUPLE1 => self.tuple(1)?,
                op::TUPLE2 => self.tuple(2)?,
                op::TUPLE3 => self.tuple(3)?,
                op::EMPTY_LIST | op::EMPTY_SET => self.push(Node::Sequence(Vec::new()))?,
                op::TUPLE | op::LIST | op::FROZENSET => {
                    let items = self.pop_mark()?;
                    self.push(Node::Sequence(items))?;
                }
                op::APPEND => {
                    let item = self.pop()?;
                    self.extend(&[item])?;
                }
                op::APPENDS | op::ADDITEMS => {
                    let items = self.pop_mark()?;
                    self.extend(&items)?;
                }
                op::EMPTY_DICT => self.push(Node::Dict(Vec::new()))?,
                op::DICT => {
                    let items = self.pop_mark()?;
                    self.push(Node::Dict(Vec::new()))?;
                    self.insert(&items)?;
                }
                op::SETITEM => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.insert(&[key, value])?;
                }
                op::SETITEMS => {
                    let items = self.pop_mark()?;
                    self.insert(&items)?;
                }

                op::GLOBAL => self.global()?,
                op::STACK_GLOBAL => self.stack_global()?,
                op::REDUCE | op::NEWOBJ => {
                    let (args, callable) = (self.pop()?, self.pop()?);
                    self.call(callable, args)?;
                }
                op::NEWOBJ_EX => {
                    let (_keywords, args, callable) = (self.pop()?, self.pop()?, self.pop()?);
                    self.call(callable, args)?;
                }
                op::BUILD => self.build()?,
                op::BINPERSID => {
                    let id = self.pop()?;
                    self.push(Node::Persistent(id))?;
                }

                op::BINPUT => self.unsigned(1).and_then(|key| self.put(key))?,
                op::LONG_BINPUT => self.unsigned(4).and_then(|key| self.put(key))?,
                op::MEMOIZE => self.put(self.memo.len() as u64)?,
                op::BINGET => self.unsigned(1).and_then(|key| self.get(key))?,
                op::LONG_BINGET => self.unsigned(4).and_then(|key| self.get(key))?,

                other => return Err(format!("opcode 0x{other:02x} is none that torch writes")),
            }
        }
    }

    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| {
            format!("{n} bytes are wanted, {} are left", self.bytes.len() - self.at)
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u8(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    fn unsigned(&mut self, size: usize) -> Step<u64> {
        Ok(self.take(size)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    /// Bytes preceded by their length, which is itself `size` bytes long.
    fn sized(&mut self, size: usize) -> Step<&'a [u8]> {
        let n = self.unsigned(size)?;
        self.take(usize::try_from(n).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or("a line does not end")?;
        let line = &self.take(end + 1)?[..end];
        std::str::from_utf8(line).map_err(|_| "a name is not UTF-8".into())
    }

    fn push(&mut self, node: Node) -> Step<()> {
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("more than {MAX_NODES} values"));
        }
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
        Ok(())
    }

    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let height = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(height))
    }

    fn small_integer(&mut self, size: usize) -> Step<()> {
        let n = self.unsigned(size)?;
        self.push(Node::Int(n as i64))
    }

    /// A signed integer from its two's complement, of whatever length.
    fn long(&mut self, bytes: &[u8]) -> Step<()> {
        if bytes.len() > 8 {
            return self.push(Node::Skipped);
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(whole)))
    }

    /// The one big-endian number.
    fn float(&mut self) -> Step<()> {
        let bits = self.take(8)?.iter().fold(0, |n, &b| n << 8 | u64::from(b));
        self.push(Node::Float(f64::from_bits(bits)))
    }

    fn string(&mut self, bytes: &[u8]) -> Step<()> {
        let s = std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8")?;
        self.push(Node::Str(s.into()))
    }

    /// Python 2's `str` may be either.
    fn string_or_bytes(&mut self, bytes: &[u8]) -> Step<()> {
        self.push(match std::str::from_utf8(bytes) {
            Ok(s) => Node::Str(s.into()),
            Err(_) => Node::Skipped,
        })
    }

    fn tuple(&mut self, n: usize) -> Step<()> {
        let mut items = vec![NONE; n];
        for item in items.iter_mut().rev() {
            *item = self.pop()?;
        }
        self.push(Node::Sequence(items))
    }

    /// Appends to the sequence on top. Elements of a list subclass, which is an object here, are
    /// not kept.
    fn extend(&mut self, items: &[Id]) -> Step<()> {
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            // The empty tuple is shared and never grows in a valid pickle.
            Node::Sequence(list) if top != EMPTY_TUPLE => list.extend(items),
            Node::Object(_) => {}
            _ => return Err("elements are appended to what is no list".into()),
        }
        Ok(())
    }

    /// Sets items of the dict on top, from keys and values in turn. Items of a dict subclass, which
    /// is an object here, are not kept.
    fn insert(&mut self, items: &[Id]) -> Step<()> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key has no value".into());
        }
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            Node::Dict(dict) => dict.extend(pairs.iter().map(|&[k, v]| (k, v))),
            Node::Object(_) => {}
            _ => return Err("items are set on what is no dict".into()),
        }
        Ok(())
    }

    fn global(&mut self) -> Step<()> {
        for _module_then_name in 0..2 {
            let line = self.line()?;
            self.push(Node::Str(line.into()))?;
        }
        self.stack_global()
    }

    fn stack_global(&mut self) -> Step<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.nodes[module as usize], &self.nodes[name as usize]) {
            // Kept as two indices: joined names of shared strings would multiply.
            (Node::Str(_), Node::Str(_)) => self.push(Node::Global(module, name)),
            _ => Err("the name of a global is no string".into()),
        }
    }

    /// Notes a call. Only `OrderedDict()` has a meaning here: it is a dict.
    fn call(&mut self, callable: Id, args: Id) -> Step<()> {
        let Node::Global(module, name) = self.nodes[callable as usize] else {
            return Err("what is called is no global".into());
        };
        let is =
            |id: Id, text: &str| matches!(&self.nodes[id as usize], Node::Str(s) if **s == *text);
        self.push(if args == EMPTY_TUPLE && is(module, "collections") && is(name, "OrderedDict") {
            Node::Dict(Vec::new())
        } else {
            Node::Object(Box::new(Object { callable, args, state: NONE }))
        })
    }

    /// Gives the object on top its attributes. An `OrderedDict`'s (torch's `_metadata`) are not
    /// kept.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let top = self.top()?;
        if let Node::Object(object) = &mut self.nodes[top as usize] {
            object.state = state;
        }
        Ok(())
    }

    fn put(&mut self, key: u64) -> Step<()> {
        let top = self.top()?;
        // Keys are at most four bytes long, and a pickle within the limits has fewer MEMOIZEs.
        self.memo.insert(key as u32, top);
        Ok(())
    }

    fn get(&mut self, key: u64) -> Step<()> {
        let id = self.memo.get(&(key as u32)).ok_or_else(|| format!("memo {key} is not set"))?;
        self.stack.push(*id);
        Ok(())
    }
}
