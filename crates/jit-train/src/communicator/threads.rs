//! Threads that talk as processes would: for tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use super::{CommunicationError, Communicator, Pending};

/// Contributions to one exchange, by rank, and where its result is wanted.
type Exchange<T, R> = Vec<(usize, T, Sender<Result<R, CommunicationError>>)>;

#[derive(Default)]
struct Table {
    sums: BTreeMap<u64, Exchange<Vec<f32>, Vec<f32>>>,
    messages: BTreeMap<u64, Exchange<Vec<u8>, Vec<Vec<u8>>>>,
    /// One of the threads has ended: no exchange will be complete any more.
    broken: bool,
}

/// One of several threads.
pub struct Thread {
    rank: usize,
    size: usize,
    calls: AtomicU64,
    table: Arc<Mutex<Table>>,
}

impl Thread {
    fn call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    fn exchange(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError> {
        let (sender, receiver) = channel();
        let mut table = self.table.lock().unwrap();
        if table.broken {
            return Err(CommunicationError::Ended);
        }
        let call = self.call();
        let all = table.messages.entry(call).or_default();
        all.push((self.rank, bytes, sender));
        if all.len() == self.size {
            let mut all = table.messages.remove(&call).unwrap();
            all.sort_by_key(|(rank, ..)| *rank);
            let parts: Vec<Vec<u8>> = all.iter().map(|(_, bytes, _)| bytes.clone()).collect();
            all.iter().for_each(|(.., sender)| drop(sender.send(Ok(parts.clone()))));
        }
        drop(table);
        receiver.recv().unwrap_or(Err(CommunicationError::Ended))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap();
        table.broken = true;
        table.sums.clear();
        table.messages.clear();
    }
}

impl Communicator for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn start_sum(&self, values: Vec<f32>) -> Pending {
        type Answer = Result<Vec<f32>, CommunicationError>;
        let (sender, receiver): (Sender<Answer>, Receiver<Answer>) = channel();
        let mut table = self.table.lock().unwrap();
        if !table.broken {
            let call = self.call();
            let all = table.sums.entry(call).or_default();
            all.push((self.rank, values, sender));
            if all.len() == self.size {
                let mut all = table.sums.remove(&call).unwrap();
                all.sort_by_key(|(rank, ..)| *rank);
                let mut sum = vec![0.0; all[0].1.len()];
                for (_, values, _) in &all {
                    assert_eq!(values.len(), sum.len(), "all give as many");
                    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
                all.iter().for_each(|(.., sender)| drop(sender.send(Ok(sum.clone()))));
            }
        }
        Pending::new(receiver)
    }

    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError> {
        let parts = self.exchange(bytes)?;
        Ok(if self.rank == 0 { parts } else { Vec::new() })
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, CommunicationError> {
        Ok(self.exchange(bytes)?.swap_remove(0))
    }
}

/// Runs `work` on `size` threads that can talk, and returns what each returned.
pub fn together<T: Send>(size: usize, work: impl Fn(&Thread) -> T + Sync) -> Vec<T> {
    let table = Arc::new(Mutex::new(Table::default()));
    std::thread::scope(|scope| {
        let start = |rank| {
            let (table, work) = (Arc::clone(&table), &work);
            scope.spawn(move || work(&Thread { rank, size, calls: AtomicU64::new(0), table }))
        };
        let threads: Vec<_> = (0..size).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
