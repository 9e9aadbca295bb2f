//! The command line: what can be asked for. Parsing alone; `commands` does the work.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jit_eval::{Metric, Protocol};
use jit_train::config::PrecisionChoice;

use crate::device::DeviceName;
use crate::flags::{Bare, Bench, ConfigArgs, Info, Sample, Train};
use crate::{cores, places};

mod data;

pub use data::{DataArgs, DataCommand, ImagesArgs};

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
    #[arg(long, global = true, value_name = "N", value_parser = cores::threads_asked)]
    pub threads: Option<std::num::NonZeroUsize>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Train a model, or continue the run in the same folder.
    Train(TrainArgs),
    /// Train and judge every run of a study, or go on with it.
    Ablate(AblateArgs),
    /// Draw images with a trained model.
    Sample(SampleArgs),
    /// Judge generated images: FID, IS, KID, precision, recall, class accuracy.
    Eval(EvalArgs),
    /// Write statistics of real images, which `eval` compares with.
    Stats(StatsArgs),
    /// Look at a data set, check it, or pack it for fast training.
    Data(DataArgs),
    /// Find, fetch or train the weights of the networks that judge images.
    Weights(WeightsArgs),
    /// Write a checkpoint's weights as safetensors with the reference's names.
    Convert(ConvertArgs),
    /// Check this build against golden-case files.
    Verify(VerifyArgs),
    /// Measure the speed of training, drawing or single kernels on this machine.
    Bench(BenchArgs),
    /// Make a page of a study or a run: tables, curves, samples, costs.
    Report(ReportArgs),
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
    #[arg(long, value_name = "DIR", value_parser = places::folder())]
    pub out: Option<PathBuf>,
}

/// Arguments of `ablate`.
#[derive(Args, Clone, Debug)]
pub struct AblateArgs {
    /// What is compared: `paper`, `losses`, `bottleneck`, `paper-imagenet`, `smoke`, or a file.
    #[arg(long, value_name = "NAME|FILE")]
    pub suite: String,
    /// `digits`, a folder of images, tar archives, Parquet files or a pack [default: the suite's].
    #[arg(long, value_name = "NAME|PATH")]
    pub data: Option<String>,
    /// Number of seeds, from 0 on [default: the suite's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub seeds: Option<u64>,
    /// Folder of the study [default: studies/ and the suite's name].
    #[arg(long, value_name = "DIR", value_parser = places::folder())]
    pub out: Option<PathBuf>,
    /// Do these runs only, separated by commas: a cell such as `exp1`, or one run, `exp1/seed-2`.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Sets any option for all runs, over the suite's base and below its cells. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Tell runs, operations, time and disk, and start nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Runs at a time, in processes that share the threads.
    #[arg(long, value_name = "N", default_value = "1", value_parser = cores::threads_asked)]
    pub jobs: std::num::NonZeroUsize,
    /// Work quietly for a process that holds the other end of standard input, and stop with it.
    #[arg(long, hide = true)]
    pub worker: bool,
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
    /// Classes to draw in turn: numbers or names separated by commas, or `all`. A name with a comma
    /// stands alone or in double quotes: '"tench, Tinca tinca",7'.
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
    /// Write one PNG with all images, a column a class for up to 20 classes; `-` is standard output
    /// [default, if no other output is asked for: samples.png].
    #[arg(long, value_name = "FILE.png", value_parser = places::file(places::PNG))]
    pub out: Option<PathBuf>,
    /// Write each image as a PNG into this folder.
    #[arg(long, value_name = "DIR", value_parser = places::folder())]
    pub folder: Option<PathBuf>,
    /// Write all images as a NumPy archive in ADM's layout: `arr_0` u8 [N, S, S, C], `arr_1` labels.
    #[arg(long, value_name = "FILE.npz", value_parser = places::file(places::NPZ))]
    pub npz: Option<PathBuf>,
    /// Write the estimates of the clean image along time: a row an image, a column a step.
    #[arg(long, value_name = "FILE.png", value_parser = places::file(places::PNG))]
    pub trajectory: Option<PathBuf>,
}

