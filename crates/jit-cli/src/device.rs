//! Where a command computes: the value of `--device`, against what this build and this machine have.

use std::fmt;
use std::str::FromStr;

use jit_model::device::Fault;
use jit_model::{Cpu, Device};
use jit_train::config::PrecisionChoice;

/// A device as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// This machine's processor.
    Cpu,
    /// A graphics card through Vulkan, Metal or DirectX 12. Without a number, that of the process among
    /// those of its host.
    Wgpu(Option<usize>),
    /// An NVIDIA card.
    Cuda(Option<usize>),
    /// The kernels of an NVIDIA card on the processor.
    CudaEmulator,
}

/// The backends that are compiled in.
pub const COMPILED: &[&str] = &[
    "cpu",
    #[cfg(feature = "wgpu")]
    "wgpu",
    #[cfg(feature = "vulkan")]
    "wgpu with SPIR-V",
    #[cfg(feature = "cuda")]
    "cuda",
    #[cfg(feature = "cuda-emulator")]
    "cuda-emulator",
];

/// How many GiB a graphics card's tensors may hold, where others use the card, too.
#[cfg(feature = "gpu")]
const MEMORY: &str = "JIT_DEVICE_MEMORY";

/// A device, ready to compute: see [`on_device`].
pub enum Opened {
    /// The processor.
    Cpu(Cpu),
    /// A graphics card through wgpu.
    #[cfg(feature = "wgpu")]
    Wgpu(Box<jit_gpu::Gpu>),
    /// An NVIDIA card, or its emulation.
    #[cfg(any(feature = "cuda", feature = "cuda-emulator"))]
    Cuda(Box<jit_cuda::Cuda>),
}

/// Evaluates an expression with the device under a name, whichever it is: `on_device!(opened, dev => …)`.
macro_rules! on_device {
    ($opened:expr, $dev:ident => $body:expr) => {
        match $opened {
            $crate::device::Opened::Cpu($dev) => $body,
            #[cfg(feature = "wgpu")]
            $crate::device::Opened::Wgpu(card) => {
                let $dev: &jit_gpu::Gpu = card;
                $body
            }
            #[cfg(any(feature = "cuda", feature = "cuda-emulator"))]
            $crate::device::Opened::Cuda(card) => {
                let $dev: &jit_cuda::Cuda = card;
                $body
            }
        }
    };
}
pub(crate) use on_device;

impl Opened {
    /// In which precision it multiplies.
    pub fn precision(&self) -> PrecisionChoice {
        on_device!(self, dev => dev.precision().into())
    }
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
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
    /// The device failed.
    #[error("the device failed: {0}")]
    Failed(String),
    /// Its memory is too small.
    #[error("the device is out of memory: use fewer images at once")]
    Full,
    /// What is said of the device's memory is no number.
    #[error("JIT_DEVICE_MEMORY is `{0}`; expected a number of GiB, such as 7.5")]
    Memory(String),
    /// The graphics card cannot be used.
    #[cfg(feature = "wgpu")]
    #[error(transparent)]
    Wgpu(#[from] jit_gpu::OpenError),
    /// The NVIDIA card cannot be used.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] jit_cuda::OpenError),
}

impl DeviceName {
    /// Whether this build can compute there.
    ///
    /// # Errors
    /// [`DeviceError::NotCompiled`] naming what it has instead.
    pub fn check(self) -> Result<(), DeviceError> {
        let has = match self {
            DeviceName::Cpu => true,
            DeviceName::Wgpu(_) => cfg!(feature = "wgpu"),
            DeviceName::Cuda(_) => cfg!(feature = "cuda"),
            DeviceName::CudaEmulator => cfg!(feature = "cuda-emulator"),
        };
        if has { Ok(()) } else { Err(DeviceError::NotCompiled { name: self }) }
    }

    /// Opens it, in the precision asked for or its fastest.
    ///
    /// # Errors
    /// [`DeviceError`] where there is no such device, or it lacks the precision.
    pub fn open(self, precision: PrecisionChoice) -> Result<Opened, DeviceError> {
        self.check()?;
        match self {
            DeviceName::Cpu => Ok(Opened::Cpu(cpu(precision))),
            #[cfg(feature = "wgpu")]
            DeviceName::Wgpu(index) => Ok(Opened::Wgpu(Box::new(wgpu(index, precision)?))),
            #[cfg(any(feature = "cuda", feature = "cuda-emulator"))]
            DeviceName::Cuda(_) | DeviceName::CudaEmulator => {
                Ok(Opened::Cuda(Box::new(self.cuda(precision)?)))
            }
            #[allow(unreachable_patterns)]
            name => Err(DeviceError::NotCompiled { name }),
        }
    }

