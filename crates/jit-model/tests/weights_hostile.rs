//! Weight files that lie, are damaged or mean harm: an error, never a panic, never memory that the
//! file's length does not account for, and nothing executed.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as the tests do")]

use std::io::{Cursor, Write};
use std::path::Path;

use jit_model::weights::{File, TensorData, load_state};
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const GOLDEN: &[u8] = include_bytes!("golden/checkpoint-last.pth");

/// A tensor as torch's pickle describes it.
#[derive(Clone)]
struct Described<'a> {
    name: &'a str,
    class: &'a str,
    key: &'a str,
    len: i64,
    offset: i64,
    shape: &'a [i64],
    strides: &'a [i64],
}

/// Four f32 in the storage "0".
const FOUR: Described<'_> = Described {
    name: "net.a",
    class: "FloatStorage",
    key: "0",
    len: 4,
    offset: 0,
    shape: &[2, 2],
    strides: &[2, 1],
};

fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

fn integer(i: i64) -> Vec<u8> {
    [b"\x8a\x08", &i.to_le_bytes()[..]].concat()
}

fn tuple(integers: &[i64]) -> Vec<u8> {
    let integers: Vec<u8> = integers.iter().flat_map(|&i| integer(i)).collect();
    [b"(", &integers[..], b"t"].concat()
}