/// Arguments of `eval`.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// Generated images: a folder, tar archives, Parquet files, a pack, an .npz with `arr_0`, or
    /// `digits-held-out`.
    #[arg(value_name = "IMAGES", required_unless_present = "checkpoint")]
    pub images: Option<PathBuf>,
    /// Draw the images with a model instead, or with two (--fuse): a run's folder, a checkpoint's
    /// folder, a .safetensors file or a reference .pth file.
    #[arg(long, value_name = "PATH", conflicts_with = "images")]
    pub checkpoint: Option<PathBuf>,
    /// Which weights of the checkpoint, such as `model` or `ema-0.9999` [default: the first average,
    /// else the raw weights].
    #[arg(long, value_name = "NAME", requires = "checkpoint")]
    pub average: Option<String>,
    /// Images to draw, classes in turn; 50000 for a figure to publish.
    #[arg(long, value_name = "N", default_value = "2000", requires = "checkpoint")]
    pub count: std::num::NonZeroUsize,
    /// Seed of the noise of drawn images, of KID's subsets and of the bootstrap.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Images drawn at once; neither images nor metrics depend on it.
    #[arg(long, value_name = "N", default_value = "64", requires = "checkpoint")]
    pub batch_size: std::num::NonZeroUsize,
    /// Write each drawn image as a PNG into this folder, too.
    #[arg(long, value_name = "DIR", requires = "checkpoint", value_parser = places::folder())]
    pub folder: Option<PathBuf>,
    /// Real images: as IMAGES, `digits`, or an .npz with `mu` and `sigma`
    /// [default: what the checkpoint was trained on].
    #[arg(long, value_name = "PATH", required_unless_present = "checkpoint")]
    pub reference: Option<PathBuf>,
    /// Real images that are neither: their metrics at the same count are the floor [default, for
    /// `digits`: `digits-held-out`].
    #[arg(long, value_name = "PATH")]
    pub held_out: Option<PathBuf>,
    /// How real images are brought to the size of the generated ones.
    #[arg(long, value_enum, value_name = "NAME", default_value = "jit")]
    pub protocol: ProtocolName,
    /// The networks.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// What to compute, separated by commas [default: everything].
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub metrics: Vec<MetricName>,
    /// Images in a random subset of KID [default: 1000, or as many as there are if they are fewer].
    #[arg(long, value_name = "N")]
    pub kid_subset: Option<usize>,
    /// Random subsets of KID.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub kid_subsets: usize,
    /// Neighbours k of precision and recall.
    #[arg(long, value_name = "K", default_value_t = 3)]
    pub neighbours: usize,
    /// Parts over which IS is averaged.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub splits: usize,
    /// Bootstrap resamples behind the interval of FID; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub resamples: usize,
    /// Show precision and recall also as the paper's table has them, with the columns swapped.
    #[arg(long)]
    pub paper_columns: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// How to draw, over the configuration of the checkpoint.
    #[command(flatten)]
    pub config: ConfigArgs<Sample>,
}

/// Arguments of `stats`.
#[derive(Args, Debug)]
pub struct StatsArgs {
    /// Real images: a folder, tar archives, Parquet files, a pack, an .npz with `arr_0`, `digits` or
    /// `digits-held-out`.
    #[arg(value_name = "IMAGES")]
    pub images: PathBuf,
    /// The file to write; `-` is standard output.
    #[arg(value_name = "TO.npz", value_parser = places::file(places::NPZ))]
    pub to: PathBuf,
    /// Height and width that the images are brought to: those of the images to be judged
    /// [default: as they are].
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<std::num::NonZeroUsize>,
    /// How they are brought there.
    #[arg(long, value_enum, value_name = "NAME", default_value = "jit")]
    pub protocol: ProtocolName,
    /// The network.
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// The networks that look at images.
#[derive(Args, Clone, Debug)]
pub struct NetworkArgs {
    /// `inception` (with VGG16 for precision and recall), or the embedded `digits`
    /// [default: digits for digits, else inception].
    #[arg(long, value_enum, value_name = "NAME")]
    pub extractor: Option<ExtractorName>,
    /// Folder with the published weights [default: $JIT_WEIGHTS_DIR, else the user's cache].
    #[arg(long, value_name = "DIR")]
    pub weights: Option<PathBuf>,
    /// Keep features in this folder, by the content of the images, and use those that are there.
    #[arg(long, value_name = "DIR", value_parser = places::folder())]
    pub cache: Option<PathBuf>,
}

/// An extractor as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExtractorName {
    /// The embedded classifier of 28 × 28 digits.
    Digits,
    /// Inception of 2015-12-05, with VGG16 for precision and recall.
    Inception,
}

