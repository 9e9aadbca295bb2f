//! NumPy archives: arrays in the `.npy` format inside an uncompressed zip file.

use std::io::{self, Write};
use std::path::Path;

use jit_core::files::{FileError, write_atomic};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An array to be written.
pub struct Array<'a> {
    /// Its name in the archive, without `.npy`.
    pub name: &'a str,
    /// NumPy's name of the element type, such as `|u1` or `<i8`.
    pub descr: &'a str,
    /// Extents, outermost first.
    pub shape: &'a [usize],
    /// The elements in row-major order, little-endian.
    pub bytes: &'a [u8],
}

/// Writes an archive that is whole or absent.
///
/// # Errors
/// When the file cannot be written.
pub fn save(path: &Path, arrays: &[Array<'_>]) -> Result<(), FileError> {
    write_atomic(path, |file| write(arrays, file))
}

/// Streams the archive: 50 000 images are not held in memory twice.
fn write(arrays: &[Array<'_>], out: &mut dyn Write) -> io::Result<()> {
    let mut zip = ZipWriter::new_stream(out);
    for array in arrays {
        // A fixed time: the same images give the same bytes.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(array.bytes.len() >= u32::MAX as usize)
            .last_modified_time(zip::DateTime::default());
        zip.start_file(format!("{}.npy", array.name), options)?;
        zip.write_all(&header(array))?;
        zip.write_all(array.bytes)?;
    }
    zip.finish()?;
    Ok(())
}

/// The header of version 1.0: magic, length, a Python dict, padded with spaces to 64 bytes.
fn header(array: &Array<'_>) -> Vec<u8> {
    let extents: Vec<String> = array.shape.iter().map(|n| format!("{n},")).collect();
    let mut dict = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
        array.descr,
        extents.join(" ")
    );
    let preamble = 10;
    while (preamble + dict.len() + 1) % 64 != 0 {
        dict.push(' ');
    }
    dict.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((dict.len() as u16).to_le_bytes());
    bytes.extend(dict.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn an_archive_reads_back() {
        let bytes: Vec<u8> = (0..24).collect();
        let arrays = [
            Array { name: "arr_0", descr: "|u1", shape: &[2, 2, 2, 3], bytes: &bytes },
            Array { name: "arr_1", descr: "<i8", shape: &[3], bytes: &bytes },
        ];
        let mut archive = Vec::new();
        write(&arrays, &mut archive).unwrap();
        let mut zip = zip::ZipArchive::new(io::Cursor::new(archive)).unwrap();
        let mut npy = Vec::new();
        zip.by_name("arr_0.npy").unwrap().read_to_end(&mut npy).unwrap();
        assert_eq!(&npy[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([npy[8], npy[9]]));
        assert_eq!((10 + length) % 64, 0);
        let dict = std::str::from_utf8(&npy[10..10 + length]).unwrap();
        let expected = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2, 3,), }";
        assert_eq!(dict.trim_end(), expected);
        assert_eq!(npy[10 + length..], bytes);
        assert!(zip.by_name("arr_1.npy").is_ok());
    }
}
