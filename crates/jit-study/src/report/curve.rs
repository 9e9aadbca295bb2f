//! Losses along a run, thinned to what a plot can show while the file is read.

use std::io::{self, BufRead, Read};

use jit_train::StepReport;
use jit_train::observer::T_BINS;

use crate::record::TBin;

/// Means over equally many consecutive lines each.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// The means, in order.
    pub parts: Vec<Mean>,
    /// Lines behind each of them but the last.
    lines: u64,
    /// The last line.
    pub last: Option<StepReport>,
    /// Lines that could not be read.
    pub damaged: u64,
}

/// The mean of some lines.
#[derive(Clone, Debug, Default)]
pub struct Mean {
    count: u64,
    epoch: f64,
    loss: f64,
    by_t: [(f64, u64); T_BINS],
}

/// Beyond this many parts, neighbours are merged.
const MOST_PARTS: usize = 256;

/// No line of `metrics.jsonl` comes near this length.
const MAX_LINE: u64 = 1 << 16;

/// No `metrics.jsonl` that is to be kept comes near this size.
const MAX_FILE: u64 = 1 << 32;

impl Curve {
    /// Reads `metrics.jsonl`. A last line that was cut off is passed over: the run goes on.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(mut file: impl BufRead) -> io::Result<Self> {
        let mut curve = Self { lines: 1, ..Self::default() };
        let mut line = Vec::new();
        loop {
            line.clear();
            if file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(curve);
            }
            match serde_json::from_slice::<StepReport>(&line) {
                Ok(report) => curve.push(report),
                Err(_) if line.last() == Some(&b'\n') || line.len() as u64 == MAX_LINE => {
                    curve.damaged += 1
                }
                Err(_) => {}
            }
        }
    }

    fn push(&mut self, report: StepReport) {
        let new = Mean::of(&report);
        let full = self.parts.last().is_none_or(|part| part.count == self.lines);
        if full && self.parts.len() == MOST_PARTS {
            self.lines *= 2;
            self.parts = self.parts.chunks(2).map(Mean::merged).collect();
        }
        match self.parts.last_mut() {
            Some(part) if !full => part.add(&new),
            _ => self.parts.push(new),
        }
        self.last = Some(report);
    }

    /// Diffusion loss by t over the last twentieth of the run.
    pub fn per_t(&self) -> Vec<TBin> {
        let from = self.parts.len() - self.parts.len().div_ceil(20);
        Mean::merged(&self.parts[from..]).per_t()
    }
}

/// The lines of `metrics.jsonl` as at most `most` means over equally many consecutive ones (the last over
/// what is left); what cannot be read is left out.
///
/// # Errors
/// When the file cannot be read.
pub fn thinned(file: impl BufRead, most: usize) -> io::Result<Vec<StepReport>> {
    let mut reports = Vec::new();
    for line in file.take(MAX_FILE).lines() {
        reports.extend(serde_json::from_str::<StepReport>(&line?));
    }
    let together = reports.len().div_ceil(most).max(1);
    Ok(reports.chunks(together).filter_map(mean_of).collect())
}

/// What a run says of some consecutive steps; a partner is left out.
fn mean_of(reports: &[StepReport]) -> Option<StepReport> {
    let last = reports.last()?;
    let rounded = |value: f64| format!("{value:.6e}").parse().unwrap_or(value);
    let mean = |of: fn(&StepReport) -> f64| {
        rounded(reports.iter().map(of).sum::<f64>() / reports.len() as f64)
    };
    let auxiliary = last.auxiliary.map(|_| mean(|report| report.auxiliary.unwrap_or(f64::NAN)));
    let bins = reports.iter().map(Mean::of).fold(Mean::default(), |mut sum, mean| {
        sum.add(&mean);
        sum
    });
    let in_bin = |(sum, images): (f64, u64)| (images > 0).then(|| rounded(sum / images as f64));
    Some(StepReport {
        step: last.step,
        epoch: mean(|report| report.epoch),
        loss: mean(|report| report.loss),
        diffusion: mean(|report| report.diffusion),
        auxiliary,
        lr: mean(|report| report.lr),
        grad_norm: mean(|report| report.grad_norm),
        loss_by_t: bins.by_t.map(in_bin),
        images_by_t: bins.by_t.map(|(_, images)| images),
        images_per_second: mean(|report| report.images_per_second),
        data_wait: mean(|report| report.data_wait),
        merge_wait: last.merge_wait.map(|_| mean(|report| report.merge_wait.unwrap_or(f64::NAN))),
        elapsed: last.elapsed,
        partner: None,
    })
}

