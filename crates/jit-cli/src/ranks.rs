//! The processes that a launcher started together, seen from this one: who it is, how it talks to the
//! others, and how it ends without leaving them waiting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jit_train::{Alone, Communicator};

use crate::failure::{Failure, Outcome};
use crate::launch::Launched;
use crate::terminal;

/// This process among those of its job.
pub struct Ranks {
    comm: Arc<dyn Communicator>,
    /// The threads that suit it, where several processes share a machine.
    pub threads: Option<usize>,
}

/// What ends the job, once there is one.
static JOB: OnceLock<Job> = OnceLock::new();

struct Job {
    rank: usize,
    host: String,
    /// Set by SIGCONT, with which mpirun begins to end a job, and by SIGTERM, which follows some seconds
    /// later.
    ending: [Arc<AtomicBool>; 2],
    #[cfg(feature = "mpi")]
    mpi: Arc<crate::mpi::Mpi>,
}

/// How long a failed process waits before it complains. What they all fail on, process 0 tells and ends
/// the job, which the others notice meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same where SIGCONT came before: the job is about to be ended, or was halted for a while.
const LONG_PATIENCE: Duration = Duration::from_secs(12);

/// Whether the job is ended by another process while this one, which has failed, waits.
fn is_ended(job: &Job) -> bool {
    let [continued, terminated] = &job.ending;
    let before = continued.swap(false, Ordering::Relaxed);
    let patience = if before { LONG_PATIENCE } else { PATIENCE };
    let started = Instant::now();
    while started.elapsed() < patience {
        if continued.load(Ordering::Relaxed) || terminated.load(Ordering::Relaxed) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

impl Ranks {
    /// A process by itself.
    pub fn alone() -> Self {
        Self { comm: Arc::new(Alone), threads: None }
    }

    /// Meets the others, if there are any.
    ///
    /// # Errors
    /// Where there are and this build cannot talk to them.
    #[cfg(feature = "mpi")]
    pub fn join(launched: Option<Launched>) -> Outcome<Self> {
        use jit_train::communicator::CommunicationError;

        use crate::cores::{self, Cores};

        let Some(launched) = launched else { return Ok(Self::alone()) };
        let mpi = Arc::new(crate::mpi::Mpi::start()?);
        if mpi.size() != launched.size {
            let Launched { size, launcher, .. } = launched;
            let message =
                format!("{launcher} started {size} processes, but MPI knows of {}", mpi.size());
            let help = "with Slurm: `srun --mpi=pmix`, or mpirun within the batch script; else use \
                        the mpirun of the library that `jit doctor` names";
            return Err(Failure::usage(message).help(help));
        }
        let host = crate::mpi::host();
        let ending: [Arc<AtomicBool>; 2] = Default::default();
        let signals = [signal_hook::consts::SIGCONT, signal_hook::consts::SIGTERM];
        for (signal, flag) in signals.into_iter().zip(&ending) {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
        let job = Job { rank: mpi.rank(), host: host.clone(), ending, mpi: Arc::clone(&mpi) };
        let _first = JOB.set(job);
        if !mpi.is_first() {
            terminal::be_quiet();
        }
        let all = mpi.all_gather(Cores::here(&host).to_text().into_bytes())?;
        let cores = all.iter().map(|text| Cores::from_text(std::str::from_utf8(text).ok()?));
        let cores: Option<Vec<Cores>> = cores.collect();
        let cores = cores.ok_or(CommunicationError::Garbled(0))?;
        let (threads, _here) = cores::threads(&cores, mpi.rank());
        Ok(Self { comm: mpi, threads: Some(threads) })
    }

    /// Refuses to be one of several: they would all do the same, in the same folder.
    ///
    /// # Errors
    /// Where there are several.
    #[cfg(not(feature = "mpi"))]
    pub fn join(launched: Option<Launched>) -> Outcome<Self> {
        let Some(Launched { size, launcher, .. }) = launched else { return Ok(Self::alone()) };
        let message = format!(
            "{launcher} started {size} processes, but this build of jit works with one: each would \
             do all of the work"
        );
        Err(Failure::usage(message).help("build with `cargo build --release --features mpi`"))
    }

    /// How it talks to the others.
    pub fn comm(&self) -> &dyn Communicator {
        &*self.comm
    }

    /// Whether it writes and prints.
    pub fn is_first(&self) -> bool {
        self.comm.is_first()
    }
}

/// Ends the work of a process whose command succeeded. It waits for the others.
pub fn leave() {
    #[cfg(feature = "mpi")]
    if let Some(job) = JOB.get() {
        job.mpi.leave();
    }
}

/// Tells a failure, naming the process where there are several, and ends the whole job with `status`,
/// since the others would wait for this process forever.
pub fn fail(message: &str, status: u8) {
    let Some(job) = JOB.get() else {
        terminal::complain(message);
        return;
    };
    if job.rank > 0 && is_ended(job) {
        return;
    }
    terminal::complain(&format!("process {} on {}: {message}", job.rank, job.host));
    abort(status);
}

/// Ends the whole job where there is one.
pub fn abort(status: u8) {
    let _unused = status;
    #[cfg(feature = "mpi")]
    if let Some(job) = JOB.get() {
        job.mpi.abort(status);
    }
}

/// How this process is called where there are several: `process 1 on host`.
pub fn name() -> Option<String> {
    JOB.get().map(|job| format!("process {} on {}", job.rank, job.host))
}
