//! The whole description of a run: everything that decides its result, and a little that does not.

use jit_data::DataConfig;
use jit_model::config::ConfigError as ModelError;
use jit_model::device::Precision;
use jit_model::fusion::FusionError;
use jit_model::objective::ObjectiveError;
use jit_model::sampler::SampleError;
use jit_model::{ModelConfig, ObjectiveConfig, SampleConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod fusion;
mod partner;

pub use self::fusion::{FusionConfig, PARTNER};
pub use self::partner::{PartnerConfig, Role};

/// A training run. Written to `config.toml` in the run's folder and readable back as `--config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// The network's shape.
    pub model: ModelConfig,
    /// What is learned.
    pub objective: ObjectiveConfig,
    /// What it is learned from.
    pub data: DataConfig,
    /// How the weights move.
    pub optim: OptimConfig,
    /// How long, in what batches, and what is written along the way.
    pub train: TrainConfig,
    /// How the sample grids are drawn.
    pub sample: SampleConfig,
    /// A second model to draw with.
    pub fusion: FusionConfig,
    /// A second model that is trained on the same batches.
    pub partner: PartnerConfig,
}

/// How the weights move: AdamW, its learning rate and the averages of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Learning rate for 256 images a step; the actual one is blr · global_batch / 256.
    pub blr: f64,
    /// Learning rate; 0 derives it from `blr`.
    pub lr: f64,
    /// Learning rate at the end of the cosine schedule.
    pub min_lr: f64,
    /// Epochs over which the learning rate rises linearly from 0.
    pub warmup_epochs: f64,
    /// Learning rate after the warm-up: `constant` or `cosine` (down to `min_lr` at `train.epochs`).
    pub schedule: Schedule,
    /// Decay of AdamW's first and second moment.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub eps: f64,
    /// Decoupled weight decay; never applied to biases and other 1-D parameters.
    pub weight_decay: f64,
    /// Largest global norm of the gradient, beyond which it is scaled down; 0 for no limit.
    pub clip_norm: f64,
    /// Decays of the exponential moving averages of the weights, any number; samples use the first.
    pub ema_decay: Vec<f64>,
}

/// The learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Half a cosine down to `min_lr`.
    Cosine,
}

/// How long, in what batches, and what is written along the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Seed of everything random: initial weights, order of the images, noise, dropout.
    pub seed: u64,
    /// Weights to begin with instead of random ones: a .safetensors or .pth file, an index of shards, or the folder
    /// of a run or of the hub; of averages the first. Read when a run starts, not when it goes on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub init: String,
    /// Groups of weights that are random although `train.init` has them: `class_embed`, the table of classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reinit: Vec<WeightGroup>,
    /// Length of the run in passes over the data; may be fractional.
    pub epochs: f64,
    /// Stop after this many optimizer steps, even if epochs remain; 0 for no limit.
    pub max_steps: u64,
    /// Images in an optimizer step.
    pub global_batch: usize,
    /// Images computed at once; smaller ones need less memory and are accumulated. 0 for all.
    pub batch_size: usize,
    /// Precision of the linear layers, in training and drawing: `f32`, `bf16` (operands rounded; weights, sums,
    /// norms and softmax stay f32), or `auto`: bf16 where the processor multiplies it, else f32.
    pub precision: PrecisionChoice,
    /// Keep only each block's input and recompute the rest: less memory, a third more time.
    pub checkpoint_blocks: bool,
    /// Optimizer steps between checkpoints; 0 for one at the end only.
    pub save_every: u64,
    /// How many of the newest checkpoints are kept.
    pub keep_last: usize,
    /// Every Nth checkpoint is kept for good; 0 for none.
    pub keep_every: u64,
    /// Optimizer steps between sample grids; 0 for one at the end only.
    pub sample_every: u64,
    /// Images in a sample grid; 0 for no grids.
    pub sample_count: usize,
    /// Classes of the grid's images, in turn; empty for all, in order.
    pub sample_classes: Vec<u32>,
    /// Optimizer steps between evaluations of what the averaged weights draw (FID, IS, KID, precision, recall;
    /// of digits also class accuracy), into `evals.jsonl`, and one at the end; 0 for none.
    pub eval_every: u64,
    /// Shares of the run, above 0 and up to 1, after which a sample grid is drawn and what the averaged
    /// weights draw is evaluated, beside `sample_every` and `eval_every`.
    pub eval_at: Vec<f64>,
    /// Images drawn for an evaluation.
    pub eval_count: usize,
    /// Seed of the noise of sample grids and evaluations: the same for runs that are to be compared.
    pub sample_seed: u64,
    /// Optimizer steps between lines of `metrics.jsonl` and TensorBoard scalars.
    pub log_every: u64,
}