impl Mean {
    fn of(report: &StepReport) -> Self {
        let bin = |i: usize| {
            let (loss, images) = (report.loss_by_t[i].unwrap_or(0.0), report.images_by_t[i]);
            (loss * images as f64, images)
        };
        let by_t = std::array::from_fn(bin);
        Self { count: 1, epoch: report.epoch, loss: report.loss, by_t }
    }

    fn add(&mut self, other: &Mean) {
        self.count += other.count;
        self.epoch += other.epoch;
        self.loss += other.loss;
        for (sum, other) in self.by_t.iter_mut().zip(other.by_t) {
            *sum = (sum.0 + other.0, sum.1 + other.1);
        }
    }

    fn merged(parts: &[Mean]) -> Mean {
        let mut sum = Mean::default();
        parts.iter().for_each(|part| sum.add(part));
        sum
    }

    /// The mean epoch.
    pub fn epoch(&self) -> f64 {
        self.epoch / self.count as f64
    }

    /// The mean total loss.
    pub fn loss(&self) -> f64 {
        self.loss / self.count as f64
    }

    /// The mean diffusion loss in each tenth of t that had images.
    pub fn per_t(&self) -> Vec<TBin> {
        let bin = |(i, &(sum, images)): (usize, &(f64, u64))| {
            let edge = |i: usize| i as f64 / T_BINS as f64;
            (images > 0).then(|| TBin {
                low: edge(i),
                high: edge(i + 1),
                loss: sum / images as f64,
            })
        };
        self.by_t.iter().enumerate().filter_map(bin).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> String {
        let mut loss_by_t = [None; T_BINS];
        let mut images_by_t = [0; T_BINS];
        (loss_by_t[3], images_by_t[3]) = (Some(step as f64), step);
        let report = StepReport {
            step,
            epoch: step as f64 / 10.0,
            loss: 2.0 * step as f64,
            loss_by_t,
            images_by_t,
            elapsed: step as f64,
            ..StepReport::default()
        };
        serde_json::to_string(&report).unwrap() + "\n"
    }

    #[test]
    fn a_long_run_is_thinned_to_means_of_all_its_lines() {
        let text: String = (1..=1000).map(line).collect();
        let curve = Curve::read(text.as_bytes()).unwrap();
        assert_eq!(curve.parts.len(), 250);
        // The first four steps, and the last four.
        assert_eq!((curve.parts[0].epoch(), curve.parts[0].loss()), (0.25, 5.0));
        assert_eq!((curve.parts[249].epoch(), curve.parts[249].loss()), (99.85, 1997.0));
        assert_eq!(curve.last.unwrap().step, 1000);
    }

    #[test]
    fn losses_by_t_are_means_over_images_not_lines() {
        let curve = Curve::read((line(1) + &line(3)).as_bytes()).unwrap();
        let merged = Mean::merged(&curve.parts).per_t();
        assert_eq!(merged, [TBin { low: 0.3, high: 0.4, loss: 10.0 / 4.0 }]);
        // The last twentieth of two lines is the last line.
        assert_eq!(curve.per_t()[0].loss, 3.0);
        assert_eq!(Curve::default().per_t(), []);
    }

    #[test]
    fn kept_lines_are_means_that_read_as_the_whole_does() {
        let text: String = (1..=100).map(line).collect();
        let kept = thinned(text.as_bytes(), 32).unwrap();
        assert_eq!((kept.len(), kept[0].step, kept[24].step), (25, 4, 100));
        assert_eq!((kept[0].loss, kept[0].epoch), (5.0, 0.25));
        // (1·1 + 2·2 + 3·3 + 4·4) / (1 + 2 + 3 + 4) over images.
        assert_eq!((kept[0].loss_by_t[3], kept[0].images_by_t[3]), (Some(3.0), 10));
        let again: String = kept.iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect();
        let (whole, kept) =
            (Curve::read(text.as_bytes()).unwrap(), Curve::read(again.as_bytes()).unwrap());
        let mean = |curve: &Curve| Mean::merged(&curve.parts).loss();
        assert!((mean(&whole) - mean(&kept)).abs() < 1e-9);
        assert!(thinned("".as_bytes(), 32).unwrap().is_empty());
    }

    #[test]
    fn damaged_lines_are_counted_and_a_torn_end_is_not() {
        let text = line(1) + "{\"step\":2}\n\u{0}\n" + &line(3) + "{\"step\":4,\"lo";
        let curve = Curve::read(text.as_bytes()).unwrap();
        assert_eq!((curve.parts.len(), curve.damaged), (2, 2));
    }
}
