//! How many threads a process should compute with when others share its machine.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use jit_core::threads::within;

/// Reads a number of threads or processes.
///
/// # Errors
/// What is no such number, or more than [`within`] lets pass.
pub fn threads_asked(text: &str) -> Result<NonZeroUsize, String> {
    let n: NonZeroUsize = text.parse().map_err(|error| format!("{error}"))?;
    within(n.get()).map(|()| n)
}

/// The same where 0 leaves the choice to the program.
///
/// # Errors
/// As [`threads_asked`].
pub fn workers_asked(text: &str) -> Result<usize, String> {
    let n = text.parse().map_err(|error| format!("{error}"))?;
    within(n).map(|()| n)
}

/// What a process says of the processors that it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    host: String,
    /// The processors' numbers; none where the system does not tell.
    allowed: BTreeSet<usize>,
    /// How many threads they can run.
    parallelism: usize,
}

impl Cores {
    /// Those of this process.
    pub fn here(host: &str) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Self {
            host: host.to_string(),
            allowed: list.map(parse).unwrap_or_default(),
            parallelism: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// As text for the other processes.
    pub fn to_text(&self) -> String {
        let allowed: Vec<String> = self.allowed.iter().map(usize::to_string).collect();
        format!("{}\n{}\n{}", self.host, self.parallelism, allowed.join(","))
    }

    /// What [`Cores::to_text`] wrote, or `None`.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (host, parallelism) = (lines.next()?.to_string(), lines.next()?.parse().ok()?);
        Some(Self { host, parallelism, allowed: parse(lines.next()?) })
    }
}

/// `0-3,8`
fn parse(list: &str) -> BTreeSet<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(RangeInclusive::new(first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    // No machine has more: a nonsensical list must not fill the memory.
    let sensible = |range: &RangeInclusive<usize>| *range.end() < 1 << 16;
    list.split(',').filter_map(range).filter(sensible).flatten().collect()
}

/// The threads for process `rank`: its share of each processor that it may use, which it shares with the
/// processes of its host that may use it, too; and how many processes its host has.
pub fn threads(all: &[Cores], rank: usize) -> (usize, usize) {
    let Some(mine) = all.get(rank) else { return (1, 1) };
    let neighbours = || all.iter().filter(|other| other.host == mine.host);
    let here = neighbours().count();
    let users = |core| neighbours().filter(|other| other.allowed.contains(core)).count().max(1);
    let share: f64 = mine.allowed.iter().map(|core| 1.0 / users(core) as f64).sum();
    let share = match mine.allowed.is_empty() {
        true => mine.parallelism / here,
        // A third of three cores is one.
        false => (share + 1e-6) as usize,
    };
    (share.clamp(1, mine.parallelism), here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(host: &str, allowed: &str, parallelism: usize) -> Cores {
        Cores { host: host.into(), allowed: parse(allowed), parallelism }
    }

    #[test]
    fn processes_share_the_cores_that_more_than_one_may_use() {
        let bound = [cores("a", "0-3", 4), cores("a", "4-7", 4), cores("b", "0-7", 8)];
        assert_eq!([0, 1, 2].map(|rank| threads(&bound, rank)), [(4, 2), (4, 2), (8, 1)]);
        // --bind-to none
        let free = vec![cores("a", "0-7", 8); 3];
        assert_eq!(threads(&free, 1), (2, 3));
        // More processes than cores; a quota below the mask; a system that does not tell.
        assert_eq!(threads(&vec![cores("a", "0,1", 2); 4], 3), (1, 4));
        assert_eq!(threads(&[cores("a", "0-63", 8)], 0), (8, 1));
        assert_eq!(threads(&vec![cores("a", "", 8); 2], 0), (4, 2));
    }

    #[test]
    fn what_is_said_is_understood() {
        let here = Cores::here("host");
        assert_eq!(Cores::from_text(&here.to_text()), Some(here));
        assert_eq!(parse("0-2,5 ,x,9-8,70000"), [0, 1, 2, 5].into());
        assert_eq!(Cores::from_text("host"), None);
    }
}