/// The opcodes for the state dict that holds `tensors`, as torch.save orders them.
fn state_dict(tensors: &[Described<'_>]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for t in tensors {
        out.extend(text(t.name));
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        out.extend(text("storage"));
        out.extend(format!("ctorch\n{}\n", t.class).bytes());
        out.extend([text(t.key), text("cpu"), integer(t.len), b"tQ".to_vec()].concat());
        out.extend([integer(t.offset), tuple(t.shape), tuple(t.strides)].concat());
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

fn archive(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A stored archive of a pickle and the storage "0" of the floats 0, 1, 2, 3.
fn pth(pickle: &[u8]) -> Vec<u8> {
    let storage: Vec<u8> = [0.0f32, 1.0, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    archive(
        CompressionMethod::Stored,
        &[("a/data.pkl", pickle), ("a/byteorder", b"little"), ("a/data/0", &storage)],
    )
}

/// Does with a file all that can be done: the outcome may be an error, but nothing else.
fn exercise(bytes: &[u8]) -> Result<usize, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    let file = File::open(&path).map_err(|e| e.to_string())?;
    let mut elements = 0;
    for name in file.names() {
        let _ = file.info(&name);
        let tensor = file.tensor(&name).map_err(|e| e.to_string())?;
        assert_eq!(tensor.shape.iter().product::<usize>(), tensor.data.len());
        elements += tensor.data.len();
    }
    load_state(&path, None).map(|_| elements).map_err(|e| e.to_string())
}

#[track_caller]
fn refused(bytes: &[u8], part: &str) {
    let message = exercise(bytes).unwrap_err();
    assert!(message.contains(part), "{message:?} lacks {part:?}");
}

fn read(bytes: &[u8], name: &str) -> (Vec<usize>, TensorData) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    let tensor = File::open(&path).unwrap().tensor(name).unwrap();
    (tensor.shape, tensor.data)
}

#[test]
fn tensors_of_types_that_are_not_read_are_named() {
    // What torch.save writes of a tensor of 8-bit floats, which have no storage class.
    let mut pickle = b"\x80\x02}(".to_vec();
    pickle.extend(text("net.a"));
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v3\n((");
    pickle.extend(text("storage"));
    pickle.extend(b"ctorch.storage\nUntypedStorage\n");
    pickle.extend([text("0"), text("cpu"), integer(16), b"tQ".to_vec()].concat());
    pickle.extend([integer(0), tuple(&[4, 4]), tuple(&[4, 1])].concat());
    pickle.extend(b"\x89ccollections\nOrderedDict\n)Rctorch\nfloat8_e4m3fn\ntRu.");
    refused(&pth(&pickle), "`net.a`");
    refused(&pth(&pickle), "elements of type float8_e4m3fn");
    refused(&pth(&pickle), "save it as one of them");
    let sparse = b"\x80\x02}(X\x05\x00\x00\x00net.actorch._utils\n_rebuild_sparse_tensor\n)Ru.";
    refused(&pth(sparse), "_rebuild_sparse_tensor");
}

#[test]
fn strided_and_offset_tensors_become_contiguous() {
    let transposed = pth(&state_dict(&[Described { strides: &[1, 2], ..FOUR }]));
    assert_eq!(read(&transposed, "net.a"), (vec![2, 2], TensorData::F32(vec![0.0, 2.0, 1.0, 3.0])));
    let column = Described { offset: 1, shape: &[2], strides: &[2], ..FOUR };
    assert_eq!(
        read(&pth(&state_dict(&[column])), "net.a"),
        (vec![2], TensorData::F32(vec![1.0, 3.0]))
    );
    let halves = Described { class: "BFloat16Storage", len: 8, shape: &[], strides: &[], ..FOUR };
    // The upper half of 2.0 is element 5 of the storage read as bf16.
    let halves = Described { offset: 5, ..halves };
    assert_eq!(read(&pth(&state_dict(&[halves])), "net.a"), (vec![], TensorData::F32(vec![2.0])));
}

#[test]
fn a_parameter_is_its_tensor() {
    let plain = state_dict(&[FOUR]);
    // Wrap the call: `_rebuild_parameter(tensor, True, {})`.
    let start = plain.windows(7).position(|w| w == b"ctorch.").unwrap();
    let (head, tensor) = (&plain[..start], &plain[start..plain.len() - 2]);
    let wrapped = [head, b"ctorch._utils\n_rebuild_parameter\n", tensor, b"\x88}\x87Ru."].concat();
    assert_eq!(read(&pth(&wrapped), "net.a"), read(&pth(&plain), "net.a"));
}

#[test]
fn nothing_in_a_pickle_is_executed() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("ran");
    let command = text(&format!("touch {}", trace.display()));
    let mut pickle = state_dict(&[FOUR]);
    pickle.truncate(pickle.len() - 2);
    pickle.extend([text("bad"), b"cos\nsystem\n".to_vec(), command, b"\x85Ru.".to_vec()].concat());
    let path = dir.path().join("a.pth");
    std::fs::write(&path, pth(&pickle)).unwrap();
    let file = File::open(&path).unwrap();
    let bad = file.as_pth().unwrap().root().get("bad").unwrap();
    assert_eq!(bad.as_call().unwrap().0, ("os", "system"));
    assert_eq!(load_state(&path, None).unwrap().tensors.len(), 1);
    assert!(!trace.exists());
}

#[test]
fn claims_beyond_the_storage_are_refused() {
    let refused = |t: Described<'_>, part: &str| refused(&pth(&state_dict(&[t])), part);
    refused(Described { len: 1 << 40, ..FOUR }, "has 16 bytes");
    refused(Described { len: i64::MAX, ..FOUR }, "overflows");
    refused(Described { offset: 1, ..FOUR }, "reaches beyond its storage");
    refused(Described { shape: &[1 << 40], strides: &[0], ..FOUR }, "more elements");
    refused(Described { shape: &[1 << 40, 1 << 40], strides: &[0, 0], ..FOUR }, "overflows");
    refused(Described { shape: &[2], strides: &[i64::MAX], ..FOUR }, "reaches beyond");
    refused(Described { shape: &[2], ..FOUR }, "differ in length");
    refused(Described { shape: &[-1], strides: &[1], ..FOUR }, "makes no sense");
    refused(Described { shape: &[1; 65], strides: &[1; 65], ..FOUR }, "makes no sense");
    refused(Described { key: "../0", ..FOUR }, "entry `a/data/../0`");
    refused(Described { class: "ComplexFloatStorage", ..FOUR }, "ComplexFloatStorage");
}

#[test]
fn lying_safetensors_headers_are_refused() {
    let file = |length: u64, header: &str, data: &[u8]| {
        [&length.to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    let whole = |header: &str, data: &[u8]| file(header.len() as u64, header, data);
    refused(&file(u64::MAX, "{}", &[]), "its header claims");
    refused(&file(3, "{}", &[]), "its header claims");
    refused(&whole("{", &[]), "its header");
    let one = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert_eq!(exercise(&whole(one, &[0; 4])), Ok(1));
    refused(&whole(one, &[0; 3]), "cut short");
    refused(&whole(one, &[0; 5]), "4 bytes of tensors, but 5 follow");
    let big = r#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
    refused(&whole(big, &[0; 4]), "cut short");
    let wrong = r#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}"#;
    refused(&whole(wrong, &[0; 4]), "its header");
    let overflow = r#"{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,4]}}"#;
    refused(&whole(overflow, &[0; 4]), "its header");
}

#[test]
fn bombs_are_refused() {
    // Each dict holds the one before it twice: 2^30 paths from a hundred bytes.
    let mut pickle = b"\x80\x02K\x01q\x00".to_vec();
    for level in 0..30u8 {
        pickle.extend(b"}(");
        for key in ["a".repeat(40), "b".repeat(40)] {
            pickle.extend([text(&key), vec![b'h', level]].concat());
        }
        pickle.extend([b'u', b'q', level + 1]);
    }
    pickle.push(b'.');
    refused(&pth(&pickle), "too many times over");
    // A hundred thousand lists, each within the one before.
    let deep = [b"\x80\x02".to_vec(), vec![b']'; 100_000], vec![b'a'; 99_999], vec![b'.']].concat();
    refused(&pth(&deep), "no tensors");
    // Seven lists, each a thousand times the one before: 10^21 paths.
    let mut wide = b"\x80\x02}q\x00".to_vec();
    for level in 0..7u8 {
        wide.extend(b"](");
        wide.extend([b'h', level].repeat(1000));
        wide.extend([b'e', b'q', level + 1]);
    }
    wide.push(b'.');
    refused(&pth(&wide), "too many times over");

    // 64 MiB of zeros in some 64 KiB.
    let zeros = vec![0; 64 << 20];
    let huge = Described { len: 16 << 20, shape: &[16 << 20], strides: &[1], ..FOUR };
    let pickle = state_dict(&[huge]);
    let bomb =
        archive(CompressionMethod::Deflated, &[("a/data.pkl", &pickle), ("a/data/0", &zeros)]);
    refused(&bomb, "cannot hold");
}

#[test]
fn compressed_checkpoints_are_read() {
    let storage: Vec<u8> = (0..1000).flat_map(|i| (i as f32).sin().to_le_bytes()).collect();
    let pickle = state_dict(&[Described { len: 1000, shape: &[1000], strides: &[1], ..FOUR }]);
    let entries: [(&str, &[u8]); 2] = [("data.pkl", &pickle), ("data/0", &storage)];
    assert_eq!(exercise(&archive(CompressionMethod::Deflated, &entries)), Ok(1000));
}

#[test]
fn other_kinds_of_files_are_named() {
    refused(b"", "empty");
    refused(b"hello, world", "unknown kind");
    refused(&archive(CompressionMethod::Stored, &[("x", b"y")]), "without the `data.pkl`");
    // torch before 1.6 began with the pickled magic number.
    refused(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "torch.save(torch.load(");
    let big = archive(
        CompressionMethod::Stored,
        &[("a/data.pkl", &state_dict(&[FOUR])), ("a/byteorder", b"big")],
    );
    refused(&big, "big-endian");
    assert!(File::open(Path::new("/nonexistent/x")).err().unwrap().to_string().contains("open"));
}

#[test]
fn a_flipped_bit_in_the_weights_is_noticed() {
    let mut bytes = pth(&state_dict(&[FOUR]));
    let at = bytes.windows(4).position(|w| w == 3.0f32.to_le_bytes()).unwrap();
    bytes[at + 2] ^= 1;
    refused(&bytes, "a/data/0");
    // Also when the tensor asked for is another part of the same storage.
    let part = Described { shape: &[1], strides: &[1], ..FOUR };
    let mut bytes = pth(&state_dict(&[part]));
    let at = bytes.windows(4).position(|w| w == 3.0f32.to_le_bytes()).unwrap();
    bytes[at + 2] ^= 1;
    refused(&bytes, "a/data/0");
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
}

fn change(mut bytes: Vec<u8>, changes: Vec<(prop::sample::Index, u8)>) -> Vec<u8> {
    for (at, value) in changes {
        let at = at.index(bytes.len());
        bytes[at] = value;
    }
    bytes
}

fn two_tensors() -> Vec<u8> {
    let column = Described { name: "net.b", offset: 1, shape: &[2], strides: &[2], ..FOUR };
    state_dict(&[FOUR, column])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Damage to the archive itself: directory, sizes, offsets.
    #[test]
    fn a_damaged_archive_never_panics(changes in changes()) {
        let _ = exercise(&change(pth(&two_tensors()), changes));
    }

    /// Damage to the pickle under a valid checksum, which reaches the interpreter and the views.
    #[test]
    fn a_damaged_pickle_never_panics(changes in changes()) {
        let _ = exercise(&pth(&change(two_tensors(), changes)));
    }

    #[test]
    fn a_damaged_safetensors_file_never_panics(changes in changes()) {
        let header = concat!(
            r#"{"net.a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#,
            r#""net.b":{"dtype":"I64","shape":[1,1],"data_offsets":[8,16]}}"#
        );
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[7; 16]].concat();
        let _ = exercise(&change(file, changes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_truncated_checkpoint_is_refused(len in 0..GOLDEN.len()) {
        prop_assert!(exercise(&GOLDEN[..len]).is_err());
    }
}
