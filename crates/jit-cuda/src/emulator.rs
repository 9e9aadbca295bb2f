//! The kernels on the processor: the same source, compiled by the C++ compiler, threads of a block as fibers. Slow, and
//! in every other way a card: the tests of machines without one run through it.

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{CString, c_char, c_int, c_void};

use half::bf16;
use jit_kernels::gemm::Precision;
use jit_kernels::linear::{PackedWeight, linear, linear_grad_input, linear_grad_weight};
use jit_model::device::Fault;

use crate::backend::{Backend, Dtype, Launch, Matrix, Pending, Product, ProductKind};

unsafe extern "C" {
    /// Runs a kernel: 0 when done, 1 where there is none of that name, 2 where it failed.
    safe fn jit_emulator_launch(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared: u32,
        args: *mut *mut c_void,
    ) -> c_int;
}

/// Alignment of allocations.
const ALIGNMENT: usize = 256;

/// Of a block on compute capability 9.0, in bytes.
pub const SHARED_MEMORY: usize = 227 << 10;

/// A card that is none.
pub struct Emulator {
    /// What a block may have, in bytes: kernels take other ways where it is less.
    pub shared_memory: usize,
}

impl Emulator {
    fn layout(bytes: usize) -> Result<Layout, Fault> {
        Layout::from_size_align(bytes.max(1), ALIGNMENT)
            .map_err(|_| Fault::OutOfMemory { limit: None })
    }
}

impl Backend for Emulator {
    fn describe(&self) -> String {
        "emulated on the processor".into()
    }

    fn capacity(&self) -> Option<u64> {
        None
    }

    fn shared_memory(&self) -> usize {
        self.shared_memory
    }

    fn processors(&self) -> usize {
        // Few, so that loops over blocks run several times in tests of small tensors.
        2
    }

    fn granularity(&self) -> usize {
        // As exact as vectors of 16 bytes allow, so that a sanitizer sees what is written beyond.
        16
    }

    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        let layout = Self::layout(bytes)?;
        // SAFETY: the layout has a size.
        let at = unsafe { alloc(layout) };
        if at.is_null() {
            return Err(Fault::OutOfMemory { limit: None });
        }
        // SAFETY: `at` has that many bytes. Poison: whatever reads what nobody wrote shows.
        unsafe { at.write_bytes(0xEE, layout.size()) };
        Ok(at as u64)
    }

    fn free(&self, address: u64, bytes: usize) {
        if let Ok(layout) = Self::layout(bytes) {
            // SAFETY: it came from `allocate` with these bytes.
            unsafe { dealloc(address as *mut u8, layout) };
        }
    }

    fn copy_in(&self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        // SAFETY: the caller allocated as many bytes there.
        unsafe { (to as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn start_read(&self, from: u64, bytes: usize) -> Result<Box<dyn Pending>, Fault> {
        // SAFETY: the caller allocated as many bytes there.
        let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, bytes) };
        Ok(Box::new(Copied(bytes.to_vec())))
    }

    fn zero(&self, at: u64, bytes: usize) -> Result<(), Fault> {
        // SAFETY: the caller allocated as many bytes there.
        unsafe { (at as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<(), Fault> {
        let name = CString::new(launch.kernel.as_str())
            .map_err(|_| Fault::Failed("a kernel's name".into()))?;
        let block = [launch.block, 1, 1];
        let mut values: Vec<u64> = launch.args.iter().map(|arg| arg.bits()).collect();
        let mut args: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let (grid, shared) = (launch.grid.as_ptr(), launch.shared);
        match jit_emulator_launch(name.as_ptr(), grid, block.as_ptr(), shared, args.as_mut_ptr()) {
            0 => Ok(()),
            1 => Err(Fault::Failed(format!("there is no kernel `{}`", launch.kernel))),
            _ => Err(Fault::Failed(format!("the kernel `{}` failed", launch.kernel))),
        }
    }

    fn multiply(&self, p: &Product) -> Result<bool, Fault> {
        let (rows, inputs, outputs) = (p.rows, p.inputs, p.outputs);
        let f32s = Precision::F32;
        match p.kind {
            ProductKind::Forward => {
                let (x, w) = (load(p.left, rows, inputs), load(p.right, outputs, inputs));
                let bias = p.bias.map(|address| {
                    load(Matrix { address, dtype: p.result.dtype, pitch: outputs }, 1, outputs)
                });
                let mut y = vec![0.0; rows * outputs];
                let packed = PackedWeight::new(f32s);
                linear(&x, packed.with(&w, outputs, inputs), bias.as_deref(), &mut y);
                store(p.result, &y, outputs);
            }
            ProductKind::GradInput => {
                let (dy, w) = (load(p.left, rows, outputs), load(p.right, outputs, inputs));
                let mut dx = vec![0.0; rows * inputs];
                let packed = PackedWeight::new(f32s);
                linear_grad_input(&dy, packed.with(&w, outputs, inputs), &mut dx, false);
                store(p.result, &dx, inputs);
            }
            ProductKind::GradWeight => {
                let (dy, x) = (load(p.left, rows, outputs), load(p.right, rows, inputs));
                let mut dw = load(p.result, outputs, inputs);
                linear_grad_weight(f32s, &x, &dy, rows, &mut dw, None);
                store(p.result, &dw, inputs);
            }
        }
        Ok(true)
    }

    fn wait(&self) -> Result<(), Fault> {
        Ok(())
    }
}

struct Copied(Vec<u8>);

impl Pending for Copied {
    fn bytes(&mut self) -> Result<Vec<u8>, Fault> {
        Ok(std::mem::take(&mut self.0))
    }
}

/// A matrix as dense f32.
fn load(m: Matrix, rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        let at = m.address as usize + row * m.pitch * m.dtype.size();
        match m.dtype {
            Dtype::F32 => {
                // SAFETY: the caller's matrix has these rows, each with `pitch ≥ columns` elements, aligned.
                let row = unsafe { std::slice::from_raw_parts(at as *const f32, columns) };
                out.extend_from_slice(row);
            }
            Dtype::Bf16 => {
                // SAFETY: as above.
                let row = unsafe { std::slice::from_raw_parts(at as *const bf16, columns) };
                out.extend(row.iter().map(|v| v.to_f32()));
            }
        }
    }
    out
}

/// Dense f32 into a matrix; padding becomes zero.
fn store(m: Matrix, values: &[f32], columns: usize) {
    for (row, values) in values.chunks(columns.max(1)).enumerate() {
        let at = m.address as usize + row * m.pitch * m.dtype.size();
        match m.dtype {
            Dtype::F32 => {
                // SAFETY: as in `load`.
                let row = unsafe { std::slice::from_raw_parts_mut(at as *mut f32, m.pitch) };
                row.fill(0.0);
                row[..columns].copy_from_slice(values);
            }
            Dtype::Bf16 => {
                // SAFETY: as in `load`.
                let row = unsafe { std::slice::from_raw_parts_mut(at as *mut bf16, m.pitch) };
                row.fill(bf16::ZERO);
                for (to, from) in row.iter_mut().zip(values) {
                    *to = bf16::from_f32(*from);
                }
            }
        }
    }
}
