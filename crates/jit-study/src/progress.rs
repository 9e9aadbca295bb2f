//! How far a study is, and how long it will take.

use std::time::Instant;

/// How far a study is, in operations: runs of large models weigh more.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Runs that are finished.
    pub finished: usize,
    /// Runs in all.
    pub runs: usize,
    /// Runs that others work on, as of late.
    pub others: usize,
    /// Operations of all runs.
    total: f64,
    /// Operations of the finished ones and of the present one so far.
    done: f64,
    /// Operations of this process, since it began.
    here: f64,
    began: Instant,
}

impl Progress {
    /// Nothing is done yet of `runs` runs with `total` operations.
    pub fn new(runs: usize, total: f64) -> Self {
        Self { finished: 0, runs, others: 0, total, done: 0.0, here: 0.0, began: Instant::now() }
    }

    /// A look at the folder: what is finished there, and how many runs others work on.
    pub fn look(&mut self, finished: usize, done: f64, others: usize) {
        (self.finished, self.done, self.others) = (finished, done, others);
    }

    /// This process has done so many operations more.
    pub fn advance(&mut self, operations: f64) {
        self.done += operations;
        self.here += operations;
    }

    /// Operations were found done: of a run that goes on.
    pub fn found(&mut self, operations: f64) {
        self.done += operations;
    }

    /// The share that is done.
    pub fn share(&self) -> f64 {
        if self.total > 0.0 { (self.done / self.total).min(1.0) } else { 1.0 }
    }

    /// Seconds that are left if all that work go on at this process's pace; `None` before it has done
    /// anything.
    pub fn seconds_left(&self) -> Option<f64> {
        let workers = (1 + self.others) as f64;
        let pace = self.here / self.began.elapsed().as_secs_f64();
        (self.here > 0.0).then(|| (self.total - self.done).max(0.0) / (pace * workers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_depends_on_the_pace_and_on_who_helps() {
        let mut progress = Progress::new(4, 400.0);
        assert_eq!((progress.share(), progress.seconds_left()), (0.0, None));
        progress.look(1, 100.0, 0);
        progress.found(50.0);
        progress.began = Instant::now() - std::time::Duration::from_secs(10);
        progress.advance(50.0);
        assert_eq!(progress.share(), 0.5);
        let alone = progress.seconds_left().unwrap();
        assert!((alone / 40.0 - 1.0).abs() < 0.05, "{alone}");
        progress.others = 1;
        let helped = progress.seconds_left().unwrap();
        assert!((helped / 20.0 - 1.0).abs() < 0.05, "{helped}");
    }
}
