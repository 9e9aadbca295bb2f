//! The command line: what can be asked for. Parsing alone; `commands` does the work.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jit_train::config::PrecisionChoice;

use crate::device::DeviceName;
use crate::flags::{Bare, Bench, ConfigArgs, Info, Sample, Train};

/// Trains and samples JiT: plain Transformers that turn noise into pixels.
#[derive(Parser, Debug)]
#[command(name = "jit", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Start with `jit train --preset digits`.")]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Where to compute: cpu, wgpu[:I] or cuda[:I]; `jit doctor` tells what this build has.
    #[arg(long, global = true, default_value = "cpu", value_name = "NAME")]
    pub device: DeviceName,
    /// Threads to compute with; results do not depend on it [default: one a core].
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Train a model, or continue the run in the same folder.
    Train(TrainArgs),
    /// Draw images with a trained model.
    Sample(SampleArgs),
    /// Write a checkpoint's weights as safetensors with the reference's names.
    Convert(ConvertArgs),
    /// Check this build against golden-case files.
    Verify(VerifyArgs),
    /// Measure the speed of training, drawing or single kernels on this machine.
    Bench(BenchArgs),
    /// Show what a model costs: parameters, operations, memory.
    Info(InfoArgs),
    /// Show what this machine and this build can do, and what is missing.
    Doctor,
    /// List the options of a run, with defaults.
    Options(OptionsArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Arguments of `train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs<Train>,
    /// Folder of the run [default: runs/ and the name of the preset or file].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Where weights come from.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// A run's folder, a checkpoint's folder, a .safetensors file or a reference .pth file.
    #[arg(long, value_name = "PATH")]
    pub checkpoint: PathBuf,
    /// Which weights: `model` (raw), `ema-0.9999` and the like, or a .pth file's `model_ema1`
    /// [default: the first average, else the raw weights].
    #[arg(long, value_name = "NAME")]
    pub weights: Option<String>,
}

/// Arguments of `sample`.
#[derive(Args, Debug)]
pub struct SampleArgs {
    /// The weights.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The configuration, over that of the checkpoint.
    #[command(flatten)]
    pub config: ConfigArgs<Sample>,
    /// Classes to draw in turn: numbers or names separated by commas, or `all`.
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub classes: String,
    /// Number of images [default: 4 of each class for up to 20 classes, else 16].
    #[arg(long, value_name = "N")]
    pub count: Option<std::num::NonZeroUsize>,
    /// Seed of the noise: image i depends on the seed, i and its class alone.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Images computed at once; the images do not depend on it.
    #[arg(long, value_name = "N", default_value = "16")]
    pub batch_size: std::num::NonZeroUsize,
    /// Write one PNG with all images, a column a class for up to 20 classes
    /// [default, if no other output is asked for: samples.png].
    #[arg(long, value_name = "FILE.png")]
    pub out: Option<PathBuf>,
    /// Write each image as a PNG into this folder.
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Write all images as a NumPy archive in ADM's layout: `arr_0` u8 [N, S, S, C], `arr_1` labels.
    #[arg(long, value_name = "FILE.npz")]
    pub npz: Option<PathBuf>,
    /// Write the estimates of the clean image along time: a row an image, a column a step.
    #[arg(long, value_name = "FILE.png")]
    pub trajectory: Option<PathBuf>,
}

/// Arguments of `convert`.
#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// A run's folder, a checkpoint's folder, a .safetensors file or a reference .pth file.
    #[arg(value_name = "FROM")]
    pub from: PathBuf,
    /// The file to write.
    #[arg(value_name = "TO.safetensors")]
    pub to: PathBuf,
    /// Which weights: `model` (raw), `ema-0.9999` and the like, or a .pth file's `model_ema1`
    /// [default: the first average, else the raw weights].
    #[arg(long, value_name = "NAME")]
    pub weights: Option<String>,
    /// What the weights alone do not tell, such as the number of heads.
    #[command(flatten)]
    pub config: ConfigArgs<Bare>,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Golden cases: .safetensors, or a .pth with its .expected.safetensors beside it.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Precision of the linear layers; bf16 has wider tolerances.
    #[arg(long, value_enum, value_name = "NAME", default_value = "f32")]
    pub precision: PrecisionName,
}

/// A precision as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// Not rounded.
    F32,
    /// Operands rounded to bfloat16, sums f32.
    Bf16,
}

impl From<PrecisionName> for PrecisionChoice {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::Bf16 => Self::Bf16,
        }
    }
}

/// Arguments of `info`.
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs<Info>,
    /// A run's folder, a checkpoint's folder, a .safetensors file or a reference .pth file.
    #[arg(long, value_name = "PATH")]
    pub checkpoint: Option<PathBuf>,
}

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// What to measure.
    #[arg(value_enum, value_name = "WHAT")]
    pub what: Workload,
    /// The configuration. Images and weights are random: only sizes matter.
    #[command(flatten)]
    pub config: ConfigArgs<Bench>,
    /// Steps to measure, after one that is not; each kernel is run as many times.
    #[arg(long, value_name = "N", default_value = "5")]
    pub steps: std::num::NonZeroUsize,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Whole training steps: losses, gradients, AdamW and the averages.
    Train,
    /// Steps of drawing a batch, with guidance as configured.
    Sample,
    /// Each kernel by itself, at the sizes of the model.
    Kernels,
}

/// Arguments of `options`.
#[derive(Args, Debug)]
pub struct OptionsArgs {
    /// As a Markdown page.
    #[arg(long)]
    pub markdown: bool,
    /// List the presets instead.
    #[arg(long, conflicts_with = "markdown")]
    pub presets: bool,
}
