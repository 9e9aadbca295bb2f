//! A tensor as a file holds it: a shape and numbers, decoded from little-endian bytes.

use std::io::{self, Read};

use half::{bf16, f16};

/// The element types that can be read. `F16` and `BF16` widen to f32, `I32` to i64 and `Bool`
/// becomes 0 or 1 in u8, all of them without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all")]
pub enum Dtype {
    F32,
    F64,
    F16,
    BF16,
    I64,
    I32,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of one element in the file.
    pub fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::U8 | Dtype::Bool => 1,
        }
    }
}

/// The elements of a [`Tensor`] in row-major order.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say all")]
pub enum TensorData {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    U8(Vec<u8>),
}

impl TensorData {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            TensorData::F32(v) => v.len(),
            TensorData::F64(v) => v.len(),
            TensorData::I64(v) => v.len(),
            TensorData::U8(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads `count` elements of `dtype` from `source`. Room for all of them is reserved at once:
    /// callers must have checked `count · dtype.size()` against what the file can hold.
    ///
    /// # Errors
    /// `UnexpectedEof` when `source` ends early, and what `source` itself reports.
    pub(super) fn decode(dtype: Dtype, count: usize, source: &mut dyn Read) -> io::Result<Self> {
        Ok(match dtype {
            Dtype::F32 => TensorData::F32(elements(count, source, f32::from_le_bytes)?),
            Dtype::F64 => TensorData::F64(elements(count, source, f64::from_le_bytes)?),
            Dtype::F16 => {
                TensorData::F32(elements(count, source, |b| f16::from_le_bytes(b).to_f32())?)
            }
            Dtype::BF16 => {
                TensorData::F32(elements(count, source, |b| bf16::from_le_bytes(b).to_f32())?)
            }
            Dtype::I64 => TensorData::I64(elements(count, source, i64::from_le_bytes)?),
            Dtype::I32 => {
                TensorData::I64(elements(count, source, |b| i64::from(i32::from_le_bytes(b)))?)
            }
            Dtype::U8 => TensorData::U8(elements(count, source, |[b]| b)?),
            Dtype::Bool => TensorData::U8(elements(count, source, |[b]| u8::from(b != 0))?),
        })
    }

    /// The elements of a strided view in row-major order. `view` must lie within the data.
    pub(super) fn gather(self, view: &View) -> Self {
        if view.offset == 0 && view.is_contiguous() && view.count() == self.len() {
            return self;
        }
        match self {
            TensorData::F32(v) => TensorData::F32(view.gather(&v)),
            TensorData::F64(v) => TensorData::F64(view.gather(&v)),
            TensorData::I64(v) => TensorData::I64(view.gather(&v)),
            TensorData::U8(v) => TensorData::U8(view.gather(&v)),
        }
    }
}

/// Decodes through a small buffer, so that a tensor is never in memory twice.
fn elements<const SIZE: usize, T>(
    count: usize,
    source: &mut dyn Read,
    one: impl Fn([u8; SIZE]) -> T,
) -> io::Result<Vec<T>> {
    let mut out = Vec::with_capacity(count);
    let mut buffer = [0; 1 << 16];
    while out.len() < count {
        let bytes = (count - out.len()).saturating_mul(SIZE).min(buffer.len());
        source.read_exact(&mut buffer[..bytes])?;
        out.extend(buffer[..bytes].as_chunks::<SIZE>().0.iter().map(|&b| one(b)));
    }
    Ok(out)
}

/// A tensor as a window on a flat storage: element (i, j, …) lies at
/// `offset + i·strides[0] + j·strides[1] + …`, all in elements.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

impl View {
    /// The number of elements; `None` when it overflows.
    pub fn checked_count(&self) -> Option<usize> {
        checked_count(&self.shape)
    }

    /// Why this view cannot be taken of a storage of `len` elements, if so.
    ///
    /// A view with more elements than its storage (an expanded tensor) is refused as well: reading
    /// it would let a small file ask for any amount of memory.
    pub fn fault(&self, len: usize) -> Option<&'static str> {
        if self.shape.len() != self.strides.len() {
            return Some("its shape and its strides differ in length");
        }
        let Some(count) = self.checked_count() else {
            return Some("its shape overflows");
        };
        if count == 0 {
            return None;
        }
        if count > len {
            return Some("it has more elements than its storage");
        }
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, |at, (&n, &s)| {
            (n - 1).checked_mul(s).and_then(|span| at.checked_add(span))
        });
        match last {
            Some(last) if last < len => None,
            _ => Some("it reaches beyond its storage"),
        }
    }

    /// Whether elements lie in the order of their indices, the last turning fastest.
    pub fn is_row_major(&self) -> bool {
        let mut stride = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&n, &have)| {
            let fits = n <= 1 || have == stride;
            stride *= n;
            fits
        })
    }

    /// The number of elements of a view without [`View::fault`].
    fn count(&self) -> usize {
        self.checked_count().unwrap_or(0)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&n, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if n != 1 && stride != expected {
                return false;
            }
            // Only an empty view's extents can overflow; any answer is right for that.
            expected = expected.saturating_mul(n);
        }
        true
    }

    fn gather<T: Copy>(&self, storage: &[T]) -> Vec<T> {
        let count = self.count();
        let mut out = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..count {
            out.push(storage[at]);
            // Count up as an odometer does: the last axis turns fastest.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= index[axis] * self.strides[axis];
                index[axis] = 0;
            }
        }
        out
    }
}

