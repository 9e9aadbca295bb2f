//! A card, through its driver: one context, one stream, the compiled kernels, and cuBLASLt.

mod algorithms;
mod compile;
mod pinned;
mod product;

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use jit_model::device::Fault;

use crate::backend::{Backend, Launch, Pending, Product};
use crate::device::OpenError;
use pinned::{Download, Pinned};
use product::Products;

/// Compute capability that the kernels ask for: bf16 tensor cores and asynchronous copies.
const OLDEST: (i32, i32) = (8, 0);

/// Shared memory of a block, in bytes, beyond which a kernel lives on it rather than on the cache.
const LARGE_SHARED: u32 = 48 << 10;

/// An NVIDIA card.
pub struct Card {
    context: sys::CUcontext,
    device: sys::CUdevice,
    stream: sys::CUstream,
    module: sys::CUmodule,
    /// Kernels that were launched before.
    functions: Mutex<HashMap<String, sys::CUfunction>>,
    products: Products,
    pinned: Arc<Pinned>,
    name: String,
    capability: (i32, i32),
    memory: u64,
    shared: usize,
    processors: usize,
}

// SAFETY: the driver's handles may be used from any thread whose current context is theirs, which every entry
// below sees to; what is changed here is behind locks.
unsafe impl Send for Card {}
// SAFETY: as above.
unsafe impl Sync for Card {}

impl Card {
    /// Opens card number `index` and compiles the kernels for it, or finds them compiled.
    ///
    /// # Errors
    /// [`OpenError`] saying which library, card or kernel there is not.
    pub fn open(index: usize) -> Result<Self, OpenError> {
        // SAFETY: looks for libraries by name, and keeps none.
        let (driver, nvrtc, cublas) = unsafe {
            (
                sys::is_culib_present(),
                cudarc::nvrtc::sys::is_culib_present(),
                cudarc::cublaslt::sys::is_culib_present(),
            )
        };
        if !driver {
            return Err(OpenError::Library { library: "libcuda.so.1", from: "NVIDIA's driver" });
        }
        let toolkit = "the CUDA toolkit, or NVIDIA's wheels; its folder must be in LD_LIBRARY_PATH";
        if !nvrtc {
            return Err(OpenError::Library { library: "libnvrtc.so.13 or .12", from: toolkit });
        }
        if !cublas {
            return Err(OpenError::Library { library: "libcublasLt.so.13 or .12", from: toolkit });
        }
        let failed = |error: DriverError| OpenError::Driver { index, reason: reason(error) };
        result::init().map_err(failed)?;
        let available = result::device::get_count().map_err(failed)?;
        let ordinal = i32::try_from(index).ok().filter(|i| *i < available);
        let Some(ordinal) = ordinal else {
            return Err(OpenError::Missing { index, available: available.max(0) as usize });
        };
        let device = result::device::get(ordinal).map_err(failed)?;
        let name = result::device::get_name(device).map_err(failed)?;
        use sys::CUdevice_attribute as A;
        // SAFETY: the device is the driver's own.
        let attribute = |a| unsafe { result::device::get_attribute(device, a) }.map_err(failed);
        let capability = (
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if capability < OLDEST {
            return Err(OpenError::TooOld { name, capability });
        }
        let shared = attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let processors = attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        // SAFETY: the device is the driver's own.
        let memory = unsafe { result::device::total_mem(device) }.map_err(failed)? as u64;
        // SAFETY: as above; released when the card is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed)?;
        // SAFETY: the context is retained.
        unsafe { result::ctx::set_current(context) }.map_err(failed)?;
        let stream =
            result::stream::create(result::stream::StreamKind::NonBlocking).map_err(failed)?;
        let image = compile::kernels(capability, &name)?;
        // SAFETY: the image is a whole cubin, and the driver copies it.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }.map_err(failed)?;
        let products =
            Products::new(&name).map_err(|reason| OpenError::Driver { index, reason })?;
        Ok(Self {
            context,
            device,
            stream,
            module,
            functions: Mutex::default(),
            products,
            pinned: Arc::default(),
            name,
            capability,
            memory,
            shared: shared.max(0) as usize,
            processors: processors.max(1) as usize,
        })
    }

    /// Makes its context the calling thread's.
    fn enter(&self) -> Result<(), Fault> {
        // SAFETY: the context lives as long as the card.
        unsafe { result::ctx::set_current(self.context) }.map_err(fault)
    }

    fn function(&self, name: &str, shared: u32) -> Result<sys::CUfunction, Fault> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(name) {
            return Ok(*function);
        }
        let text = CString::new(name).map_err(|_| Fault::Failed("a kernel's name".into()))?;
        // SAFETY: the module lives as long as the card.
        let function = unsafe { result::module::get_function(self.module, text) }
            .map_err(|error| Fault::Failed(format!("the kernel `{name}`: {}", reason(error))))?;
        if shared > 0 {
            use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MOST;
            // As much as a block may have: a later launch of the same kernel may need more than this one.
            let most = i32::try_from(self.shared).unwrap_or(i32::MAX);
            // SAFETY: the function is of a module that lives as long as the card. Static shared memory counts, too, so
            // that less than all may be the most: then what this launch needs is asked for.
            unsafe {
                result::function::set_function_attribute(function, MOST, most).or_else(|_| {
                    result::function::set_function_attribute(function, MOST, shared.cast_signed())
                })
            }
            .map_err(fault)?;
        }
        if shared > LARGE_SHARED {
            use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT as SHARE;
            // Otherwise the driver may leave room for one block where two would fit.
            // SAFETY: as above.
            unsafe { result::function::set_function_attribute(function, SHARE, 100) }
                .map_err(fault)?;
        }
        functions.insert(name.to_string(), function);
        Ok(function)
    }
}

