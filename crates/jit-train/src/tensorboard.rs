//! TensorBoard event files, written by hand: TFRecord framing around `tensorflow.Event` messages.
//!
//! A record is `length u64 · masked crc of it · data · masked crc of the data`, little-endian. Of
//! the protocol buffers (`event.proto`, `summary.proto`) only what TensorBoard needs is written:
//!
//! ```text
//! Event   1 wall_time double · 2 step int64 · 3 file_version string · 5 summary · 7 session_log
//! Summary 1 value, repeated; Value: 1 tag string · 2 simple_value float · 4 image
//! Image   1 height · 2 width · 3 colorspace (number of channels) · 4 encoded_image_string (PNG)
//! ```

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jit_core::files::FileError;

/// An event file, open for appending.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates a new event file in `dir`: TensorBoard merges all files of a folder. If the run goes
    /// on after `step` steps, TensorBoard is told to forget events of later ones.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written.
    pub fn create(dir: &Path, step: u64) -> Result<Self, FileError> {
        let seconds = since_epoch() as u64;
        let mut try_number = 0;
        let (path, file) = loop {
            // TensorBoard looks for `tfevents` in the name and reads files in their order.
            let path = dir.join(format!("events.out.tfevents.{seconds:010}.{try_number}.jit"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => try_number += 1,
                file => break (path.clone(), file.map_err(FileError::at("create", &path))?),
            }
        };
        let mut events = Self { path, file };
        events.write(0, |event| event.bytes(3, b"brain.Event:2"))?;
        if step > 0 {
            const SESSION_START: u64 = 1;
            events.write(step + 1, |event| {
                event.message(7, |session_log| session_log.varint(1, SESSION_START));
            })?;
        }
        Ok(events)
    }

    /// Adds numbers, each under its tag (`group/name`).
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), FileError> {
        self.write(step, |event| {
            event.message(5, |summary| {
                for (tag, value) in scalars {
                    summary.message(1, |entry| {
                        entry.bytes(1, tag.as_bytes());
                        entry.float(2, *value as f32);
                    });
                }
            });
        })
    }

    /// Adds a picture: a PNG file of `[height, width, channels]`.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written.
    pub fn image(
        &mut self,
        step: u64,
        tag: &str,
        [height, width, channels]: [usize; 3],
        png: &[u8],
    ) -> Result<(), FileError> {
        self.write(step, |event| {
            event.message(5, |summary| {
                summary.message(1, |entry| {
                    entry.bytes(1, tag.as_bytes());
                    entry.message(4, |image| {
                        image.varint(1, height as u64);
                        image.varint(2, width as u64);
                        image.varint(3, channels as u64);
                        image.bytes(4, png);
                    });
                });
            });
        })
    }

    fn write(&mut self, step: u64, fill: impl FnOnce(&mut Message)) -> Result<(), FileError> {
        let mut event = Message::default();
        event.double(1, since_epoch());
        event.varint(2, step);
        fill(&mut event);
        let framed = frame(&event.bytes);
        self.file.write_all(&framed).map_err(FileError::at("write", &self.path))
    }
}

