//! How many threads make sense.

/// Threads for each processor that may be asked for: more only get in each other's way.
const EACH: usize = 8;

/// As many may be asked for on any machine, for trying what they change.
const ANYWHERE: usize = 64;

/// Refuses more threads than make sense on this machine, which would take minutes to start.
///
/// # Errors
/// How many processors there are, and what would make sense.
pub fn within(threads: usize) -> Result<(), String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let most = (EACH * processors).max(ANYWHERE);
    let there =
        if processors == 1 { "1 processor is" } else { &format!("{processors} processors are") };
    match threads <= most {
        true => Ok(()),
        false => Err(format!("{there} there; expected at most {most}")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nobody_waits_for_a_hundred_thousand_threads() {
        super::within(64).unwrap();
        let message = super::within(100_000).unwrap_err();
        assert!(message.contains("processor") && message.contains("at most "), "{message}");
    }
}
