//! Where a user has results written: files, folders, standard output. What cannot be written to is
//! refused while the command line is read, before anything takes long.

use std::io;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use jit_core::output;
use jit_core::text::Show;

use crate::cli::{Cli, Command, WeightsCommand};
use crate::failure::{Failure, Outcome};

/// A kind of file that is written: its name, and the extensions that names of it end in.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    name: &'static str,
    extensions: &'static [&'static str],
}

/// Pictures.
pub const PNG: Kind = Kind { name: "a PNG", extensions: &["png"] };
/// Arrays.
pub const NPZ: Kind = Kind { name: "a NumPy archive", extensions: &["npz"] };
/// Weights.
pub const SAFETENSORS: Kind = Kind { name: "safetensors", extensions: &["safetensors"] };
/// Pages.
pub const HTML: Kind = Kind { name: "an HTML page", extensions: &["html", "htm"] };

/// Extensions that promise a form. A name with any other one, or with none, promises nothing.
const KNOWN: [&str; 39] = [
    "png",
    "jpg",
    "jpeg",
    "jpe",
    "jfif",
    "webp",
    "gif",
    "bmp",
    "tif",
    "tiff",
    "avif",
    "heic",
    "jxl",
    "ppm",
    "svg",
    "pdf",
    "npy",
    "npz",
    "mat",
    "h5",
    "hdf5",
    "parquet",
    "pth",
    "pt",
    "ckpt",
    "bin",
    "onnx",
    "safetensors",
    "pkl",
    "html",
    "htm",
    "md",
    "csv",
    "json",
    "jsonl",
    "txt",
    "toml",
    "zip",
    "tar",
];

/// Reads the name of a file to write.
pub fn file(kind: Kind) -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(move |path| may_write(&path, kind).map(|()| path))
}

fn may_write(path: &Path, kind: Kind) -> Result<(), String> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let promised = extension.filter(|e| KNOWN.contains(&&**e));
    if promised.is_some_and(|e| !kind.extensions.contains(&&*e)) {
        let named = path.with_extension(kind.extensions[0]);
        return Err(format!("what is written is {}: call it `{}`", kind.name, named.shown()));
    }
    output::check(path).map_err(|error| error.to_string())
}

/// Reads the name of a folder to write into.
pub fn folder() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match () {
        () if path.as_os_str() == "-" => Err(
            "several files are written, which standard output does not hold: name a folder, such \
                 as `./-`",
        ),
        () if path.exists() && !path.is_dir() => {
            Err("something else is there: name a folder, or a new one")
        }
        () => Ok(path),
    })
}

/// Whether a result goes to standard output, so that what is told has to go elsewhere.
///
/// # Errors
/// When several do.
pub fn streams(cli: &Cli) -> Outcome<bool> {
    let streams: Vec<&str> = files(&cli.command)
        .into_iter()
        .filter(|(_, path)| path.is_some_and(output::is_stdout))
        .map(|(option, _)| option)
        .collect();
    match streams[..] {
        [] => Ok(false),
        [_] => Ok(true),
        [first, second, ..] => {
            let message = format!("{first} and {second} cannot both go to standard output");
            Err(Failure::usage(message).help("give one of them the name of a file"))
        }
    }
}

/// The files that a command was asked to write.
fn files(command: &Command) -> Vec<(&'static str, Option<&Path>)> {
    match command {
        Command::Sample(args) => vec![
            ("--out", args.out.as_deref()),
            ("--npz", args.npz.as_deref()),
            ("--trajectory", args.trajectory.as_deref()),
        ],
        Command::Report(args) => vec![("--out", args.out.as_deref())],
        Command::Stats(args) => vec![("TO.npz", Some(&args.to))],
        Command::Convert(args) => vec![("TO.safetensors", Some(&args.to))],
        Command::Weights(args) => match &args.command {
            WeightsCommand::TrainDigits { to } => vec![("TO.safetensors", Some(to))],
            WeightsCommand::List | WeightsCommand::Fetch { .. } => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Names a file that was written, unless it is the output itself.
///
/// # Errors
/// When `out` cannot be written.
pub fn wrote(out: &mut dyn io::Write, path: &Path) -> io::Result<()> {
    match output::is_stdout(path) {
        true => Ok(()),
        false => writeln!(out, "{}", path.shown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_promise_another_form() {
        let message = |name: &str, kind| may_write(Path::new(name), kind).unwrap_err();
        assert_eq!(message("new/x.jpg", PNG), "what is written is a PNG: call it `new/x.png`");
        assert!(message("x.PTH", SAFETENSORS).ends_with("`x.safetensors`"));
        assert!(message("x.npy", NPZ).contains("NumPy archive"));
        for name in ["x.png", "x.PNG", "x", "x.v2", "a.jpg/x"] {
            may_write(Path::new(name), PNG).unwrap();
        }
        may_write(Path::new("page.htm"), HTML).unwrap();
        assert!(message("/", PNG).contains("it is a folder"));
    }
}
