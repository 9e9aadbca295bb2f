//! Whether a run fits into the machine's memory, before it starts: the system ends a process that asks
//! for more, without a word.

use jit_model::cost::{TrainingMemory, training_memory};
use jit_model::{Denoiser, Device};

use crate::config::RunConfig;
use crate::error::TrainError;

/// Refuses a run that needs more memory than the processor's machine has left. What is counted is what a
/// step cannot do without, so that nothing is refused that could run.
///
/// # Errors
/// [`TrainError::NoRoom`] with the micro-batch that fits.
pub fn check<D: Device>(dev: &D, config: &RunConfig, processes: usize) -> Result<(), TrainError> {
    within(dev, config, processes, jit_core::memory::available())
}

fn within<D: Device>(
    dev: &D,
    config: &RunConfig,
    processes: usize,
    available: Option<u64>,
) -> Result<(), TrainError> {
    let (true, Some(available)) = (dev.uses_host_memory(), available) else { return Ok(()) };
    // The first process has the largest share of a global batch.
    let share = config.train.global_batch.div_ceil(processes.max(1));
    let batch = config.train.micro_batch().min(share);
    let needed = |batch| needed(dev, config, batch);
    if needed(batch) <= available {
        return Ok(());
    }
    let (none, one) = (needed(0), needed(1).saturating_sub(needed(0)));
    let fits = |available: u64| {
        let fits = available.saturating_sub(none) / one.max(1);
        usize::try_from(fits).ok().filter(|&fits| fits > 0)
    };
    // What is advised has room to spare; where that is none, one image may do.
    let advised = fits((available as f64 / ROOM) as u64).or(fits(available).map(|_| 1));
    Err(TrainError::NoRoom {
        batch,
        needed: needed(batch),
        available,
        fits: advised,
        checkpoints: config.train.checkpoint_blocks,
    })
}

/// Memory at the peak of a step over what it cannot do without: copies of weights in the order of the
/// kernels, and what comes and goes. Measured: 1.15 to 1.3.
const ROOM: f64 = 1.3;

/// Bytes that a step of `batch` images needs at least, for all networks of the run, of which one at a
/// time computes.
pub fn needed<D: Device>(dev: &D, config: &RunConfig, batch: usize) -> u64 {
    let models = [Some(config.model.clone()), config.partner_model()];
    let memory = models.into_iter().flatten().map(|model| {
        let denoiser = Denoiser::new(dev, &model, &config.objective);
        let parameters = denoiser.registry().numel() as u64;
        let averages = config.optim.ema_decay.len();
        training_memory(&model, parameters, averages, batch, config.train.checkpoint_blocks)
    });
    let at_rest = |memory: &TrainingMemory| memory.total() - memory.activations;
    let all: Vec<TrainingMemory> = memory.collect();
    let most = all.iter().map(|memory| memory.activations).max().unwrap_or(0);
    all.iter().map(at_rest).sum::<u64>() + most
}

#[cfg(test)]
mod tests {
    use jit_model::Cpu;

    use super::*;
    use crate::testing::small;

    #[test]
    fn a_run_without_room_is_refused_with_the_micro_batch_that_fits() {
        let config = small();
        let need = |batch| needed(&Cpu::F32, &config, batch);
        let batch = config.train.micro_batch();
        assert!(batch > 3);
        let check = |available| within(&Cpu::F32, &config, 1, available);
        check(None).unwrap();
        check(Some(need(batch))).unwrap();
        let fits = |available| match check(Some(available)).unwrap_err() {
            TrainError::NoRoom { fits, .. } => fits,
            error => panic!("{error}"),
        };
        let roomy = |batch| (need(batch) as f64 * ROOM) as u64 + 1;
        assert!(roomy(3) < need(batch), "the network is small against its activations");
        assert_eq!(fits(roomy(3)), Some(3));
        assert_eq!(fits(need(1)), Some(1));
        assert_eq!(fits(need(1) - 1), None);
        let message = check(Some(roomy(3))).unwrap_err().to_string();
        assert!(message.contains("--set train.batch_size=3 would fit"), "{message}");
        // Processes share the images of a step.
        within(&Cpu::F32, &config, batch, Some(need(1))).unwrap();
    }
}
