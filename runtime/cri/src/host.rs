//! Facts about this machine, and what a configuration's paths are on it.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use linux::cgroup::Hierarchies;
use oci_spec::runtime::{Capabilities, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use proto_cri::{Device, Mount, MountPropagation};

use crate::error::Failure;
use crate::plan::Host;

/// The kernel's capabilities in the order of their numbers (`linux/capability.h`).
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP \
    LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO \
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE \
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON \
    BPF CHECKPOINT_RESTORE";
const SYS_RESOURCE: u64 = 1 << 24;

/// Looks at this machine.
pub(crate) fn facts(hierarchies: &Hierarchies) -> Host {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0)
    };
    let (bounding, effective) = (mask("CapBnd:"), mask("CapEff:"));
    let numbered = CAPABILITIES.split_whitespace().enumerate();
    let capabilities: Capabilities = numbered
        .filter(|(bit, _)| bounding >> bit & 1 == 1)
        .filter_map(|(_, name)| name.parse().ok())
        .collect();
    let own_score =
        fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok());
    Host {
        cgroup_v2: hierarchies.unified(),
        swap_limit: swap_limit(hierarchies),
        apparmor: fs::read("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.starts_with(b"Y")),
        recursive_read_only: kernel_at_least(5, 12),
        capabilities,
        oom_score_adj_min: if effective & SYS_RESOURCE == 0 { own_score } else { None },
    }
}

fn swap_limit(hierarchies: &Hierarchies) -> bool {
    match hierarchies {
        Hierarchies::V1(all) => {
            let memory = all.iter().find(|one| one.has("memory"));
            memory.is_some_and(|one| one.mount.join("memory.memsw.limit_in_bytes").exists())
        }
        Hierarchies::V2(mount) => {
            let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
            mount.join(own).join("memory.swap.max").exists()
        }
    }
}

fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= (major, minor)
}

/// A mount's path with its symlinks resolved; made, as a directory, if it is absent. The propagation that the
/// mount asks for must be one that the host's mount has.
pub(crate) fn mount_source(index: usize, mount: &Mount) -> Result<PathBuf, Failure> {
    let wished = Path::new(&mount.host_path);
    let field = format!("mounts[{index}].host_path");
    if !wished.is_absolute() {
        return Err(Failure::Invalid(format!("{field}: {} is not absolute", wished.display())));
    }
    let path = match fs::canonicalize(wished) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(wished).map_err(Failure::io("make mount source", wished))?;
            fs::canonicalize(wished)
        }
        other => other,
    };
    let path = path.map_err(|error| Failure::Invalid(format!("{field}: {}: {error}", wished.display())))?;
    let propagation = mount.propagation();
    if propagation != MountPropagation::PropagationPrivate {
        check_propagation(&path, propagation)?;
    }
    Ok(path)
}

fn check_propagation(path: &Path, propagation: MountPropagation) -> Result<(), Failure> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(Failure::io("read", table))?;
    let (mount, shared, slave) = propagation_of(&text, path);
    let fits = shared || propagation == MountPropagation::PropagationHostToContainer && slave;
    if fits {
        return Ok(());
    }
    let (wish, kind) = match propagation {
        MountPropagation::PropagationBidirectional => ("BIDIRECTIONAL", "shared"),
        _ => ("HOST_TO_CONTAINER", "shared or slave"),
    };
    Err(Failure::Invalid(format!(
        "mount propagation {wish}: {} is on the mount {mount}, which is not {kind}; run `mount --make-rshared {mount}`",
        path.display()
    )))
}

/// The mount that `path` is on in a mountinfo table, and whether it is shared, a slave.
fn propagation_of(table: &str, path: &Path) -> (String, bool, bool) {
    let mut best = ("/".to_owned(), false, false);
    for line in table.lines() {
        let mut fields = line.split(' ');
        let Some(point) = fields.nth(4) else { continue };
        let point = point.replace("\\040", " ");
        if path.starts_with(&point) && point.len() >= best.0.len() {
            let optional: Vec<&str> = fields.skip(1).take_while(|field| *field != "-").collect();
            let has = |prefix: &str| optional.iter().any(|field| field.starts_with(prefix));
            best = (point, has("shared:"), has("master:"));
        }
    }
    best
}

