//! `jit data`: what a data set holds, whether it is sound, and the pack that trains without decoding.

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use jit_core::text::Show;
use jit_data::config::list;
use jit_data::folder::Folder;
use jit_data::pack;
use jit_data::place::Place;
use jit_data::{DamagedFile, DataConfig, DataError, Dataset, digits};

use super::info::bytes;
use crate::cli::{DataArgs, DataCommand, ImagesArgs};
use crate::failure::{Failure, Outcome};
use crate::terminal::{Progress, say};

/// Does what `data` was asked for.
///
/// # Errors
/// Images that cannot be used, a pack that cannot be written.
pub fn run(args: &DataArgs, out: &mut dyn Write) -> Outcome {
    match &args.command {
        DataCommand::Info { images, classes } => info(images, *classes, out),
        DataCommand::Check { images, workers } => check(images, *workers, out),
        DataCommand::Pack { images, to, size, channels, skip_damaged, workers } => {
            let shape = (size.get(), *channels);
            pack_images(images, to, shape, *skip_damaged, *workers, out)
        }
    }
}

fn config(images: &ImagesArgs, workers: usize) -> Outcome<DataConfig> {
    if images.path == digits::NAME {
        let failure = Failure::usage("the digits are part of this program");
        return Err(failure.help("train on them with `jit train --preset digits`"));
    }
    Ok(DataConfig {
        path: images.path.clone(),
        split: images.split.clone(),
        labels: images.labels.clone(),
        class_names: images.class_names.clone(),
        label_key: images.label_key.clone(),
        label_column: images.label_column.clone(),
        image_column: images.image_column.clone(),
        workers,
        ..DataConfig::default()
    })
}

fn folder(config: &DataConfig) -> Outcome<Folder> {
    if jit_data::scan::exists(Path::new(&config.path)) {
        return Ok(list(config)?);
    }
    let (path, hint) = (config.path.clone(), String::new());
    Err(Failure::usage(DataError::NotFound { path, hint }))
}

fn info(images: &ImagesArgs, all: bool, out: &mut dyn Write) -> Outcome {
    /// Classes that are listed without being asked for.
    const SHORT: usize = 20;
    let found = folder(&config(images, 0)?)?;
    let Folder { files, class_names, strays, passed, form, classes_from, notes, .. } = found;
    let form = match files.first().map(|file| &file.place) {
        Some(Place::Record { pack, .. }) => {
            let (size, channels) = (pack.size(), pack.channels());
            format!("a pack of {size} x {size} x {channels}, {}", packed_bytes(&images.path)?)
        }
        _ => form.to_owned(),
    };
    writeln!(out, "images      {} in {form}", files.len())?;
    if !matches!(files[0].place, Place::Record { .. } | Place::Row { .. }) {
        writeln!(out, "size        {}", bytes(files.iter().map(|file| file.bytes).sum()))?;
    }
    for note in notes.into_iter().chain(passed.told()) {
        writeln!(out, "note        {}", note.shown())?;
    }
    if !strays.is_empty() {
        writeln!(out, "unusable    {}, such as {}", strays.len(), strays[0])?;
    }
    if class_names.is_empty() {
        writeln!(out, "classes     none")?;
        return Ok(());
    }
    let mut counts = vec![0u64; class_names.len()];
    files.iter().for_each(|file| counts[file.label as usize] += 1);
    let least = counts.iter().min().copied().unwrap_or(0);
    let most = counts.iter().max().copied().unwrap_or(0);
    let count = class_names.len();
    let from = classes_from.shown();
    writeln!(out, "classes     {count} from {from}, of {least} to {most} images")?;
    let shown = if all { usize::MAX } else { SHORT };
    for (i, (name, count)) in class_names.iter().zip(&counts).enumerate().take(shown) {
        writeln!(out, "  {i:>4}  {:<30} {count:>9}", name.shown())?;
    }
    if class_names.len() > shown {
        writeln!(out, "  and {} more, which --classes lists", class_names.len() - shown)?;
    }
    Ok(())
}

fn packed_bytes(path: &str) -> Outcome<String> {
    let length =
        std::fs::metadata(path).map_err(jit_core::files::FileError::at("read", path.as_ref()));
    Ok(bytes(length?.len()))
}

fn check(images: &ImagesArgs, workers: usize, out: &mut dyn Write) -> Outcome {
    /// Decoding is what is checked, so that the size does not matter.
    const SIZE: usize = 64;
    let config = config(images, workers)?;
    let threads = config.worker_threads();
    let found = folder(&config)?;
    let (path, total) = (Path::new(&config.path), found.files.len());
    let packed = found.files[0].place.is_packed();
    let count = if packed {
        drop(found);
        watched("verified", total, |progress| pack::check(path, threads, progress))?
    } else {
        let mut dataset = Dataset::of(path, found, SIZE, 3)?.uncached();
        dataset.describe().iter().for_each(|line| say(line));
        watched("checked", total, |progress| dataset.check(false, threads, progress))
            .map_err(advise)?;
        dataset.len()
    };
    writeln!(out, "{count} images are sound")?;
    Ok(())
}

/// What mends damaged images, of which this command cannot leave out any.
fn advise(error: DataError) -> DataError {
    match error {
        DataError::Damaged { root, files, .. } => {
            let mend = "Repair or remove them; `jit data pack` and `jit train` leave them out with \
                        --skip-damaged";
            DataError::Damaged { root, files, mend }
        }
        error => error,
    }
}

fn pack_images(
    images: &ImagesArgs,
    to: &Path,
    (size, channels): (usize, usize),
    skip_damaged: bool,
    workers: usize,
    out: &mut dyn Write,
) -> Outcome {
    if to.extension().is_none_or(|e| e != pack::EXTENSION) {
        let name = to.with_extension(pack::EXTENSION);
        let failure = Failure::usage(format!("`{}` is no name of a pack", to.shown()));
        return Err(failure.help(format!("call it `{}`", name.shown())));
    }
    let config = config(images, workers)?;
    if jit_data::scan::exists(Path::new(&config.path)) {
        let dataset = jit_data::open(&config, size, channels, 0)?.uncached();
        dataset.describe().iter().for_each(|line| say(line));
        let packed = watched("packed", dataset.len(), |progress| {
            pack::write(&dataset, to, config.worker_threads(), skip_damaged, progress)
        })?;
        left_out(&packed.skipped);
        let (images, length) = (packed.images, bytes(packed.bytes));
        if packed.resumed > 0 {
            say(&format!("{} images were there already", packed.resumed));
        }
        writeln!(out, "{}: {images} images, {length}", to.shown())?;
        writeln!(out, "train on it: jit train --data {}", to.shown())?;
        return Ok(());
    }
    folder(&config).map(drop)
}

/// Shows how far `work` on `total` images is.
pub fn watched<T>(
    done_is: &str,
    total: usize,
    work: impl FnOnce(&(dyn Fn(usize, usize) + Sync)) -> Result<T, DataError>,
) -> Result<T, DataError> {
    let progress = Mutex::new(Progress::new("image", 0, total as u64));
    let report = |done: usize, _all: usize| {
        if let Ok(mut progress) = progress.lock() {
            progress.update(done as u64, done_is);
        }
    };
    let result = work(&report);
    if let Ok(progress) = progress.lock() {
        progress.finish();
    }
    result
}

/// Says which files were left out.
pub fn left_out(files: &[DamagedFile]) {
    for file in files {
        say(&format!("warning: left out {file}"));
    }
}