/// The product of a shape's extents; `None` when it overflows.
pub(super) fn checked_count(shape: &[usize]) -> Option<usize> {
    // A zero extent makes the tensor empty whatever the others are.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent))
}

/// A tensor read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements in row-major order, as many as the product of `shape`.
    pub data: TensorData,
}

impl Tensor {
    /// The elements as f32: f64 is rounded to the nearest, integers beyond 2²⁴ likewise.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.data {
            TensorData::F32(v) => v.clone(),
            TensorData::F64(v) => v.iter().map(|&x| x as f32).collect(),
            TensorData::I64(v) => v.iter().map(|&x| x as f32).collect(),
            TensorData::U8(v) => v.iter().map(|&x| f32::from(x)).collect(),
        }
    }

    /// [`Tensor::to_f32`] without a copy where the elements are f32 already.
    pub fn into_f32(self) -> Vec<f32> {
        match self.data {
            TensorData::F32(v) => v,
            _ => self.to_f32(),
        }
    }

    /// The elements as integers, or `None` for a tensor of floating-point numbers.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match &self.data {
            TensorData::I64(v) => Some(v.clone()),
            TensorData::U8(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
            TensorData::F32(_) | TensorData::F64(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(dtype: Dtype, bytes: &[u8]) -> TensorData {
        TensorData::decode(dtype, bytes.len() / dtype.size(), &mut &bytes[..]).unwrap()
    }

    #[test]
    fn every_element_type_decodes() {
        assert_eq!(decode(Dtype::F32, &1.5f32.to_le_bytes()), TensorData::F32(vec![1.5]));
        assert_eq!(decode(Dtype::F64, &(-0.1f64).to_le_bytes()), TensorData::F64(vec![-0.1]));
        // 1.5 is 0 01111 1000000000 as f16 and the upper half of its f32 as bf16.
        assert_eq!(decode(Dtype::F16, &[0x00, 0x3e]), TensorData::F32(vec![1.5]));
        assert_eq!(decode(Dtype::BF16, &[0xc0, 0x3f]), TensorData::F32(vec![1.5]));
        assert_eq!(decode(Dtype::I64, &(-3i64).to_le_bytes()), TensorData::I64(vec![-3]));
        assert_eq!(decode(Dtype::I32, &(-3i32).to_le_bytes()), TensorData::I64(vec![-3]));
        assert_eq!(decode(Dtype::U8, &[7, 255]), TensorData::U8(vec![7, 255]));
        assert_eq!(decode(Dtype::Bool, &[0, 1, 9]), TensorData::U8(vec![0, 1, 1]));
        assert!(TensorData::decode(Dtype::F32, 2, &mut &[0; 7][..]).is_err());
    }

    #[test]
    fn more_elements_than_the_buffer_holds_decode_in_order() {
        let values: Vec<i64> = (0..20_001).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(decode(Dtype::I64, &bytes), TensorData::I64(values));
    }

    #[test]
    fn views_beyond_their_storage_are_faulted() {
        let view = |offset, shape: &[usize], strides: &[usize]| View {
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        assert_eq!(view(0, &[2, 3], &[3, 1]).fault(6), None);
        assert_eq!(view(usize::MAX, &[2, 0], &[3, 1]).fault(0), None);
        assert!(view(1, &[2, 3], &[3, 1]).fault(6).is_some());
        assert!(view(0, &[1 << 40], &[0]).fault(6).is_some());
        assert!(view(0, &[usize::MAX, 3], &[0, 0]).fault(6).is_some());
        assert!(view(0, &[2], &[usize::MAX]).fault(6).is_some());
        assert!(view(0, &[2], &[]).fault(6).is_some());
    }

    proptest! {
        /// Gathering a permuted, offset view gives element (i, j, k) where the formula puts it.
        #[test]
        fn a_strided_view_is_gathered_in_row_major_order(
            (a, b, c) in (1usize..4, 1usize..4, 1usize..4),
            offset in 0usize..3,
            order in Just([0usize, 1, 2]).prop_shuffle(),
        ) {
            let extents = [a, b, c];
            let full = [b * c, c, 1];
            let view = View {
                offset,
                shape: order.iter().map(|&i| extents[i]).collect(),
                strides: order.iter().map(|&i| full[i]).collect(),
            };
            let storage: Vec<i64> = (0..(a * b * c + offset) as i64).collect();
            prop_assert_eq!(view.fault(storage.len()), None);
            let TensorData::I64(got) = TensorData::I64(storage).gather(&view) else {
                unreachable!("gathering keeps the type")
            };
            let mut at = 0;
            for i in 0..view.shape[0] {
                for j in 0..view.shape[1] {
                    for k in 0..view.shape[2] {
                        let s = &view.strides;
                        prop_assert_eq!(got[at], (offset + i * s[0] + j * s[1] + k * s[2]) as i64);
                        at += 1;
                    }
                }
            }
            prop_assert_eq!(at, got.len());
        }
    }
}
