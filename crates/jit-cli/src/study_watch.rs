//! A study's progress on the terminal: a bar over all runs where someone watches, a line every few
//! seconds where the output is kept, and one line for each finished run.

use std::io::{IsTerminal, stderr};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use jit_study::claim::Holder;
use jit_study::record::{Outcome, Record};
use jit_study::{PlannedFusion, PlannedRun, Progress, StudyObserver};
use jit_train::StepReport;
use jit_train::evaluation::EvalReport;

use crate::terminal::{INTERVAL, clock, say, smooth};

/// Parts of the bar.
const PARTS: u64 = 1000;

/// Watches a study.
pub struct StudyWatch {
    bar: Option<ProgressBar>,
    /// When the last line was printed where there is no terminal.
    printed: Instant,
    loss: Option<f64>,
    /// Who was waited for, as told last.
    told: String,
    /// Runs that diverged, of those done here.
    pub diverged: usize,
}

impl StudyWatch {
    /// Before anything is done.
    pub fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(PARTS);
            if let Ok(style) = ProgressStyle::with_template("{bar:28} {percent} %  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, printed: Instant::now(), loss: None, told: String::new(), diverged: 0 }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn update(&mut self, text: &str, progress: &Progress) {
        let left =
            progress.seconds_left().map_or(String::new(), |s| format!("  {} left", clock(s)));
        let text = format!("{} of {} runs  {text}{left}", progress.finished, progress.runs);
        match &self.bar {
            Some(bar) => {
                bar.set_position((progress.share() * PARTS as f64) as u64);
                bar.set_message(text);
            }
            None if self.printed.elapsed() >= INTERVAL => {
                self.printed = Instant::now();
                say(&format!("{:.0} %  {text}", progress.share() * 100.0));
            }
            None => {}
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say(text),
        }
    }
}

impl StudyObserver for StudyWatch {
    fn run_started(&mut self, run: &PlannedRun, progress: &Progress) {
        self.loss = None;
        self.update(&format!("{} starts", run.label()), progress);
    }

    fn step(&mut self, run: &PlannedRun, step: &StepReport, steps: u64, progress: &Progress) {
        let loss = smooth(&mut self.loss, step.loss);
        let text = format!("{} step {}/{steps}  loss {loss:.4}", run.label(), step.step);
        self.update(&text, progress);
    }

    fn drawing(&mut self, run: &PlannedRun, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} drawing images of step {step}", run.label()));
        }
    }

    fn evaluated(&mut self, run: &PlannedRun, report: &EvalReport, progress: &Progress) {
        self.update(&format!("{} judged at step {}", run.label(), report.step), progress);
    }

    fn fusing(&mut self, row: &PlannedFusion, progress: &Progress) {
        self.update(&format!("{} draws", row.label()), progress);
    }

    fn finished(&mut self, label: &str, record: &Record, progress: &Progress) {
        let result = match (&record.outcome, record.evaluations.last()) {
            (Outcome::Diverged { diverged_at, message }, _) => {
                self.diverged += 1;
                format!("diverged at step {diverged_at}: {message}")
            }
            (Outcome::Finished, None) => "not judged".to_string(),
            (Outcome::Finished, Some(last)) => {
                let values = last.eval.values().into_iter();
                let shown: Vec<String> = values.map(|(name, v)| format!("{name} {v:.4}")).collect();
                shown.join("  ")
            }
        };
        let took = clock(record.train_seconds + record.eval_seconds);
        let (finished, runs) = (progress.finished, progress.runs);
        self.line(&format!("{finished}/{runs} {label} in {took}: {result}"));
    }

    fn waiting(&mut self, held: &[(String, Holder)], progress: &Progress) {
        let tell = |(run, holder): &(String, Holder)| format!("{run} is held by {holder}");
        let told = held.iter().map(tell).collect::<Vec<_>>().join("; ");
        if !told.is_empty() && told != self.told {
            self.line(&format!("waiting: {told}"));
            self.told = told;
        }
        self.update("waiting for others", progress);
    }

    fn warning(&mut self, run: &PlannedRun, message: &str) {
        self.line(&format!("warning: {}: {message}", run.label()));
    }
}
