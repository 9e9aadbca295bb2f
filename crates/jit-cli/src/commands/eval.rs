//! `jit eval`: how good generated images are.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use jit_core::text::Show;
use jit_data::digits;
use jit_eval::extractor::Images;
use jit_eval::source::{Chunk, HELD_OUT_DIGITS, rgb_of_planes};
use jit_eval::{
    Cache, Collector, Extractors, Fit, Metric, Options, Part, Protocol, Provenance, Reference,
    Report, Sample, Source, Stats, evaluate,
};
use jit_model::Device;
use jit_model::sampler::TimeGrid;
use jit_model::weights::Npz;
use jit_train::Communicator;
use jit_train::communicator::CommunicationError;
use jit_train::turns::in_turn;

use self::frames::Frames;
use self::report::{Evaluation, LeftOut, Real};
use super::sample::save_each;
use crate::cli::{EvalArgs, ExtractorName, NetworkArgs};
use crate::device::{DeviceName, on_device};
use crate::drawing::Drawer;
use crate::failure::{Failure, Outcome};
use crate::source::{self as checkpoint, Source as Checkpoint};
use crate::terminal::{Progress, say};
use crate::{fusion, interrupt};

mod frames;
mod report;

/// Gathers features of generated and of real images, and prints every metric. Each process sees to some of
/// the images, the first to the metrics.
///
/// # Errors
/// Images or weights that cannot be used, too few images for a metric.
pub fn run(
    args: &EvalArgs,
    device: DeviceName,
    comm: &dyn Communicator,
    out: &mut dyn Write,
) -> Outcome {
    let mut model = match &args.checkpoint {
        None => None,
        Some(path) => Some(checkpoint::open(path, args.average.as_deref(), &args.config)?),
    };
    let second = model.as_ref().map(fusion::second).transpose()?.flatten();
    let reference = reference(args, model.as_ref())?;
    let mut options = options(args);

    // What can fail soon does so before anything takes long.
    let statistics = read_statistics(&reference)?;
    let held_out = args.held_out.clone().or_else(|| default_held_out(&reference));
    let held_out = held_out.as_deref().map(|path| open_images(path, comm)).transpose()?;
    let of_images = [Metric::Kid, Metric::PrecisionRecall];
    let real = match &statistics {
        None => Some(open_images(&reference, comm)?),
        // ADM's reference batches hold images beside the statistics.
        Some(_) if of_images.iter().any(|metric| options.metrics.contains(metric)) => {
            images_beside(&reference)?
        }
        Some(_) => None,
    };
    let given = args.images.as_deref().map(|path| open_images(path, comm)).transpose()?;
    let count = given.as_ref().map_or(args.count.get(), Source::len);
    let left_out = fit_options(args, &mut options, count, real.as_ref().map(Source::len))?;
    let name = match &statistics {
        Some(stats) => extractor_of(&args.network, stats),
        None => extractor(&args.network, &reference),
    };
    let metrics = match &real {
        Some(_) => &options.metrics[..],
        None => &[Metric::Fid, Metric::Is],
    };
    if let Some(stats) = &statistics {
        stats.check_extractor(&reference, name.name())?;
    }
    let extractors = open_extractors(name, args.network.weights.as_deref(), metrics)?;
    let cache = args.network.cache.as_deref().map(Cache::new);

    let (generated, size, described) = match (&mut model, &given) {
        (Some(model), _) => {
            let opened = device.open(model.config.train.precision)?;
            let eyes = (&extractors, cache.as_ref());
            on_device!(&opened, dev => draw(comm, dev, args, model, second, eyes))?
        }
        (None, Some(given)) => {
            let (sample, size) =
                gather(comm, given, None, &extractors, cache.as_ref(), "generated")?;
            (sample, size, given.name())
        }
        (None, None) => Err(Failure::usage("there is nothing to evaluate"))?,
    };
    let protocol = Protocol::from(args.protocol);
    let fit = || match size {
        [height, width] if height == width => Ok(Some(Fit { size: height, protocol })),
        [height, width] => {
            let message = format!("the generated images are {width}×{height}, no squares");
            Err(Failure::new(message).help("real images are brought to a square: generate squares"))
        }
    };
    let fit = fit()?;
    if let Some(stats) = &statistics {
        stats.check(&reference, &provenance(&extractors, protocol, size[0], count))?;
    }
    let of_statistics = statistics.map(|stats| stats.gaussian);
    let from_both = of_statistics.is_some() && real.is_some();
    let against = match (of_statistics, &real) {
        (statistics, Some(source)) => {
            let (real, _) = gather(comm, source, fit, &extractors, cache.as_ref(), "reference")?;
            let images = real.map(Reference::images).transpose()?;
            match statistics {
                Some(gaussian) => images.map(|images| images.with_statistics(gaussian)),
                None => images,
            }
        }
        (Some(gaussian), None) => Some(Reference::statistics(gaussian)),
        (None, None) => Err(Failure::new("there is no reference"))?,
    };
    let mut real = match &held_out {
        None => None,
        Some(source) => gather(comm, source, fit, &extractors, cache.as_ref(), "held-out")?.0,
    };
    let (Some(generated), Some(against)) = (generated, against) else { return Ok(()) };
    if let Some(real) = &mut real {
        real.truncate(generated.len());
    }
    let (extractor, weights) = (extractors.name(), extractors.main.weights_sha256().to_string());
    // What follows needs the memory more.
    drop(extractors);
    let metrics = evaluate(&generated, &against, &options)?;
    let floor = real.map(|real| evaluate_floor(args, &real, &against, &options)).transpose()?;
    let evaluation = Evaluation {
        generated: described,
        reference: Real {
            path: reference.shown().to_string(),
            protocol: protocol.name(),
            resolution: size[0],
            from_both,
        },
        extractor,
        weights,
        options,
        metrics,
        floor,
        left_out,
    };
    match args.json {
        true => Ok(writeln!(out, "{}", serde_json::to_string_pretty(&evaluation)?)?),
        false => report::text(&evaluation, args.paper_columns, out),
    }
}