impl Backend for Card {
    fn describe(&self) -> String {
        let (major, minor) = self.capability;
        let gib = self.memory as f64 / f64::from(1 << 30);
        format!("{}, compute capability {major}.{minor}, {gib:.1} GiB", self.name)
    }

    fn capacity(&self) -> Option<u64> {
        Some(self.memory)
    }

    fn shared_memory(&self) -> usize {
        self.shared
    }

    fn processors(&self) -> usize {
        self.processors
    }

    fn granularity(&self) -> usize {
        // What the driver aligns to: less would gain nothing.
        512
    }

    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        self.enter()?;
        // SAFETY: unset memory is never read by a kernel before one has written it.
        unsafe { result::malloc_sync(bytes) }.map_err(fault)
    }

    fn free(&self, address: u64, _bytes: usize) {
        // Nothing can be done about a failure, which the next call meets again.
        let _ = self.enter();
        // SAFETY: it came from `allocate`, and the driver waits for what is queued.
        let _ = unsafe { result::free_sync(address) };
    }

    fn copy_in(&self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.enter()?;
        self.pinned.upload(self.stream, to, bytes)
    }

    fn start_read(&self, from: u64, bytes: usize) -> Result<Box<dyn Pending>, Fault> {
        self.enter()?;
        Ok(Box::new(Download::start(self.context, self.stream, &self.pinned, from, bytes)?))
    }

    fn zero(&self, at: u64, bytes: usize) -> Result<(), Fault> {
        self.enter()?;
        // SAFETY: the caller allocated as many bytes there.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream) }.map_err(fault)
    }

    fn launch(&self, launch: &Launch) -> Result<(), Fault> {
        self.enter()?;
        let function = self.function(&launch.kernel, launch.shared)?;
        let mut values: Vec<u64> = launch.args.iter().map(|arg| arg.bits()).collect();
        let mut args: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: the arguments are of the kernel's types, in its order (`ops`), and the addresses those of tensors whose
        // lengths were compared with what the kernel reads and writes.
        unsafe {
            result::launch_kernel(
                function,
                (x, y, z),
                (launch.block, 1, 1),
                launch.shared,
                self.stream,
                &mut args,
            )
        }
        .map_err(|error| {
            Fault::Failed(format!("the kernel `{}`: {}", launch.kernel, reason(error)))
        })
    }

    fn multiply(&self, product: &Product) -> Result<bool, Fault> {
        self.enter()?;
        self.products.multiply(self.stream, product)
    }

    fn wait(&self) -> Result<(), Fault> {
        self.enter()?;
        // SAFETY: the stream lives as long as the card.
        unsafe { result::stream::synchronize(self.stream) }.map_err(fault)
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = self.enter();
        // SAFETY: nothing uses them any more. A failure at the end of a program changes nothing.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            let _ = result::module::unload(self.module);
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// What the driver says, in its words.
fn reason(error: DriverError) -> String {
    let text = |of: Result<&std::ffi::CStr, DriverError>| {
        of.map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
    };
    let (name, words) = (text(error.error_name()), text(error.error_string()));
    if name.is_empty() { format!("{:?}", error.0) } else { format!("{words} ({name})") }
}

fn fault(error: DriverError) -> Fault {
    match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Fault::OutOfMemory { limit: None },
        _ => Fault::Failed(reason(error)),
    }
}
