//! What a benchmark says, for people and for programs.

use std::io::Write;

use jit_kernels::profile::{Kernel, Usage};
use jit_train::RunConfig;
use jit_train::config::PrecisionChoice;
use serde::Serialize;

use super::median;
use crate::cli::Workload;
use crate::failure::Outcome;

/// What computes, and what it could do at best.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Instruction set of the kernels.
    pub level: String,
    /// Threads of a processor; 0 elsewhere.
    pub threads: usize,
    /// Precision of the linear layers.
    pub precision: PrecisionChoice,
    /// Operations per second at best, in that precision.
    pub peak_flops: f64,
    /// What reaches that.
    pub peak_of: &'static str,
}

impl Machine {
    /// What computes, in words.
    pub fn kernels(&self) -> String {
        match self.threads {
            0 => self.level.clone(),
            threads => format!("{}, {threads} threads", self.level),
        }
    }
}

/// What was measured.
pub struct Measured {
    /// Of each step.
    pub seconds: Vec<f64>,
    /// Of all steps, in the order of [`Kernel::ALL`].
    pub kernels: [Usage; Kernel::ALL.len()],
    /// Operations of the matrix products of a step.
    pub flops_per_step: f64,
    /// Images finished in a step.
    pub images_per_step: f64,
}

/// The result of a benchmark. Its JSON has these fields.
#[derive(Debug, Serialize)]
pub struct Report {
    workload: &'static str,
    image_size: usize,
    hidden_size: usize,
    depth: usize,
    batch_size: usize,
    #[serde(flatten)]
    machine: Machine,
    steps: usize,
    /// Median.
    seconds_per_step: f64,
    /// Of each step.
    seconds: Vec<f64>,
    images_per_second: f64,
    gflops: f64,
    peak_gflops: f64,
    share_of_peak: f64,
    /// Of a card's tensors; on the processor, of the process.
    peak_memory_bytes: Option<u64>,
    kernels: Vec<KernelReport>,
}

/// One kind of kernel, in a step.
#[derive(Debug, Serialize)]
struct KernelReport {
    name: &'static str,
    calls: f64,
    seconds: f64,
    share_of_time: f64,
    /// Of its matrix products, if it has any.
    gflops: Option<f64>,
}

impl Report {
    /// Medians and rates. `memory` is the peak of a card's tensors.
    pub fn new(
        workload: Workload,
        config: &RunConfig,
        machine: Machine,
        m: Measured,
        memory: Option<u64>,
    ) -> Self {
        let (steps, seconds) = (m.seconds.len(), median(&m.seconds));
        let peak_gflops = machine.peak_flops / 1e9;
        let gflops = m.flops_per_step / seconds / 1e9;
        Self {
            workload: match workload {
                Workload::Train => "train",
                Workload::Sample => "sample",
                Workload::Kernels => "kernels",
                Workload::Reduce => "reduce",
                Workload::Data => "data",
            },
            image_size: config.model.image_size,
            hidden_size: config.model.hidden_size,
            depth: config.model.depth,
            batch_size: config.train.batch_size,
            machine,
            steps,
            seconds_per_step: seconds,
            images_per_second: m.images_per_step / seconds,
            gflops,
            peak_gflops,
            share_of_peak: gflops / peak_gflops,
            peak_memory_bytes: memory.or_else(peak_memory),
            kernels: kernels(&m),
            seconds: m.seconds,
        }
    }

