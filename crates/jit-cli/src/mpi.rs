//! A [`Communicator`] over MPI.
//!
//! One thread initialises MPI, makes every call to it, and finalizes it; the others hand it what to do, in
//! order. So the library needs no more than `MPI_THREAD_FUNNELED`, and sums travel while the caller computes.
//! It waits by asking from time to time, not by spinning, because on a CPU it would take the core from those
//! who compute; and since it is never stuck in a call, it can always end the job.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::{JoinHandle, sleep, yield_now};
use std::time::Duration;

use jit_train::Communicator;
use jit_train::communicator::{CommunicationError, Pending};
use mpi::collective::SystemOperation;
use mpi::environment::{Universe, library_version, processor_name};
use mpi::request::{LocalScope, Request, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives, Destination, Root, Source};
use mpi::{Threading, initialize_with_threading};

use crate::failure::{Failure, Outcome};

/// The largest message: MPI counts in `i32`.
const MESSAGE: usize = 1 << 30;

/// How often an idle thread looks whether the job is to end.
const IDLE: Duration = Duration::from_millis(100);

/// Waiting for an exchange: at first the processor is only offered to others …
const EAGER: u32 = 100;
/// … then the thread sleeps in between.
const NAP: Duration = Duration::from_micros(50);

/// No status, so no end.
const RUNNING: i32 = -1;

type Answer<T> = SyncSender<Result<T, CommunicationError>>;

/// What the thread can be asked for.
enum Job {
    Sum(Vec<f32>, Answer<Vec<f32>>),
    Gather(Vec<u8>, Answer<Vec<Vec<u8>>>),
    Broadcast(Vec<u8>, Answer<Vec<u8>>),
}

/// All processes that MPI knows of.
pub struct Mpi {
    rank: usize,
    size: usize,
    /// Taken away to let the thread finalize MPI.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The exit status with which the job is to end at once.
    end: std::sync::Arc<AtomicI32>,
}

/// This host as MPI names it.
pub fn host() -> String {
    processor_name().unwrap_or_else(|_| "an unknown host".into())
}

/// The library, in a line.
pub fn library() -> String {
    let version = library_version().unwrap_or_default();
    version.trim_matches('\0').split(", package").next().unwrap_or_default().trim().to_string()
}

impl Mpi {
    /// Initialises MPI.
    ///
    /// # Errors
    /// Where the library cannot be used from one thread among several.
    pub fn start() -> Outcome<Self> {
        let (jobs, inbox) = channel();
        let (ready, started) = sync_channel(1);
        let end = std::sync::Arc::new(AtomicI32::new(RUNNING));
        let watched = std::sync::Arc::clone(&end);
        let work = move || {
            let Some((universe, threading)) = initialize_with_threading(Threading::Funneled) else {
                return;
            };
            let (world, spare) = (universe.world(), RefCell::default());
            let worker = Worker { world, spare, end: watched };
            let me = (worker.world.rank() as usize, worker.world.size() as usize, threading);
            if ready.send(me).is_ok() {
                worker.work(&inbox, universe);
            }
        };
        let thread = std::thread::Builder::new().name("mpi".into()).spawn(work)?;
        let (rank, size, threading) =
            started.recv().map_err(|_| Failure::new("MPI cannot be initialised"))?;
        if threading < Threading::Funneled {
            let message = format!("`{}` knows no threads (MPI_THREAD_FUNNELED)", library());
            return Err(Failure::new(message).help("build against Open MPI 4 or MPICH 4"));
        }
        let (jobs, thread) = (Mutex::new(Some(jobs)), Mutex::new(Some(thread)));
        Ok(Self { rank, size, jobs, thread, end })
    }

    /// Waits for all processes to come here, and finalizes MPI.
    pub fn leave(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // One that panicked has said so.
        let _ended = thread.map(JoinHandle::join);
    }