/// A TFRecord.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted so that checksums of data that hold checksums stay useful.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn since_epoch() -> f64 {
    // A clock before 1970 only makes for an odd axis.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// A protocol buffer being written.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    const VARINT: u64 = 0;
    const FIXED64: u64 = 1;
    const LENGTH: u64 = 2;
    const FIXED32: u64 = 5;

    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, Self::VARINT);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, Self::FIXED64);
        self.bytes.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, Self::FIXED32);
        self.bytes.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, Self::LENGTH);
        self.raw_varint(value.len() as u64);
        self.bytes.extend(value);
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        fill(&mut inner);
        self.bytes(field, &inner.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_crc_is_masked_as_published() {
        // RFC 3720, B.4: the CRC-32C of 32 bytes of zeros is 8A9136AA; TensorFlow's crc32c.h stores
        // ((crc >> 15) | (crc << 17)) + A282EAD8.
        assert_eq!(masked_crc(&[0; 32]), 0x0FD7_FFFA);
    }

    /// A field of a message: (number, what it holds).
    #[derive(Debug, PartialEq)]
    enum Field {
        Varint(u64),
        Fixed64([u8; 8]),
        Bytes(Vec<u8>),
        Fixed32([u8; 4]),
    }

    /// Reads any protocol buffer by the wire format alone.
    fn parse(mut bytes: &[u8]) -> Vec<(u64, Field)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let end = bytes.iter().position(|b| b & 0x80 == 0).unwrap();
            let (head, tail) = bytes.split_at(end + 1);
            *bytes = tail;
            head.iter().rev().fold(0, |value, b| value << 7 | u64::from(b & 0x7f))
        }
        fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
            let (head, tail) = bytes.split_at(n);
            *bytes = tail;
            head
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Varint(varint(&mut bytes)),
                1 => Field::Fixed64(take(&mut bytes, 8).try_into().unwrap()),
                2 => {
                    let n = varint(&mut bytes) as usize;
                    Field::Bytes(take(&mut bytes, n).to_vec())
                }
                5 => Field::Fixed32(take(&mut bytes, 4).try_into().unwrap()),
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, field));
        }
        fields
    }

    /// Every event of the file, each checked against both of its checksums.
    fn events(path: &Path) -> Vec<Vec<(u64, Field)>> {
        let file = fs::read(path).unwrap();
        let mut rest = &file[..];
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let crc = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            assert_eq!(crc(8), masked_crc(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(crc(12 + length), masked_crc(data));
            events.push(parse(data));
            rest = &rest[16 + length..];
        }
        events
    }

    fn bytes(field: &Field) -> &[u8] {
        let Field::Bytes(bytes) = field else { panic!("{field:?} is not a string or message") };
        bytes
    }

    #[test]
    fn what_is_written_can_be_read_by_the_wire_format() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(dir.path(), 300).unwrap();
        file.scalars(301, &[("train/loss", 0.25), ("train/lr", 1e-4)]).unwrap();
        file.image(302, "samples", [20, 300, 3], b"PNG").unwrap();
        let events = events(&file.path);
        assert_eq!(events.len(), 4);
        for (event, step) in events.iter().zip([0, 301, 301, 302]) {
            let Field::Fixed64(time) = &event[0].1 else { panic!("{event:?}") };
            assert!(f64::from_le_bytes(*time) > 1.7e9, "the time of the event");
            assert_eq!(event[1], (2, Field::Varint(step)));
        }
        assert_eq!(events[0][2], (3, Field::Bytes(b"brain.Event:2".to_vec())));
        assert_eq!(events[1][2].0, 7);
        assert_eq!(parse(bytes(&events[1][2].1)), [(1, Field::Varint(1))]);

        let values = parse(bytes(&events[2][2].1));
        let value = |i: usize| parse(bytes(&values[i].1));
        let scalar = |x: f32| (2, Field::Fixed32(x.to_le_bytes()));
        assert_eq!(value(0), [(1, Field::Bytes(b"train/loss".to_vec())), scalar(0.25)]);
        assert_eq!(value(1), [(1, Field::Bytes(b"train/lr".to_vec())), scalar(1e-4)]);

        let value = parse(bytes(&parse(bytes(&events[3][2].1))[0].1));
        assert_eq!(value[1].0, 4);
        let image = parse(bytes(&value[1].1));
        let expected = [
            (1, Field::Varint(20)),
            (2, Field::Varint(300)),
            (3, Field::Varint(3)),
            (4, Field::Bytes(b"PNG".to_vec())),
        ];
        assert_eq!(image, expected);
    }

    #[test]
    fn two_starts_in_a_second_write_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let one = EventFile::create(dir.path(), 0).unwrap();
        let two = EventFile::create(dir.path(), 0).unwrap();
        assert_ne!(one.path, two.path);
        assert_eq!(events(&one.path).len(), 1, "a new run forgets nothing");
    }
}
