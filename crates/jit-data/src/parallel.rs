//! One job on several threads.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `work` with each of `0..count` on `threads` threads, each with a `state` of its own, until
/// one breaks off. Which thread does what is not fixed; numbers are handed out in order.
pub(crate) fn for_each<S>(
    count: usize,
    threads: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> ControlFlow<()> + Sync,
) {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut state = state();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            if work(&mut state, i).is_break() {
                next.store(count, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            scope.spawn(run);
        }
        run();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_once_until_one_breaks_off() {
        let seen: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
        for_each(
            1000,
            3,
            || (),
            |(), i| {
                seen[i].fetch_add(1, Ordering::Relaxed);
                ControlFlow::Continue(())
            },
        );
        assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        let count = AtomicUsize::new(0);
        for_each(
            1000,
            1,
            || (),
            |(), i| {
                count.fetch_add(1, Ordering::Relaxed);
                if i == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!(count.into_inner(), 11);
    }
}
