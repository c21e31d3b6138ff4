//! Where the kernel counts the OOM kills of a cgroup, and how many it counts.

use std::path::{Path, PathBuf};

/// The file that counts the OOM kills in the cgroup of a process: `memory.oom_control` on v1, `memory.events` on v2.
pub(crate) fn file_of(pid: u32) -> Option<PathBuf> {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    locate(&cgroups, &mounts)
}

/// Whether a file found by [`file_of`] counts any.
pub(crate) fn killed(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| kills(&text) > 0)
}

/// Version 1 first: on a hybrid machine the unified hierarchy is there too, without the memory controller.
fn locate(cgroups: &str, mounts: &str) -> Option<PathBuf> {
    let path_of = |v1: bool| {
        cgroups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let wanted =
                if v1 { controllers.split(',').any(|name| name == "memory") } else { controllers.is_empty() };
            wanted.then_some(path)
        })
    };
    let mount_of = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let mut source = source.split(' ');
            let found = source.next()? == kind
                && (option.is_empty() || source.nth(1)?.split(',').any(|name| name == option));
            found.then(|| mount.split(' ').nth(4))?
        })
    };
    let below =
        |mount: &str, path: &str, file: &str| Path::new(mount).join(path.trim_start_matches('/')).join(file);
    if let (Some(mount), Some(path)) = (mount_of("cgroup", "memory"), path_of(true)) {
        return Some(below(mount, path, "memory.oom_control"));
    }
    Some(below(mount_of("cgroup2", "")?, path_of(false)?, "memory.events"))
}

fn kills(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .find_map(|count| count.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        31 24 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
        32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const V2: &str = "32 24 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_file() {
        let table = [
            (
                "9:memory:/kubepods/a\n0::/b\n",
                V1,
                Some("/sys/fs/cgroup/memory/kubepods/a/memory.oom_control"),
            ),
            ("0::/kubepods/a\n", V2, Some("/sys/fs/cgroup/kubepods/a/memory.events")),
            ("0::/\n", V2, Some("/sys/fs/cgroup/memory.events")),
            ("9:memory:/a\n", "", None),
            ("", V2, None),
        ];
        for (cgroups, mounts, expected) in table {
            assert_eq!(locate(cgroups, mounts).as_deref(), expected.map(Path::new), "{cgroups}");
        }
    }

    #[test]
    fn the_count() {
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(kills("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\n"), 0);
    }
}
