//! Thrift's compact protocol, as far as Parquet uses it: structures of numbered fields.

use super::Fault;

/// Structures within structures beyond this depth are an attack.
const MAX_DEPTH: usize = 32;

/// The type of a field, as encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type(u8);

impl Type {
    /// A truth value that its type tells, as in fields.
    pub fn truth(self) -> bool {
        self.0 == 1
    }
}

/// Reads values from the front of some bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    depth: usize,
}

impl<'a> Reader<'a> {
    /// From the first byte on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, depth: 0 }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let (&first, rest) = self.bytes.split_first().ok_or_else(cut)?;
        self.bytes = rest;
        Ok(first)
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::new("a number in its metadata never ends"))
    }

    /// A whole number.
    ///
    /// # Errors
    /// When the bytes end.
    pub fn int(&mut self) -> Result<i64, Fault> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number that counts something.
    ///
    /// # Errors
    /// When it is negative, or the bytes end.
    pub fn count(&mut self) -> Result<u64, Fault> {
        let value = self.int()?;
        u64::try_from(value).map_err(|_| Fault::new(format!("its metadata counts {value}")))
    }

    /// Bytes with their length in front.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = usize::try_from(self.varint()?).map_err(|_| cut())?;
        let (head, rest) = self.bytes.split_at_checked(length).ok_or_else(cut)?;
        self.bytes = rest;
        Ok(head)
    }

    /// Text.
    ///
    /// # Errors
    /// As [`Reader::binary`].
    pub fn text(&mut self) -> Result<String, Fault> {
        Ok(String::from_utf8_lossy(self.binary()?).into_owned())
    }

    /// A list: `each` reads one element.
    ///
    /// # Errors
    /// What `each` fails on.
    pub fn list(
        &mut self,
        each: &mut dyn FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let (count, _) = self.list_head()?;
        (0..count).try_for_each(|_| each(self))
    }

    /// A list whose elements `read` reads.
    ///
    /// # Errors
    /// What `read` fails on.
    pub fn all<T>(&mut self, read: fn(&mut Self) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let mut all = Vec::new();
        self.list(&mut |r| {
            all.push(read(r)?);
            Ok(())
        })?;
        Ok(all)
    }

    fn list_head(&mut self) -> Result<(u64, Type), Fault> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            short => u64::from(short),
        };
        Ok((count, Type(head & 15)))
    }

    /// A structure: `field` gets the number and the type of each field, and tells whether it has read
    /// the value, which is skipped otherwise.
    ///
    /// # Errors
    /// What `field` fails on.
    pub fn structure(
        &mut self,
        field: &mut dyn FnMut(&mut Self, i16, Type) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new("its metadata is nested too deeply"));
        }
        let mut id = 0i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                self.depth -= 1;
                return Ok(());
            }
            id = match head >> 4 {
                0 => self.int()? as i16,
                step => id.wrapping_add(i16::from(step)),
            };
            let kind = Type(head & 15);
            if !field(self, id, kind)? {
                self.skip(kind, true)?;
            }
        }
    }

    /// Passes over a value. In fields a truth value has no bytes, in lists one.
    fn skip(&mut self, kind: Type, in_field: bool) -> Result<(), Fault> {
        match kind.0 {
            1 | 2 if in_field => {}
            1..=3 => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => {
                let rest = self.bytes.get(8..).ok_or_else(cut)?;
                self.bytes = rest;
            }
            8 => drop(self.binary()?),
            9 | 10 => {
                let (count, kind) = self.list_head()?;
                self.nested(|r| (0..count).try_for_each(|_| r.skip(kind, false)))?;
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                self.nested(|r| {
                    (0..count).try_for_each(|_| {
                        r.skip(Type(kinds >> 4), false)?;
                        r.skip(Type(kinds & 15), false)
                    })
                })?;
            }
            12 => self.structure(&mut |_, _, _| Ok(false))?,
            other => return Err(Fault::new(format!("its metadata has a value of type {other}"))),
        }
        Ok(())
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new("its metadata is nested too deeply"));
        }
        read(self)?;
        self.depth -= 1;
        Ok(())
    }
}

fn cut() -> Fault {
    Fault::new("its metadata ends in the middle")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_unknown_ones_skipped() {
        // 1: i32 −3; 2: list of 2 binaries (skipped); 5: true; 6: "ab"; stop.
        let bytes = [0x15, 5, 0x19, 0x28, 1, 7, 1, 8, 0x31, 0x18, 2, b'a', b'b', 0];
        let (mut number, mut truth, mut text) = (0, false, String::new());
        let mut reader = Reader::new(&bytes);
        reader
            .structure(&mut |r, id, kind| {
                match id {
                    1 => number = r.int()?,
                    5 => truth = kind.truth(),
                    6 => text = r.text()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })
            .unwrap();
        assert_eq!((number, truth, &text[..], reader.left()), (-3, true, "ab", 0));
    }

    #[test]
    fn what_is_nested_without_end_or_cut_is_refused() {
        let deep = |byte: u8| Reader::new(&[byte; 5000]).skip(Type(12), true).unwrap_err().0;
        assert!(deep(0x1C).contains("too deeply"));
        assert!(deep(0x19).contains("too deeply"));
        assert!(Reader::new(&[0x18, 200]).skip(Type(12), true).is_err());
        assert!(Reader::new(&[0xFF; 20]).varint().is_err());
    }
}
