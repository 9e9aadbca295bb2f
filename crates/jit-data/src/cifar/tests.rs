use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::{DataConfig, Dataset};

type Files = Vec<(String, Vec<u8>)>;

/// A text as Python 2 pickles it.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend([b'U', text.len() as u8]);
    out.extend(text.as_bytes());
}

fn list(out: &mut Vec<u8>, items: usize, mut item: impl FnMut(&mut Vec<u8>, usize)) {
    out.extend(b"](");
    (0..items).for_each(|i| item(out, i));
    out.push(b'e');
}

/// `data_batch_1` or `train` as CIFAR's authors pickled them, of images of one shade each.
fn batch(labels: &str, classes: &[u8], shades: &[u8]) -> Vec<u8> {
    let mut out = b"\x80\x02}q\x01(".to_vec();
    text(&mut out, "batch_label");
    text(&mut out, "training batch 1 of 5");
    text(&mut out, labels);
    list(&mut out, classes.len(), |out, i| out.extend([b'K', classes[i]]));
    text(&mut out, "data");
    out.extend(b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\0\x85U\x01b\x87Rq\x09(K\x01");
    out.extend([b'K', shades.len() as u8]);
    out.extend(b"M\0\x0C\x86cnumpy\ndtype\nq\x0AU\x02u1K\0K\x01\x87Rq\x0B(K\x03U\x01|NNNJ\xFF\xFF\xFF\xFFJ\xFF\xFF\xFF\xFFK\0tb\x89T");
    out.extend((shades.len() as u32 * IMAGE as u32).to_le_bytes());
    out.extend(shades.iter().flat_map(|&shade| planes(shade)));
    out.extend(b"tb");
    text(&mut out, "filenames");
    list(&mut out, shades.len(), |out, i| text(out, &format!("{i}.png")));
    out.extend(b"u.");
    out
}

/// Red, green and blue apart, so that mixed-up planes are noticed.
fn planes(shade: u8) -> Vec<u8> {
    [[shade; 1024], [shade + 1; 1024], [shade + 2; 1024]].concat()
}

fn meta(key: &str, classes: usize) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    text(&mut out, key);
    list(&mut out, classes, |out, i| text(out, &format!("class {i}")));
    text(&mut out, "num_vis");
    out.extend(b"M\0\x0Cu.");
    out
}

/// CIFAR-10 with two images a file: Python's version, and the binary one.
fn ten(python: bool) -> Files {
    let names = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"];
    let mut files: Files = Vec::new();
    for (i, name) in names.into_iter().chain(["test_batch"]).enumerate() {
        let (classes, shades) = ([i as u8, 9 - i as u8], [20 * i as u8, 20 * i as u8 + 10]);
        if python {
            files.push((name.to_owned(), batch("labels", &classes, &shades)));
            continue;
        }
        let images = classes.iter().zip(shades).flat_map(|(c, s)| [vec![*c], planes(s)].concat());
        files.push((format!("{name}.bin"), images.collect()));
    }
    files.push(match python {
        true => ("batches.meta".to_owned(), meta("label_names", 10)),
        false => {
            let text: String = (0..10).map(|i| format!("class {i}\n")).collect();
            ("batches.meta.txt".to_owned(), (text + "\n").into())
        }
    });
    files
}

fn hundred(python: bool) -> Files {
    if python {
        return vec![
            ("train".to_owned(), batch("fine_labels", &[99, 3], &[10, 50])),
            ("test".to_owned(), batch("fine_labels", &[5], &[70])),
            ("meta".to_owned(), meta("fine_label_names", 100)),
        ];
    }
    let image = |fine: u8, shade: u8| [vec![7, fine], planes(shade)].concat();
    let names: String = (0..100).map(|i| format!("class {i}\n")).collect();
    vec![
        ("train.bin".to_owned(), [image(99, 10), image(3, 50)].concat()),
        ("test.bin".to_owned(), image(5, 70)),
        ("fine_label_names.txt".to_owned(), names.into()),
    ]
}

fn folder_of(files: &Files) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    dir
}

/// The archive that is downloaded.
fn archive_of(files: &Files) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, format!("cifar/{name}"), &bytes[..]).unwrap();
    }
    let mut gz = tar.into_inner().unwrap();
    gz.flush().unwrap();
    gz.finish().unwrap()
}

fn open(path: &Path, split: &str) -> Result<Dataset, String> {
    let (path, split) = (path.display().to_string(), split.to_owned());
    let config = DataConfig { path, split, ..DataConfig::default() };
    crate::open(&config, 32, 3, 0).map_err(|error| error.to_string())
}

/// Label and first sample of each channel of each image.
fn images(dataset: &Dataset) -> Vec<(u32, [u8; 3])> {
    let image = |i: usize| {
        let mut planes = vec![0; IMAGE];
        dataset.load(i, &mut planes).unwrap();
        (dataset.label(i), [planes[0], planes[1024], planes[3071]])
    };
    (0..dataset.len()).map(image).collect()
}