/// Images in a subset of KID where there are as many.
pub const KID_SUBSET: usize = 1000;

/// Brings the options to the numbers of images: subsets of KID as large as they can be, unless their size
/// was given, and without the metrics that nobody asked for by name and that so few images do not tell.
fn fit_options(
    args: &EvalArgs,
    options: &mut Options,
    generated: usize,
    real: Option<usize>,
) -> Outcome<Vec<LeftOut>> {
    shrink(args, options, generated, real);
    if !args.metrics.is_empty() || args.kid_subset.is_some() {
        options.check(generated, real)?;
        return Ok(Vec::new());
    }
    let mut left_out = options.leave_out(generated, real);
    match options.metrics.is_empty() && !left_out.is_empty() {
        true => Err(left_out.swap_remove(0).1.into()),
        false => Ok(left_out.into_iter().map(LeftOut::new).collect()),
    }
}

/// Subsets of KID as large as they can be, unless their size was given.
fn shrink(args: &EvalArgs, options: &mut Options, generated: usize, real: Option<usize>) {
    if args.kid_subset.is_none() {
        let least = real.map_or(generated, |real| real.min(generated));
        options.kid_subset = options.kid_subset.min(least);
    }
}

/// The metrics of held-out images, of which there may be too few for some.
fn evaluate_floor(
    args: &EvalArgs,
    real: &Sample,
    against: &Reference,
    options: &Options,
) -> Outcome<Report> {
    let mut options = options.clone();
    shrink(args, &mut options, real.len(), None);
    options.leave_out(real.len(), (!against.is_empty()).then_some(against.len()));
    Ok(evaluate(real, against, &options)?)
}

/// The reference asked for, or what the model was trained on.
fn reference(args: &EvalArgs, model: Option<&Checkpoint>) -> Outcome<PathBuf> {
    let trained_on = || model.map(|model| PathBuf::from(&model.config.data.path));
    args.reference
        .clone()
        .or_else(trained_on)
        .ok_or_else(|| Failure::usage("there is no reference").help("give one with --reference"))
}

/// For digits there are some that no model was trained on.
fn default_held_out(reference: &Path) -> Option<PathBuf> {
    (reference == Path::new(digits::NAME)).then(|| PathBuf::from(HELD_OUT_DIGITS))
}

/// The extractor asked for, or the one that suits the real images.
pub fn extractor(args: &NetworkArgs, real: &Path) -> ExtractorName {
    let digits = [digits::NAME, HELD_OUT_DIGITS].iter().any(|name| real == Path::new(name));
    args.extractor.unwrap_or(match digits {
        true => ExtractorName::Digits,
        false => ExtractorName::Inception,
    })
}

