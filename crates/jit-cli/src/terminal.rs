//! Progress on the terminal: a bar where someone watches, a line every few seconds where the output
//! is kept. Both go to standard error; results go to standard output.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use jit_core::text::{Show, lines};
use jit_train::evaluation::EvalReport;
use jit_train::{Observer, Plan, StepReport};

/// Time between two lines where there is no terminal.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// How far some work is.
pub struct Progress {
    bar: Option<ProgressBar>,
    unit: &'static str,
    total: u64,
    first: u64,
    started: Instant,
    /// When the last line was printed where there is no terminal.
    printed: Instant,
}

impl Progress {
    /// Starts with `first` of `total` done.
    pub fn new(unit: &'static str, first: u64, total: u64) -> Self {
        let bar = (stderr().is_terminal() && !is_quiet()).then(|| {
            let bar = ProgressBar::new(total).with_position(first);
            let template = format!("{{bar:28}} {unit} {{pos}}/{{len}}  {{msg}}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        Self { bar, unit, total, first, started: now, printed: now }
    }

    /// `done` of the total are done; `message` says more.
    pub fn update(&mut self, done: u64, message: &str) {
        let text = format!("{message}{}", self.remaining(done));
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(text);
            }
            None if done >= self.total || self.printed.elapsed() >= INTERVAL => {
                self.printed = Instant::now();
                say(&format!("{} {done}/{}  {text}", self.unit, self.total));
            }
            None => {}
        }
    }

    /// A line above the bar.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(lines(text)),
            None => say(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// `  1:23 left`, at the mean pace since the start.
    fn remaining(&self, done: u64) -> String {
        let made = done.saturating_sub(self.first);
        if made == 0 || done >= self.total {
            return String::new();
        }
        let pace = self.started.elapsed().as_secs_f64() / made as f64;
        format!("  {} left", clock(pace * (self.total - done) as f64))
    }
}

/// Whether another process of the same job speaks for this one.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Says nothing from now on but complaints.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes a line to standard error; a closed terminal is no reason to stop working.
pub fn say(text: &str) {
    if !is_quiet() {
        complain(text);
    }
}

/// The same for a line that must be seen, whoever else speaks.
pub fn complain(text: &str) {
    // Text may quote names from files, which a terminal must not obey.
    let _closed = writeln!(stderr(), "{}", lines(text));
}

/// `0:07`, `1:02:03` or `3 d 4 h`.
pub fn clock(seconds: f64) -> String {
    let total = seconds.round().min(1e12) as u64;
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        1..48 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// Weight of a new step in the shown loss and pace.
const SMOOTHING: f64 = 0.05;

/// Watches a training run.
#[derive(Default)]
pub struct Watch {
    progress: Option<Progress>,
    plan: Option<Plan>,
    loss: Option<f64>,
    partner: Option<f64>,
    pace: Option<f64>,
}

impl Watch {
    /// What the run was about to do; `None` if it never came that far.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.progress.iter().for_each(Progress::finish);
    }

    fn line(&self, text: &str) {
        match &self.progress {
            Some(progress) => progress.line(text),
            None => say(text),
        }
    }
}

/// An exponential mean that starts at its first value.
pub fn smooth(mean: &mut Option<f64>, value: f64) -> f64 {
    let next = mean.map_or(value, |old| old + SMOOTHING * (value - old));
    *mean = Some(next);
    next
}

impl Observer for Watch {
    fn start(&mut self, plan: &Plan) {
        let Plan { first_step, total_steps, global_batch, images, parameters } = plan;
        let mut text = format!("{parameters} parameters, {images} images, {total_steps} steps");
        let _infallible = write!(text, " of {global_batch} images");
        if *first_step > 0 {
            let _infallible = write!(text, "; going on after step {first_step}");
        }
        say(&text);
        if first_step < total_steps {
            self.progress = Some(Progress::new("step", *first_step, *total_steps));
        }
        self.plan = Some(plan.clone());
    }

    fn step(&mut self, report: &StepReport) {
        let loss = smooth(&mut self.loss, report.loss);
        let pace = smooth(&mut self.pace, report.images_per_second);
        if let Some(progress) = &mut self.progress {
            let partner = report.partner.as_ref().map(|partner| {
                let loss = smooth(&mut self.partner, partner.loss);
                format!(", partner {loss:.4}")
            });
            let partner = partner.unwrap_or_default();
            progress.update(report.step, &format!("loss {loss:.4}{partner}  {pace:.1} images/s"));
        }
    }

    fn sampling(&mut self, step: u64) {
        if let Some(Progress { bar: Some(bar), .. }) = &self.progress {
            bar.set_message(format!("drawing samples of step {step}"));
        }
    }

    fn samples(&mut self, _step: u64, path: &Path) {
        self.line(&format!("samples: {}", path.shown()));
    }

    fn evaluating(&mut self, step: u64) {
        if let Some(Progress { bar: Some(bar), .. }) = &self.progress {
            bar.set_message(format!("evaluating step {step}"));
        }
    }

    fn evaluated(&mut self, report: &EvalReport) {
        let values = report.values();
        let values: Vec<String> =
            values.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        self.line(&format!("step {}: {}", report.step, values.join("  ")));
    }

    fn warning(&mut self, message: &str) {
        self.line(&format!("warning: {message}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_on_a_clock() {
        assert_eq!(clock(6.7), "0:07");
        assert_eq!(clock(3723.0), "1:02:03");
        assert_eq!(clock(76.0 * 3600.0), "3 d 4 h");
        assert_eq!(clock(f64::INFINITY), "11574074 d 1 h");
    }

    #[test]
    fn the_shown_loss_starts_at_the_first() {
        let mut mean = None;
        assert_eq!(smooth(&mut mean, 2.0), 2.0);
        assert!((smooth(&mut mean, 1.0) - 1.95).abs() < 1e-12);
    }
}
