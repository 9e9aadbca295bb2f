//! Images in, batches out: data sets, Pillow-exact transforms, the order of an epoch, prefetching,
//! and the way back to picture files.
//!
//! [`open`] turns a [`DataConfig`] into a [`Dataset`]; [`Dataset::check`] proves that every file
//! decodes; a [`Loader`] then yields [`Batch`]es from any position of the endless sample stream.

pub mod archive;
mod bmp;
pub mod cifar;
pub mod config;
pub mod dataset;
pub mod decode;
pub mod digits;
pub mod error;
pub mod folder;
mod foreign;
mod gif;
pub mod grid;
pub mod idx;
pub mod jpeg;
pub mod labels;
pub mod loader;
mod members;
pub mod npz;
pub mod order;
pub mod pack;
mod palette;
mod parallel;
pub mod parquet;
pub mod pixels;
pub mod place;
mod png;
pub mod raster;
pub mod resample;
pub mod scan;
pub mod splits;
pub mod subset;
pub mod transform;
mod webp;
pub mod zipped;

pub use config::{DataConfig, open};
pub use dataset::Dataset;
pub use error::{DamagedFile, DataError};
pub use loader::{Batch, Loader, LoaderOptions, Share};
pub use raster::Raster;
pub use subset::Manifest;
