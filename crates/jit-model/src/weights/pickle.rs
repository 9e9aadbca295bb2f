//! Reads a Python pickle as data. Nothing is ever imported, called or constructed: a class or
//! function is only its name, and a call is kept as the name with its arguments.
//!
//! Values live in one flat arena and refer to each other by index, so that a hostile pickle can
//! neither recurse (a list inside itself is just an index) nor multiply (a value used twice is
//! stored once): memory stays proportional to the pickle's length.

mod machine;
mod numpy;
mod opcode;

use machine::Machine;

/// Why a pickle cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("pickle, byte {offset}: {what}")]
pub struct PickleError {
    /// Where in the pickle.
    pub offset: usize,
    /// What is wrong there.
    pub what: String,
}

/// A parsed pickle, which owns every value in it.
#[derive(Debug)]
pub struct Pickle {
    nodes: Vec<Node>,
    root: Id,
}

/// An index into the arena.
pub(super) type Id = u32;

const NONE: Id = 0;
const FALSE: Id = 1;
const TRUE: Id = 2;
const EMPTY_TUPLE: Id = 3;

#[derive(Debug)]
enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Box<str>),
    /// Bytes, or an integer beyond 64 bits: skipped, since no checkpoint needs them.
    Skipped,
    /// A list, tuple or set.
    Sequence(Vec<Id>),
    /// A dict or `OrderedDict`, in order; a later key replaces an earlier one.
    Dict(Vec<(Id, Id)>),
    /// A class or function: its module and its name, both strings.
    Global(Id, Id),
    /// What `persistent_id` returned for an object stored outside the pickle.
    Persistent(Id),
    /// The result of a call that was not made.
    Object(Box<Object>),
}

#[derive(Debug)]
struct Object {
    callable: Id,
    args: Id,
    /// What `__setstate__` would receive.
    state: Id,
}

impl Pickle {
    /// Interprets `bytes`.
    ///
    /// # Errors
    /// [`PickleError`] for a truncated or inconsistent pickle, an opcode that no pickle of protocol
    /// 2 or later has, or too many values.
    pub fn parse(bytes: &[u8]) -> Result<Pickle, PickleError> {
        let (nodes, root) = Machine::new(bytes).run()?;
        Ok(Pickle { nodes, root })
    }

    /// The pickled value.
    pub fn root(&self) -> Value<'_> {
        Value { pickle: self, id: self.root }
    }

    /// The value that [`Value::id`] gave the identity of.
    pub(super) fn value(&self, id: Id) -> Value<'_> {
        Value { pickle: self, id }
    }
}

/// One value of a [`Pickle`].
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    pickle: &'a Pickle,
    id: Id,
}

