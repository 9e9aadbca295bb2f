//! NumPy arrays within a pickle, as older protocols write them: bytes as a string of Latin-1.

use super::super::tensor::{Dtype, Tensor, TensorData, View, checked_count};
use super::{Node, Value};

impl<'a> Value<'a> {
    /// The array that this value describes; `None` for any other value, for arrays of other numbers
    /// than floats, and for pickles of protocol 3 or later, whose bytes are skipped.
    pub fn as_numpy(self) -> Option<Tensor> {
        let ((module, name), _) = self.as_call()?;
        let of_numpy = matches!(module, "numpy.core.multiarray" | "numpy._core.multiarray");
        if !of_numpy || name != "_reconstruct" {
            return None;
        }
        // (version, shape, type, whether in Fortran's order, bytes)
        let mut state = self.state()?.items()?.skip(1);
        let (shape, kind, fortran, bytes) =
            (state.next()?, state.next()?, state.next()?, state.next()?);
        let shape: Vec<usize> = shape.items()?.map(Value::as_usize).collect::<Option<_>>()?;
        let dtype = kind.as_dtype()?;
        let count = checked_count(&shape)?;
        let bytes = bytes.as_latin1()?;
        if count.checked_mul(dtype.size()) != Some(bytes.len()) {
            return None;
        }
        let data = TensorData::decode(dtype, count, &mut &bytes[..]).ok()?;
        let mut strides = vec![1; shape.len()];
        let mut step = 1_usize;
        let axes: Vec<usize> = match fortran.as_bool()? {
            true => (0..shape.len()).collect(),
            false => (0..shape.len()).rev().collect(),
        };
        for axis in axes {
            strides[axis] = step;
            step = step.saturating_mul(shape[axis]);
        }
        let view = View { offset: 0, shape, strides };
        Some(Tensor { data: data.gather(&view), shape: view.shape })
    }

    /// What `__setstate__` would receive.
    fn state(self) -> Option<Value<'a>> {
        match self.node() {
            Node::Object(object) => Some(self.at(object.state)),
            _ => None,
        }
    }

    /// `numpy.dtype("f8", False, True)` with the state `(3, "<", …)`.
    fn as_dtype(self) -> Option<Dtype> {
        let (callable, args) = self.as_call()?;
        let order = self.state()?.items()?.nth(1)?.as_str()?;
        match (callable, args.items()?.next()?.as_str()?, order) {
            (("numpy", "dtype"), "f8", "<") => Some(Dtype::F64),
            (("numpy", "dtype"), "f4", "<") => Some(Dtype::F32),
            _ => None,
        }
    }

    /// `_codecs.encode(text, "latin1")`.
    fn as_latin1(self) -> Option<Vec<u8>> {
        let (callable, args) = self.as_call()?;
        let mut args = args.items()?;
        let (text, encoding) = (args.next()?.as_str()?, args.next()?.as_str()?);
        if callable != ("_codecs", "encode") || encoding != "latin1" {
            return None;
        }
        text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
    }
}
