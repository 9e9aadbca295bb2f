//! Studies: a suite of runs that differ in chosen options alone, and what came out of each.
//!
//! A [`Suite`] says what is compared; a [`Record`] is one finished row of it. [`layout`] says where
//! both lie. This crate prints nothing.

pub mod layout;
pub mod record;
pub mod suite;

pub use record::Record;
pub use suite::Suite;
