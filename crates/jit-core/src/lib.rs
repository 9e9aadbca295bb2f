//! What every other crate stands on: the counter-based random generator, atomic file writes and
//! name suggestions for error messages. No framework, no I/O policy, no `unsafe`.

pub mod files;
pub mod rng;
pub mod suggest;
