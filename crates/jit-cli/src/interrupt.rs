//! Ctrl-C and SIGTERM: the first asks the work to stop where it can be continued, the second ends
//! the process at once. SIGUSR1 asks, too.

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
    // What mpirun passes on without ending everything soon after.
    #[cfg(unix)]
    flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&stop))?;
    Ok(stop)
}
