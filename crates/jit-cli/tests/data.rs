//! `jit data` end to end: a pack trains to the bits that its images train to, whatever interrupts its
//! making; and every form of data set is shown, checked and judged.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

mod common;
use common::Place;

/// Pictures of two classes, no two of one size.
fn photos(count: usize, side: usize) -> Place {
    let place = Place::new();
    for i in 0..count {
        let class = ["cat", "dog"][i % 2];
        place.picture(&format!("photos/{class}/{i:03}.png"), side + i % 7, side + i % 5, i);
    }
    place
}

/// The pictures as one tar archive of folders.
fn tar(place: &Place) {
    let file = std::fs::File::create(place.path("photos.tar")).unwrap();
    let mut tar = tar::Builder::new(file);
    tar.append_dir_all(".", place.path("photos")).unwrap();
    tar.finish().unwrap();
}

const RUN: &str = "train --config tiny.toml --subset 1 --set data.flip=true --set model.channels=3";

#[test]
fn a_pack_trains_to_the_same_bits_and_goes_on_with_a_run() {
    let place = photos(20, 33);
    tar(&place);
    let ran = place.ok("data pack photos photos.jitpack --size 28");
    assert!(ran.out.contains("photos.jitpack: 20 images"), "{}", ran.out);
    for (data, run) in [("photos", "a"), ("photos.jitpack", "b"), ("photos.tar", "c")] {
        place.ok(&format!("{RUN} --data {data} --out {run}"));
    }
    assert!(place.checkpoint("a", 6) == place.checkpoint("b", 6));
    assert!(place.checkpoint("a", 6) == place.checkpoint("c", 6));
    // Begun on the pictures, ended on the pack.
    place.ok(&format!("{RUN} --data photos --out d --max-steps 3"));
    place.ok(&format!("{RUN} --data photos.jitpack --out d --max-steps 6"));
    assert!(place.checkpoint("a", 6) == place.checkpoint("d", 6));
    let message = place.fails(1, &format!("{RUN} --data photos.jitpack --set model.image_size=14"));
    assert!(message.contains("--size 14 --channels 3"), "{message}");
}

#[test]
fn killed_at_any_moment_packing_goes_on_to_the_same_bytes() {
    let place = photos(60, 300);
    place.ok("data pack photos whole.jitpack --size 64");
    let mut kills = 0;
    for delay in (0..).map(|i| Duration::from_millis(2 + 3 * i)) {
        let line = "data pack photos parts.jitpack --size 64 --workers 1";
        let mut child = place.command(line).spawn().unwrap();
        std::thread::sleep(delay);
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0);
    assert!(place.bytes("whole.jitpack") == place.bytes("parts.jitpack"));
    assert!(!place.path("parts.jitpack.part").exists());
}

#[test]
fn data_sets_are_shown_and_checked() {
    let place = photos(5, 20);
    tar(&place);
    place.ok("data pack photos.tar photos.jitpack --size 8 --channels 1");
    let shown = |path: &str| place.ok(&format!("data info {path}")).out;
    assert!(shown("photos").contains("images      5 in files"), "{}", shown("photos"));
    assert!(shown("photos.tar").contains("5 in tar archives"));
    let pack = shown("photos.jitpack");
    assert!(pack.contains("5 in a pack of 8 x 8 x 1"), "{pack}");
    assert!(pack.contains("2 from the pack, of 2 to 3"), "{pack}");
    for path in ["photos", "photos.tar", "photos.jitpack"] {
        assert_eq!(place.ok(&format!("data check {path}")).out, "5 images are sound\n");
    }
    let mut bytes = place.bytes("photos.jitpack");
    bytes[4096 + 3 * 68 + 5] ^= 1;
    std::fs::write(place.path("photos.jitpack"), bytes).unwrap();
    let message = place.fails(1, "data check photos.jitpack");
    assert!(
        message.contains("record 3 is damaged") && message.contains("dog/001.png"),
        "{message}"
    );
    assert!(place.fails(2, "data info photo").contains("no data set at `photo`"));
    let message = place.fails(2, "data pack photos photos.bin");
    assert!(message.contains("call it `photos.jitpack`"), "{message}");
    std::fs::write(place.path("photos/cat/000.png"), "no picture").unwrap();
    assert!(place.fails(1, "data pack photos b.jitpack --size 8").contains("--skip-damaged"));
    let ran = place.ok("data pack photos b.jitpack --size 8 --skip-damaged");
    assert!(ran.err.contains("warning: left out `cat/000.png`"), "{}", ran.err);
    assert!(ran.out.contains("b.jitpack: 4 images"), "{}", ran.out);
}

#[test]
fn tar_archives_and_packs_are_judged_as_their_pictures() {
    let place = photos(6, 40);
    tar(&place);
    place.ok("data pack photos photos.jitpack --size 28");
    let stats = |images: &str| {
        place.ok(&format!("stats {images} {images}.npz --size 28 --extractor digits"));
        place.bytes(&format!("{images}.npz"))
    };
    let folder = stats("photos");
    assert!(folder == stats("photos.tar"));
    assert!(folder == stats("photos.jitpack"));
    let line = "stats photos.jitpack x.npz --size 28 --extractor digits --protocol paper";
    assert!(place.fails(1, line).contains("give the originals"));
}

#[test]
fn what_is_trained_on_is_told_before_the_start() {
    let place = photos(6, 30);
    for split in ["train", "val"] {
        std::fs::create_dir(place.path(split)).unwrap();
    }
    std::fs::rename(place.path("photos/cat"), place.path("train/cat")).unwrap();
    std::fs::rename(place.path("photos/dog"), place.path("train/dog")).unwrap();
    place.picture("val/cat/x.png", 30, 30, 1);
    std::fs::create_dir(place.path("data")).unwrap();
    for split in ["train", "val"] {
        std::fs::rename(place.path(split), place.path(&format!("data/{split}"))).unwrap();
    }
    std::fs::write(place.path("data/train/cat/Thumbs.db"), "x").unwrap();
    let told = place.ok(&format!("{RUN} --data data --out a")).err;
    for expected in [
        "images: 6 in files, `data`",
        "classes: 2, from their folders",
        "the split `train` is taken, and left out: `validation`",
        "1 file is no picture by its name and is passed over: `train/cat/Thumbs.db`",
    ] {
        assert!(told.contains(expected), "{expected} is missing in: {told}");
    }
    let told = place.ok(&format!("{RUN} --data data --split val --out b")).err;
    assert!(told.contains("images: 1 in files") && told.contains("classes: 1,"), "{told}");
    let line = format!("{RUN} --data data --set model.num_classes=0 --out c");
    assert!(place.ok(&line).err.contains("classes: none, which were not asked for"));
    let config = String::from_utf8(place.bytes("c/config.toml")).unwrap();
    assert!(config.contains("num_classes = 0"), "{config}");
    // A run goes on with the same images, however they are told.
    place.ok("train --config c/config.toml --out c --max-steps 8");
    let line = format!("{RUN} --data data --set model.num_classes=5");
    assert!(place.fails(2, &line).contains("set it to 2, or to 0 to train without classes"));
    let line = format!("{RUN} --data data --label-column label");
    assert!(place.fails(1, &line).contains("data.label_column = label cannot be used"));
    let shown = place.ok("data info data --split validation").out;
    assert!(shown.contains("classes     1 from their folders"), "{shown}");
    // Judging takes the same, and says so too.
    let told = place.ok("stats data x.npz --size 28 --extractor digits").err;
    assert!(told.contains("the split `train` is taken, and left out: `validation`"), "{told}");
}
