//! A graphics card, opened.

use std::sync::{Arc, Mutex, PoisonError};

use cubecl::client::Client;
use cubecl::device::{DeviceUnavailable, WgpuDeviceKind};
use cubecl::ir::features::TypeUsage;
use cubecl::prelude::*;
use half::f16;
use jit_model::device::{Fault, Precision};

use crate::memory::Memory;
use crate::product::HalfKind;
use crate::tensor::{Block, GpuTensor, Words};

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machine lacks the device.
    #[error(
        "there is no device `wgpu:{index}`: wgpu finds {available} cards of that kind here. \
         `wgpu:0` is the best there is, if any driver is installed; processes may share it"
    )]
    Missing {
        /// Its number.
        index: usize,
        /// How many there are.
        available: usize,
    },
    /// There is a driver that computes on the processor and nothing else, and the build speaks SPIR-V to it.
    #[error(
        "the only device is a driver that computes on the processor, and such drivers crash on the SPIR-V of the \
         feature `vulkan`: build with `--features wgpu` alone, which speaks WGSL"
    )]
    Software,
    /// The driver failed.
    #[error("the device `wgpu:{index}` cannot be opened: {reason}")]
    Driver {
        /// Its number.
        index: usize,
        /// What it said.
        reason: String,
    },
    /// The device has no products of bf16.
    #[error("the device `wgpu:{index}` cannot multiply bf16; choose --set train.precision=f32")]
    Precision {
        /// Its number.
        index: usize,
    },
}

/// A graphics card: memory, a queue, and the model's operations ([`jit_model::Device`]).
pub struct Gpu {
    pub(crate) client: Client,
    pub(crate) precision: Precision,
    /// The type to which operands of products are rounded in bf16 precision.
    pub(crate) half: Option<HalfKind>,
    pub(crate) memory: Arc<Memory>,
    /// The most bytes its tensors may hold, if that is known.
    limit: Option<u64>,
    /// The most bytes of one tensor.
    largest: u64,
    /// The first failure.
    fault: Mutex<Option<Fault>>,
    /// What a kernel is given in place of tensors that it does not read.
    pub(crate) nothing: GpuTensor,
    pub(crate) no_words: Words,
}

impl Gpu {
    /// Opens device number `index`. Without a precision asked for, bf16 where the device
    /// multiplies it. `limit` bounds the bytes of its tensors.
    ///
    /// # Errors
    /// [`OpenError`] where the machine lacks the device, or the device bf16.
    pub fn open(
        index: usize,
        precision: Option<Precision>,
        limit: Option<u64>,
    ) -> Result<Self, OpenError> {
        let client = connect(index)?;
        let half = HalfKind::of(&client);
        let precision = match (precision, half) {
            (Some(Precision::Bf16), None) => return Err(OpenError::Precision { index }),
            (Some(precision), _) => precision,
            (None, Some(_)) => Precision::Bf16,
            (None, None) => Precision::F32,
        };
        let memory_of = client.properties().memory.clone();
        let memory = Arc::new(Memory::default());
        let nothing = Block::new(client.create_from_slice(&[0; 4]), 4, &memory);
        let no_words = Block::new(client.create_from_slice(&[0; 4]), 4, &memory);
        Ok(Self {
            client,
            precision,
            half: half.filter(|_| precision == Precision::Bf16),
            memory,
            limit: limit.or(memory_of.max_memory()),
            largest: memory_of.max_page_size,
            fault: Mutex::new(None),
            nothing: GpuTensor { shape: vec![1], block: nothing },
            no_words: Words { block: no_words, len: 1 },
        })
    }

    /// Its interface, what it multiplies, and its memory, in words.
    pub fn describe(&self) -> String {
        let products = if HalfKind::of(&self.client).is_some() { "bf16 and f32" } else { "f32" };
        let memory = match self.limit {
            Some(bytes) => format!(", {:.1} GiB", bytes as f64 / f64::from(1 << 30)),
            None => String::new(),
        };
        format!("{}, products in {products}{memory}", self.client.name())
    }

    /// The same, with operands rounded to f16 where the device has that: not for training, but what bf16
    /// goes through can be checked with it on devices that lack bf16.
    #[doc(hidden)]
    pub fn rounding_to_f16(mut self) -> Option<Self> {
        let uses = f16::supported_uses(&self.client);
        let enough = uses.contains(TypeUsage::Conversion) && uses.contains(TypeUsage::Buffer);
        self.half = Some(HalfKind::F16);
        enough.then_some(self)
    }

