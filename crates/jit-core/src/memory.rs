//! How much memory this process can still have: that of the machine, less what its control groups
//! (containers, batch systems) hold it to.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that can still be had before the system ends processes, swap included; `None` where the
/// system does not tell (it does on Linux).
pub fn available() -> Option<u64> {
    available_below(Path::new("/"))
}

/// The same with another root of the file system.
fn available_below(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let machine = meminfo_bytes(&meminfo, "MemAvailable")?
        .saturating_add(meminfo_bytes(&meminfo, "SwapFree").unwrap_or(0));
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let left = groups.lines().flat_map(|line| group_left(root, line)).min();
    Some(left.map_or(machine, |left| left.min(machine)))
}

fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let mut lines = meminfo.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.trim() == key)?;
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Names of the files of one version of control groups.
struct Version {
    limit: &'static str,
    used: &'static str,
    /// What of the use is cached files, which the system takes back before it ends anyone.
    cached: [&'static str; 2],
}

const FIRST: Version = Version {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
};

const SECOND: Version = Version {
    limit: "memory.max",
    used: "memory.current",
    cached: ["inactive_file", "active_file"],
};

/// What the group of a line of `/proc/self/cgroup`, and each that it is in, leaves.
fn group_left(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (version, mount) = match controllers {
        "" => (SECOND, "sys/fs/cgroup"),
        list if list.split(',').any(|name| name == "memory") => (FIRST, "sys/fs/cgroup/memory"),
        _ => return Vec::new(),
    };
    let mount = root.join(mount);
    let inside = path.trim_start_matches('/');
    // In a container the path is often that of the host, and the mount is the group itself.
    let plain = !Path::new(inside).components().any(|c| c == std::path::Component::ParentDir);
    let group: PathBuf = if plain { mount.join(inside) } else { mount.clone() };
    let groups = group.ancestors().take_while(|group| group.starts_with(&mount));
    groups.filter_map(|group| left_in(group, &version)).collect()
}

fn left_in(group: &Path, version: &Version) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    // `max`, where there is no limit.
    let limit: u64 = read(version.limit)?.trim().parse().ok()?;
    let used: u64 = read(version.used)?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let value = |key: &str| {
        let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key).and_then(|(_, value)| value.trim().parse::<u64>().ok())
    };
    let cached: u64 = version.cached.iter().filter_map(|key| value(key)).sum();
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system with these files.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       2000 kB\nMemAvailable:   1000 kB\nSwapTotal: 7 kB\nSwapFree:  24 kB\n",
    );

    fn left(files: &[(&str, &str)]) -> Option<u64> {
        available_below(system(files).path())
    }

    #[test]
    fn a_machine_without_groups_has_what_is_free() {
        assert_eq!(left(&[]), None);
        assert_eq!(left(&[MEMINFO]), Some(1024 * 1024));
        assert_eq!(left(&[MEMINFO, ("proc/self/cgroup", "0::/\n")]), Some(1024 * 1024));
    }

    #[test]
    fn the_tightest_group_counts_and_cached_files_are_free() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "5\n"),
            ("sys/fs/cgroup/a/memory.max", "1000\n"),
            ("sys/fs/cgroup/a/memory.current", "900\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 300\nactive_file 50\n"),
        ];
        assert_eq!(left(&files), Some(450));
    }

    #[test]
    fn the_first_version_is_known_within_a_container_and_outside() {
        let mut files = vec![
            MEMINFO,
            ("proc/self/cgroup", "7:cpu:/x\n4:memory:/docker/1f\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 4000\n"),
        ];
        assert_eq!(left(&files), Some(3000));
        files.push(("sys/fs/cgroup/memory/docker/1f/memory.limit_in_bytes", "100\n"));
        files.push(("sys/fs/cgroup/memory/docker/1f/memory.usage_in_bytes", "1\n"));
        assert_eq!(left(&files), Some(99));
        // Without a limit.
        let unlimited = [
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n"),
        ];
        assert_eq!(left(&unlimited), Some(1024 * 1024));
    }
}