#[test]
fn every_version_is_read_as_downloaded_and_unpacked() {
    let ten_expected: Vec<(u32, [u8; 3])> = (0..5u8)
        .flat_map(|i| [(i, 20 * i), (9 - i, 20 * i + 10)])
        .map(|(class, shade)| (u32::from(class), [shade, shade + 1, shade + 2]))
        .collect();
    let hundred_expected = vec![(99, [10, 11, 12]), (3, [50, 51, 52])];
    for python in [true, false] {
        let versions =
            [(ten(python), &ten_expected, 10), (hundred(python), &hundred_expected, 100)];
        for (files, expected, classes) in versions {
            let dir = folder_of(&files);
            let packed = dir.path().join("cifar.tar.gz");
            let root = tempfile::tempdir().unwrap();
            for path in [dir.path(), &packed] {
                if path == packed {
                    fs::write(path, archive_of(&files)).unwrap();
                }
                let dataset = open(path, "").unwrap();
                assert_eq!((images(&dataset), dataset.num_classes()), (expected.clone(), classes));
                assert_eq!(dataset.class_names()[classes - 1], format!("class {}", classes - 1));
                assert!(dataset.describe()[2].contains("left out: `test`"));
                let test = open(path, "test").unwrap();
                assert!(test.len() < expected.len() && images(&test)[0].0 == 5);
            }
            fs::remove_file(packed).unwrap();
            fs::rename(dir.path(), root.path().join("cifar-10-batches-py")).unwrap();
            assert_eq!(images(&open(root.path(), "").unwrap()), *expected);
        }
    }
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let told = |files: &Files, part: &str| {
        let message = open(folder_of(files).path(), "").unwrap_err();
        assert!(message.contains(part), "{message}");
        let dir = tempfile::tempdir().unwrap();
        let packed = dir.path().join("x.tar.gz");
        fs::write(&packed, archive_of(files)).unwrap();
        let message = open(&packed, "").unwrap_err();
        assert!(message.contains("x.tar.gz") && message.contains(part), "{message}");
    };
    let with = |files: Files, name: &str, bytes: Vec<u8>| -> Files {
        let replace =
            |(n, b): (String, Vec<u8>)| if n == name { (n, bytes.clone()) } else { (n, b) };
        files.into_iter().map(replace).collect()
    };
    let mut files = ten(true);
    files.remove(2);
    told(&files, "it lacks `data_batch_3` of CIFAR-10");
    let whole = ten(true)[0].1.clone();
    told(&with(ten(true), "data_batch_1", whole[..900].to_vec()), "it is cut short");
    told(
        &with(ten(true), "data_batch_1", batch("labels", &[1], &[1, 2])),
        "it has 1 classes, and 6144",
    );
    told(&with(ten(true), "data_batch_1", batch("labels", &[10], &[1])), "a class 10 of 10");
    told(&with(ten(true), "data_batch_1", batch("fine_labels", &[1], &[1])), "it has no `labels`");
    told(&with(ten(true), "batches.meta", meta("label_names", 9)), "it names 9 classes of 10");
    told(
        &with(ten(false), "data_batch_2.bin", vec![0; 3074]),
        "its 3074 bytes are no images of 3073",
    );
    let hostile = b"\x80\x02cos\nsystem\nU\x04exit\x85R.".to_vec();
    told(
        &with(ten(true), "data_batch_1", hostile),
        "it names \"os.system\", which is never called",
    );
    // An array whose elements are in another order, or claim to be more.
    for (from, to) in
        [(&b"\x89T"[..], &b"\x88T"[..]), (b"u1K", b"u2K"), (b"K\x02M\0\x0C", b"K\x03M\0\x0C")]
    {
        let mut bytes = batch("labels", &[1, 2], &[1, 2]);
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        told(&with(ten(true), "data_batch_1", bytes), "`data` is no array of bytes");
    }
    // Another archive is told as what it is.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar.gz");
    fs::write(&path, archive_of(&vec![("a.png".to_owned(), vec![1])])).unwrap();
    assert!(open(&path, "").unwrap_err().contains("gunzip -k x.tar.gz"));
    let whole = archive_of(&ten(true));
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(open(&path, "").unwrap_err().contains("x.tar.gz"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Damage is an error or other pictures, and never a panic or a huge allocation.
    #[test]
    fn no_damage_takes_the_program_down(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        front in any::<bool>(), keep in any::<prop::sample::Index>(), cut in any::<bool>(),
    ) {
        let mut bytes = batch("labels", &[1, 2], &[1, 2]);
        for (at, value) in changes {
            // What is not pixels is in the first and the last bytes.
            let at = at.index(300);
            let at = if front { at } else { bytes.len() - 60 + at % 60 };
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(found) = pickle::images(&bytes, "labels") {
            prop_assert!(found.data.end <= bytes.len());
        }
        let _ = pickle::texts(&bytes, "filenames");
    }
}
