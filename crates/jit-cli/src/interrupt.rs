//! Ctrl-C and SIGTERM: the first asks the work to stop where it can be continued, the second ends
//! the process at once. SIGUSR1 asks, too, and so does SIGHUP: a terminal that is closed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// Exit code of a process that a signal ended, as shells report it (128 + SIGINT).
const ABORTED: i32 = 130;

/// A flag that the first signal sets.
///
/// # Errors
/// When the system refuses the handlers.
pub fn flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for &signal in TERM_SIGNALS {
        // In this order: the flag is still unset when the first signal asks whether to exit.
        flag::register_conditional_shutdown(signal, ABORTED, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    // The terminal is gone. Its end may be told several times, so that the second is no wish to end at
    // once; under `nohup` it is none at all.
    #[cfg(unix)]
    if !hangup_is_ignored() {
        flag::register(signal_hook::consts::SIGHUP, Arc::clone(&stop))?;
    }
    // What mpirun passes on without ending everything soon after.
    #[cfg(unix)]
    flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&stop))?;
    Ok(stop)
}

/// Whether whoever started this process, such as `nohup`, has it live on without a terminal. Where the
/// system does not tell, it is left as it is.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal_hook::consts::SIGHUP - 1) & 1 == 1)
}