impl<'a> Value<'a> {
    fn node(self) -> &'a Node {
        &self.pickle.nodes[self.id as usize]
    }

    fn at(self, id: Id) -> Value<'a> {
        Value { id, ..self }
    }

    /// What [`Pickle::value`] finds this value by.
    pub(super) fn id(self) -> Id {
        self.id
    }

    /// A bool.
    pub fn as_bool(self) -> Option<bool> {
        match self.node() {
            Node::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// An integer of at most 64 bits.
    pub fn as_i64(self) -> Option<i64> {
        match self.node() {
            Node::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// An integer that can be a size.
    pub fn as_usize(self) -> Option<usize> {
        self.as_i64().and_then(|i| usize::try_from(i).ok())
    }

    /// A float.
    pub fn as_f64(self) -> Option<f64> {
        match self.node() {
            Node::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// A string.
    pub fn as_str(self) -> Option<&'a str> {
        match self.node() {
            Node::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The elements of a list, tuple or set.
    pub fn items(self) -> Option<impl ExactSizeIterator<Item = Value<'a>>> {
        match self.node() {
            Node::Sequence(ids) => Some(ids.iter().map(move |&id| self.at(id))),
            _ => None,
        }
    }

    /// The keys and values of a dict, or of the attributes of an object that has them in a dict.
    pub fn entries(self) -> Option<impl DoubleEndedIterator<Item = (Value<'a>, Value<'a>)>> {
        let dict = match self.node() {
            Node::Object(object) => self.at(object.state),
            _ => self,
        };
        match dict.node() {
            Node::Dict(pairs) => Some(pairs.iter().map(move |&(k, v)| (self.at(k), self.at(v)))),
            _ => None,
        }
    }

    /// The value under the string `key` of a dict or of an object's attributes.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.entries()?.rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v)
    }

    /// The module and name of a class or function.
    pub fn as_global(self) -> Option<(&'a str, &'a str)> {
        match self.node() {
            Node::Global(module, name) => {
                Some((self.at(*module).as_str()?, self.at(*name).as_str()?))
            }
            _ => None,
        }
    }

    /// The module and name of what would be called to make this object, and the arguments.
    pub fn as_call(self) -> Option<((&'a str, &'a str), Value<'a>)> {
        match self.node() {
            Node::Object(o) => Some((self.at(o.callable).as_global()?, self.at(o.args))),
            _ => None,
        }
    }

    /// The persistent identity of an object stored outside the pickle.
    pub fn as_persistent(self) -> Option<Value<'a>> {
        match self.node() {
            Node::Persistent(id) => Some(self.at(*id)),
            _ => None,
        }
    }

    /// Whether [`Value::scalar_text`] has an answer.
    pub fn is_scalar(self) -> bool {
        use Node::{Bool, Float, Int, None, Str};
        matches!(self.node(), None | Bool(_) | Int(_) | Float(_) | Str(_))
    }

    /// A scalar as text: `True`, `7`, `0.1`, a string as it is; `None` for anything else.
    pub fn scalar_text(self) -> Option<String> {
        match self.node() {
            Node::None => Some("None".into()),
            Node::Bool(b) => Some(if *b { "True" } else { "False" }.into()),
            Node::Int(i) => Some(i.to_string()),
            Node::Float(f) => Some(f.to_string()),
            Node::Str(s) => Some(s.to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tensor::{Tensor, TensorData};
    use super::*;
    use proptest::prelude::*;

    /// `pickle.dumps(v, protocol)` of CPython 3 for `v = {"a": [1, 2.5, None, True, -3, 70000,
    /// 2**40, -2**33, "é"], "t": (1,), "u": (1, "x", 2, 3), "e": (), "o": OrderedDict(k=7),
    /// "s": {"z"}, "big": 2**70}` with `v["same"] = v["o"]`.
    const BY_PROTOCOL: [&[u8]; 4] = [
        include_bytes!("../../tests/golden/values.protocol2.pkl"),
        include_bytes!("../../tests/golden/values.protocol3.pkl"),
        include_bytes!("../../tests/golden/values.protocol4.pkl"),
        include_bytes!("../../tests/golden/values.protocol5.pkl"),
    ];

    fn items<'a>(value: Value<'a>, key: &str) -> Vec<Value<'a>> {
        value.get(key).unwrap().items().unwrap().collect()
    }

    #[test]
    fn what_python_writes_is_read_in_every_protocol() {
        for bytes in BY_PROTOCOL {
            let pickle = Pickle::parse(bytes).unwrap();
            let root = pickle.root();
            let a = items(root, "a");
            let text: Vec<_> = a.iter().map(|v| v.scalar_text().unwrap()).collect();
            let expected =
                ["1", "2.5", "None", "True", "-3", "70000", "1099511627776", "-8589934592", "é"];
            assert_eq!(text, expected);
            assert_eq!(a[1].as_f64(), Some(2.5));
            assert_eq!(a[3].as_bool(), Some(true));
            assert_eq!(a[4].as_usize(), None);
            assert_eq!(items(root, "t").len(), 1);
            assert_eq!(items(root, "u")[1].as_str(), Some("x"));
            assert!(items(root, "e").is_empty());
            assert_eq!(root.get("o").unwrap().get("k").unwrap().as_i64(), Some(7));
            assert_eq!(root.get("same").unwrap().id(), root.get("o").unwrap().id());
            assert!(root.get("absent").is_none());
        }
    }

    #[test]
    fn objects_are_only_described() {
        // argparse.Namespace(lr=3): NEWOBJ, then BUILD with the attributes.
        let namespace = b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrK\x03sb.";
        let pickle = Pickle::parse(namespace).unwrap();
        assert_eq!(pickle.root().as_call().unwrap().0, ("argparse", "Namespace"));
        assert_eq!(pickle.root().get("lr").unwrap().as_i64(), Some(3));
        // What unpickling would run is only named.
        let hostile = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R.";
        let pickle = Pickle::parse(hostile).unwrap();
        let (callable, args) = pickle.root().as_call().unwrap();
        assert_eq!(callable, ("os", "system"));
        assert_eq!(args.items().unwrap().next().unwrap().as_str(), Some("exit"));
    }

    /// `pickle.dumps({"mu": v, "sigma": m, "fortran": np.asfortranarray(m)}, 2)` of NumPy 2, for `v
    /// = np.array([1.5, -2, 300])` and `m = np.arange(6.0, dtype="f4").reshape(2, 3)`.
    #[test]
    fn numpy_arrays_are_read() {
        let bytes = include_bytes!("../../tests/golden/numpy.protocol2.pkl");
        let pickle = Pickle::parse(bytes).unwrap();
        let array = |name: &str| pickle.root().get(name).unwrap().as_numpy().unwrap();
        let vector = Tensor { shape: vec![3], data: TensorData::F64(vec![1.5, -2.0, 300.0]) };
        assert_eq!(array("mu"), vector);
        let data = TensorData::F32(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let matrix = Tensor { shape: vec![2, 3], data };
        assert_eq!([array("sigma"), array("fortran")], [matrix.clone(), matrix]);
        assert!(pickle.root().as_numpy().is_none());
    }

    #[test]
    fn a_value_may_contain_itself() {
        let pickle = Pickle::parse(b"\x80\x02]q\x00h\x00a.").unwrap();
        let inner = pickle.root().items().unwrap().next().unwrap();
        assert_eq!(inner.id(), pickle.root().id());
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        let refused = |bytes: &[u8], part: &str| {
            let message = Pickle::parse(bytes).unwrap_err().to_string();
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        };
        refused(b"", "1 bytes are wanted, 0 are left");
        refused(b"\x80\x09.", "byte 2: protocol 9");
        refused(b"X\xff\xff\xff\xff.", "4294967295 bytes are wanted");
        refused(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "are wanted");
        refused(b".", "the stack is empty");
        refused(b"N(0.", "the stack is empty");
        refused(b"h\x05.", "memo 5 is not set");
        refused(b")Na.", "what is no list");
        refused(b"}(Nu.", "a key has no value");
        refused(b"N)R.", "no global");
        refused(b"I1\n.", "opcode 0x49");
        let mut long = vec![b'K'; 2 * (1 << 22) + 2];
        long.push(b'.');
        refused(&long, "more than 4194304 values");
    }

    proptest! {
        #[test]
        fn damage_never_panics(
            which in 0usize..4,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = BY_PROTOCOL[which].to_vec();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(pickle) = Pickle::parse(&bytes) {
                let root = pickle.root();
                let _ = (root.scalar_text(), root.get("a"), root.items().map(|i| i.count()));
            }
        }
    }
}