/// Weights that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightGroup {
    /// The table of class embeddings, whose size is the number of classes.
    ClassEmbed,
}

impl WeightGroup {
    /// Whether the tensor `name` belongs to it.
    pub fn has(self, name: &str) -> bool {
        match self {
            Self::ClassEmbed => name.starts_with("net.y_embedder."),
        }
    }
}

/// The precision asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PrecisionChoice {
    /// The device's fastest. A run records which that was.
    Auto,
    /// Not rounded.
    F32,
    /// Operands of linear layers rounded to bfloat16, sums f32.
    Bf16,
}

impl PrecisionChoice {
    /// The precision that is asked for, if one is.
    pub fn asked(self) -> Option<Precision> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(Precision::F32),
            Self::Bf16 => Some(Precision::Bf16),
        }
    }

    /// The precision asked for, or `fastest`.
    pub fn or(self, fastest: Precision) -> Precision {
        self.asked().unwrap_or(fastest)
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl Default for OptimConfig {
    /// JiT's recipe.
    fn default() -> Self {
        Self {
            blr: 5e-5,
            lr: 0.0,
            min_lr: 0.0,
            warmup_epochs: 5.0,
            schedule: Schedule::Constant,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.0,
            clip_norm: 0.0,
            ema_decay: vec![0.9999, 0.9996],
        }
    }
}

impl Default for TrainConfig {
    /// JiT's recipe: 200 epochs with 1 024 images a step.
    fn default() -> Self {
        Self {
            seed: 0,
            init: String::new(),
            reinit: Vec::new(),
            epochs: 200.0,
            max_steps: 0,
            global_batch: 1024,
            batch_size: 0,
            precision: PrecisionChoice::Auto,
            checkpoint_blocks: false,
            save_every: 1000,
            keep_last: 3,
            keep_every: 0,
            sample_every: 0,
            sample_count: 40,
            sample_classes: Vec::new(),
            eval_every: 0,
            eval_at: Vec::new(),
            eval_count: 2000,
            sample_seed: 0,
            log_every: 1,
        }
    }
}

/// Why a [`RunConfig`] makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// In `[model]`.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// In `[partner]`, or in `[model]` together with it.
    #[error("partner.{} = {}: {}", .0.key, .0.value, .0.expected)]
    Partner(ModelError),
    /// In `[objective]`.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// In `[sample]`.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// In `[fusion]`.
    #[error(transparent)]
    Fusion(#[from] FusionError),
    /// In `[optim]` or `[train]`.
    #[error("{key} = {value}: expected {expected}")]
    Value {
        /// The key with its section.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be valid.
        expected: String,
    },
}

/// The largest sample grid; each image is kept in memory until the grid is written.
const MAX_SAMPLE_COUNT: usize = 10_000;

impl RunConfig {
    /// Checks every section and the constraints between them.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key, its value and what would be valid.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.model.validate()?;
        self.objective.validate()?;
        self.sample.validate()?;
        self.fusion.fusion().validate()?;
        match self.partner_model() {
            Some(partner) => partner.validate().map_err(ConfigError::Partner)?,
            None if self.draws_with_partner() => {
                let expected = "a model that is trained along, which [partner] describes; or the path \
                                of another, such as `./partner` for a folder of that name";
                return Err(invalid("fusion.with", PARTNER, expected));
            }
            None => {}
        }
        self.optim.validate()?;
        self.train.validate()?;
        if !self.train.reinit.is_empty() && self.train.init.is_empty() {
            let expected = "nothing, since all weights are random without train.init";
            return Err(invalid("train.reinit", "class_embed", expected));
        }
        if !self.train.init.is_empty() && !self.partner.is_none() {
            let expected =
                "nothing, since two networks are trained: they begin with random weights";
            return Err(invalid("train.init", &self.train.init, expected));
        }
        let null = self.model.null_class();
        let classes = &self.train.sample_classes;
        if let Some(class) = classes.iter().find(|&&c| c > null) {
            let expected = format!("classes from 0 to {null}, where {null} is the null class");
            return Err(invalid("train.sample_classes", class, &expected));
        }
        Ok(())
    }

    /// The shape of the partner; `None` if there is none.
    pub fn partner_model(&self) -> Option<ModelConfig> {
        self.partner.model(&self.model)
    }

    /// The networks of the run: one, or two.
    pub fn roles(&self) -> &'static [Role] {
        if self.partner.is_none() { &[Role::First] } else { &[Role::First, Role::Partner] }
    }

    /// Whether the partner draws along.
    pub fn draws_with_partner(&self) -> bool {
        self.fusion.with == PARTNER
    }

    /// The weights that draw: `ema-0.9999`, the first average, or `model` where the run keeps none.
    pub fn weights_name(&self) -> String {
        match self.optim.ema_decay.first() {
            Some(decay) => format!("ema-{decay}"),
            None => "model".into(),
        }
    }

    /// The peak learning rate: `optim.lr`, or `blr·global_batch/256` where that is 0 (spec §3).
    pub fn peak_lr(&self) -> f64 {
        match self.optim.lr {
            0.0 => self.optim.blr * self.train.global_batch as f64 / 256.0,
            lr => lr,
        }
    }

    /// Number of optimizer steps of the whole run over `images` images.
    ///
    /// Rounded up: the last step reaches into the next epoch rather than lose an image.
    pub fn total_steps(&self, images: usize) -> u64 {
        let by_epochs = self.train.epochs * images as f64 / self.train.global_batch as f64;
        // The tolerance undoes the rounding of fractional epochs: 4.8·8000/64 is 600, not 601.
        let by_epochs = (by_epochs - 1e-9 * by_epochs).ceil() as u64;
        match self.train.max_steps {
            0 => by_epochs,
            max => by_epochs.min(max),
        }
    }

    /// This configuration as TOML text.
    ///
    /// # Errors
    /// When a value does not fit TOML; [`RunConfig::validate`] excludes them all.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// A configuration from TOML text; missing keys have their defaults.
    ///
    /// # Errors
    /// On syntax errors, unknown keys and wrong types, with the place in the text.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

