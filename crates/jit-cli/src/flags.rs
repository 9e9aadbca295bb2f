//! The short names of options: each is a flag of the command line that stands for a path of the
//! configuration. Type and help come from the option itself.

use std::marker::PhantomData;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use jit_core::input::{self, MAX_CONFIG};
use jit_train::RunConfig;

use crate::failure::{Failure, Outcome};
use crate::layers::{Layers, Origin};
use crate::options::{Kind, OptionSpec, Options};
use crate::presets;

/// A flag and the option that it sets.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub long: &'static str,
    /// The option.
    pub path: &'static str,
}

const fn flag(long: &'static str, path: &'static str) -> Flag {
    Flag { long, path }
}

const DRAWING: [Flag; 6] = [
    flag("steps", "sample.steps"),
    flag("method", "sample.method"),
    flag("grid", "sample.grid"),
    flag("cfg", "sample.cfg_scale"),
    flag("interval", "sample.cfg_interval"),
    flag("precision", "train.precision"),
];

const FUSING: [Flag; 4] = [
    flag("fuse", "fusion.with"),
    flag("fuse-average", "fusion.average"),
    flag("fuse-mode", "fusion.mode"),
    flag("fuse-weight", "fusion.weight"),
];

const TRAINING: [Flag; 20] = [
    flag("data", "data.path"),
    flag("split", "data.split"),
    flag("labels", "data.labels"),
    flag("class-names", "data.class_names"),
    flag("label-key", "data.label_key"),
    flag("label-column", "data.label_column"),
    flag("image-column", "data.image_column"),
    flag("subset", "data.subset"),
    flag("skip-damaged", "data.skip_damaged"),
    flag("seed", "train.seed"),
    flag("epochs", "train.epochs"),
    flag("max-steps", "train.max_steps"),
    flag("global-batch", "train.global_batch"),
    flag("batch-size", "train.batch_size"),
    flag("checkpoint-blocks", "train.checkpoint_blocks"),
    flag("save-every", "train.save_every"),
    flag("sample-every", "train.sample_every"),
    flag("eval-every", "train.eval_every"),
    flag("log-every", "train.log_every"),
    flag("lr", "optim.lr"),
];

const COSTING: [Flag; 2] =
    [flag("batch-size", "train.batch_size"), flag("checkpoint-blocks", "train.checkpoint_blocks")];

/// The flags that a command takes.
pub trait FlagSet {
    /// In the order of the help.
    fn flags() -> Vec<Flag>;
}

/// Flags of `train`.
#[derive(Clone, Copy, Debug)]
pub struct Train;
/// Flags of `sample`.
#[derive(Clone, Copy, Debug)]
pub struct Sample;
/// Flags of `info`.
#[derive(Clone, Copy, Debug)]
pub struct Info;
/// Flags of `bench`.
#[derive(Clone, Copy, Debug)]
pub struct Bench;
/// No flags but `--config`, `--preset` and `--set`.
#[derive(Clone, Copy, Debug)]
pub struct Bare;

impl FlagSet for Train {
    fn flags() -> Vec<Flag> {
        [&TRAINING[..], &DRAWING].concat()
    }
}

impl FlagSet for Sample {
    fn flags() -> Vec<Flag> {
        [&DRAWING[..], &FUSING].concat()
    }
}

impl FlagSet for Info {
    fn flags() -> Vec<Flag> {
        [&COSTING[..], &DRAWING].concat()
    }
}

impl FlagSet for Bench {
    fn flags() -> Vec<Flag> {
        [&TRAINING[..1], &COSTING, &DRAWING[1..]].concat()
    }
}

impl FlagSet for Bare {
    fn flags() -> Vec<Flag> {
        Vec::new()
    }
}

/// What the command line says about the configuration.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs<F: FlagSet + Clone + std::fmt::Debug> {
    /// Configuration file (TOML), such as a run's own `config.toml`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Named configuration; `jit options --presets` lists them. Overrides the file.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Sets any option, overriding file and preset; `jit options` lists them. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// The flags given.
    #[command(flatten)]
    pub overrides: Overrides<F>,
}

/// The flags given, as (option, text).
#[derive(Clone, Debug)]
pub struct Overrides<F> {
    given: Vec<(Flag, String)>,
    set: PhantomData<F>,
}