    /// One JSON object on a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&self, out: &mut dyn Write) -> Outcome {
        Ok(writeln!(out, "{}", serde_json::to_string(self)?)?)
    }

    /// A table.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn text(&self, out: &mut dyn Write) -> Outcome {
        let m = &self.machine;
        let precision = precision_name(m.precision);
        writeln!(out, "{}, {} images at once, {precision}", self.workload, self.batch_size)?;
        writeln!(out, "kernels     {}", m.kernels())?;
        let (fastest, slowest) = self
            .seconds
            .iter()
            .fold((f64::INFINITY, 0.0f64), |(low, high), &s| (low.min(s), high.max(s)));
        writeln!(
            out,
            "step        {}, median of {} ({} to {})",
            time(self.seconds_per_step),
            self.steps,
            time(fastest),
            time(slowest)
        )?;
        writeln!(out, "images      {:.3} a second", self.images_per_second)?;
        writeln!(
            out,
            "operations  {:.1} GFLOP/s, {:.0} % of this machine's peak of {:.1} GFLOP/s ({})",
            self.gflops,
            100.0 * self.share_of_peak,
            self.peak_gflops,
            m.peak_of
        )?;
        if let Some(bytes) = self.peak_memory_bytes {
            writeln!(out, "memory      {:.2} GiB at the peak", bytes as f64 / (1u64 << 30) as f64)?;
        }
        writeln!(
            out,
            "\n{:<26}{:>8}{:>12}{:>8}{:>10}",
            "a step's", "calls", "time", "", "GFLOP/s"
        )?;
        for k in &self.kernels {
            let gflops = k.gflops.map_or_else(String::new, |g| format!("{g:.1}"));
            let share = format!("{:.1} %", 100.0 * k.share_of_time);
            let (name, calls, time) = (k.name, k.calls, time(k.seconds));
            writeln!(out, "{name:<26}{calls:>8}{time:>12}{share:>8}{gflops:>10}")?;
        }
        Ok(())
    }
}

/// As the option is written.
pub fn precision_name(precision: PrecisionChoice) -> &'static str {
    match precision {
        PrecisionChoice::Auto => "auto",
        PrecisionChoice::F32 => "f32",
        PrecisionChoice::Bf16 => "bf16",
    }
}

/// The kinds of kernels that ran, and the rest of the time.
fn kernels(m: &Measured) -> Vec<KernelReport> {
    let (steps, total) = (m.seconds.len() as f64, m.seconds.iter().sum::<f64>());
    let known = Kernel::ALL.into_iter().zip(&m.kernels).filter(|(_, usage)| usage.calls > 0);
    let mut reports: Vec<_> = known
        .map(|(kernel, usage)| KernelReport {
            name: kernel.name(),
            calls: usage.calls as f64 / steps,
            seconds: usage.seconds / steps,
            share_of_time: usage.seconds / total,
            gflops: (usage.flops > 0).then(|| usage.flops as f64 / usage.seconds / 1e9),
        })
        .collect();
    let rest = total - m.kernels.iter().map(|usage| usage.seconds).sum::<f64>();
    reports.push(KernelReport {
        name: "everything else",
        calls: 1.0,
        seconds: rest / steps,
        share_of_time: rest / total,
        gflops: None,
    });
    reports
}

/// `12.3 ms`
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", 1e3 * s),
        s => format!("{:.1} us", 1e6 * s),
    }
}

/// The most memory that this process ever had, where the system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_time_add_up_and_rates_follow_from_the_median() {
        let mut usage = [Usage::default(); Kernel::ALL.len()];
        usage[0] = Usage { calls: 8, seconds: 3.0, flops: 6_000_000_000 };
        let seconds = vec![1.0, 2.0, 2.0, 1.0];
        let measured =
            Measured { seconds, kernels: usage, flops_per_step: 3e9, images_per_step: 6.0 };
        let machine = Machine {
            level: "portable".into(),
            threads: 1,
            precision: PrecisionChoice::F32,
            peak_flops: 4e9,
            peak_of: "multiply-adds in registers",
        };
        let report = Report::new(Workload::Train, &RunConfig::default(), machine, measured, None);
        assert_eq!((report.seconds_per_step, report.images_per_second), (1.5, 4.0));
        assert_eq!((report.gflops, report.share_of_peak), (2.0, 0.5));
        assert_eq!(report.kernels.len(), 2);
        assert_eq!(report.kernels[0].gflops, Some(2.0));
        assert_eq!(report.kernels.iter().map(|k| k.share_of_time).sum::<f64>(), 1.0);
    }

    #[test]
    fn times_are_short() {
        assert_eq!(time(21.5), "21.50 s");
        assert_eq!(time(0.0123), "12.30 ms");
        assert_eq!(time(4.56e-6), "4.6 us");
    }
}
