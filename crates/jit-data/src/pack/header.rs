//! The head of a pack: fixed fields, little-endian, with a checksum of their own.

/// Bytes in front of the first record: a page.
pub const HEADER_LEN: u64 = 4096;

/// Bytes of a record's checksum.
pub const CHECKSUM: usize = 4;

const MAGIC: [u8; 8] = *b"\x89JITPACK";
const VERSION: u32 = 1;
/// Bytes of the fields, the last four their CRC-32C.
const FIELDS: usize = 92;

/// What a pack says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Side of the images.
    pub size: usize,
    /// Channels of the images, 1 or 3.
    pub channels: usize,
    /// Number of records.
    pub records: u64,
    /// Where the table starts and how long it is, once there is one.
    pub table: Option<(u64, u64)>,
    /// CRC-32C of the table.
    pub table_crc: u32,
    /// SHA-256 of what was packed: names, classes and lengths.
    pub source: [u8; 32],
}

impl Header {
    /// Bytes of an image.
    pub fn planes(&self) -> usize {
        self.channels * self.size * self.size
    }

    /// Bytes of a record.
    pub fn stride(&self) -> usize {
        self.planes() + CHECKSUM
    }

    /// Where a record below [`Header::records`] starts.
    pub fn record(&self, record: u64) -> u64 {
        HEADER_LEN + record * self.stride() as u64
    }

    /// Where the records end; `None` beyond all numbers.
    pub fn end(&self) -> Option<u64> {
        self.records.checked_mul(self.stride() as u64)?.checked_add(HEADER_LEN)
    }

    /// The fields, and zeros up to the first record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN as usize);
        let (start, length) = self.table.unwrap_or_default();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.size as u32).to_le_bytes());
        bytes.extend((self.channels as u32).to_le_bytes());
        bytes.extend(self.table_crc.to_le_bytes());
        bytes.extend([self.records, start, length].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend([0; 8]);
        bytes.extend(self.source);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.resize(HEADER_LEN as usize, 0);
        bytes
    }

    /// Reads the fields back.
    ///
    /// # Errors
    /// What is wrong with them, as a sentence.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(bytes.get(..FIELDS).unwrap_or_default());
        if fields.take() != Some(MAGIC) {
            return Err("it is no pack: `jit data pack` writes one".into());
        }
        let cut = || "its header is cut short: copy it anew".to_owned();
        let version = fields.u32().ok_or_else(cut)?;
        if version != VERSION {
            let reason = format!("it has version {version} of the format, and this program reads");
            return Err(format!("{reason} version {VERSION}: pack the images anew"));
        }
        let crc = bytes.get(FIELDS - CHECKSUM..FIELDS).and_then(|crc| crc.try_into().ok());
        let crc = u32::from_le_bytes(crc.ok_or_else(cut)?);
        if crc32c::crc32c(&bytes[..FIELDS - CHECKSUM]) != crc {
            return Err("its header is damaged: copy or pack it anew".into());
        }
        let (size, channels) = fields.u32().zip(fields.u32()).ok_or_else(cut)?;
        let table_crc = fields.u32().ok_or_else(cut)?;
        let numbers = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
        let (Some(records), Some(start), Some(length), Some(_)) = numbers else {
            return Err(cut());
        };
        let source = fields.take().ok_or_else(cut)?;
        if !(1..=MAX_SIZE).contains(&size) || !matches!(channels, 1 | 3) {
            return Err(format!("its header tells images of {channels} × {size} × {size}"));
        }
        let table = (start > 0).then_some((start, length));
        let (size, channels) = (size as usize, channels as usize);
        Ok(Self { size, channels, records, table, table_crc, source })
    }
}

/// Largest side of an image.
const MAX_SIZE: u32 = crate::config::MAX_SIZE as u32;

/// Bytes that are taken from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            size: 4,
            channels: 3,
            records: 5,
            table: Some((4356, 7)),
            table_crc: 9,
            source: [3; 32],
        }
    }

    #[test]
    fn a_header_reads_back_and_says_where_records_lie() {
        let header = header();
        assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        assert_eq!((header.stride(), header.record(2), header.end()), (52, 4200, Some(4356)));
        let unfinished = Header { table: None, ..header };
        assert_eq!(Header::decode(&unfinished.encode()).unwrap(), unfinished);
        assert_eq!(Header { records: u64::MAX, ..unfinished }.end(), None);
    }

    #[test]
    fn what_is_wrong_with_a_header_is_told() {
        let message = |at: usize, value: u8| {
            let mut bytes = header().encode();
            bytes[at] ^= value;
            Header::decode(&bytes).unwrap_err()
        };
        assert!(message(0, 1).contains("no pack"));
        assert!(message(8, 3).contains("version 2"));
        assert!((12..92).all(|at| message(at, 4).contains("damaged")));
        assert!(Header::decode(&header().encode()[..40]).unwrap_err().contains("no pack"));
        let huge = Header { size: 1 << 20, ..header() };
        assert!(Header::decode(&huge.encode()).unwrap_err().contains("1048576"));
    }
}
