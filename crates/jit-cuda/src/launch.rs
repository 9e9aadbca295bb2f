//! A kernel's launch, put together argument by argument.

use crate::backend::{Arg, Launch};
use crate::device::Cuda;
use crate::memory::Block;
use crate::tensor::{CudaTensor, CudaWeight};

/// Threads of a block where nothing else is asked for.
pub const BLOCK: u32 = 256;

/// A launch in the making. Arguments are given in the kernel's order.
#[must_use]
pub struct Call<'a> {
    dev: &'a Cuda,
    launch: Launch,
    /// Whether it works on nothing: a kernel has no empty grid.
    empty: bool,
}

impl Cuda {
    /// A launch of `kernel`.
    pub(crate) fn kernel(&self, kernel: impl Into<String>) -> Call<'_> {
        let launch =
            Launch { kernel: kernel.into(), grid: [1; 3], block: BLOCK, shared: 0, args: vec![] };
        Call { dev: self, launch, empty: false }
    }
}

impl Call<'_> {
    fn arg(mut self, arg: Arg) -> Self {
        self.launch.args.push(arg);
        self
    }

    /// A tensor that it reads.
    pub fn read(self, x: &CudaTensor) -> Self {
        let address = x.block.address();
        self.arg(Arg::Address(address))
    }

    /// A tensor that it reads from some byte on.
    pub fn read_at(self, x: &CudaTensor, byte: usize) -> Self {
        let address = x.block.address();
        self.arg(Arg::Address(if address == 0 { 0 } else { address + byte as u64 }))
    }

    /// The f32 value of a parameter that it reads.
    pub fn weight(self, w: &CudaWeight) -> Self {
        self.read(&w.value)
    }

    /// A tensor that it writes or adds into.
    pub fn write(self, x: &mut CudaTensor) -> Self {
        let address = x.block.address();
        self.arg(Arg::Address(address))
    }

    /// A tensor that it writes from some byte on.
    pub fn write_at(self, x: &mut CudaTensor, byte: usize) -> Self {
        let address = x.block.address();
        self.arg(Arg::Address(if address == 0 { 0 } else { address + byte as u64 }))
    }

    /// A tensor that it writes, or a null pointer.
    pub fn write_if(self, x: Option<&mut CudaTensor>) -> Self {
        let address = x.map_or(0, |x| x.block.address());
        self.arg(Arg::Address(address))
    }

    /// Memory that it reads or writes.
    pub fn block(self, block: &Block) -> Self {
        let address = block.address();
        self.arg(Arg::Address(address))
    }

    /// A null pointer.
    pub fn null(self) -> Self {
        self.arg(Arg::Address(0))
    }

    /// A size. More than an `int` holds is a bug of the caller, which is bounded by the memory of any card.
    pub fn int(self, n: usize) -> Self {
        let Ok(n) = i32::try_from(n) else { unreachable!("{n} is more than an int holds") };
        self.arg(Arg::Int(n))
    }

    /// A number.
    pub fn float(self, x: f32) -> Self {
        self.arg(Arg::Float(x))
    }

    /// A count of elements.
    pub fn long(self, n: usize) -> Self {
        self.arg(Arg::Long(n as u64))
    }

    /// Blocks along x, y and z.
    pub fn grid(mut self, grid: [usize; 3]) -> Self {
        self.empty = grid.contains(&0);
        self.launch.grid = grid.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        self
    }

    /// Threads of a block.
    pub fn threads(mut self, block: u32) -> Self {
        self.launch.block = block;
        self
    }

    /// Dynamic shared memory of a block.
    pub fn shared(mut self, bytes: usize) -> Self {
        self.launch.shared = u32::try_from(bytes).unwrap_or(u32::MAX);
        self
    }

    /// Queues it.
    pub fn run(self) {
        // After a fault there is no memory behind the addresses, and nothing that is computed counts.
        if self.empty || self.dev.memory.fault().is_some() {
            return;
        }
        if let Err(fault) = self.dev.backend().launch(&self.launch) {
            self.dev.memory.fail(fault);
        }
    }
}