    /// Memory for `shape`, with whatever was there.
    pub(crate) fn unset(&self, shape: &[usize]) -> GpuTensor {
        let block = self.block(shape.iter().product::<usize>() * 4);
        GpuTensor { shape: shape.to_vec(), block }
    }

    /// Memory of `bytes`.
    pub(crate) fn block(&self, bytes: usize) -> Block {
        // An empty tensor is a tensor too, but an empty binding is none.
        let bytes = bytes.max(4);
        let block = Block::new(self.client.empty(bytes), bytes as u64, &self.memory);
        if let Some(limit) = self.limit
            && self.memory.live() > limit
        {
            self.fail(Fault::OutOfMemory { limit: Some(limit) });
        }
        if bytes as u64 > self.largest {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let (bytes, parts) = (bytes as u64, (bytes as u64).div_ceil(self.largest));
            self.fail(Fault::Failed(format!(
                "a tensor of {} MiB is more than the {} MiB that it lends a kernel: use 1/{parts} as many \
                 images at once",
                mib(bytes),
                mib(self.largest)
            )));
        }
        block
    }

    /// Whole numbers, copied to the device.
    pub(crate) fn words(&self, data: &[u32]) -> Words {
        let handle = self.client.create_from_slice(u32::as_bytes(data));
        let bytes = size_of_val(data) as u64;
        Words { block: Block::new(handle, bytes, &self.memory), len: data.len() }
    }

    /// Numbers, copied to the device.
    pub(crate) fn values(&self, data: &[f32], shape: &[usize]) -> GpuTensor {
        // An empty tensor is a tensor too, but an empty binding is none.
        let held = if data.is_empty() { &[0.0] } else { data };
        let handle = self.client.create_from_slice(f32::as_bytes(held));
        let block = Block::new(handle, size_of_val(held) as u64, &self.memory);
        GpuTensor { shape: shape.to_vec(), block }
    }

    /// Waits until all that was queued is done.
    pub(crate) fn settle(&self) {
        if let Err(error) = cubecl::future::block_on(self.client.sync()) {
            self.failed(&error.to_string());
        }
    }

    /// Notes what the runtime said.
    pub(crate) fn failed(&self, message: &str) {
        // The first line that says what, without the trace of where.
        let lower = message.to_lowercase();
        let memory = ["out of memory", "allocat", "buffer too large", "buffertoobig"];
        if memory.iter().any(|word| lower.contains(word)) {
            self.fail(Fault::OutOfMemory { limit: None });
        } else {
            let first = message.lines().filter(|line| !line.trim().is_empty()).take(3);
            self.fail(Fault::Failed(first.collect::<Vec<_>>().join("; ")));
        }
    }

    fn fail(&self, fault: Fault) {
        let mut first = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(fault);
    }

    pub(crate) fn first_fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client of the device.
fn connect(index: usize) -> Result<Client, OpenError> {
    if cfg!(feature = "vulkan") && has_software_alone() {
        return Err(OpenError::Software);
    }
    // The best that there is, or a card of its own.
    let device = cubecl::Device::wgpu(match index {
        0 => WgpuDeviceKind::DefaultDevice,
        _ => WgpuDeviceKind::DiscreteGpu(index),
    });
    let device = device.map_err(|error| match error {
        DeviceUnavailable::NotLinked(reason) => {
            OpenError::Driver { index, reason: format!("{reason:?}") }
        }
        DeviceUnavailable::NoSuchDevice { available, .. } => {
            OpenError::Missing { index, available }
        }
    })?;
    // A driver that is broken panics within the runtime.
    let client = std::panic::catch_unwind(|| device.client());
    client.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let reason = text.unwrap_or_else(|| "the driver gave no reason".into());
        OpenError::Driver { index, reason }
    })
}

/// Whether Vulkan has a driver that computes on the processor and no card (llvmpipe, SwiftShader).
fn has_software_alone() -> bool {
    use WgpuDeviceKind::{Cpu, DiscreteGpu, IntegratedGpu, Other, VirtualGpu};
    let cards = [DiscreteGpu(0), IntegratedGpu(0), VirtualGpu(0), Other(0)];
    let has = |kind| cubecl::Device::vulkan(kind).is_ok();
    has(Cpu) && !cards.into_iter().any(has)
}
