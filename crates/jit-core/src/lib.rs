//! What every other crate stands on: the counter-based random generator, files that are written whole,
//! read with a bound and locked, names made safe to print, hashes as text, name suggestions for error
//! messages and the memory there is. No framework, no `unsafe`.

pub mod files;
pub mod hex;
pub mod input;
pub mod lock;
pub mod memory;
pub mod output;
pub mod rng;
pub mod suggest;
pub mod text;
pub mod threads;

pub use hex::hex;
