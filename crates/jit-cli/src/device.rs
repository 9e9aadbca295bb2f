//! Where a command computes: the value of `--device`, against what this build has.

use std::fmt;
use std::str::FromStr;

use jit_model::Cpu;
use jit_train::config::PrecisionChoice;

/// A device as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// This machine's processor.
    Cpu,
    /// A graphics card through Vulkan, Metal or DirectX 12.
    Wgpu(usize),
    /// An NVIDIA card.
    Cuda(usize),
}

/// The backends that are compiled in.
pub const COMPILED: [&str; 1] = ["cpu"];

/// The processor, in the precision asked for or its fastest.
pub fn cpu(precision: PrecisionChoice) -> Cpu {
    Cpu::new(precision.or(Cpu::fastest_precision()))
}

/// Why a device cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// Not a device's name.
    #[error("`{name}` is no device{hint}; expected cpu, wgpu, wgpu:I, cuda or cuda:I")]
    Unknown {
        /// What was given.
        name: String,
        /// The nearest valid name, or nothing.
        hint: String,
    },
    /// A backend that this build lacks.
    #[error("this build has no backend for the device `{name}`; it has: {}", COMPILED.join(", "))]
    NotCompiled {
        /// The device asked for.
        name: DeviceName,
    },
}

impl DeviceName {
    /// Whether this build can compute there.
    ///
    /// # Errors
    /// [`DeviceError::NotCompiled`] naming what it has instead.
    pub fn check(self) -> Result<(), DeviceError> {
        match self {
            DeviceName::Cpu => Ok(()),
            name => Err(DeviceError::NotCompiled { name }),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Wgpu(i) => write!(f, "wgpu:{i}"),
            DeviceName::Cuda(i) => write!(f, "cuda:{i}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (name, index) = match text.split_once(':') {
            None => (text, Some(0)),
            Some((name, index)) => (name, index.parse().ok()),
        };
        match (name, index) {
            ("cpu", Some(0)) => Ok(DeviceName::Cpu),
            ("wgpu", Some(i)) => Ok(DeviceName::Wgpu(i)),
            ("cuda", Some(i)) => Ok(DeviceName::Cuda(i)),
            _ => Err(DeviceError::Unknown {
                name: text.to_string(),
                hint: jit_core::suggest::hint(text, ["cpu", "wgpu", "cuda"]),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_what_is_missing_is_said() {
        assert_eq!("cpu".parse(), Ok(DeviceName::Cpu));
        assert_eq!("cuda:1".parse(), Ok(DeviceName::Cuda(1)));
        assert_eq!("wgpu".parse(), Ok(DeviceName::Wgpu(0)));
        for bad in ["cpu:1", "cuda:x", "gpu", ""] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad}");
        }
        let message = DeviceName::Cuda(1).check().unwrap_err().to_string();
        assert_eq!(message, "this build has no backend for the device `cuda:1`; it has: cpu");
        let message = "cud".parse::<DeviceName>().unwrap_err().to_string();
        assert!(message.contains("did you mean `cuda`?"), "{message}");
    }
}