impl OptimConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let not_negative = |v: f64| v.is_finite() && v >= 0.0;
        let decay = |v: f64| (0.0..1.0).contains(&v);
        let from_zero = "0 or more";
        let below_one = "from 0 to below 1";
        check("optim.blr", self.blr, positive(self.blr), "a positive number")?;
        check("optim.lr", self.lr, not_negative(self.lr), "0 (derived from blr) or more")?;
        check("optim.min_lr", self.min_lr, not_negative(self.min_lr), from_zero)?;
        let warmup = self.warmup_epochs;
        check("optim.warmup_epochs", warmup, not_negative(warmup), from_zero)?;
        for beta in self.betas {
            check("optim.betas", beta, decay(beta), below_one)?;
        }
        check("optim.eps", self.eps, positive(self.eps), "a positive number")?;
        let decoupled = self.weight_decay;
        check("optim.weight_decay", decoupled, not_negative(decoupled), from_zero)?;
        let clip = self.clip_norm;
        check("optim.clip_norm", clip, not_negative(clip), "0 (no limit) or more")?;
        for (i, &ema) in self.ema_decay.iter().enumerate() {
            check("optim.ema_decay", ema, decay(ema), below_one)?;
            let repeated = self.ema_decay[..i].contains(&ema);
            check("optim.ema_decay", ema, !repeated, "each decay once")?;
        }
        Ok(())
    }
}

impl TrainConfig {
    /// Images computed at once.
    pub fn micro_batch(&self) -> usize {
        match self.batch_size {
            0 => self.global_batch,
            size => size.min(self.global_batch),
        }
    }

    /// The steps, of `total`, on which the evaluations of `train.eval_at` fall.
    pub fn eval_steps(&self, total: u64) -> impl Iterator<Item = u64> {
        let nearest = move |share: &f64| ((share * total as f64).round() as u64).max(1);
        self.eval_at.iter().map(nearest)
    }

    /// Whether the run is evaluated at all.
    pub fn evaluates(&self) -> bool {
        self.eval_every > 0 || !self.eval_at.is_empty()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        // TOML's integers are signed.
        for (key, seed) in [("train.seed", self.seed), ("train.sample_seed", self.sample_seed)] {
            check(key, seed, seed <= i64::MAX as u64, "0 to 9223372036854775807")?;
        }
        let epochs = self.epochs.is_finite() && self.epochs > 0.0 && self.epochs <= 1e9;
        check("train.epochs", self.epochs, epochs, "a positive number up to 1e9")?;
        let batch = (1..=1 << 24).contains(&self.global_batch);
        check("train.global_batch", self.global_batch, batch, "1 to 16777216")?;
        let fits = self.batch_size <= self.global_batch;
        let expected = format!("at most train.global_batch = {}", self.global_batch);
        check("train.batch_size", self.batch_size, fits, &expected)?;
        for &share in &self.eval_at {
            let valid = share > 0.0 && share <= 1.0;
            check("train.eval_at", share, valid, "shares of the run, above 0 and up to 1")?;
        }
        check("train.keep_last", self.keep_last, self.keep_last > 0, "1 or more")?;
        check("train.log_every", self.log_every, self.log_every > 0, "1 or more")?;
        let count = self.sample_count <= MAX_SAMPLE_COUNT;
        check("train.sample_count", self.sample_count, count, "0 to 10000")
    }
}