    /// Opens an NVIDIA card, or its emulation.
    ///
    /// # Errors
    /// As [`DeviceName::open`].
    #[cfg(any(feature = "cuda", feature = "cuda-emulator"))]
    pub fn cuda(self, precision: PrecisionChoice) -> Result<jit_cuda::Cuda, DeviceError> {
        let limit = memory_limit()?;
        match self {
            #[cfg(feature = "cuda")]
            DeviceName::Cuda(index) => {
                let index = index.unwrap_or_else(crate::launch::local_rank);
                Ok(jit_cuda::Cuda::open(index, precision.asked(), limit)?)
            }
            #[cfg(feature = "cuda-emulator")]
            DeviceName::CudaEmulator => {
                // Rounding to bf16 takes the emulator longer than not to.
                let precision = precision.or(jit_model::device::Precision::F32);
                Ok(jit_cuda::Cuda::emulated(precision, limit))
            }
            name => Err(DeviceError::NotCompiled { name }),
        }
    }
}

/// Opens a graphics card through wgpu.
///
/// # Errors
/// As [`DeviceName::open`].
#[cfg(feature = "wgpu")]
pub fn wgpu(index: Option<usize>, precision: PrecisionChoice) -> Result<jit_gpu::Gpu, DeviceError> {
    let index = index.unwrap_or_else(crate::launch::local_rank);
    Ok(jit_gpu::Gpu::open(index, precision.asked(), memory_limit()?)?)
}

/// How many bytes a card's tensors may hold, if that was said.
#[cfg(feature = "gpu")]
fn memory_limit() -> Result<Option<u64>, DeviceError> {
    match std::env::var(MEMORY) {
        Err(_) => Ok(None),
        Ok(text) => Ok(Some(bytes(&text).ok_or(DeviceError::Memory(text))?)),
    }
}

/// Where sessions of a desktop have their sockets.
#[cfg(all(unix, feature = "wgpu"))]
const SESSION: &str = "XDG_RUNTIME_DIR";

/// Begins this process anew with the variable that names the desktop's session, where it is missing and
/// the command reaches for a graphics card. A layer of Mesa's Vulkan asks the session for the card that
/// shows it, and without a session complains on standard error, of something that nobody here needs. It
/// reads the environment of the process, which cannot be changed safely once there are threads.
#[cfg(all(unix, feature = "wgpu"))]
pub fn settle_session(name: DeviceName) {
    use std::os::unix::process::CommandExt;

    if !matches!(name, DeviceName::Wgpu(_)) || std::env::var_os(SESSION).is_some() {
        return;
    }
    let mut args = std::env::args_os();
    let (Some(called), Ok(program)) = (args.next(), std::env::current_exe()) else { return };
    // A place where nothing can be: there is no session.
    let mut again = std::process::Command::new(program);
    again.arg0(called).args(args).env(SESSION, "/dev/null");
    // Comes back only where it fails; then the line is told.
    let _told_then = again.exec();
}

/// That the device has not failed.
///
/// # Errors
/// What it failed on.
pub fn sound<D: Device>(dev: &D) -> Result<(), DeviceError> {
    match dev.fault() {
        None => Ok(()),
        Some(Fault::Failed(reason)) => Err(DeviceError::Failed(reason)),
        Some(Fault::OutOfMemory { .. }) => Err(DeviceError::Full),
    }
}

/// The processor, in the precision asked for or its fastest.
pub fn cpu(precision: PrecisionChoice) -> Cpu {
    Cpu::new(precision.or(Cpu::fastest_precision()))
}

/// A positive number of GiB, in bytes.
#[cfg(feature = "gpu")]
fn bytes(gib: &str) -> Option<u64> {
    let gib: f64 = gib.trim().parse().ok()?;
    (gib.is_finite() && gib > 0.0).then_some((gib * f64::from(1 << 30)) as u64)
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Wgpu(None) => f.write_str("wgpu"),
            DeviceName::Wgpu(Some(i)) => write!(f, "wgpu:{i}"),
            DeviceName::Cuda(None) => f.write_str("cuda"),
            DeviceName::Cuda(Some(i)) => write!(f, "cuda:{i}"),
            DeviceName::CudaEmulator => f.write_str("cuda-emulator"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (name, index) = match text.split_once(':') {
            None => (text, Some(None)),
            Some((name, index)) => (name, index.parse().ok().map(Some)),
        };
        match (name, index) {
            ("cpu", Some(None | Some(0))) => Ok(DeviceName::Cpu),
            ("wgpu", Some(index)) => Ok(DeviceName::Wgpu(index)),
            ("cuda", Some(index)) => Ok(DeviceName::Cuda(index)),
            // Named in the error of a build without it, and in no list of devices: it is for tests.
            ("cuda-emulator", Some(None)) => Ok(DeviceName::CudaEmulator),
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
    fn names_parse_and_come_back() {
        assert_eq!("cpu:0".parse::<DeviceName>().unwrap(), DeviceName::Cpu);
        for name in ["cpu", "cuda:1", "wgpu", "wgpu:0"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        for bad in ["cpu:1", "cuda:x", "gpu", ""] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad}");
        }
        let message = "cud".parse::<DeviceName>().unwrap_err().to_string();
        assert!(message.contains("did you mean `cuda`?"), "{message}");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn what_is_missing_is_said() {
        let message = DeviceName::Cuda(Some(1)).check().unwrap_err().to_string();
        let start = "this build has no backend for the device `cuda:1`; it has: cpu";
        assert!(message.starts_with(start), "{message}");
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn memory_is_a_positive_number_of_gib() {
        assert_eq!(bytes("0.5"), Some(1 << 29));
        assert!(["", "-1", "0", "inf", "8GB"].iter().all(|text| bytes(text).is_none()));
    }
}
