//! What a study tells whoever watches it. Nothing here prints.

use jit_train::StepReport;
use jit_train::evaluation::EvalReport;

use crate::claim::Holder;
use crate::fusion::PlannedFusion;
use crate::plan::PlannedRun;
use crate::progress::Progress;
use crate::record::Record;

/// Watches a study. Every method may be left out.
pub trait StudyObserver {
    /// A run is about to start or to go on.
    fn run_started(&mut self, _run: &PlannedRun, _progress: &Progress) {}
    /// A step of it is done, of so many.
    fn step(&mut self, _run: &PlannedRun, _step: &StepReport, _steps: u64, _progress: &Progress) {}
    /// Images of it are about to be drawn, which may take a while.
    fn drawing(&mut self, _run: &PlannedRun, _step: u64) {}
    /// They were judged.
    fn evaluated(&mut self, _run: &PlannedRun, _report: &EvalReport, _progress: &Progress) {}
    /// Two models are about to draw together.
    fn fusing(&mut self, _row: &PlannedFusion, _progress: &Progress) {}
    /// A run or a row of two models is finished and its record written.
    fn finished(&mut self, _label: &str, _record: &Record, _progress: &Progress) {}
    /// All that is left is held by others.
    fn waiting(&mut self, _held: &[(String, Holder)], _progress: &Progress) {}
    /// Something unexpected that the study can live with.
    fn warning(&mut self, _run: &PlannedRun, _message: &str) {}
}
