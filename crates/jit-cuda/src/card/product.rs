//! Matrix products by cuBLASLt: a plan per shape, the algorithm of each timed once.
//!
//! cuBLASLt sees matrices column by column, so that a row-major `[r, c]` is a `c × r` matrix with the row's pitch as its leading
//! dimension. Forward: `yᵀ[out, rows] = (wᵀ)ᵀ·xᵀ`; gradient of the input: `dxᵀ[in, rows] = wᵀ·dyᵀ`; of the weight:
//! `dwᵀ[in, out] += xᵀ·(dyᵀ)ᵀ`.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::result as driver;
use cudarc::driver::sys::{CUevent_flags, CUstream};
use jit_model::device::Fault;

use super::algorithms::{Algorithm, Algorithms};
use super::fault;
use crate::backend::{Dtype, Matrix, Product, ProductKind};

/// What the library may use beside the matrices: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;
/// Algorithms that are timed.
const CANDIDATES: usize = 8;
/// Runs of each, of which the fastest counts.
const RUNS: usize = 3;

/// `cublasOperation_t`
const AS_IT_IS: i32 = 0;
const TRANSPOSED: i32 = 1;

/// All products of a card.
pub struct Products {
    handle: sys::cublasLtHandle_t,
    workspace: u64,
    state: Mutex<State>,
}

struct State {
    plans: HashMap<Key, Option<Plan>>,
    algorithms: Algorithms,
}

// SAFETY: the handle and the descriptors may be used from any thread; plans are behind a lock.
unsafe impl Send for Products {}
// SAFETY: as above.
unsafe impl Sync for Products {}

/// What a plan depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    kind: ProductKind,
    rows: usize,
    inputs: usize,
    outputs: usize,
    /// Of left, right and result.
    dtypes: [Dtype; 3],
    pitches: [usize; 3],
    bias: bool,
}

impl Key {
    fn of(p: &Product) -> Self {
        let matrices = [p.left, p.right, p.result];
        Self {
            kind: p.kind,
            rows: p.rows,
            inputs: p.inputs,
            outputs: p.outputs,
            dtypes: matrices.map(|m| m.dtype),
            pitches: matrices.map(|m| m.pitch),
            bias: p.bias.is_some(),
        }
    }

    /// As a line of the cache names it.
    fn name(&self) -> String {
        let kind = match self.kind {
            ProductKind::Forward => "forward",
            ProductKind::GradInput => "grad_input",
            ProductKind::GradWeight => "grad_weight",
        };
        let dtypes = self.dtypes.map(Dtype::suffix).concat();
        let [left, right, result] = self.pitches;
        let (rows, inputs, outputs) = (self.rows, self.inputs, self.outputs);
        let bias = if self.bias { "+bias" } else { "" };
        format!("{kind}{bias}:{rows}x{inputs}x{outputs}:{left},{right},{result}:{dtypes}")
    }
}

/// Descriptors of a product, and how it is computed. They live as long as the program: there are as many as shapes.
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    d: sys::cublasLtMatrixLayout_t,
    /// 1 where the result is added into.
    beta: f32,
    algorithm: Algorithm,
}

impl Products {
    /// For a card of that name; what was timed before is read from the cache.
    pub fn new(card: &str) -> Result<Self, String> {
        let handle = result::create_handle().map_err(|error| words(error, "no handle"))?;
        // SAFETY: freed when it is dropped.
        let workspace = unsafe { driver::malloc_sync(WORKSPACE) }.map_err(super::reason)?;
        // SAFETY: no argument.
        let version = unsafe { sys::cublasLtGetVersion() };
        let algorithms = Algorithms::load(card, version);
        let state = State { plans: HashMap::new(), algorithms };
        Ok(Self { handle, workspace, state: Mutex::new(state) })
    }

