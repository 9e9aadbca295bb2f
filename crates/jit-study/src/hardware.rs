//! The machine that a run was computed on.

use jit_kernels::cpu;

use crate::record::Hardware;

impl Hardware {
    /// This machine, with the threads that this process computes with.
    pub fn here() -> Self {
        let memory = proc_value("/proc/meminfo", "MemTotal");
        let kib = memory.as_deref().and_then(|text| text.strip_suffix("kB")?.trim().parse().ok());
        Self {
            processor: proc_value("/proc/cpuinfo", "model name")
                .unwrap_or_else(|| "unknown".into()),
            kernels: cpu::level().to_string(),
            threads: rayon::current_num_threads(),
            memory_bytes: kib.map_or(0, |kib: u64| kib.saturating_mul(1024)),
        }
    }
}

/// The value of the first line `key : value` of a file under `/proc`.
fn proc_value(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_string())
}
