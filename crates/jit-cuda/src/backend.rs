//! The seam below the device: memory by address, kernels by name, and matrix products.
//!
//! Addresses are not checked here: [`crate::launch`] and [`crate::tensor`] are the only callers, and pass those of live
//! tensors whose lengths they have compared.

use jit_model::device::Fault;

/// What an element of a matrix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::Bf16 => 2,
        }
    }

    /// The suffix of a kernel for activations of this type.
    pub fn suffix(self) -> &'static str {
        match self {
            Dtype::F32 => "_f32",
            Dtype::Bf16 => "_bf16",
        }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// A device address, or 0 for a null pointer.
    Address(u64),
    /// `int`
    Int(i32),
    /// `float`
    Float(f32),
    /// `unsigned long long`
    Long(u64),
}

impl Arg {
    /// As a kernel finds it in memory, lowest bytes first.
    pub fn bits(self) -> u64 {
        match self {
            Arg::Address(x) | Arg::Long(x) => x,
            Arg::Int(x) => u64::from(x.cast_unsigned()),
            Arg::Float(x) => u64::from(x.to_bits()),
        }
    }
}

/// A kernel's launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel's name in the source.
    pub kernel: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// In the kernel's order.
    pub args: Vec<Arg>,
}

/// A matrix in device memory, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Of its first element.
    pub address: u64,
    /// Of its elements.
    pub dtype: Dtype,
    /// Elements from one row to the next.
    pub pitch: usize,
}

/// Which of the three products of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProductKind {
    /// `y[rows, out] = x[rows, in]·w[out, in]ᵀ (+ bias[out])`
    Forward,
    /// `dx[rows, in] = dy[rows, out]·w[out, in]`
    GradInput,
    /// `dw[out, in] += dy[rows, out]ᵀ·x[rows, in]`
    GradWeight,
}

/// A matrix product of a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Which one.
    pub kind: ProductKind,
    /// Rows of x and y: `B·N`.
    pub rows: usize,
    /// Columns of x.
    pub inputs: usize,
    /// Columns of y.
    pub outputs: usize,
    /// Forward: x; gradient of the input or the weight: dy.
    pub left: Matrix,
    /// Forward and gradient of the input: w; gradient of the weight: x.
    pub right: Matrix,
    /// What is written, or added into by [`ProductKind::GradWeight`].
    pub result: Matrix,
    /// `[out]`, in the type of the result: added by [`ProductKind::Forward`].
    pub bias: Option<u64>,
}

/// A copy to the host that is under way.
pub trait Pending: Send + Sync {
    /// The bytes, waiting for them and for nothing that was queued later.
    fn bytes(&mut self) -> Result<Vec<u8>, Fault>;
}

/// Where tensors live and kernels run. All is queued in order, and returns at once unless it says otherwise.
pub trait Backend: Send + Sync {
    /// Name, capability and memory, in words.
    fn describe(&self) -> String;
    /// Bytes that may be allocated in all, where that is known.
    fn capacity(&self) -> Option<u64>;
    /// Dynamic shared memory that a block may ask for, in bytes.
    fn shared_memory(&self) -> usize;
    /// Multiprocessors: how many blocks it takes to fill the card, in units.
    fn processors(&self) -> usize;
    /// Small allocations come in multiples of this many bytes.
    fn granularity(&self) -> usize;
    /// New memory, aligned to 256 bytes at least, with whatever was there.
    fn allocate(&self, bytes: usize) -> Result<u64, Fault>;
    /// Gives memory back once all that is queued is done.
    fn free(&self, address: u64, bytes: usize);
    /// Copies from the host; `bytes` may be changed as soon as it returns.
    fn copy_in(&self, to: u64, bytes: &[u8]) -> Result<(), Fault>;
    /// Begins to copy to the host what is there when all that was queued before is done.
    fn start_read(&self, from: u64, bytes: usize) -> Result<Box<dyn Pending>, Fault>;
    /// Sets bytes to zero.
    fn zero(&self, at: u64, bytes: usize) -> Result<(), Fault>;
    /// Runs a kernel.
    fn launch(&self, launch: &Launch) -> Result<(), Fault>;
    /// Multiplies. False where it cannot add the bias on the way, and then nothing was done.
    fn multiply(&self, product: &Product) -> Result<bool, Fault>;
    /// Waits until all that was queued is done.
    fn wait(&self) -> Result<(), Fault>;
}