    /// Queues a product. False where the library adds no bias to such a one.
    pub fn multiply(&self, stream: CUstream, p: &Product) -> Result<bool, Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key::of(p);
        if !state.plans.contains_key(&key) {
            let plan = self.plan(stream, p, &key, &mut state.algorithms)?;
            state.plans.insert(key, plan);
        }
        let Some(Some(plan)) = state.plans.get(&key) else {
            return match p.bias {
                Some(_) => Ok(false),
                None => Err(failed(&key, "there is no algorithm")),
            };
        };
        if let Some(bias) = p.bias {
            plan.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)
                .map_err(|error| failed(&key, &words(error, "bias")))?;
        }
        self.run(stream, plan, &plan.algorithm, p, p.result.address, plan.beta)
            .map_err(|error| failed(&key, &words(error, "it")))?;
        Ok(true)
    }

    fn run(
        &self,
        stream: CUstream,
        plan: &Plan,
        algorithm: &Algorithm,
        p: &Product,
        result: u64,
        beta: f32,
    ) -> Result<(), CublasError> {
        let (a, b) = operands(p);
        let alpha = 1.0f32;
        let scalar = |x: &f32| std::ptr::from_ref(x).cast::<c_void>();
        // SAFETY: the descriptors are of this product's shapes, the addresses of live tensors of those shapes, the workspace is
        // as large as said, and used by one product at a time: all run on one stream.
        unsafe {
            result::matmul(
                self.handle,
                plan.operation,
                scalar(&alpha),
                scalar(&beta),
                a.address as *const c_void,
                plan.a,
                b.address as *const c_void,
                plan.b,
                result as *const c_void,
                plan.d,
                result as *mut c_void,
                plan.d,
                &algorithm.bits(),
                self.workspace as *mut c_void,
                WORKSPACE,
                stream.cast(),
            )
        }
    }

    /// Descriptors and algorithm of a product; `None` where there is none.
    fn plan(
        &self,
        stream: CUstream,
        p: &Product,
        key: &Key,
        algorithms: &mut Algorithms,
    ) -> Result<Option<Plan>, Fault> {
        let plan = Plan::describe(p).map_err(|error| failed(key, &words(error, "a descriptor")))?;
        let name = key.name();
        if let Some(algorithm) = algorithms.get(&name)
            && self.is_possible(&plan, &algorithm)
        {
            return Ok(Some(Plan { algorithm, ..plan }));
        }
        let candidates =
            self.candidates(&plan).map_err(|error| failed(key, &words(error, "the heuristic")))?;
        let Some(algorithm) = self.fastest(stream, &plan, &candidates, p)? else { return Ok(None) };
        algorithms.insert(name, algorithm);
        Ok(Some(Plan { algorithm, ..plan }))
    }

    fn is_possible(&self, plan: &Plan, algorithm: &Algorithm) -> bool {
        let mut checked = std::mem::MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit();
        let (a, b, d) = (plan.a, plan.b, plan.d);
        // SAFETY: live descriptors; the result is written where the status is success, and read then alone.
        unsafe {
            sys::cublasLtMatmulAlgoCheck(
                self.handle,
                plan.operation,
                a,
                b,
                d,
                d,
                &algorithm.bits(),
                checked.as_mut_ptr(),
            )
            .result()
            .is_ok()
                && checked.assume_init().workspaceSize <= WORKSPACE
        }
    }

    /// The algorithms that the library thinks best, best first.
    fn candidates(&self, plan: &Plan) -> Result<Vec<Algorithm>, CublasError> {
        let preference = result::create_matmul_pref()?;
        let most =
            sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let mut found = [const { std::mem::MaybeUninit::uninit() }; CANDIDATES];
        let mut count = 0;
        // SAFETY: live descriptors; room for as many results as asked for, of which `count` are written.
        let status = unsafe {
            let bytes = std::ptr::from_ref(&WORKSPACE).cast();
            result::set_matmul_pref_attribute(preference, most, bytes, size_of::<usize>()).and_then(
                |()| {
                    sys::cublasLtMatmulAlgoGetHeuristic(
                        self.handle,
                        plan.operation,
                        plan.a,
                        plan.b,
                        plan.d,
                        plan.d,
                        preference,
                        CANDIDATES as i32,
                        found[0].as_mut_ptr(),
                        &mut count,
                    )
                    .result()
                },
            )
        };
        // SAFETY: created above.
        unsafe { result::destroy_matmul_pref(preference) }?;
        match status {
            Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => {
                return Ok(vec![]);
            }
            status => status?,
        }
        let count = (count.max(0) as usize).min(CANDIDATES);
        // SAFETY: these were written.
        let found = found[..count].iter().map(|f| unsafe { f.assume_init_ref() });
        Ok(found.filter(|f| f.state.result().is_ok()).map(|f| Algorithm::of(&f.algo)).collect())
    }

    /// The fastest of them on this product, writing to memory of its own.
    fn fastest(
        &self,
        stream: CUstream,
        plan: &Plan,
        candidates: &[Algorithm],
        p: &Product,
    ) -> Result<Option<Algorithm>, Fault> {
        if candidates.len() < 2 {
            return Ok(candidates.first().copied());
        }
        let rows = if p.kind == ProductKind::GradWeight { p.outputs } else { p.rows };
        let bytes = rows * p.result.pitch * p.result.dtype.size();
        // SAFETY: freed below, once all that writes there is done.
        let scratch = match unsafe { driver::malloc_sync(bytes) } {
            Ok(scratch) => scratch,
            // Where memory is short, the library's own order has to do.
            Err(_) => return Ok(candidates.first().copied()),
        };
        let timed = self.time_each(stream, plan, candidates, p, scratch);
        // SAFETY: allocated above; freeing waits for the stream.
        unsafe { driver::free_sync(scratch) }.map_err(fault)?;
        timed
    }

    fn time_each(
        &self,
        stream: CUstream,
        plan: &Plan,
        candidates: &[Algorithm],
        p: &Product,
        scratch: u64,
    ) -> Result<Option<Algorithm>, Fault> {
        if let Some(bias) = p.bias {
            let pointer = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
            plan.set(pointer, &bias).map_err(|error| Fault::Failed(words(error, "bias")))?;
        }
        let event = || driver::event::create(CUevent_flags::CU_EVENT_DEFAULT).map_err(fault);
        let (start, end) = (event()?, event()?);
        let mut best: Option<(f32, Algorithm)> = None;
        for algorithm in candidates {
            for run in 0..=RUNS {
                // SAFETY: live events and stream.
                unsafe { driver::event::record(start, stream) }.map_err(fault)?;
                if self.run(stream, plan, algorithm, p, scratch, 0.0).is_err() {
                    break;
                }
                // SAFETY: as above.
                let milliseconds = unsafe {
                    driver::event::record(end, stream).map_err(fault)?;
                    driver::event::synchronize(end).map_err(fault)?;
                    driver::event::elapsed(start, end).map_err(fault)?
                };
                // The first run loads the kernel.
                if run > 0 && best.is_none_or(|(least, _)| milliseconds < least) {
                    best = Some((milliseconds, *algorithm));
                }
            }
        }
        // SAFETY: created above, and past.
        unsafe {
            driver::event::destroy(start).map_err(fault)?;
            driver::event::destroy(end).map_err(fault)?;
        }
        Ok(best.map(|(_, algorithm)| algorithm))
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: the stream has been waited for; nothing uses them any more.
        unsafe {
            let _ = driver::free_sync(self.workspace);
            let _ = result::destroy_handle(self.handle);
        }
    }
}

