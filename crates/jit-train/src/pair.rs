//! Two trained networks that draw together: for sweeps over how they are fused.

use std::sync::atomic::AtomicBool;

use jit_eval::Report;
use jit_model::fusion::{Fusion, Parent, compatible};
use jit_model::{Denoiser, Device, Params, Sampler};

use crate::checkpoint::{self, Checkpoint};
use crate::communicator::Alone;
use crate::config::{Role, RunConfig};
use crate::error::TrainError;
use crate::evaluation::Evaluation;

/// Two networks of one checkpoint or of two, with the weights that draw.
pub struct Pair<'a, D: Device> {
    dev: &'a D,
    config: &'a RunConfig,
    first: Network<D>,
    second: Network<D>,
}

/// A network and its parameters.
struct Network<D: Device> {
    denoiser: Denoiser<D>,
    params: Params<D>,
}

impl<'a, D: Device> Pair<'a, D> {
    /// Reads two networks. Both draw as the first's configuration says: steps, guidance, noise, labels.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`] when they draw other images, and weights that are not those of their
    /// configurations.
    pub fn open(
        dev: &'a D,
        first: (&'a Checkpoint, Role),
        second: (&'a Checkpoint, Role),
    ) -> Result<Self, TrainError> {
        let config = &first.0.config;
        let [name_first, name_second] = [first, second].map(|(checkpoint, role)| {
            checkpoint.dir.join(checkpoint::model_file(role)).display().to_string()
        });
        let (first, second) = (Network::open(dev, first)?, Network::open(dev, second)?);
        compatible(first.parent(&name_first), second.parent(&name_second))?;
        Ok(Self { dev, config, first, second })
    }

    /// A sampler of both.
    pub fn sampler(&self, fusion: Fusion) -> Sampler<'_, D> {
        let [first, second] = [&self.first, &self.second].map(|Network { denoiser, params }| {
            denoiser.sampler(self.dev, params, &self.config.sample)
        });
        fusion.sampler(first, second)
    }

    /// Draws with both and judges what they drew; from the noise, with the labels and in the number
    /// of the first's own evaluations. `None` if `stop` was set meanwhile.
    ///
    /// # Errors
    /// As [`Evaluation::run`].
    pub fn evaluate(
        &self,
        evaluation: &Evaluation,
        fusion: Fusion,
        stop: &AtomicBool,
    ) -> Result<Option<Report>, TrainError> {
        Ok(evaluation.run(&Alone, &self.sampler(fusion), self.config, stop)?.here())
    }
}

impl<D: Device> Network<D> {
    /// With the first average of the weights, or the weights themselves where the run keeps none.
    fn open(dev: &D, (checkpoint, role): (&Checkpoint, Role)) -> Result<Self, TrainError> {
        let config = &checkpoint.config;
        let partner = config.partner_model();
        let model = match role {
            Role::First => &config.model,
            Role::Partner => partner.as_ref().ok_or_else(|| TrainError::Damaged {
                path: checkpoint.dir.clone(),
                what: "has no partner".into(),
            })?,
        };
        let denoiser = Denoiser::new(dev, model, &config.objective);
        let registry = denoiser.registry();
        let values = match config.optim.ema_decay.first() {
            Some(&decay) => checkpoint.average(role, decay, registry)?,
            None => checkpoint.weights(role, registry)?,
        };
        let params = Params::upload(dev, registry, &values);
        Ok(Self { denoiser, params })
    }

    fn parent<'a>(&'a self, name: &'a str) -> Parent<'a> {
        let (model, objective) = (self.denoiser.net().config(), self.denoiser.objective());
        Parent { name, model, objective }
    }
}

#[cfg(test)]
mod tests {
    use jit_model::Cpu;
    use jit_model::config::MlpKind;
    use jit_model::fusion::{FusionMode, WeightSchedule};

    use super::*;
    use crate::checkpoint::latest;
    use crate::evaluation::EvalReport;
    use crate::observer::Observer;
    use crate::testing::{digits, small};

    /// The last evaluation of a run.
    #[derive(Default)]
    struct Last(Option<Report>);

    impl Observer for Last {
        fn evaluated(&mut self, report: &EvalReport) {
            self.0 = Some(report.report.clone());
        }
    }

    #[test]
    fn a_sweep_begins_and_ends_at_the_parents_own_evaluations() {
        let never = AtomicBool::new(false);
        let mut config = small();
        config.optim.lr = 0.02;
        config.train.eval_every = 10;
        config.train.eval_count = 12;
        config.partner.mlp = Some(MlpKind::Bottleneck);
        let alone = RunConfig {
            model: config.partner_model().unwrap(),
            partner: Default::default(),
            ..config.clone()
        };
        let [joint, partner] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let train = |dir: &tempfile::TempDir, config: &RunConfig| {
            let (images, mut seen) = (digits(config), Last::default());
            crate::train(&Cpu::F32, dir.path(), config.clone(), images, &mut seen, &never).unwrap();
            let checkpoint = latest(&dir.path().join("checkpoints")).unwrap().checkpoint.unwrap();
            (checkpoint, seen.0.unwrap())
        };
        let (checkpoint, first) = train(&joint, &config);
        let (other, second) = train(&partner, &alone);

        let evaluation = Evaluation::new(&Alone, &config, &digits(&config)).unwrap();
        let weight = |w| Fusion { mode: FusionMode::Blend, weight: WeightSchedule::Constant(w) };
        let sweep = |second: (&Checkpoint, Role)| {
            let pair = Pair::open(&Cpu::F32, (&checkpoint, Role::First), second).unwrap();
            [0.0, 0.5, 1.0].map(|w| pair.evaluate(&evaluation, weight(w), &never).unwrap().unwrap())
        };
        let within = sweep((&checkpoint, Role::Partner));
        assert_eq!(within, sweep((&other, Role::First)), "trained along or alone");
        assert_eq!((&within[0], &within[2]), (&first, &second));
        assert!(within[1] != within[0] && within[1] != within[2]);

        let pair = Pair::open(&Cpu::F32, (&other, Role::First), (&other, Role::Partner));
        let message = pair.err().unwrap().to_string();
        assert!(message.contains("has no partner"), "{message}");
    }
}
