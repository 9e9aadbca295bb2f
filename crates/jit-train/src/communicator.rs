//! Processes that work on one run together, and what they tell each other.
//!
//! Every process makes the same calls in the same order; each call is one exchange among all of them.
//! There is one implementation for a process alone, one in the command line's crate over MPI, and one
//! between threads for tests.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};

#[cfg(test)]
pub mod threads;

/// Why processes cannot talk.
#[derive(Debug, thiserror::Error)]
pub enum CommunicationError {
    /// The others went away, or the thread that talks to them did.
    #[error("the connection to the other processes ended unexpectedly")]
    Ended,
    /// Something that must be the same everywhere is not.
    #[error(
        "process {rank} has another {what} than process 0: {found} instead of {expected}; {help}"
    )]
    Differs {
        /// The process.
        rank: usize,
        /// What differs.
        what: &'static str,
        /// What it has.
        found: String,
        /// What process 0 has.
        expected: String,
        /// How to mend it.
        help: &'static str,
    },
    /// A message that is not what was expected: a defect, or two versions of this program.
    #[error("process {0} sent something unintelligible: is it the same version of this program?")]
    Garbled(usize),
}

/// A sum that is on its way.
#[derive(Debug)]
pub struct Pending(Receiver<Result<Vec<f32>, CommunicationError>>);

impl Pending {
    /// The sum, and whoever delivers it.
    pub fn new(result: Receiver<Result<Vec<f32>, CommunicationError>>) -> Self {
        Self(result)
    }

    /// A sum that is known at once.
    pub fn ready(values: Vec<f32>) -> Self {
        let (sender, receiver) = sync_channel(1);
        // The receiver is here: there is room for one.
        let _ = sender.send(Ok(values));
        Self(receiver)
    }

    /// Waits for it.
    ///
    /// # Errors
    /// [`CommunicationError::Ended`] if it will never come.
    pub fn wait(self) -> Result<Vec<f32>, CommunicationError> {
        self.0.recv().unwrap_or(Err(CommunicationError::Ended))
    }
}

/// The processes of a run, seen from one of them.
pub trait Communicator: Send + Sync {
    /// Which of them this is, from 0.
    fn rank(&self) -> usize;

    /// How many they are.
    fn size(&self) -> usize;

    /// Starts to add up, element by element, what all processes give. The order of additions depends on
    /// the number of processes and of elements alone, and all receive the same bits.
    fn start_sum(&self, values: Vec<f32>) -> Pending;

    /// What each process gives, in their order, to process 0; to the others nothing.
    ///
    /// # Errors
    /// [`CommunicationError::Ended`].
    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError>;

    /// What process 0 gives, to all.
    ///
    /// # Errors
    /// [`CommunicationError::Ended`].
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, CommunicationError>;

    /// Whether this is process 0, which alone writes and prints.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// [`Communicator::start_sum`], and its end.
    ///
    /// # Errors
    /// [`CommunicationError::Ended`].
    fn sum(&self, values: Vec<f32>) -> Result<Vec<f32>, CommunicationError> {
        self.start_sum(values).wait()
    }

    /// Whether it is so on any process.
    ///
    /// # Errors
    /// [`CommunicationError::Ended`].
    fn any(&self, here: bool) -> Result<bool, CommunicationError> {
        Ok(self.sum(vec![f32::from(u8::from(here))])?.first().is_some_and(|&n| n > 0.0))
    }

    /// Whether it is so on process 0.
    ///
    /// # Errors
    /// [`CommunicationError::Ended`].
    fn as_first(&self, here: bool) -> Result<bool, CommunicationError> {
        Ok(self.broadcast(vec![u8::from(here)])?.first() == Some(&1))
    }

    /// What each process gives, in their order, to all.
    ///
    /// # Errors
    /// [`CommunicationError::Ended`].
    fn all_gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError> {
        let mut frame = Vec::new();
        for part in self.gather(bytes)? {
            frame.extend((part.len() as u64).to_le_bytes());
            frame.extend(part);
        }
        let frame = self.broadcast(frame)?;
        let mut rest = &frame[..];
        let mut part = || {
            let (length, tail) = rest.split_first_chunk::<8>()?;
            let (part, tail) = tail.split_at_checked(u64::from_le_bytes(*length) as usize)?;
            rest = tail;
            Some(part.to_vec())
        };
        let parts: Option<Vec<Vec<u8>>> = (0..self.size()).map(|_| part()).collect();
        parts.ok_or(CommunicationError::Garbled(0))
    }

    /// That all processes have the same text; process 0 says which has not.
    ///
    /// # Errors
    /// [`CommunicationError::Differs`].
    fn agree(
        &self,
        what: &'static str,
        text: &str,
        help: &'static str,
    ) -> Result<(), CommunicationError> {
        let all = self.gather(text.into())?;
        match all.iter().position(|other| other != text.as_bytes()) {
            None => Ok(()),
            Some(rank) => {
                let found = String::from_utf8_lossy(&all[rank]).into_owned();
                Err(CommunicationError::Differs { rank, what, found, expected: text.into(), help })
            }
        }
    }
}

/// The part of `count` things in a row that is for process `rank` of `size`: the first ones have one more
/// where they do not divide.
pub fn share(count: usize, rank: usize, size: usize) -> Range<usize> {
    let (each, more) = (count / size, count % size);
    let start = rank * each + rank.min(more);
    start..start + each + usize::from(rank < more)
}

/// A process by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Communicator for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn start_sum(&self, values: Vec<f32>) -> Pending {
        Pending::ready(values)
    }

    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError> {
        Ok(vec![bytes])
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, CommunicationError> {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::threads::together;
    use super::*;

    #[test]
    fn shares_follow_each_other_and_differ_by_one_at_most() {
        for (count, size) in [(10, 1), (10, 3), (10, 4), (3, 3), (2, 3), (0, 2)] {
            let shares: Vec<_> = (0..size).map(|rank| share(count, rank, size)).collect();
            assert_eq!(
                shares.iter().cloned().flatten().collect::<Vec<_>>(),
                (0..count).collect::<Vec<_>>()
            );
            let lengths = shares.iter().map(|s| s.len());
            assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
        }
    }

    #[test]
    fn sums_and_messages_reach_everyone() {
        let said = together(3, |comm| {
            let rank = comm.rank();
            // Both are on their way before either is waited for.
            let (a, b) = (comm.start_sum(vec![rank as f32, 1.0]), comm.start_sum(vec![0.5]));
            assert_eq!(b.wait().unwrap(), [1.5]);
            assert_eq!(a.wait().unwrap(), [3.0, 3.0]);
            assert!(comm.any(rank == 2).unwrap() && !comm.any(false).unwrap());
            assert!(comm.as_first(rank == 0).unwrap() && !comm.as_first(rank == 1).unwrap());
            assert_eq!(comm.broadcast(vec![rank as u8 + 7]).unwrap(), [7]);
            assert_eq!(comm.all_gather(vec![9; rank]).unwrap(), [vec![], vec![9], vec![9, 9]]);
            comm.agree("word", "same", "help").unwrap();
            let word = if rank == 1 { "other" } else { "same" };
            (comm.gather(vec![rank as u8]).unwrap(), comm.agree("word", word, "mend it"))
        });
        assert_eq!(said[0].0, [[0], [1], [2]]);
        assert!(said[1].0.is_empty() && said[1].1.is_ok());
        let message = said[0].1.as_ref().unwrap_err().to_string();
        assert_eq!(
            message,
            "process 1 has another word than process 0: other instead of same; mend it"
        );
    }
}
