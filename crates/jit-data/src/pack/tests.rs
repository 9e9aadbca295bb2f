use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::grid::save_png;
use crate::{Batch, Dataset, Loader, LoaderOptions, Share};

const QUIET: &(dyn Fn(usize, usize) + Sync) = &|_, _| {};

/// Two classes of pictures that no filter leaves alone, in sizes of their own.
fn photos(count: usize) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for i in 0..count {
        let (width, height) = (9 + i % 5, 8 + i % 3);
        let pixels: Vec<u8> = (0..width * height * 3).map(|v| (v * v * 7 + i * 31) as u8).collect();
        let path = root.path().join(format!("images/{}/{i:03}.png", ["cat", "dog"][i % 2]));
        save_png(&path, &pixels, width, height, 3).unwrap();
    }
    root
}

fn images(root: &tempfile::TempDir) -> Dataset {
    Dataset::folder(&root.path().join("images"), 6, 3).unwrap()
}

fn packed(root: &tempfile::TempDir) -> PathBuf {
    let to = root.path().join("a.jitpack");
    write(&images(root), &to, 2, false, QUIET).unwrap();
    to
}

fn batches(dataset: Dataset) -> Vec<Batch> {
    let options =
        LoaderOptions { seed: 3, flip: true, workers: 2, position: 0, share: Share::WHOLE };
    let mut loader = Loader::new(std::sync::Arc::new(dataset), options).unwrap();
    (0..9).map(|_| loader.next_batch(4).unwrap()).collect()
}

fn message(path: &Path) -> String {
    Dataset::folder(path, 6, 3).unwrap_err().to_string()
}

#[test]
fn a_pack_gives_the_batches_of_its_images_and_continues_their_runs() {
    let root = photos(13);
    let path = packed(&root);
    let mut pack = Dataset::folder(&path, 6, 3).unwrap();
    let images = images(&root);
    assert_eq!(pack.class_names(), ["cat", "dog"]);
    assert_eq!(pack.manifest().fingerprint(), images.manifest().fingerprint());
    assert!(pack.check(false, 2, QUIET).unwrap().is_empty());
    let half = |dataset: Dataset| dataset.subset(0.5, 1).manifest().images;
    assert_eq!(half(Dataset::folder(&path, 6, 3).unwrap()), half(self::images(&root)));
    fs::remove_dir_all(root.path().join("images/cat")).unwrap();
    let root = photos(13);
    assert_eq!(batches(pack), batches(self::images(&root)));
}

#[test]
fn what_was_killed_goes_on_and_ends_in_the_same_bytes() {
    let root = photos(20);
    let whole = fs::read(packed(&root)).unwrap();
    let to = root.path().join("b.jitpack");
    let part = root.path().join("b.jitpack.part");
    // As a process leaves it that was killed: some records are there, one is torn, the rest a hole.
    let header = Header::decode(&whole).unwrap();
    let begun = Header { table: None, table_crc: 0, ..header.clone() };
    fs::write(&part, begun.encode()).unwrap();
    let file = fs::File::options().write(true).open(&part).unwrap();
    let slot = |i: u64| &whole[header.record(i) as usize..][..header.stride()];
    for i in [0, 1, 5, 7] {
        file.write_all_at(slot(i), header.record(i)).unwrap();
    }
    file.write_all_at(&slot(9)[..50], header.record(9)).unwrap();
    drop(file);
    let steps = AtomicUsize::new(0);
    let count = |_: usize, all: usize| {
        assert_eq!(all, 20);
        steps.fetch_add(1, Ordering::Relaxed);
    };
    let packed = write(&images(&root), &to, 3, false, &count).unwrap();
    assert_eq!((packed.images, packed.resumed, steps.into_inner()), (20, 4, 20));
    assert_eq!(fs::read(&to).unwrap(), whole);
    assert!(!part.exists());
    // Once more is no work; other images do not go over it.
    assert_eq!(write(&images(&root), &to, 1, false, QUIET).unwrap().resumed, 20);
    let fewer = images(&root).subset(0.5, 0);
    let refused = write(&fewer, &to, 1, false, QUIET).unwrap_err().to_string();
    assert!(refused.contains("it is there already, packed from other images"), "{refused}");
    fs::write(&part, begun.encode()).unwrap();
    fs::remove_file(&to).unwrap();
    let refused = write(&fewer, &to, 1, false, QUIET).unwrap_err().to_string();
    assert!(refused.contains("begun from other images or to another size: remove it"), "{refused}");
    let other = fs::File::open(&part).unwrap();
    other.lock().unwrap();
    let refused = write(&images(&root), &to, 1, false, QUIET).unwrap_err().to_string();
    assert!(refused.contains("another process is writing it"), "{refused}");
}

