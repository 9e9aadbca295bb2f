//! Which vector instructions the kernels use: found once at run time, so that one binary serves
//! every machine, and lowered on request through `JIT_CPU`.

use std::{fmt, sync::OnceLock};

use jit_core::suggest;
use thiserror::Error;

/// The environment variable that forces a lower instruction set, e.g. `JIT_CPU=portable`.
pub const ENV: &str = "JIT_CPU";

/// An instruction set that the kernels are compiled for, from plainest to fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What every machine of the target architecture has, vectorised by the compiler.
    Portable,
    /// Arm Advanced SIMD: 4 lanes.
    Neon,
    /// x86-64 AVX2 with FMA: 8 lanes.
    Avx2,
    /// x86-64 AVX-512F: 16 lanes.
    Avx512,
    /// AVX-512F with the bf16 dot product, `vdpbf16ps`.
    Avx512Bf16,
}

impl Isa {
    const ALL: [Isa; 5] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16];

    /// The name that `JIT_CPU` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn on_this_machine(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Neon => false,
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Isa::Avx512 => Isa::Avx2.on_this_machine() && is_x86_feature_detected!("avx512f"),
            Isa::Avx512Bf16 => {
                Isa::Avx512.on_this_machine() && is_x86_feature_detected!("avx512bf16")
            }
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn on_this_machine(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => false,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn on_this_machine(self) -> bool {
        self == Isa::Portable
    }
}

/// An instruction set that **this machine has**: values exist for no other, so holding one is the
/// proof that makes running its kernels sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(Isa);

impl Level {
    /// The level that every machine has.
    pub const PORTABLE: Level = Level(Isa::Portable);

    /// `isa` as a level, or `None` where this machine lacks it.
    pub fn new(isa: Isa) -> Option<Level> {
        isa.on_this_machine().then_some(Level(isa))
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.0
    }

    /// Every level of this machine, from plainest to fastest.
    pub fn all() -> Vec<Level> {
        Isa::ALL.into_iter().filter_map(Level::new).collect()
    }

    fn best() -> Level {
        Isa::ALL.into_iter().rev().find_map(Level::new).unwrap_or(Level::PORTABLE)
    }

    fn parse(name: &str) -> Result<Level, CpuError> {
        let wanted = name.trim().to_ascii_lowercase();
        let Some(isa) = Isa::ALL.into_iter().find(|isa| isa.name() == wanted) else {
            let hint = suggest::hint(&wanted, Isa::ALL.map(Isa::name));
            return Err(CpuError::Unknown { name: name.to_owned(), available: names(), hint });
        };
        Level::new(isa).ok_or(CpuError::Unavailable { name: isa.name(), available: names() })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

fn names() -> String {
    Level::all().into_iter().map(|level| level.0.name()).collect::<Vec<_>>().join(", ")
}

/// `JIT_CPU` asks for what cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CpuError {
    /// No instruction set has that name.
    #[error("{ENV}={name}: no such instruction set{hint}; this machine has {available}")]
    Unknown {
        /// The value of the variable.
        name: String,
        /// The valid values on this machine.
        available: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// The instruction set exists, but this machine lacks it.
    #[error(
        "{ENV}={name}: this machine lacks it; it has {available} (unset {ENV} for the fastest)"
    )]
    Unavailable {
        /// The instruction set.
        name: &'static str,
        /// The valid values on this machine.
        available: String,
    },
}

/// The level to run at: the one that `JIT_CPU` names, else the fastest of this machine.
///
/// A binary calls this first, to report a wrong `JIT_CPU` before any work.
///
/// # Errors
/// `JIT_CPU` is no known name, or names what this machine lacks.
pub fn detect() -> Result<Level, CpuError> {
    match std::env::var_os(ENV) {
        Some(name) if !name.is_empty() => Level::parse(&name.to_string_lossy()),
        _ => Ok(Level::best()),
    }
}

/// The level that kernels run at unless told otherwise: [`detect`], asked once per process. A
/// wrong `JIT_CPU` leaves the fastest level, since a kernel has nobody to report it to.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| detect().unwrap_or_else(|_| Level::best()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_this_machine_parses_back_from_its_name() {
        let all = Level::all();
        assert_eq!(all[0], Level::PORTABLE);
        for level in all {
            assert_eq!(Level::parse(&level.to_string().to_uppercase()), Ok(level));
            assert!(level <= Level::best());
        }
    }

    #[test]
    fn a_wrong_name_says_what_is_valid() {
        let message = Level::parse("portible").unwrap_err().to_string();
        assert!(message.contains("JIT_CPU=portible: no such instruction set"), "{message}");
        assert!(message.contains("did you mean `portable`?"), "{message}");
        let foreign = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
        let message = Level::parse(foreign).unwrap_err().to_string();
        assert!(message.contains("this machine lacks it; it has portable"), "{message}");
    }
}