impl<F: FlagSet + Clone + std::fmt::Debug> ConfigArgs<F> {
    /// Lays file, preset and flags over the built-in values, in this order.
    ///
    /// # Errors
    /// As [`ConfigArgs::lay_over`].
    pub fn layers<'a>(&self, options: &'a Options) -> Outcome<Layers<'a>> {
        let mut layers = Layers::new(options);
        self.lay_over(&mut layers)?;
        Ok(layers)
    }

    /// Lays file, preset and flags over layers that stand already, such as what a checkpoint tells.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown preset or key, a value of the wrong type.
    pub fn lay_over(&self, layers: &mut Layers<'_>) -> Outcome {
        if let Some(path) = &self.config {
            let text = input::read_text(path, MAX_CONFIG).map_err(Failure::usage)?;
            layers.add_text(&text, Origin::File(path.clone())).map_err(Failure::usage)?;
        }
        if let Some(name) = &self.preset {
            let table = presets::table(name).map_err(Failure::usage)?;
            layers.add(&table, Origin::Preset(name.clone())).map_err(Failure::usage)?;
        }
        for (flag, text) in &self.overrides.given {
            let origin = Origin::Flag(format!("--{} {text}", flag.long));
            layers.set(flag.path, text, origin).map_err(Failure::usage)?;
        }
        for assignment in &self.set {
            layers.assign(assignment).map_err(Failure::usage)?;
        }
        Ok(())
    }
}

/// All options of a run.
pub fn run_options() -> Options {
    Options::of::<RunConfig>()
}

impl<F: FlagSet> Args for Overrides<F> {
    fn augment_args(command: Command) -> Command {
        let options = run_options();
        F::flags()
            .into_iter()
            .filter_map(|flag| Some(argument(flag, options.get(flag.path)?)))
            .fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<F: FlagSet> FromArgMatches for Overrides<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = F::flags()
            .into_iter()
            .filter_map(|flag| Some((flag, matches.get_one::<String>(flag.long)?.clone())))
            .collect();
        Ok(Self { given, set: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(flag: Flag, spec: &OptionSpec) -> Arg {
    let help = format!("{} [{}]", spec.doc.trim_end_matches('.'), spec.path);
    let arg = Arg::new(flag.long)
        .long(flag.long)
        .help(help)
        .value_name(spec.kind.placeholder())
        .help_heading("Options of the configuration");
    match &spec.kind {
        Kind::Bool => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(PossibleValuesParser::new(["true", "false"])),
        Kind::Choice(names) => arg.value_parser(PossibleValuesParser::new(names.clone())),
        _ => arg.allow_hyphen_values(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_stands_for_an_option() {
        let options = run_options();
        for flag in [Train::flags(), Sample::flags(), Info::flags(), Bench::flags()].concat() {
            assert!(options.get(flag.path).is_some(), "--{}: no option {}", flag.long, flag.path);
        }
    }

    #[test]
    fn every_option_is_explained_and_accepts_its_own_default() {
        for spec in run_options().specs() {
            assert!(!spec.doc.is_empty(), "{} has no explanation", spec.path);
            if let Some(default) = &spec.default {
                assert!(spec.kind.accepts(default), "{} = {default}: {}", spec.path, spec.kind);
            }
        }
    }

    fn parsed(line: &[&str]) -> ConfigArgs<Train> {
        let command = ConfigArgs::<Train>::augment_args(Command::new("t"));
        let matches = command.try_get_matches_from([&["t"], line].concat()).unwrap();
        ConfigArgs::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn flags_override_the_preset_which_overrides_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.toml");
        std::fs::write(&file, "[train]\nseed = 5\nglobal_batch = 3\n[model]\ndepth = 9\n").unwrap();
        let file = file.to_str().unwrap();
        let line = ["--config", file, "--preset", "digits", "--skip-damaged", "--interval", "0,1"];
        let args = parsed(&[&line[..], &["--set", "model.depth=2", "--cfg", "1.5"]].concat());
        let options = run_options();
        let config: RunConfig = args.layers(&options).unwrap().build().unwrap();
        assert_eq!(config.train.seed, 5, "the file's, since the preset says nothing");
        assert_ne!(config.train.global_batch, 3, "the preset's");
        assert_eq!(config.model.depth, 2, "the flag's");
        assert!(config.data.skip_damaged);
        assert_eq!(config.sample.cfg_interval, [0.0, 1.0]);
        assert_eq!(config.sample.cfg_scale, 1.5);
    }

    #[test]
    fn a_saved_configuration_given_back_is_the_same() {
        let options = run_options();
        let args = parsed(&["--preset", "digits", "--lr", "1e-3", "--subset", "0.3"]);
        let config: RunConfig = args.layers(&options).unwrap().build().unwrap();
        let mut layers = Layers::new(&options);
        layers.add_text(&config.to_toml().unwrap(), Origin::File("config.toml".into())).unwrap();
        assert_eq!(layers.build::<RunConfig>().unwrap(), config);
    }
}