impl Plan {
    fn describe(p: &Product) -> Result<Self, CublasError> {
        use sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        use sys::cublasLtMatmulDescAttributes_t as A;
        let operation =
            result::create_matmul_desc(CUBLAS_COMPUTE_32F, sys::cudaDataType_t::CUDA_R_32F)?;
        let layout = |m: Matrix, columns: usize, rows: usize| {
            result::create_matrix_layout(of(m.dtype), columns as u64, rows as u64, m.pitch as i64)
        };
        let (rows, inputs, outputs) = (p.rows, p.inputs, p.outputs);
        let (a, b) = operands(p);
        let (transpose, a, b, d) = match p.kind {
            ProductKind::Forward => (
                [TRANSPOSED, AS_IT_IS],
                layout(a, inputs, outputs)?,
                layout(b, inputs, rows)?,
                layout(p.result, outputs, rows)?,
            ),
            ProductKind::GradInput => (
                [AS_IT_IS, AS_IT_IS],
                layout(a, inputs, outputs)?,
                layout(b, outputs, rows)?,
                layout(p.result, inputs, rows)?,
            ),
            ProductKind::GradWeight => (
                [AS_IT_IS, TRANSPOSED],
                layout(a, inputs, rows)?,
                layout(b, outputs, rows)?,
                layout(p.result, inputs, outputs)?,
            ),
        };
        let beta = if p.kind == ProductKind::GradWeight { 1.0 } else { 0.0 };
        let plan = Self { operation, a, b, d, beta, algorithm: Algorithm::default() };
        plan.set(A::CUBLASLT_MATMUL_DESC_TRANSA, &transpose[0])?;
        plan.set(A::CUBLASLT_MATMUL_DESC_TRANSB, &transpose[1])?;
        if let Some(bias) = p.bias {
            plan.set(
                A::CUBLASLT_MATMUL_DESC_EPILOGUE,
                &sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            )?;
            plan.set(A::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &of(p.result.dtype))?;
            // Replaced by that of each call; its alignment is part of the choice.
            plan.set(A::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        Ok(plan)
    }

    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: &T,
    ) -> Result<(), CublasError> {
        let at = std::ptr::from_ref(value).cast();
        // SAFETY: a live descriptor, which copies a value of the attribute's size.
        unsafe { result::set_matmul_desc_attribute(self.operation, attribute, at, size_of::<T>()) }
    }
}

/// The library's A and B.
fn operands(p: &Product) -> (Matrix, Matrix) {
    (p.right, p.left)
}

fn of(dtype: Dtype) -> sys::cudaDataType_t {
    match dtype {
        Dtype::F32 => sys::cudaDataType_t::CUDA_R_32F,
        Dtype::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
    }
}

fn failed(key: &Key, reason: &str) -> Fault {
    Fault::Failed(format!("the product {}: {reason}", key.name()))
}

fn words(error: CublasError, what: &str) -> String {
    format!("cuBLASLt, {what}: {:?}", error.0)
}
