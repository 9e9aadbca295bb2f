//! Where results go: every command that writes a file that its user names, into a device, over a link,
//! into a pipe, to standard output, and where a folder or a socket is. See the table in `docs/outputs.md`.

#![cfg(unix)]
// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use common::{Place, Ran};

/// Commands that write one file, with `{}` where its name belongs; what the file ends in, and begins with.
const FILES: [(&str, &str, &[u8]); 7] = [
    ("sample --checkpoint run --count 2 --out {}", "png", b"\x89PNG"),
    ("sample --checkpoint run --count 2 --trajectory {}", "png", b"\x89PNG"),
    ("sample --checkpoint run --count 2 --npz {}", "npz", b"PK"),
    ("stats digits-held-out {}", "npz", b"PK"),
    ("convert run {}", "safetensors", b""),
    ("report run --out {}", "html", b"<!DOCTYPE"),
    ("report run --markdown {}", "md", b"# "),
];

/// Commands that write a folder of files.
const FOLDERS: [&str; 7] = [
    "train --config tiny.toml --max-steps 1 --out {}",
    "ablate --suite smoke --out {}",
    "sample --checkpoint run --count 2 --folder {}",
    "eval --checkpoint run --count 20 --folder {}",
    "eval run --reference digits --cache {}",
    "report run --csv {}",
    "report run --keep {}",
];

fn trained() -> Place {
    let place = Place::new();
    place.ok("train --config tiny.toml --out run --max-steps 2");
    place
}

fn with(line: &str, name: &str) -> String {
    line.replace("{}", name)
}

fn begins(bytes: &[u8], with: &[u8], line: &str) {
    assert!(bytes.len() > 50 && bytes.starts_with(with), "{line}: {:?}", bytes.get(..9));
}

#[test]
fn a_regular_file_is_replaced_and_a_link_followed() {
    let place = trained();
    fs::create_dir(place.path("far")).unwrap();
    for (line, form, start) in FILES {
        let (link, target) = (format!("link.{form}"), format!("far/target.{form}"));
        let _none_yet = fs::remove_file(place.path(&link));
        fs::write(place.path(&target), "old").unwrap();
        symlink(&target, place.path(&link)).unwrap();
        place.ok(&with(line, &link));
        assert!(fs::symlink_metadata(place.path(&link)).unwrap().is_symlink(), "{line}");
        begins(&place.bytes(&target), start, line);
        fs::write(place.path(&target), "old").unwrap();
        place.ok(&with(line, &target));
        begins(&place.bytes(&target), start, line);
    }
    // Nothing is left of what was written to another name first.
    let left: Vec<_> = fs::read_dir(place.path("far")).unwrap().collect();
    assert!(left.iter().all(|e| e.as_ref().unwrap().file_name().as_encoded_bytes()[0] != b'.'));
}

#[test]
fn devices_and_pipes_are_written_into() {
    let place = trained();
    for (line, form, start) in FILES {
        // Links stand for the devices, so that a mistake replaces a link.
        let (null, full) = (format!("null.{form}"), format!("full.{form}"));
        let pipe = format!("pipe.{form}");
        for (device, link) in [("/dev/null", &null), ("/dev/full", &full)] {
            let _none_yet = fs::remove_file(place.path(link));
            symlink(device, place.path(link)).unwrap();
        }
        place.ok(&with(line, &null));
        if fs::exists("/dev/full").unwrap() {
            let message = place.fails(1, &with(line, &full));
            assert!(message.contains(&full) && message.contains("space"), "{line}: {message}");
        }
        for link in [&null, &full] {
            assert!(fs::symlink_metadata(place.path(link)).unwrap().is_symlink(), "{line}");
        }
        if !place.path(&pipe).exists() {
            let made = Command::new("mkfifo").arg(place.path(&pipe)).status().unwrap();
            assert!(made.success());
        }
        let reader = std::thread::spawn({
            let path = place.path(&pipe);
            move || fs::read(path).unwrap()
        });
        place.ok(&with(line, &pipe));
        begins(&reader.join().unwrap(), start, line);
        assert!(!fs::metadata(place.path(&pipe)).unwrap().is_file(), "{line}");
    }
}

