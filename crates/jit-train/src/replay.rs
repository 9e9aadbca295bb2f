//! Training on given micro-batches: how a recorded run of another implementation is repeated.

use std::ops::Range;

use jit_model::denoiser::Batch;
use jit_model::net::Mode;
use jit_model::{Denoiser, Device, Grads, Params};

use crate::accumulate::{ImageLosses, accumulate};
use crate::communicator::{CommunicationError, Communicator, share};
use crate::optimizer::Optimizer;
use crate::reduce::Reducer;

/// One micro-batch of a recorded run.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Images, noise, times and labels.
    pub batch: Batch<'a>,
    /// The learning rate that was set before it.
    pub lr: f64,
}

/// Repeats a run: an optimizer step after every `accumulation` micro-batches of equal size, with
/// the rate of the last of them. Returns the losses of every micro-batch.
///
/// Several processes share the images of each step, of which there must be one for each.
///
/// # Errors
/// [`CommunicationError`].
pub fn replay<D: Device>(
    comm: &dyn Communicator,
    dev: &D,
    denoiser: &Denoiser<D>,
    params: &mut Params<D>,
    optimizer: &mut Optimizer<D>,
    recorded: &[Recorded<'_>],
    accumulation: usize,
) -> Result<Vec<ImageLosses>, CommunicationError> {
    let mut grads = Grads::zeros(dev, denoiser.registry());
    let mut losses = Vec::with_capacity(recorded.len());
    for group in recorded.chunks(accumulation.max(1)) {
        grads.clear(dev);
        let images = group.iter().map(|micro| micro.batch.t.len()).sum();
        let mine = share(images, comm.rank(), comm.size());
        let mut reducer = Reducer::new(denoiser.registry());
        // What each image lost: zero but for the images of this process.
        let [mut diffusion, mut auxiliary] = [(); 2].map(|()| vec![0.0; images]);
        let (mut lr, mut first, mut has_auxiliary) = (0.0, 0, false);
        for micro in group {
            lr = micro.lr;
            let here = mine.start.max(first)..mine.end.min(first + micro.batch.t.len());
            if !here.is_empty() {
                let last = here.end == mine.end;
                let mut finished = |grads: &Grads<D>, first: usize| {
                    if last {
                        reducer.finished(comm, dev, grads, first);
                    }
                };
                let batch = part(micro.batch, here.start - first..here.end - first);
                let mode = Mode::default();
                let lost = accumulate(
                    dev,
                    denoiser,
                    params,
                    &mut grads,
                    (batch, images),
                    mode,
                    &mut finished,
                )
                .read(dev);
                diffusion[here.clone()].copy_from_slice(&lost.diffusion);
                has_auxiliary = !lost.auxiliary.is_empty();
                if has_auxiliary {
                    auxiliary[here].copy_from_slice(&lost.auxiliary);
                }
            }
            first += micro.batch.t.len();
        }
        let (diffusion, auxiliary) = (comm.start_sum(diffusion), comm.start_sum(auxiliary));
        reducer.finish(dev, &mut grads)?;
        let (diffusion, auxiliary) = (diffusion.wait()?, auxiliary.wait()?);
        let mut first = 0;
        for micro in group {
            let range = first..first + micro.batch.t.len();
            first = range.end;
            let auxiliary =
                if has_auxiliary { auxiliary[range.clone()].to_vec() } else { Vec::new() };
            losses.push(ImageLosses { diffusion: diffusion[range].to_vec(), auxiliary });
        }
        let norm = optimizer.grad_norm(dev, &grads);
        optimizer.step(dev, denoiser.registry(), params, &grads, &norm, lr);
    }
    Ok(losses)
}

/// Some images of a batch.
fn part(batch: Batch<'_>, range: Range<usize>) -> Batch<'_> {
    let pixels = batch.x.len() / batch.t.len();
    let images = range.start * pixels..range.end * pixels;
    let rotates = !batch.rotation.is_empty();
    Batch {
        x: &batch.x[images],
        noise: batch.noise.of(range.clone(), pixels),
        t: &batch.t[range.clone()],
        labels: &batch.labels[range.clone()],
        rotation: if rotates { &batch.rotation[range] } else { &[] },
    }
}

#[cfg(test)]
mod tests {
    use jit_model::objective::{Auxiliary, ObjectiveConfig};
    use jit_model::params::Registry;
    use jit_model::{Cpu, ModelConfig};

    use super::*;
    use crate::communicator::Alone;
    use crate::communicator::threads::together;
    use crate::config::OptimConfig;
    use crate::testing::{golden, golden_rates};
    use jit_model::denoiser::Noise;

    /// Largest difference relative to the largest expected value.
    fn error(actual: &[f32], expected: &[f32]) -> f32 {
        assert_eq!(actual.len(), expected.len());
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let difference = actual.iter().zip(expected).fold(0.0f32, |m, (a, e)| m.max((a - e).abs()));
        difference / largest.max(f32::MIN_POSITIVE)
    }

    #[test]
    fn ten_steps_are_the_references() {
        agrees(&Alone);
    }

    #[test]
    fn ten_steps_on_several_processes_are_the_references() {
        // Eight images a step in micro-batches of four: shares of 3, 3 and 2 cut across them.
        for size in [2, 3, 4] {
            together(size, |comm| agrees(comm));
        }
    }

    fn agrees(comm: &dyn Communicator) {
        let file = golden();
        let meta = file.metadata();
        let mut json: serde_json::Value = serde_json::from_str(&meta["config"]).unwrap();
        json["patch_embed"] = meta["patch_embed"].as_str().into();
        json["mlp"] = meta["mlp"].as_str().into();
        let model: ModelConfig = serde_json::from_value(json).unwrap();
        let number = |key: &str| meta[key].parse::<f64>().unwrap();
        let objective = ObjectiveConfig {
            auxiliary: Auxiliary::Time,
            auxiliary_weight: number("lambda") as f32,
            ..ObjectiveConfig::default()
        };
        let decays = vec![0.999, 0.9999];
        let config = OptimConfig {
            eps: number("eps"),
            weight_decay: number("weight_decay"),
            ema_decay: decays.clone(),
            ..OptimConfig::default()
        };

        let denoiser = Denoiser::new(&Cpu::F32, &model, &objective);
        let registry: &Registry = denoiser.registry();
        let start: Vec<Vec<f32>> = registry
            .specs()
            .iter()
            .map(|spec| match file.tensor(&format!("param.{}", spec.name)) {
                Ok(tensor) => tensor.into_f32(),
                Err(error) => panic!("{error}"),
            })
            .collect();
        let mut params = Params::upload(&Cpu::F32, registry, &start);
        let mut optimizer = Optimizer::new(&Cpu::F32, registry, &start, &config);

        let tensor = |name: &str| file.tensor(&format!("micro.{name}")).unwrap();
        let [x, noise, t] = ["x", "noise", "t"].map(|name| tensor(name).into_f32());
        let labels: Vec<u32> =
            tensor("y").to_i64().unwrap().into_iter().map(|y| y as u32).collect();
        let rates = golden_rates();
        let size = 4;
        let pixels = size * model.pixels();
        let recorded: Vec<Recorded<'_>> = (0..20)
            .map(|i| Recorded {
                batch: Batch {
                    x: &x[i * pixels..][..pixels],
                    noise: Noise::Given(&noise[i * pixels..][..pixels]),
                    t: &t[i * size..][..size],
                    labels: &labels[i * size..][..size],
                    rotation: &[],
                },
                lr: rates[i],
            })
            .collect();
        let accumulation = number("accumulation") as usize;
        let (dev, model) = (&Cpu::F32, &denoiser);
        let losses = replay(comm, dev, model, &mut params, &mut optimizer, &recorded, accumulation);
        let losses = losses.unwrap();

        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
        let (total, aux): (Vec<f32>, Vec<f32>) = losses
            .iter()
            .map(|l| {
                let aux = mean(&l.auxiliary);
                (mean(&l.diffusion) + objective.auxiliary_weight * aux, aux)
            })
            .unzip();
        assert!(error(&total, &tensor("loss").into_f32()) < 1e-5);
        assert!(error(&aux, &tensor("aux").into_f32()) < 1e-5);

        // golden/README.md: ten-step weights agree to 1e-4 of the largest value.
        let mut compared = 0;
        let mut compare = |prefix: &str, values: &[Vec<f32>]| {
            for (spec, value) in registry.specs().iter().zip(values) {
                let name = format!("{prefix}.{}", spec.name);
                if file.info(&name).is_some() {
                    let error = error(value, &file.tensor(&name).unwrap().into_f32());
                    assert!(error < 1e-4, "{name} is off by {error}");
                    compared += 1;
                }
            }
        };
        compare("final", &params.download(&Cpu::F32));
        for (i, decay) in decays.iter().enumerate() {
            compare(&format!("ema{decay}"), &optimizer.average(&Cpu::F32, &params, i));
        }
        let references = ["final.", "ema0.999.", "ema0.9999."];
        let names = file.names();
        let expected =
            names.iter().filter(|name| references.iter().any(|r| name.starts_with(r))).count();
        assert_eq!(compared, expected, "every weight of the file is compared");
    }
}
