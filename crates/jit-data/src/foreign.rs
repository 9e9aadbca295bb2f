//! What a file is that is no data set: by its first bytes and its name, with what would make it one.

use std::io::Read;
use std::path::Path;

use crate::folder;

/// What a file that is not read is called, and how to mend it; `None` for what is not known.
pub(crate) fn told(path: &Path) -> Option<String> {
    const HEAD: u64 = 16;
    let mut head = Vec::new();
    // Opening a pipe would wait for its other end.
    path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    jit_core::input::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    let name = path.file_name()?.to_string_lossy();
    let starts = |magic: &[u8]| head.starts_with(magic);
    let unpacked = |by: &str, command: &str| {
        format!(
            "compressed by {by}: unpack it (`{command} {name}`), a tar archive is read as it is"
        )
    };
    let lower = name.to_lowercase();
    let ends = |extension: &str| lower.ends_with(extension);
    Some(if starts(b"\x1F\x8B") {
        unpacked("gzip", "gunzip -k")
    } else if starts(b"BZh") {
        unpacked("bzip2", "bunzip2 -k")
    } else if starts(b"\xFD7zXZ\0") {
        unpacked("xz", "unxz -k")
    } else if starts(b"\x28\xB5\x2F\xFD") {
        unpacked("zstd", "unzstd")
    } else if starts(b"7z\xBC\xAF\x27\x1C") || starts(b"Rar!") {
        "an archive that is not read: unpack it, and give the folder".into()
    } else if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") {
        "a zip archive: give the archive itself, or unpack it".into()
    } else if starts(b"\x93NUMPY") {
        "a single NumPy array: save images and classes together, \
         `np.savez(\"data.npz\", images=…, labels=…)`"
            .into()
    } else if starts(b"ARROW1") || (ends(".arrow") && starts(&[0xFF; 4])) {
        "an Arrow file, as `datasets` keeps them: write it as Parquet, \
         `dataset.to_parquet(\"train.parquet\")`"
            .into()
    } else if starts(b"\x89HDF") {
        "an HDF5 file, which is not read: write its pictures as files, or as `.npz`".into()
    } else if ends(".tfrecord") || lower.contains(".tfrecord-") {
        "a TFRecord file, which is not read: write its pictures as files, or as WebDataset".into()
    } else if starts(b"\x89JITPACK") {
        "a pack, whose name has to end in `.jitpack`".into()
    } else if starts(b"PAR1") {
        "a Parquet file, whose name has to end in `.parquet`: give it, or its folder".into()
    } else if folder::is_picture(path) || folder::unread(path).is_some() {
        "a picture: give the folder that holds it".into()
    } else if [".txt", ".csv", ".json", ".jsonl", ".md", ".html", ".xml"].iter().any(|e| ends(e)) {
        "text: expected pictures, or an archive of them".into()
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {

    #[test]
    fn files_of_other_kinds_are_named_with_their_mend() {
        let dir = tempfile::tempdir().unwrap();
        let told = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let message = crate::scan::scan(&path).unwrap_err().to_string();
            assert!(!message.contains("no tar archive"), "{message}");
            message
        };
        assert!(told("X.tar.gz", b"\x1F\x8B\x08\0").contains("gunzip -k X.tar.gz"));
        assert!(told("x.tar.zst", b"\x28\xB5\x2F\xFD").contains("compressed by zstd"));
        assert!(told("x.npy", b"\x93NUMPY\x01\0").contains("np.savez"));
        assert!(told("x.arrow", &[0xFF; 12]).contains("to_parquet"));
        assert!(told("x.h5", b"\x89HDF\r\n").contains("HDF5"));
        assert!(told("x.png", b"\x89PNG\r\n").contains("give the folder that holds it"));
        assert!(told("list.csv", b"a,b\n").contains("is text"));
        // Alone in a folder, it is named, too.
        let alone = tempfile::tempdir().unwrap();
        std::fs::write(alone.path().join("a.tar.gz"), b"\x1F\x8B\x08\0").unwrap();
        let message = crate::scan::scan(alone.path()).unwrap_err().to_string();
        assert!(message.contains("holds no picture, and `a.tar.gz` is compressed"), "{message}");
    }
}