    /// Ends all processes with this exit status. Does not return unless MPI is finalized already.
    pub fn abort(&self, status: u8) {
        self.end.store(i32::from(status), Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ended = thread.map(JoinHandle::join);
    }

    fn ask<T>(
        &self,
        job: impl FnOnce(Answer<T>) -> Job,
    ) -> Receiver<Result<T, CommunicationError>> {
        let (answer, result) = sync_channel(1);
        if let Some(jobs) = &*self.jobs.lock().unwrap_or_else(PoisonError::into_inner) {
            // Without its thread the answer is dropped, which is noticed.
            let _gone = jobs.send(job(answer));
        }
        result
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn start_sum(&self, values: Vec<f32>) -> Pending {
        Pending::new(self.ask(|answer| Job::Sum(values, answer)))
    }

    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError> {
        let result = self.ask(|answer| Job::Gather(bytes, answer)).recv();
        result.unwrap_or(Err(CommunicationError::Ended))
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, CommunicationError> {
        let result = self.ask(|answer| Job::Broadcast(bytes, answer)).recv();
        result.unwrap_or(Err(CommunicationError::Ended))
    }
}

/// What the thread has.
struct Worker {
    world: SimpleCommunicator,
    /// What was last given to be summed takes the next sum: fresh memory would be cleared page by page.
    spare: RefCell<Vec<f32>>,
    end: std::sync::Arc<AtomicI32>,
}

impl Worker {
    /// Does what it is asked for until nobody can ask any more; then all processes part.
    fn work(&self, inbox: &Receiver<Job>, universe: Universe) {
        loop {
            // Whoever asked may have stopped listening.
            let _unheard = match inbox.recv_timeout(IDLE) {
                Ok(Job::Sum(values, answer)) => answer.send(Ok(self.sum(values))).is_ok(),
                Ok(Job::Gather(bytes, answer)) => answer.send(Ok(self.gather(bytes))).is_ok(),
                Ok(Job::Broadcast(bytes, answer)) => answer.send(Ok(self.broadcast(bytes))).is_ok(),
                Err(RecvTimeoutError::Timeout) => self.end_if_asked(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
        }
        self.end_if_asked();
        drop(universe);
    }

    fn end_if_asked(&self) -> bool {
        match self.end.load(Ordering::Relaxed) {
            RUNNING => false,
            status => self.world.abort(status),
        }
    }

    /// Waits for an operation to end.
    fn wait<'a, T: ?Sized>(&self, mut request: Request<'a, T, &LocalScope<'a>>) {
        let mut asked = 0;
        while let Err(unfinished) = request.test() {
            request = unfinished;
            self.end_if_asked();
            asked += 1;
            if asked < EAGER { yield_now() } else { sleep(NAP) }
        }
    }

    fn sum(&self, values: Vec<f32>) -> Vec<f32> {
        let mut sum = self.spare.take();
        sum.resize(values.len(), 0.0);
        let add = SystemOperation::sum();
        scope(|s| {
            self.wait(self.world.immediate_all_reduce_into(s, &values[..], &mut sum[..], add));
        });
        self.spare.replace(values);
        sum
    }

    fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if self.world.rank() > 0 {
            let first = self.world.process_at_rank(0);
            let length = [bytes.len() as u64];
            scope(|s| self.wait(first.immediate_send(s, &length[..])));
            for part in bytes.chunks(MESSAGE) {
                scope(|s| self.wait(first.immediate_send(s, part)));
            }
            return Vec::new();
        }
        let mut all = vec![bytes];
        for rank in 1..self.world.size() {
            let other = self.world.process_at_rank(rank);
            let mut length = [0u64];
            scope(|s| self.wait(other.immediate_receive_into(s, &mut length[..])));
            let mut bytes = vec![0; length[0] as usize];
            for part in bytes.chunks_mut(MESSAGE) {
                scope(|s| self.wait(other.immediate_receive_into(s, part)));
            }
            all.push(bytes);
        }
        all
    }

    fn broadcast(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let first = self.world.process_at_rank(0);
        let mut length = [bytes.len() as u64];
        scope(|s| self.wait(first.immediate_broadcast_into(s, &mut length[..])));
        bytes.resize(length[0] as usize, 0);
        for part in bytes.chunks_mut(MESSAGE) {
            scope(|s| self.wait(first.immediate_broadcast_into(s, part)));
        }
        bytes
    }
}