#[test]
fn standard_output_holds_the_result_and_nothing_else() {
    let place = trained();
    for (line, form, start) in FILES.into_iter().filter(|(_, form, _)| *form != "md") {
        let output = place.command(&with(line, &format!("file.{form}"))).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !told.is_empty(), "{line}");
        for name in ["-", "/dev/stdout"] {
            let output = place.command(&with(line, name)).output().unwrap();
            let complaints = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {complaints}");
            begins(&output.stdout, start, line);
            assert_eq!(output.stdout, place.bytes(&format!("file.{form}")), "{line}");
        }
    }
    assert!(!place.path("-").exists());
    let message = place.fails(2, "sample --checkpoint run --count 2 --out - --npz -");
    assert!(message.contains("--out and --npz cannot both"), "{message}");
    // Whoever reads it may have seen enough.
    let line = "convert run -";
    let mut child = place.command(line).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn folders_sockets_and_names_of_other_forms_are_refused() {
    let place = trained();
    let _listener = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    fs::create_dir(place.path("folder.md")).unwrap();
    for (line, form, _) in FILES {
        let refused = |name: &str| {
            let Ran { code, err, .. } = place.run(&with(line, name));
            assert!(code == Some(1) || code == Some(2), "{line}: {err}");
            err
        };
        if form == "md" {
            assert!(refused("folder.md").contains("it is a folder: name a file in it"), "{line}");
            continue;
        }
        assert!(refused("folder").contains("it is a folder: name a file in it"), "{line}");
        assert!(refused("socket").contains("it is a socket"), "{line}");
        let other = if form == "png" { "x.jpg" } else { "x.png" };
        let message = refused(other);
        assert!(message.contains(&format!("call it `x.{form}`")), "{line}: {message}");
        assert!(!place.path(other).exists());
    }
}

#[test]
fn a_folder_to_fill_is_no_file_and_no_stream() {
    let place = trained();
    fs::write(place.path("file"), "mine").unwrap();
    symlink("/dev/null", place.path("null")).unwrap();
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    for line in FOLDERS {
        for name in ["file", "null", "pipe", "-"] {
            let message = place.fails(2, &with(line, name));
            assert!(message.contains("name a folder"), "{line}: {message}");
        }
    }
    assert_eq!(place.bytes("file"), b"mine");
    // A link to a folder is one.
    fs::create_dir(place.path("real")).unwrap();
    symlink("real", place.path("link")).unwrap();
    place.ok(&with(FOLDERS[2], "link"));
    assert!(place.path("real/000001.png").exists());
}

#[test]
fn a_pack_is_a_regular_file() {
    let place = Place::new();
    place.picture("photos/a/1.png", 20, 20, 1);
    fs::create_dir(place.path("packs")).unwrap();
    symlink("packs/far.jitpack", place.path("link.jitpack")).unwrap();
    place.ok("data pack photos link.jitpack --size 16");
    assert!(fs::metadata(place.path("packs/far.jitpack")).unwrap().len() > 16 * 16 * 3);
    symlink("/dev/null", place.path("null.jitpack")).unwrap();
    assert!(Command::new("mkfifo").arg(place.path("p.jitpack")).status().unwrap().success());
    fs::create_dir(place.path("d.jitpack")).unwrap();
    for (name, why) in [("null", "regular file"), ("p", "regular file"), ("d", "it is a folder")] {
        let message = place.fails(1, &format!("data pack photos {name}.jitpack --size 16"));
        assert!(message.contains(why), "{message}");
    }
    assert!(place.fails(2, "data pack photos - --size 16").contains("no name of a pack"));
}