impl ExtractorName {
    /// Its name in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Inception => "inception",
        }
    }
}

/// A protocol as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolName {
    /// Centre crop, as in training.
    Jit,
    /// Squashed to a square.
    Paper,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::Jit => Self::Jit,
            ProtocolName::Paper => Self::Paper,
        }
    }
}

/// A metric as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetricName {
    /// Fréchet inception distance.
    Fid,
    /// Inception score.
    Is,
    /// Kernel inception distance.
    Kid,
    /// Precision and recall.
    PrecisionRecall,
    /// The share of images read as the class asked for.
    ClassAccuracy,
}

impl From<MetricName> for Metric {
    fn from(name: MetricName) -> Self {
        match name {
            MetricName::Fid => Self::Fid,
            MetricName::Is => Self::Is,
            MetricName::Kid => Self::Kid,
            MetricName::PrecisionRecall => Self::PrecisionRecall,
            MetricName::ClassAccuracy => Self::ClassAccuracy,
        }
    }
}

/// Arguments of `weights`.
#[derive(Args, Debug)]
pub struct WeightsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: WeightsCommand,
}

/// What can be done with weights.
#[derive(Subcommand, Debug)]
pub enum WeightsCommand {
    /// Show which published weights are where.
    List,
    /// Download published weights and check their hash.
    Fetch {
        /// Which.
        #[arg(value_enum, value_name = "NAME", required = true)]
        names: Vec<PublishedName>,
        /// The folder to put them into [default: $JIT_WEIGHTS_DIR, else the user's cache].
        #[arg(long, value_name = "DIR", value_parser = places::folder())]
        to: Option<PathBuf>,
    },
    /// Train the embedded network for digits anew, and write it.
    TrainDigits {
        /// The file to write; `-` is standard output.
        #[arg(value_name = "TO.safetensors", value_parser = places::file(places::SAFETENSORS))]
        to: PathBuf,
    },
}

/// Published weights as the command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PublishedName {
    /// Inception of 2015-12-05.
    Inception,
    /// VGG16 of torchvision.
    Vgg16,
}

/// Arguments of `convert`.
#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// A run's folder, a checkpoint's folder, a .safetensors file or a reference .pth file.
    #[arg(value_name = "FROM")]
    pub from: PathBuf,
    /// The file to write; `-` is standard output.
    #[arg(value_name = "TO.safetensors", value_parser = places::file(places::SAFETENSORS))]
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

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The folder of a study or of a training run.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Write one HTML file that needs nothing else; `-` is standard output
    /// [default, if no other output is asked for: DIR/report.html].
    #[arg(long, value_name = "FILE.html", value_parser = places::file(places::HTML))]
    pub out: Option<PathBuf>,
    /// Write a Markdown page, and its pictures into the folder of the same name beside it
    /// [FILE: DIR/report.md].
    #[arg(long, value_name = "FILE.md", num_args = 0..=1)]
    pub markdown: Option<Option<PathBuf>>,
    /// Write each table as a CSV file into this folder [FOLDER: DIR/report].
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, value_parser = places::folder())]
    pub csv: Option<Option<PathBuf>>,
    /// Copy what the report of a study is made of into this folder: records, settings, losses as means
    /// over steps, the first images; no weights.
    #[arg(long, value_name = "FOLDER", value_parser = places::folder())]
    pub keep: Option<PathBuf>,
}

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// What to measure.
    #[arg(value_enum, value_name = "WHAT")]
    pub what: Workload,
    /// The configuration. Images and weights are random, but for `data`: only sizes matter.
    #[command(flatten)]
    pub config: ConfigArgs<Bench>,
    /// Steps to measure, after one that is not; each kernel is run as many times; of `data`, batches.
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
    /// The sum of the gradients over all processes of mpirun.
    Reduce,
    /// Loading the images of --data in random order, decoding and cropping them.
    Data,
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
