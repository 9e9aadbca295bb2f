//! Work on many images that processes share: a batch a process, in turn, and the results in order on
//! process 0.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::communicator::{CommunicationError, Communicator};

/// What came of work that processes shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared<T> {
    /// This is process 0, which has the result.
    Here(T),
    /// Process 0 has it.
    Elsewhere,
    /// Some process was asked to stop.
    Stopped,
}

impl<T> Shared<T> {
    /// The result, where this process has one.
    pub fn here(self) -> Option<T> {
        match self {
            Self::Here(result) => Some(result),
            Self::Elsewhere | Self::Stopped => None,
        }
    }
}

/// Cuts `count` images into batches. Batch after batch `make` is called on the process whose turn it is, and
/// `take` on process 0 with what it made. False if `stop` was set on any of them meanwhile.
///
/// Process 0 holds the results of one batch of every process at once.
///
/// # Errors
/// What `make` and `take` fail on, and [`CommunicationError`].
pub fn in_turn<E: From<CommunicationError>>(
    comm: &dyn Communicator,
    (count, batch): (usize, usize),
    stop: &AtomicBool,
    mut make: impl FnMut(Range<usize>) -> Result<Vec<u8>, E>,
    mut take: impl FnMut(Range<usize>, Vec<u8>) -> Result<(), E>,
) -> Result<bool, E> {
    let batches: Vec<Range<usize>> =
        (0..count).step_by(batch).map(|first| first..count.min(first + batch)).collect();
    for round in batches.chunks(comm.size()) {
        if comm.any(stop.load(Ordering::Relaxed))? {
            return Ok(false);
        }
        let made = match round.get(comm.rank()) {
            Some(mine) => make(mine.clone())?,
            None => Vec::new(),
        };
        for (range, made) in round.iter().zip(comm.gather(made)?) {
            take(range.clone(), made)?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::communicator::threads::together;

    #[test]
    fn results_arrive_in_order_whoever_made_them() {
        let never = AtomicBool::new(false);
        for size in [1, 2, 4] {
            let results = together(size, |comm| {
                let (mut made, mut taken) = (0, Vec::new());
                let make = |range: Range<usize>| {
                    made += 1;
                    Ok::<_, CommunicationError>(range.map(|i| i as u8).collect())
                };
                let take = |range: Range<usize>, bytes: Vec<u8>| {
                    assert_eq!(range.len(), bytes.len());
                    taken.extend(bytes);
                    Ok(())
                };
                assert!(in_turn(comm, (10, 3), &never, make, take).unwrap());
                (made, taken)
            });
            assert_eq!(results[0].1, (0..10).collect::<Vec<u8>>());
            assert!(results[1..].iter().all(|(_, taken)| taken.is_empty()));
            assert!(
                results.iter().all(|(made, _)| (4 / size..=4usize.div_ceil(size)).contains(made))
            );
        }
    }

    #[test]
    fn a_request_to_stop_is_heard_by_all() {
        let stopped = together(2, |comm| {
            let stop = AtomicBool::new(comm.rank() == 1);
            let make = |_| Ok::<_, CommunicationError>(Vec::new());
            in_turn(comm, (10, 3), &stop, make, |_, _| unreachable!()).unwrap()
        });
        assert_eq!(stopped, [false, false]);
    }
}
