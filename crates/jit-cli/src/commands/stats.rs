//! `jit stats`: statistics of real images, made once.

use std::io::Write;

use jit_eval::{Cache, Fit, Metric, Moments, Protocol, Stats};
use jit_train::Communicator;

use super::eval::{extractor, gather, open_extractors, open_images, provenance};
use crate::cli::StatsArgs;
use crate::failure::{Failure, Outcome};
use crate::places::wrote;

/// Writes the mean and the covariance of the images' features. Each process looks at some of the images.
///
/// # Errors
/// Images or weights that cannot be used, a file that cannot be written.
pub fn run(args: &StatsArgs, comm: &dyn Communicator, out: &mut dyn Write) -> Outcome {
    let protocol = Protocol::from(args.protocol);
    let fit = args.size.map(|size| Fit { size: size.get(), protocol });
    let name = extractor(&args.network, &args.images);
    let extractors = open_extractors(name, args.network.weights.as_deref(), &[Metric::Fid])?;
    let cache = args.network.cache.as_deref().map(Cache::new);
    let source = open_images(&args.images, comm)?;
    let (sample, [height, width]) =
        gather(comm, &source, fit, &extractors, cache.as_ref(), "read")?;
    if height != width {
        let message = format!("the images are {width}×{height}, no squares");
        return Err(Failure::new(message).help("bring them to squares with --size"));
    }
    let Some(sample) = sample else { return Ok(()) };
    let gaussian = Moments::of(&sample.features).gaussian()?;
    let provenance = provenance(&extractors, protocol, height, sample.len());
    Stats { gaussian, provenance: Some(provenance) }.write(&args.to)?;
    Ok(wrote(out, &args.to)?)
}