#[test]
fn unusable_images_are_told_or_left_out() {
    let root = photos(6);
    fs::write(root.path().join("images/cat/002.png"), "no picture").unwrap();
    fs::write(root.path().join("images/dog/notes.txt"), "hello").unwrap();
    let to = root.path().join("a.jitpack");
    let refused = write(&images(&root), &to, 2, false, QUIET).unwrap_err().to_string();
    assert!(refused.contains("cat/002.png") && !refused.contains("dog/notes.txt"), "{refused}");
    assert!(refused.contains("--skip-damaged"), "{refused}");
    let packed = write(&images(&root), &to, 2, true, QUIET).unwrap();
    assert_eq!((packed.images, packed.resumed, packed.skipped.len()), (5, 5, 1));
    let pack = Dataset::folder(&to, 6, 3).unwrap();
    let mut without = images(&root);
    without.check(true, 1, QUIET).unwrap();
    assert_eq!(pack.manifest().images, without.manifest().images);
    assert_eq!(batches(pack), batches(without));
    assert_eq!(check(&to, 2, QUIET).unwrap(), 5);
}

#[test]
fn a_damaged_pack_is_told_with_file_and_record() {
    let root = photos(6);
    let path = packed(&root);
    let whole = fs::read(&path).unwrap();
    let header = Header::decode(&whole).unwrap();
    let with = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    with(header.record(4) as usize + 7);
    let pack = Dataset::folder(&path, 6, 3).unwrap();
    let mut planes = vec![0; pack.sample_len()];
    let told = |i: usize, planes: &mut [u8]| pack.load(i, planes).map_err(|e| e.to_string());
    let bad: Vec<String> = (0..6).filter_map(|i| told(i, &mut planes).err()).collect();
    assert_eq!(bad.len(), 1);
    assert!(bad[0].contains("a.jitpack` cannot be used: record 4 (`dog/003.png`)"), "{}", bad[0]);
    let listed = check(&path, 2, QUIET).unwrap_err().to_string();
    assert!(listed.contains("1 file in") && listed.contains("`dog/003.png`"), "{listed}");

    with(whole.len() - 9);
    assert!(message(&path).contains("the table behind its records is damaged"));
    with(30);
    assert!(message(&path).contains("its header is damaged"));
    for length in [0, 50, 4096, 5000, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let message = message(&path);
        assert!(message.contains("short") || message.contains("no pack"), "{message}");
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(message(&path).contains("disagree"));
    // Two records that changed places.
    let mut bytes = whole.clone();
    let (a, b) = (header.record(0) as usize, header.record(1) as usize);
    bytes[a..b].copy_from_slice(&whole[b..b + header.stride()]);
    fs::write(&path, bytes).unwrap();
    assert!(check(&path, 1, QUIET).unwrap_err().to_string().contains("record 0"));
    // The unfinished one of a process that was killed.
    let begun = Header { table: None, table_crc: 0, ..header };
    fs::write(&path, [&begun.encode()[..], &whole[4096..]].concat()).unwrap();
    assert!(message(&path).contains("it is not finished"));
}

#[test]
fn another_size_is_refused_with_the_mend() {
    let root = photos(2);
    let path = packed(&root);
    let message = Dataset::folder(&path, 8, 1).unwrap_err().to_string();
    assert!(
        message.contains("3 × 6 × 6") && message.contains("--size 8 --channels 1"),
        "{message}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Damage is an error or nothing at all: no other pixels, no panic, no huge allocation.
    #[test]
    fn no_damage_goes_unnoticed(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keep in any::<prop::sample::Index>(), cut in any::<bool>(), repair in any::<bool>(),
    ) {
        let root = photos(3);
        let path = packed(&root);
        let mut bytes = fs::read(&path).unwrap();
        for (at, value) in &changes {
            // Mostly where it hurts: the fields of the header and the table.
            let at = at.index(bytes.len());
            let at = if at % 3 == 0 { at % 88 } else { at };
            bytes[at] ^= value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()) + 1);
        }
        if repair && bytes.len() > 92 {
            // A header that was made to lie.
            let crc = crc32c::crc32c(&bytes[..88]).to_le_bytes();
            bytes[88..92].copy_from_slice(&crc);
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(pack) = Dataset::folder(&path, 6, 3) {
            let images = images(&root);
            for i in 0..pack.len() {
                let (mut ours, mut theirs) = (vec![0; 108], vec![0; 108]);
                if pack.load(i, &mut ours).is_ok() {
                    images.load(i, &mut theirs).unwrap();
                    prop_assert_eq!(ours, theirs);
                }
            }
        }
    }
}
