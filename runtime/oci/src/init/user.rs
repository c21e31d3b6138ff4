//! The last steps of a process: limits, rights, directory, program.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::Init;
use super::mounts::read_regular;
use crate::error::{During, ErrorKind, RuntimeError};
use crate::spec::Capabilities;

/// Where a program is looked for when the environment has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Sets a resource limit; with a hard limit above ours and no right to raise it, the plan has clamped it already.
pub(super) fn resource_limit(resource: u32, soft: u64, hard: u64) -> Result<(), RuntimeError> {
    linux::process::set_resource_limit(resource, soft, hard)
        .during(|| format!("resource limit {resource} to {hard}"))
}

/// Takes capabilities out of the bounding set, while we still may.
pub(super) fn drop_bounding(bits: u64) -> Result<(), RuntimeError> {
    for capability in (0..64).filter(|number| bits & 1 << number != 0) {
        match linux::process::drop_bounding(capability) {
            // Of those the kernel knows each can be dropped; an unknown number is not there to drop.
            Err(Errno::INVAL) => {}
            other => other.during(|| format!("drop capability {capability}"))?,
        }
    }
    Ok(())
}

/// Becomes a user; its capabilities are set afterwards.
pub(super) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), RuntimeError> {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_keep_capabilities(true).during(|| "keep capabilities")?;
    rustix::thread::set_thread_groups(&groups).during(|| "additional groups")?;
    rustix::thread::set_thread_res_gid(group, group, group).during(|| format!("group {gid}"))?;
    rustix::thread::set_thread_res_uid(user, user, user).during(|| format!("user {uid}"))?;
    rustix::thread::set_keep_capabilities(false).during(|| "keep capabilities")
}

/// Sets all capability sets but the bounding one.
pub(super) fn capabilities(sets: Capabilities) -> Result<(), RuntimeError> {
    let set = CapabilitySet::from_bits_retain;
    let (effective, permitted, inheritable) =
        (set(sets.effective), set(sets.permitted), set(sets.inheritable));
    rustix::thread::set_capabilities(None, CapabilitySets { effective, permitted, inheritable })
        .during(|| "set capabilities")?;
    rustix::thread::clear_ambient_capability_set().during(|| "clear ambient capabilities")?;
    for capability in (0..64).filter(|number| sets.ambient & 1 << number != 0) {
        linux::process::raise_ambient(capability).during(|| format!("ambient capability {capability}"))?;
    }
    Ok(())
}

/// Enters a directory; `false` when that takes other rights than ours (a network file system that knows no root).
pub(super) fn enter_directory(path: &Path) -> Result<bool, RuntimeError> {
    match rustix::process::chdir(path) {
        Err(Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(error) => Err(refused_directory(path, error)),
        Ok(()) => inside(path).map(|()| true),
    }
}

/// Enters a directory.
pub(super) fn working_directory(path: &Path) -> Result<(), RuntimeError> {
    rustix::process::chdir(path).map_err(|error| refused_directory(path, error))?;
    inside(path)
}

fn refused_directory(path: &Path, problem: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::spec("process.cwd", format!("{}: {problem}", path.display()))
}

/// Makes sure that the directory entered is one of the container's: a path like `/proc/self/fd/7` could lead to the host
/// through a descriptor (CVE-2024-21626).
fn inside(path: &Path) -> Result<(), RuntimeError> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(cwd) if cwd.as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(refused_directory(path, "lies outside the container's root file system")),
    }
}

impl Init<'_> {
    /// Fixes environment and program, so that after this the program only has to be executed.
    pub(super) fn find_program(&mut self) -> Result<(), RuntimeError> {
        let mut environment = self.process.environment.clone();
        let value = |name: &str, all: &[CString]| {
            all.iter().rev().find_map(|one| {
                let (own, value) = one.to_str().ok()?.split_once('=')?;
                (own == name).then(|| value.to_owned())
            })
        };
        if value("HOME", &environment).is_none() {
            let home = home(self.process.uid);
            environment.extend(CString::new(format!("HOME={home}")));
        }
        let path = value("PATH", &environment).unwrap_or_else(|| PATH.to_owned());
        let name = self.process.arguments.first().map(|name| OsStr::from_bytes(name.as_bytes()).to_owned());
        self.program = Some(search(&name.unwrap_or_default(), &path)?);
        self.environment = environment;
        Ok(())
    }
}

/// A user's home, from the container's own `/etc/passwd`.
fn home(uid: u32) -> String {
    let passwd = read_regular("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let home = line
        .filter(|parts| parts.len() >= 6 && parts[2].parse() == Ok(uid))
        .map(|parts| parts[5].to_owned())
        .next();
    home.filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned())
}

/// The path of a program, looked up with the rights of the user that will run it.
fn search(name: &OsStr, path: &str) -> Result<CString, RuntimeError> {
    let shown = name.to_string_lossy().into_owned();
    let refuse =
        |problem: &str| RuntimeError::new(ErrorKind::InvalidSpec, format!("exec: {shown:?}: {problem}"));
    let whole =
        |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| refuse("holds a null byte"));
    if name.as_bytes().contains(&b'/') {
        return match executable(Path::new(name)) {
            Ok(()) => whole(Path::new(name)),
            Err(Errno::NOENT) => Err(refuse("no such file or directory")),
            Err(Errno::ISDIR) => Err(refuse("is a directory")),
            Err(Errno::ACCESS | Errno::PERM) => Err(refuse("permission denied")),
            Err(error) => Err(refuse(&error.to_string())),
        };
    }
    let mut denied = false;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match executable(&candidate) {
            Ok(()) => return whole(&candidate),
            Err(error) => denied |= error == Errno::ACCESS,
        }
    }
    Err(refuse(if denied { "permission denied" } else { "executable file not found in $PATH" }))
}

fn executable(path: &Path) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}
