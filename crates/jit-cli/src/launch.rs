//! What a launcher (`mpirun`, `srun`) tells a process that it starts, in the environment.

/// This process is one of several that were started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Which of them, from 0.
    pub rank: usize,
    /// How many they are, at least 2.
    pub size: usize,
    /// Who started them.
    pub launcher: &'static str,
}

/// Where launchers say the number of processes and which of them this is. Slurm sets the first two only
/// for what `srun` starts: a batch script itself is one process, whatever it asked for.
const PLACES: [(&str, &str, &str); 3] = [
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "mpirun"),
    ("PMI_SIZE", "PMI_RANK", "mpirun"),
];

/// Where they say which of its host's processes this one is, from 0.
const LOCAL: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "MPI_LOCALRANKID"];

/// Which of its host's processes this one is, and so which of its host's devices is its own.
pub fn local_rank() -> usize {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    LOCAL.into_iter().find_map(number).unwrap_or(0)
}

impl Launched {
    /// `None` for a process that is by itself.
    pub fn from_env() -> Option<Self> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name| variable(name)?.parse::<usize>().ok();
        // mpirun within a step of srun counts its own: the larger number is that of this program.
        let found = PLACES.into_iter().filter_map(|(size, rank, launcher)| {
            Some(Self { size: number(size)?, rank: number(rank)?, launcher })
        });
        found.max_by_key(|launched| launched.size).filter(|launched| launched.size > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_say_how_many_they_started() {
        let from = |set: &[(&str, &str)]| {
            Launched::from(|name| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_string())
            })
        };
        let mpirun = [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3")];
        assert_eq!(from(&mpirun), Some(Launched { rank: 3, size: 4, launcher: "mpirun" }));
        let srun = [("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2")];
        assert_eq!(from(&srun), Some(Launched { rank: 0, size: 2, launcher: "srun" }));
        assert_eq!(from(&[("SLURM_NTASKS", "2"), ("SLURM_PROCID", "0")]), None, "a batch script");
        assert_eq!(from(&[("PMI_SIZE", "1"), ("PMI_RANK", "0")]), None);
        assert_eq!(from(&[]), None);
    }
}