/// The extractor asked for, or the one that the statistics were made with.
fn extractor_of(args: &NetworkArgs, stats: &Stats) -> ExtractorName {
    let made_with = stats.provenance.as_ref().map(|p| p.extractor.as_str());
    args.extractor.unwrap_or(match made_with {
        Some("digits") => ExtractorName::Digits,
        _ => ExtractorName::Inception,
    })
}

/// Opens the networks that these metrics need.
pub fn open_extractors(
    name: ExtractorName,
    weights: Option<&Path>,
    metrics: &[Metric],
) -> Outcome<Extractors> {
    let neighbours = metrics.contains(&Metric::PrecisionRecall);
    let others = metrics.iter().any(|metric| *metric != Metric::PrecisionRecall);
    Ok(match name {
        ExtractorName::Digits => Extractors::digits()?,
        ExtractorName::Inception if others => Extractors::inception(weights, neighbours)?,
        ExtractorName::Inception => Extractors::vgg16(weights)?,
    })
}

fn options(args: &EvalArgs) -> Options {
    let metrics = match &args.metrics[..] {
        [] => Metric::ALL.to_vec(),
        chosen => chosen.iter().map(|&name| name.into()).collect(),
    };
    Options {
        metrics,
        splits: args.splits.max(1),
        kid_subsets: args.kid_subsets.max(1),
        kid_subset: args.kid_subset.unwrap_or(KID_SUBSET),
        neighbours: args.neighbours,
        resamples: args.resamples,
        seed: args.seed,
    }
}

/// The statistics that `path` holds, if it is a file of such.
fn read_statistics(path: &Path) -> Outcome<Option<Stats>> {
    Ok(match Stats::are_in(path)? {
        true => Some(Stats::read(path)?),
        false => None,
    })
}

/// Images under a path, saying which of them are taken where not all are.
///
/// # Errors
/// As [`Source::open`].
pub fn open_images(path: &Path, comm: &dyn Communicator) -> Outcome<Source> {
    let source = Source::open(path)?;
    if comm.is_first() {
        source.notes().iter().for_each(|note| say(&format!("note: {}", note.shown())));
    }
    Ok(source)
}

/// The images that a file of statistics holds beside them, if it does.
fn images_beside(path: &Path) -> Outcome<Option<Source>> {
    if path.extension().is_none_or(|extension| extension != "npz") {
        return Ok(None);
    }
    let has_images = Npz::open(path)?.names().iter().any(|name| name == "arr_0");
    Ok(if has_images { Some(Source::open(path)?) } else { None })
}

/// What statistics made here and now would say of themselves.
pub fn provenance(
    extractors: &Extractors,
    protocol: Protocol,
    resolution: usize,
    count: usize,
) -> Provenance {
    Provenance {
        extractor: extractors.name().to_string(),
        weights: extractors.main.weights_sha256().to_string(),
        protocol: protocol.name().to_string(),
        resolution,
        count,
    }
}

/// Features of all images of a source, on process 0, and the images' height and width. Each process looks
/// at some of them.
pub fn gather(
    comm: &dyn Communicator,
    source: &Source,
    fit: Option<Fit>,
    extractors: &Extractors,
    cache: Option<&Cache>,
    what: &str,
) -> Outcome<(Option<Sample>, [usize; 2])> {
    let stop = interrupt::flag()?;
    let mut progress = Progress::new("image", 0, source.len() as u64);
    let mut collector = Collector::new(extractors, cache);
    let eye = Collector::new(extractors, cache);
    let (mut size, mut stopped, mut images) = ([0, 0], false, 0);
    let (rank, processes) = (comm.rank(), comm.size());
    let mut frames = Frames::default();
    source.for_each_of(fit, &|chunk| chunk % processes == rank, &mut |chunk| {
        stopped |= stop.load(Ordering::Relaxed);
        if stopped {
            return Ok(());
        }
        size = [chunk.images.height, chunk.images.width];
        images += chunk.images.batch;
        match processes {
            1 => collector.push(chunk)?,
            _ => frames.push(size, &eye.look(chunk)?),
        }
        // The others are about as far.
        progress.update((images * processes).min(source.len()) as u64, what);
        Ok(())
    })?;
    progress.finish();
    if comm.any(stopped)? {
        return Err(Failure::new(format!("stopped after {images} {what} images")));
    }
    if processes > 1 {
        let all = comm.gather(frames.bytes)?;
        let mut all: Vec<Frames> = all.into_iter().map(Frames::from).collect();
        for chunk in (0..source.chunks()).filter(|_| comm.is_first()) {
            let rank = chunk % processes;
            let garbled = CommunicationError::Garbled(rank);
            let (other, part) = all.get_mut(rank).and_then(Frames::pop).ok_or(garbled)?;
            if other != size {
                let message = format!(
                    "`{}` has images of {}×{} and of {}×{} pixels",
                    source.name(),
                    size[1],
                    size[0],
                    other[1],
                    other[0]
                );
                return Err(Failure::new(message).help("a single process names two of them"));
            }
            collector.add(part);
        }
        size = Frames::from(comm.broadcast(Frames::sides(size))?)
            .pop_size()
            .ok_or(CommunicationError::Garbled(0))?;
    }
    Ok((comm.is_first().then(|| collector.finish()).transpose()?, size))
}

