//! What `jit data` is asked.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cores;

/// Arguments of `data`.
#[derive(Args, Debug)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What can be done with data sets.
#[derive(Subcommand, Debug)]
pub enum DataCommand {
    /// Show images and classes.
    Info {
        /// The data set.
        #[command(flatten)]
        images: ImagesArgs,
        /// List all classes.
        #[arg(long)]
        classes: bool,
    },
    /// Decode every image, or verify every record of a pack.
    Check {
        /// The data set.
        #[command(flatten)]
        images: ImagesArgs,
        /// Threads [default: one a core, up to 8].
        #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
        #[arg(value_parser = cores::workers_asked)]
        workers: usize,
    },
    /// Decode and crop every image once, into a file that trains without waiting for decoders.
    ///
    /// What was killed goes on where it ended, with the same command. Training on the pack is the
    /// same, bit for bit, as on the images.
    Pack {
        /// The data set.
        #[command(flatten)]
        images: ImagesArgs,
        /// The file to write.
        #[arg(value_name = "TO.jitpack")]
        to: PathBuf,
        /// Height and width of the crops: those of the model to train.
        #[arg(long, value_name = "PIXELS", default_value = "256")]
        size: std::num::NonZeroUsize,
        /// Channels: 3 for RGB, 1 for grey.
        #[arg(long, value_name = "N", default_value_t = 3)]
        channels: usize,
        /// Leave out damaged and unsupported files, listing them, instead of stopping.
        #[arg(long)]
        skip_damaged: bool,
        /// Threads [default: one a core, up to 8].
        #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
        #[arg(value_parser = cores::workers_asked)]
        workers: usize,
    },
}

/// A data set and what its classes are.
#[derive(Args, Clone, Debug)]
pub struct ImagesArgs {
    /// A folder of images, archives, Parquet files, or a pack.
    #[arg(value_name = "DATA")]
    pub path: String,
    /// The split to take, of several; see `data.split`.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub split: String,
    /// List of the classes of pictures without class folders; see `data.labels`.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub labels: String,
    /// List of names for the classes; see `data.class_names`.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub class_names: String,
    /// Key of the classes in shards' JSON files; see `data.label_key`.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    pub label_key: String,
    /// Parquet column of the classes; see `data.label_column`.
    #[arg(long, value_name = "COLUMN", default_value = "", hide_default_value = true)]
    pub label_column: String,
    /// Parquet column of the pictures; see `data.image_column`.
    #[arg(long, value_name = "COLUMN", default_value = "", hide_default_value = true)]
    pub image_column: String,
}
