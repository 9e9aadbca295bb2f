//! A short training: micro-batches in, losses and rates along the way, weights and averages out.

use jit_model::denoiser::{Batch, Noise};
use jit_model::objective::Auxiliary;
use jit_model::params::{ParamSpec, Registry};
use jit_model::{Denoiser, Device};
use jit_train::Communicator;
use jit_train::optimizer::Optimizer;
use jit_train::replay::{Recorded, replay};
use jit_train::{OptimConfig, RunConfig};

use super::VerifyError;
use super::case::Case;
use super::measure::{Check, tolerance};

/// Prefix of the weights that training starts from.
const PARAM: &str = "param.";
/// Prefix of the weights that it ends with.
const FINAL: &str = "final.";

/// Repeats the training on `dev`, with the images of each step shared between processes.
///
/// # Errors
/// When a tensor or metadata entry is missing or does not fit the network.
pub fn verify<D: Device>(
    comm: &dyn Communicator,
    dev: &D,
    case: &Case,
) -> Result<Vec<Check>, VerifyError> {
    let model = case.model(PARAM)?;
    let objective = case.objective()?;
    let optim = optim(case)?;
    let accumulation: usize = case.number("accumulation")?;
    if accumulation == 0 {
        return Err(case.bad_metadata("accumulation", "1 or more"));
    }

    let denoiser = Denoiser::new(dev, &model, &objective);
    let registry = denoiser.registry();
    let mut params = case.params(dev, registry, PARAM)?;
    let start = params.download(dev);
    let mut optimizer = Optimizer::new(dev, registry, &start, &optim);

    let t_shape = case.shape("micro.t")?;
    let [count, n] = t_shape[..] else {
        return Err(case.misfit("micro.t", format!("{t_shape:?}"), "[micro-batches, B]".into()));
    };
    let images = [count, n, model.channels, model.image_size, model.image_size];
    let (x, noise) = (case.tensor("micro.x", &images)?, case.tensor("micro.noise", &images)?);
    let t = case.tensor("micro.t", &[count, n])?;
    let labels = case.indices("micro.y", &[count, n], model.null_class())?;
    let rotates = objective.auxiliary == Auxiliary::Rotation;
    let turns =
        if rotates { case.indices("micro.rotation_k", &[count, n], 3)? } else { Vec::new() };
    let rotation: Vec<u8> = turns.into_iter().map(|k| k as u8).collect();

    let rates = rates(case, &optim, count)?;
    let pixels = model.pixels();
    let micro = |i: usize| Recorded {
        batch: Batch {
            x: &x[i * n * pixels..][..n * pixels],
            noise: Noise::Given(&noise[i * n * pixels..][..n * pixels]),
            t: &t[i * n..][..n],
            labels: &labels[i * n..][..n],
            rotation: if rotates { &rotation[i * n..][..n] } else { &[] },
        },
        lr: rates[i],
    };
    let recorded: Vec<Recorded<'_>> = (0..count).map(micro).collect();
    // The last step may have fewer micro-batches.
    let fewest = if count % accumulation == 0 { accumulation } else { count % accumulation };
    let (images, processes) = (n * fewest, comm.size());
    if images < processes {
        return Err(VerifyError::TooManyProcesses { path: case.path().into(), images, processes });
    }
    let losses =
        replay(comm, dev, &denoiser, &mut params, &mut optimizer, &recorded, accumulation)?;

    let name = case.name();
    let mut along = Check::new(&name, "losses and rates", tolerance::output(dev.precision()));
    let auxiliary: Vec<f32> = losses.iter().map(|l| mean(&l.auxiliary)).collect();
    let weight = objective.auxiliary_weight;
    let total = |(l, aux): (&jit_train::accumulate::ImageLosses, &f32)| {
        let diffusion = mean(&l.diffusion);
        if objective.auxiliary == Auxiliary::None { diffusion } else { diffusion + weight * aux }
    };
    let total: Vec<f32> = losses.iter().zip(&auxiliary).map(total).collect();
    // The weights drift apart in the last bits while they train, and the later losses with them.
    let mut later = Check::new(&name, "losses after steps", tolerance::gradient(dev.precision()));
    let want = case.tensor("micro.loss", &[count])?;
    let first = accumulation.min(count);
    along.relative("micro.loss", &total[..first], &want[..first]);
    later.relative("micro.loss", &total, &want);
    if objective.auxiliary != Auxiliary::None {
        let want = case.tensor("micro.aux", &[count])?;
        along.relative("micro.aux", &auxiliary[..first], &want[..first]);
        later.relative("micro.aux", &auxiliary, &want);
    }
    let rates: Vec<f32> = rates.iter().map(|&r| r as f32).collect();
    along.relative("micro.lr", &rates, &case.tensor("micro.lr", &[count])?);

    let mut weights = Check::new(&name, "final weights", tolerance::gradient(dev.precision()));
    compare(case, registry, FINAL, &params.download(dev), &mut weights)?;
    let mut checks = vec![along, later, weights];
    for (i, decay) in optim.ema_decay.iter().enumerate() {
        let mut averages =
            Check::new(&name, &format!("average {decay}"), tolerance::gradient(dev.precision()));
        let have = optimizer.average(dev, &params, i);
        compare(case, registry, &format!("ema{decay}."), &have, &mut averages)?;
        checks.push(averages);
    }
    Ok(checks)
}

/// Compares every trained parameter with the tensor of that prefix.
fn compare(
    case: &Case,
    registry: &Registry,
    prefix: &str,
    have: &[Vec<f32>],
    check: &mut Check,
) -> Result<(), VerifyError> {
    let trained = |(spec, _): &(&ParamSpec, &Vec<f32>)| spec.trainable;
    for (spec, value) in registry.specs().iter().zip(have).filter(trained) {
        let name = format!("{prefix}{}", spec.name);
        check.relative(&name, value, &case.tensor(&name, &spec.shape)?);
    }
    Ok(())
}

/// The optimizer in the metadata, with an average for every `emaDECAY.` among the tensors.
fn optim(case: &Case) -> Result<OptimConfig, VerifyError> {
    let text = case.metadata("betas").unwrap_or_default();
    let betas: Vec<f64> = text.split(',').filter_map(|b| b.trim().parse().ok()).collect();
    let Ok(betas) = <[f64; 2]>::try_from(betas) else {
        return Err(case.bad_metadata("betas", "two numbers separated by a comma"));
    };
    let suffix = ".net.pos_embed";
    let decay = |name: &String| name.strip_prefix("ema")?.strip_suffix(suffix)?.parse().ok();
    Ok(OptimConfig {
        lr: case.number("lr")?,
        betas,
        eps: case.number("eps")?,
        weight_decay: case.number("weight_decay")?,
        warmup_epochs: case.number("warmup_epochs")?,
        ema_decay: case.names().iter().filter_map(decay).collect(),
        ..OptimConfig::default()
    })
}

/// The learning rate set before every micro-batch.
fn rates(case: &Case, optim: &OptimConfig, count: usize) -> Result<Vec<f64>, VerifyError> {
    let per_epoch: f64 = case.number("micro_batches_per_epoch")?;
    if !(per_epoch.is_finite() && per_epoch > 0.0) {
        return Err(case.bad_metadata("micro_batches_per_epoch", "1 or more"));
    }
    let config = RunConfig { optim: optim.clone(), ..RunConfig::default() };
    config.validate().map_err(|e| case.bad_metadata("lr", &e.to_string()))?;
    Ok((0..count).map(|i| config.learning_rate(i as f64 / per_epoch)).collect())
}

/// The mean, summed in f64.
fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len().max(1) as f64) as f32
}