/// Features of images drawn by a model, on process 0, their size, and what they are. Each process draws
/// some of them.
fn draw<D: Device>(
    comm: &dyn Communicator,
    dev: &D,
    args: &EvalArgs,
    model: &mut Checkpoint,
    second: Option<Checkpoint>,
    (extractors, cache): (&Extractors, Option<&Cache>),
) -> Outcome<(Option<Sample>, [usize; 2], String)> {
    let fused = second.as_ref().map(|second| fusion::describe(model, second)).unwrap_or_default();
    let drawer = Drawer::new(dev, model, second)?;
    let (sampler, shape) = (drawer.sampler(), &model.config.model);
    let (classes, side) = (shape.num_classes.max(1), shape.image_size);
    let labels: Vec<u32> = (0..args.count.get()).map(|i| (i % classes) as u32).collect();
    let stop = interrupt::flag()?;
    let mut progress = Progress::new("image", 0, labels.len() as u64);
    let mut collector = Collector::new(extractors, cache);
    let eye = Collector::new(extractors, cache);
    let mut done = 0;
    let batch = args.batch_size.get();
    // The planes where they are to be written, then what the networks say of them.
    let make = |range: Range<usize>| {
        let (first, labels) = (range.start, &labels[range]);
        let planes = jit_train::draw::draw(&sampler, args.seed, first as u64, labels, |_| {})?;
        let pixels = rgb_of_planes(&planes, labels.len(), shape.channels);
        let images = Images { pixels: &pixels, batch: labels.len(), height: side, width: side };
        let said = eye.look(Chunk { images, labels: Some(labels) })?.to_bytes();
        let planes = if args.folder.is_some() { planes } else { Vec::new() };
        Ok::<_, Failure>([planes, said].concat())
    };
    let take = |range: Range<usize>, made: Vec<u8>| {
        let planes = if args.folder.is_some() { range.len() * shape.pixels() } else { 0 };
        let rank = range.start / batch % comm.size();
        let garbled = || CommunicationError::Garbled(rank);
        let (planes, said) = made.split_at_checked(planes).ok_or_else(garbled)?;
        if let Some(dir) = &args.folder {
            save_each(dir, planes, shape, range.start)?;
        }
        collector.add(Part::from_bytes(said).ok_or_else(garbled)?);
        done = range.end;
        progress.update(done as u64, "drawn");
        Ok(())
    };
    let complete = in_turn(comm, (labels.len(), batch), &stop, make, take)?;
    progress.finish();
    if !complete {
        return Err(Failure::new(format!("stopped after {done} images")));
    }
    let sample = &model.config.sample;
    let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let grid = match sample.grid {
        TimeGrid::Uniform => "steps".to_string(),
        grid => format!("{} steps", name(serde_json::to_value(grid)?)),
    };
    let described = format!(
        "{}{fused} ({}, {} {grid}, guidance {} on [{}, {}])",
        model.path.shown(),
        name(serde_json::to_value(sample.method)?),
        sample.steps,
        sample.cfg_scale,
        sample.cfg_interval[0],
        sample.cfg_interval[1],
    );
    let sample = comm.is_first().then(|| collector.finish()).transpose()?;
    Ok((sample, [side, side], described))
}
