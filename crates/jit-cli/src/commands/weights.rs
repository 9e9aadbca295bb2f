//! `jit weights`: the networks that judge images.

use std::io::{self, Write};
use std::path::Path;

use jit_core::files::write_atomic;
use jit_core::text::Show;
use jit_eval::digits;
use jit_eval::extractor::weights::{INCEPTION, Published, VGG16};

use crate::cli::{PublishedName, WeightsArgs, WeightsCommand};
use crate::failure::{Failure, Outcome};
use crate::places::wrote;
use crate::terminal::{Progress, say};

/// Lists, fetches or trains weights.
///
/// # Errors
/// A network that is not there, a file whose hash is not the published one.
pub fn run(args: &WeightsArgs, out: &mut dyn Write) -> Outcome {
    match &args.command {
        WeightsCommand::List => list(out),
        WeightsCommand::Fetch { names, to } => {
            names.iter().try_for_each(|name| fetch(published(*name), to.as_deref(), out))
        }
        WeightsCommand::TrainDigits { to } => train_digits(to, out),
    }
}

fn published(name: PublishedName) -> &'static Published {
    match name {
        PublishedName::Inception => &INCEPTION,
        PublishedName::Vgg16 => &VGG16,
    }
}

fn list(out: &mut dyn Write) -> Outcome {
    for weights in [&INCEPTION, &VGG16] {
        match weights.find(None) {
            Ok(path) => writeln!(out, "{:<10} {}", weights.extractor, path.shown())?,
            Err(_) => writeln!(out, "{:<10} missing: {}", weights.extractor, weights.url)?,
        }
    }
    writeln!(out, "{:<10} embedded", "digits")?;
    Ok(())
}

/// Downloads a file unless it is there already, and checks it.
fn fetch(weights: &Published, to: Option<&Path>, out: &mut dyn Write) -> Outcome {
    let path = weights.destination(to);
    if path.is_file() {
        weights.check(&path)?;
        writeln!(out, "{} (was there already)", path.shown())?;
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(jit_core::files::FileError::at("create folder", folder))?;
    }
    say(&format!("fetching {}", weights.url));
    download(weights, &path)?;
    if let Err(error) = weights.check(&path) {
        // Nothing of the user's: it was written just now.
        let _gone = std::fs::remove_file(&path);
        return Err(error.into());
    }
    writeln!(out, "{}", path.shown())?;
    Ok(())
}

fn download(weights: &Published, path: &Path) -> Outcome {
    let failed = |error: ureq::Error| {
        let help =
            format!("download {} by other means, and put it at {}", weights.url, path.shown());
        Failure::new(format!("cannot fetch {}: {error}", weights.url)).help(help)
    };
    let mut response = ureq::get(weights.url).call().map_err(failed)?;
    let total = response.body().content_length().unwrap_or(0);
    let mut body = response.body_mut().with_config().limit(weights.max_bytes).reader();
    let mut progress = Progress::new("MB", 0, total >> 20);
    write_atomic(path, |file| {
        let mut buffer = vec![0; 1 << 20];
        let mut done = 0;
        loop {
            let n = io::Read::read(&mut body, &mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..n])?;
            done += n as u64;
            progress.update(done >> 20, "fetched");
        }
    })?;
    progress.finish();
    Ok(())
}

fn train_digits(to: &Path, out: &mut dyn Write) -> Outcome {
    let mut progress = None;
    let trained = digits::train(&mut |step, steps, loss| {
        let progress = progress.get_or_insert_with(|| Progress::new("step", 0, steps as u64));
        progress.update(step as u64, &format!("loss {loss:.4}"));
    })?;
    if let Some(progress) = &progress {
        progress.finish();
    }
    trained.write(to)?;
    wrote(out, to)?;
    writeln!(out, "reads {:.2} % of the held-out digits right", 100.0 * trained.accuracy())?;
    Ok(())
}
