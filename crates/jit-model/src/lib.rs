//! The JiT network ("Just image Transformer": a plain ViT on raw pixels that predicts the clean
//! image), its objective, its sampler and its weight files.
//!
//! Every layer is a small struct that owns the [`params::ParamId`]s of its parameters and has an
//! explicit `forward` and `backward`, written once over the [`device::Device`] trait. A forward
//! pass returns what its backward needs and nothing else; gradients are added into one
//! [`params::Grads`], so accumulation over micro-batches costs no extra memory.

// Device, parameters, gradients, input, saved values, output gradient: naming them one by one
// reads better than a struct for each call.
#![allow(clippy::too_many_arguments)]

pub mod aux_head;
pub mod block;
pub mod bottleneck_mlp;
pub mod config;
pub mod cost;
pub mod cpu;
pub mod denoiser;
pub mod device;
pub mod dropout;
pub mod final_layer;
pub mod flow;
pub mod fusion;
pub mod init;
pub mod linear;
pub mod net;
pub mod objective;
pub mod params;
pub mod patch_embed;
pub mod pos_embed;
pub mod presets;
pub mod rope;
pub mod sampler;
pub mod self_attention;
pub mod swiglu;
pub mod time_embed;
pub mod weights;

pub use config::ModelConfig;
pub use cpu::Cpu;
pub use denoiser::Denoiser;
pub use device::Device;
pub use fusion::Fusion;
pub use net::Net;
pub use objective::ObjectiveConfig;
pub use params::{Grads, Params};
pub use sampler::{SampleConfig, Sampler};
