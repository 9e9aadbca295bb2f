//! What every other crate stands on: the counter-based random generator, atomic file writes,
//! hashes as text and name suggestions for error messages. No framework, no I/O policy, no `unsafe`.

pub mod files;
pub mod hex;
pub mod rng;
pub mod suggest;

pub use hex::hex;
