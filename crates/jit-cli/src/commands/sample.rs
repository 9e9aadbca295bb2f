//! `jit sample`: images out of noise.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use jit_core::output;
use jit_data::grid::{Sheet, grid, interleave, save_png, to_u8};
use jit_model::weights::{Tensor, TensorData, write_npz};
use jit_model::{Device, ModelConfig};
use jit_train::Communicator;
use jit_train::turns::in_turn;

use crate::classes;
use crate::cli::SampleArgs;
use crate::device::{DeviceName, on_device};
use crate::drawing::Drawer;
use crate::failure::{Failure, Outcome};
use crate::places::wrote;
use crate::source::{self, Source};
use crate::terminal::Progress;
use crate::{fusion, interrupt};

/// Pixels between the images of a sheet.
const PADDING: usize = 2;

/// The largest sheet, in values: 2³¹.
const MAX_SHEET: usize = 1 << 31;

/// The images that were drawn.
#[derive(Default)]
struct Drawn {
    /// `[n, C, S, S]`
    images: Vec<u8>,
    /// The estimates of the clean image, `[n, steps, C, S, S]`; empty unless asked for.
    trajectory: Vec<u8>,
}

/// Draws the images, each process some of them, and writes the outputs asked for.
///
/// # Errors
/// Weights or classes that do not exist, outputs that cannot be written.
pub fn run(
    args: &SampleArgs,
    device: DeviceName,
    comm: &dyn Communicator,
    out: &mut dyn Write,
) -> Outcome {
    let mut source =
        source::open(&args.source.checkpoint, args.source.weights.as_deref(), &args.config)?;
    let second = fusion::second(&source)?;
    let classes =
        classes::parse(&args.classes, source.config.model.num_classes, &source.class_names)
            .map_err(Failure::usage)?;
    let count = args.count.map_or_else(|| classes::default_count(classes.len()), |n| n.get());
    let labels: Vec<u32> = (0..count).map(|i| classes[i % classes.len()]).collect();
    let columns = classes::columns(classes.len(), count);
    limit(args, &source, count, columns)?;
    let none = args.folder.is_none() && args.npz.is_none() && args.trajectory.is_none();
    let sheet_at = args.out.as_deref().or(none.then(|| Path::new("samples.png")));
    sheet_at.map_or(Ok(()), output::check)?;

    let opened = device.open(source.config.train.precision)?;
    let drawn = on_device!(&opened, dev => draw(comm, dev, &mut source, second, args, &labels))?;
    if !comm.is_first() {
        return Ok(());
    }
    let model = &source.config.model;
    if let Some(path) = sheet_at {
        sheet(&drawn.images, model, columns).save(path)?;
        wrote(out, path)?;
    }
    if let Some(dir) = &args.folder {
        wrote(out, dir)?;
    }
    if let Some(path) = &args.npz {
        save_npz(path, &drawn.images, &labels, model)?;
        wrote(out, path)?;
    }
    if let Some(path) = &args.trajectory {
        sheet(&drawn.trajectory, model, source.config.sample.steps).save(path)?;
        wrote(out, path)?;
    }
    Ok(())
}

/// Refuses sheets that no viewer opens, before anything is drawn.
fn limit(args: &SampleArgs, source: &Source, count: usize, columns: usize) -> Outcome {
    let model = &source.config.model;
    let side = model.image_size + PADDING;
    let values = |rows: usize, columns: usize| {
        [rows, columns, side, side, model.channels].into_iter().try_fold(1usize, usize::checked_mul)
    };
    let mut sheets = Vec::new();
    if args.out.is_some() {
        sheets.push(("--out", values(count.div_ceil(columns), columns)));
    }
    if args.trajectory.is_some() {
        sheets.push(("--trajectory", values(count, source.config.sample.steps)));
    }
    match sheets.into_iter().find(|(_, size)| size.is_none_or(|n| n > MAX_SHEET)) {
        None => Ok(()),
        Some((flag, _)) => {
            let message = format!("the sheet of {count} images for {flag} would be too large");
            Err(Failure::usage(message).help("lower --count, or write single images with --folder"))
        }
    }
}

/// Draws `labels.len()` images, a batch at a time and each batch on the process whose turn it is. Image i
/// depends on the seed, i and its class. What was drawn is on process 0.
fn draw<D: Device>(
    comm: &dyn Communicator,
    dev: &D,
    source: &mut Source,
    second: Option<Source>,
    args: &SampleArgs,
    labels: &[u32],
) -> Outcome<Drawn> {
    let drawer = Drawer::new(dev, source, second)?;
    let (sampler, model) = (drawer.sampler(), &source.config.model);
    let (pixels, steps) = (model.pixels(), source.config.sample.steps);
    let stop = interrupt::flag()?;
    let batch = args.batch_size.get();
    let rounds = labels.len().div_ceil(batch * comm.size());
    let mut progress = Progress::new("step", 0, (rounds * steps) as u64);
    let keep = args.folder.is_none() || args.out.is_some() || args.npz.is_some();
    let (mut drawn, mut done, mut round) = (Drawn::default(), 0, 0);

    // The images, then their estimates.
    let make = |range: Range<usize>| {
        let (first, labels) = (range.start as u64, &labels[range]);
        let mut estimates = Vec::new();
        let mut made = jit_train::draw::draw(&sampler, args.seed, first, labels, |step| {
            if args.trajectory.is_some() {
                estimates.push(to_u8(&dev.download(&(step.x_hat)())));
            }
            progress.update((round * steps + step.step) as u64, "drawing");
        })?;
        for i in 0..labels.len() {
            made.extend(estimates.iter().flat_map(|step| &step[i * pixels..][..pixels]));
        }
        round += 1;
        Ok::<_, Failure>(made)
    };
    let take = |range: Range<usize>, made: Vec<u8>| {
        let (images, estimates) = made.split_at(range.len() * pixels);
        drawn.trajectory.extend(estimates);
        if let Some(dir) = &args.folder {
            save_each(dir, images, model, range.start)?;
        }
        if keep {
            drawn.images.extend(images);
        }
        done = range.end;
        Ok(())
    };
    let complete = in_turn(comm, (labels.len(), batch), &stop, make, take)?;
    progress.finish();
    match complete {
        true => Ok(drawn),
        false => Err(Failure::new(format!("stopped after {done} images"))),
    }
}

fn sheet(images: &[u8], model: &ModelConfig, columns: usize) -> Sheet {
    grid(images, model.channels, model.image_size, columns, PADDING)
}

/// `000123.png`, numbered from `first`.
pub fn save_each(dir: &Path, images: &[u8], model: &ModelConfig, first: usize) -> Outcome {
    let (side, channels) = (model.image_size, model.channels);
    for (i, planes) in images.chunks(model.pixels()).enumerate() {
        let path = dir.join(format!("{:06}.png", first + i));
        save_png(&path, &interleave(planes, channels), side, side, channels)?;
    }
    Ok(())
}

fn save_npz(path: &Path, images: &[u8], labels: &[u32], model: &ModelConfig) -> Outcome {
    let (side, channels) = (model.image_size, model.channels);
    let data = TensorData::I64(labels.iter().map(|&y| i64::from(y)).collect());
    let classes = Tensor { shape: vec![labels.len()], data };
    Ok(write_npz(path, |archive| {
        archive.stream_u8("arr_0", &[labels.len(), side, side, channels], |file| {
            let mut images = images.chunks(model.pixels());
            images.try_for_each(|planes| file.write_all(&interleave(planes, channels)))
        })?;
        archive.array("arr_1", &classes)
    })?)
}