/// The devices of a configuration: a device, or all devices below a directory. With `privileged` also all of the
/// machine's.
pub(crate) fn devices(
    wished: &[Device],
    privileged: bool,
) -> Result<Vec<(LinuxDevice, LinuxDeviceCgroup)>, Failure> {
    let mut all = Vec::new();
    if privileged {
        below(Path::new("/dev"), Path::new("/dev"), "rwm", &mut all);
    }
    for (index, device) in wished.iter().enumerate() {
        let permissions = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        let field = format!("config.devices[{index}]");
        if permissions.chars().any(|letter| !"rwm".contains(letter)) {
            return Err(Failure::Invalid(format!("{field}.permissions: {permissions:?} is not of r, w, m")));
        }
        let host = Path::new(&device.host_path);
        let host = fs::canonicalize(host)
            .map_err(|error| Failure::Invalid(format!("{field}.host_path: {}: {error}", host.display())))?;
        let inside = Path::new(&device.container_path);
        if host.is_dir() {
            below(&host, inside, permissions, &mut all);
        } else {
            let found = one(&host, inside, permissions);
            let missing = || Failure::Invalid(format!("{field}.host_path: {} is no device", host.display()));
            all.push(found.ok_or_else(missing)?);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|(device, _)| seen.insert(device.path().clone()));
    Ok(all)
}

/// What every container has of its own is left out: pts, shm, mqueue, console and the standard devices.
fn below(host: &Path, inside: &Path, permissions: &str, all: &mut Vec<(LinuxDevice, LinuxDeviceCgroup)>) {
    const OWN: &[&str] = &[
        "pts",
        "shm",
        "mqueue",
        "fd",
        "console",
        "ptmx",
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        ".udev",
        ".lxc",
        ".lxd-mounts",
    ];
    let Ok(entries) = fs::read_dir(host) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| OWN.contains(&name)) {
            continue;
        }
        let (path, target) = (entry.path(), inside.join(&name));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => below(&path, &target, permissions, all),
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => {
                all.extend(one(&path, &target, permissions))
            }
            _ => {}
        }
    }
}

fn one(host: &Path, inside: &Path, permissions: &str) -> Option<(LinuxDevice, LinuxDeviceCgroup)> {
    let metadata = fs::metadata(host).ok()?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let (major, minor) = (i64::from(major), i64::from(minor));
    let mut device = LinuxDevice::default();
    device
        .set_path(inside.to_owned())
        .set_typ(kind)
        .set_major(major)
        .set_minor(minor)
        .set_file_mode(Some(metadata.permissions().mode() & 0o7777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(kind))
        .set_major(Some(major))
        .set_minor(Some(minor))
        .set_access(Some(permissions.to_owned()));
    Some((device, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let host = facts(&Hierarchies::read().unwrap());
        assert!(!host.capabilities.is_empty());
        assert_eq!(CAPABILITIES.split_whitespace().count(), 41);
        for name in CAPABILITIES.split_whitespace() {
            name.parse::<oci_spec::runtime::Capability>().unwrap();
        }
    }

    #[test]
    fn the_longest_mount_counts() {
        let table = "1 0 8:1 / / rw shared:1 - ext4 d rw\n2 1 8:2 / /a rw - ext4 d rw\n3 1 8:2 / /a/b rw master:4 - x y z\n";
        assert_eq!(propagation_of(table, Path::new("/etc")), ("/".into(), true, false));
        assert_eq!(propagation_of(table, Path::new("/a/x")), ("/a".into(), false, false));
        assert_eq!(propagation_of(table, Path::new("/a/b/c")), ("/a/b".into(), false, true));
        assert_eq!(propagation_of(table, Path::new("/ab")), ("/".into(), true, false));
    }

    #[test]
    fn devices_and_what_is_none() {
        let device = |host: &str| Device {
            container_path: "/dev/x".into(),
            host_path: host.into(),
            permissions: "r".into(),
        };
        let found = devices(&[device("/dev/null")], false).unwrap();
        assert_eq!((found[0].0.major(), found[0].0.minor()), (1, 3));
        assert_eq!(found[0].1.access().as_deref(), Some("r"));
        assert!(devices(&[device("/etc/passwd")], false).unwrap_err().to_string().contains("no device"));
        assert!(devices(&[device("/dev/absent")], false).is_err());
    }
}
