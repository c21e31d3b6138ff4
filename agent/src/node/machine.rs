//! What this machine is, read from the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The machine as its Node tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) memory_kilobytes: i64,
    pub(crate) swap_bytes: i64,
    /// Pages by their size in kilobytes.
    pub(crate) huge_pages: BTreeMap<i64, i64>,
    /// What the file system below the agent's data holds.
    pub(crate) disk_bytes: i64,
}

impl Machine {
    /// Reads everything; what cannot be read is empty.
    pub(crate) fn read(data_dir: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let first =
            |paths: &[&str]| paths.iter().map(|p| text(p)).find(|t| !t.is_empty()).unwrap_or_default();
        let meminfo = text("/proc/meminfo");
        let disk = existing(data_dir).and_then(|dir| rustix::fs::statvfs(dir).ok());
        let bytes = |disk: rustix::fs::StatVfs| i64::try_from(disk.f_blocks.saturating_mul(disk.f_frsize));
        Self {
            machine_id: first(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
            system_uuid: first(&["/sys/class/dmi/id/product_uuid", "/etc/machine-id"]),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: os_image(&first(&["/etc/os-release", "/usr/lib/os-release"])),
            memory_kilobytes: kilobytes(&meminfo, "MemTotal:"),
            swap_bytes: kilobytes(&meminfo, "SwapTotal:").saturating_mul(1024),
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            disk_bytes: disk.and_then(|disk| bytes(disk).ok()).unwrap_or_default(),
        }
    }
}

/// The nearest folder above a path that is there already.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.exists())
}

fn kilobytes(meminfo: &str, key: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or_default()
}

/// `PRETTY_NAME` of os-release(5).
fn os_image(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or("Linux", |name| name.trim_matches(['"', '\''])).to_owned()
}

fn huge_pages(dir: &Path) -> BTreeMap<i64, i64> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let pages = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
        Some((size, count))
    });
    pages.collect()
}

/// An id that is this agent's as long as its data directory is.
///
/// # Errors
/// It cannot be kept.
pub(crate) fn identity(data_dir: &Path) -> std::io::Result<String> {
    let path = data_dir.join("agent/id");
    if let Ok(id) = fs::read_to_string(&path)
        && !id.trim().is_empty()
    {
        return Ok(id.trim().to_owned());
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    keep(&path, &id)?;
    Ok(id)
}

/// Keeps the name of the node that starts, for who ends it: by its name it tells its own pods from others.
///
/// # Errors
/// It cannot be kept.
pub fn keep_name(data_dir: &Path, name: &str) -> std::io::Result<()> {
    match kept_name(data_dir)? {
        Some(kept) if kept == name => Ok(()),
        _ => keep(&name_file(data_dir), name),
    }
}

/// The name of the node that was started last.
///
/// # Errors
/// It cannot be read.
pub fn kept_name(data_dir: &Path) -> std::io::Result<Option<String>> {
    match fs::read_to_string(name_file(data_dir)) {
        Ok(name) => Ok(Some(name.trim().to_owned()).filter(|name| !name.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn name_file(data_dir: &Path) -> PathBuf {
    data_dir.join("agent/name")
}

/// Writes a file that a crash leaves whole, or as it was.
fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    let new = path.with_extension("new");
    fs::create_dir_all(dir)?;
    fs::write(&new, text)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(new, path)?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_something() {
        let machine = Machine::read(Path::new("/nowhere/at/all"));
        assert!(machine.memory_kilobytes > 0 && machine.disk_bytes > 0, "{machine:?}");
        assert!(!machine.boot_id.is_empty() && !machine.kernel.is_empty(), "{machine:?}");
    }

    #[test]
    fn files_are_read_as_they_are_written() {
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(os_image(""), "Linux");
        assert_eq!(kilobytes("MemTotal:       16 kB\nMemFree: 3 kB", "MemTotal:"), 16);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("hugepages-2048kB")).unwrap();
        fs::write(dir.path().join("hugepages-2048kB/nr_hugepages"), "3\n").unwrap();
        assert_eq!(huge_pages(dir.path()), BTreeMap::from([(2048, 3)]));
    }

    #[test]
    fn an_identity_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let id = identity(dir.path()).unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(identity(dir.path()).unwrap(), id);
    }

    #[test]
    fn the_name_of_the_last_start_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kept_name(dir.path()).unwrap(), None);
        for name in ["n1", "n2", "n2"] {
            keep_name(dir.path(), name).unwrap();
            assert_eq!(kept_name(dir.path()).unwrap().as_deref(), Some(name));
        }
        assert_eq!(fs::read_dir(dir.path().join("agent")).unwrap().count(), 1);
    }
}
