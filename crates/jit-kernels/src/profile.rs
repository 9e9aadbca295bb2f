//! Where the time goes: seconds, calls and floating-point operations of each kind of kernel, counted
//! between [`start`] and [`stop`].
//!
//! The counters are global, as the threads are, and cost one relaxed load a kernel while off. They
//! count wall time on the calling thread, so what runs inside a kernel's parallel loop must not be
//! timed itself; the operations of a device are. What is cheap (patches, tables, losses) is not
//! counted: it is the difference to the whole.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A kind of kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kernel {
    /// `y = x·Wᵀ + b`
    Linear,
    /// `dx = dy·W`
    LinearGradInput,
    /// `dW += dyᵀ·x`, `db += Σ dy`
    LinearGradWeight,
    /// Attention, forward.
    Attention,
    /// Attention, backward.
    AttentionGrad,
    /// RMSNorm with modulation, both passes.
    Norm,
    /// SwiGLU, SiLU and GELU, both passes.
    Activation,
    /// Gated residuals, both passes.
    Residual,
    /// AdamW with the averages, and the gradient's norm and clearing.
    Optimizer,
}

/// What one kind of kernel took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Times called.
    pub calls: u64,
    /// Wall time.
    pub seconds: f64,
    /// Floating-point operations of its matrix products, two a multiply-add; 0 for the others.
    pub flops: u64,
}

impl Kernel {
    /// Every kind, in the order of a report.
    pub const ALL: [Kernel; 9] = [
        Kernel::Linear,
        Kernel::LinearGradInput,
        Kernel::LinearGradWeight,
        Kernel::Attention,
        Kernel::AttentionGrad,
        Kernel::Norm,
        Kernel::Activation,
        Kernel::Residual,
        Kernel::Optimizer,
    ];

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Linear => "linear",
            Kernel::LinearGradInput => "linear, input gradient",
            Kernel::LinearGradWeight => "linear, weight gradient",
            Kernel::Attention => "attention",
            Kernel::AttentionGrad => "attention, gradient",
            Kernel::Norm => "norm and modulation",
            Kernel::Activation => "activations",
            Kernel::Residual => "gated residuals",
            Kernel::Optimizer => "optimizer",
        }
    }
}

/// Counters of one kind.
struct Counter {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    flops: AtomicU64,
}

static ON: AtomicBool = AtomicBool::new(false);
static COUNTERS: [Counter; Kernel::ALL.len()] = [const {
    Counter { calls: AtomicU64::new(0), nanoseconds: AtomicU64::new(0), flops: AtomicU64::new(0) }
}; Kernel::ALL.len()];

/// Sets every counter to zero and starts to count.
pub fn start() {
    for counter in &COUNTERS {
        counter.calls.store(0, Relaxed);
        counter.nanoseconds.store(0, Relaxed);
        counter.flops.store(0, Relaxed);
    }
    ON.store(true, Relaxed);
}

/// Stops counting and returns what was counted, in the order of [`Kernel::ALL`].
pub fn stop() -> [Usage; Kernel::ALL.len()] {
    ON.store(false, Relaxed);
    COUNTERS.each_ref().map(|counter| Usage {
        calls: counter.calls.load(Relaxed),
        seconds: counter.nanoseconds.load(Relaxed) as f64 * 1e-9,
        flops: counter.flops.load(Relaxed),
    })
}

/// Runs `f`, a kernel of this kind with `flops` operations in its matrix products.
pub fn timed<R>(kernel: Kernel, flops: usize, f: impl FnOnce() -> R) -> R {
    if !ON.load(Relaxed) {
        return f();
    }
    let started = Instant::now();
    let result = f();
    let counter = &COUNTERS[kernel as usize];
    counter.calls.fetch_add(1, Relaxed);
    counter.nanoseconds.fetch_add(started.elapsed().as_nanos() as u64, Relaxed);
    counter.flops.fetch_add(flops as u64, Relaxed);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test, since the counters are global.
    #[test]
    fn only_what_runs_between_start_and_stop_is_counted() {
        timed(Kernel::Norm, 5, || ());
        start();
        assert_eq!(timed(Kernel::Linear, 7, || 1), 1);
        timed(Kernel::Linear, 7, || std::thread::sleep(std::time::Duration::from_millis(2)));
        let usage = stop();
        timed(Kernel::Linear, 7, || ());
        let linear = usage[Kernel::Linear as usize];
        assert_eq!((linear.calls, linear.flops), (2, 14));
        assert!(linear.seconds >= 0.002);
        assert_eq!(usage[Kernel::Norm as usize], Usage::default());
        for (i, kernel) in Kernel::ALL.into_iter().enumerate() {
            assert_eq!(kernel as usize, i, "{}", kernel.name());
        }
    }
}