fn check(
    key: &'static str,
    value: impl std::fmt::Display,
    ok: bool,
    expected: &str,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(invalid(key, value, expected)) }
}

fn invalid(key: &'static str, value: impl std::fmt::Display, expected: &str) -> ConfigError {
    ConfigError::Value { key, value: value.to_string(), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jit_model::fusion::WeightSchedule;

    #[test]
    fn toml_gives_back_the_same_configuration() {
        let mut config = RunConfig::default();
        config.objective.p_mean = 0.1;
        config.optim.ema_decay = vec![0.999];
        config.train.sample_classes = vec![1, 2];
        config.partner.depth = Some(3);
        config.fusion.weight = WeightSchedule::Step { from: 0.0, to: 0.7, at: 0.5 };
        let text = config.to_toml().unwrap();
        assert_eq!(RunConfig::from_toml(&text).unwrap(), config);
        assert_eq!(RunConfig::from_toml("").unwrap(), RunConfig::default());
        let error = RunConfig::from_toml("[train]\nepoch = 3").unwrap_err().to_string();
        assert!(error.contains("epoch"), "{error}");
    }

    #[test]
    fn shares_of_a_run_fall_on_steps() {
        let train = TrainConfig { eval_at: vec![0.1, 0.25, 1.0], ..TrainConfig::default() };
        let steps = |total| train.eval_steps(total).collect::<Vec<_>>();
        assert_eq!(steps(100), [10, 25, 100]);
        assert_eq!(steps(10), [1, 3, 10]);
        assert_eq!(steps(1), [1, 1, 1]);
        assert!(train.evaluates() && !TrainConfig::default().evaluates());
    }

    #[test]
    fn each_wrong_value_is_named() {
        let message = |change: fn(&mut RunConfig)| {
            let mut config = RunConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        RunConfig::default().validate().unwrap();
        for (message, start) in [
            (message(|c| c.model.depth = 0), "model.depth = 0"),
            (message(|c| c.objective.t_eps = 2.0), "objective.t_eps = 2"),
            (message(|c| c.sample.steps = 0), "sample.steps = 0"),
            (message(|c| c.fusion.weight = WeightSchedule::Constant(2.0)), "fusion.weight = 2"),
            (message(|c| c.fusion.with = "partner".into()), "fusion.with = partner"),
            (message(|c| c.partner.num_heads = Some(7)), "partner.num_heads = 7: must divide"),
            (message(|c| c.optim.blr = f64::NAN), "optim.blr = NaN"),
            (message(|c| c.optim.lr = -1.0), "optim.lr = -1"),
            (message(|c| c.optim.betas[1] = 1.0), "optim.betas = 1"),
            (message(|c| c.optim.eps = 0.0), "optim.eps = 0"),
            (message(|c| c.optim.ema_decay = vec![0.9, 0.9]), "optim.ema_decay = 0.9"),
            (message(|c| c.train.seed = u64::MAX), "train.seed = 18446744073709551615"),
            (message(|c| c.train.epochs = 0.0), "train.epochs = 0"),
            (message(|c| c.train.eval_at = vec![0.5, 1.5]), "train.eval_at = 1.5"),
            (message(|c| c.train.eval_at = vec![f64::NAN]), "train.eval_at = NaN"),
            (message(|c| c.train.global_batch = 0), "train.global_batch = 0"),
            (message(|c| c.train.batch_size = 2048), "train.batch_size = 2048"),
            (message(|c| c.train.keep_last = 0), "train.keep_last = 0"),
            (message(|c| c.train.log_every = 0), "train.log_every = 0"),
            (message(|c| c.train.sample_count = 1 << 20), "train.sample_count = 1048576"),
            (message(|c| c.train.sample_classes = vec![1001]), "train.sample_classes = 1001"),
        ] {
            assert!(message.starts_with(start), "{message}");
        }
    }

    #[test]
    fn the_run_is_long_enough_for_every_image_of_every_epoch() {
        let steps = |epochs, max_steps, images| {
            let train = TrainConfig { epochs, max_steps, global_batch: 64, ..Default::default() };
            RunConfig { train, ..Default::default() }.total_steps(images)
        };
        assert_eq!(steps(1.0, 0, 128), 2);
        assert_eq!(steps(1.0, 0, 129), 3);
        assert_eq!(steps(4.8, 0, 8000), 600);
        assert_eq!(steps(4.8, 100, 8000), 100);
        assert_eq!(steps(1.0, 100, 128), 2);
    }

    #[test]
    fn the_rate_follows_the_batch_unless_it_is_set() {
        let mut config = RunConfig::default();
        assert!((config.peak_lr() - 2e-4).abs() < 1e-18);
        config.optim.lr = 1e-3;
        assert_eq!(config.peak_lr(), 1e-3);
    }
}
