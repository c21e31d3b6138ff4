//! A pod's volumes below its directory: made before its sandbox, unmounted and removed after it.
//!
//! ```text
//! <pods>/<uid>/volumes/kubernetes.io~empty-dir/<volume>
//!             /volume-subpaths/<container>/<n>         bind mounts of subPaths
//!             /containers/<container>/<attempt>        termination messages
//!             /etc-hosts
//! ```
//! Everything here may be done again after a crash.

mod downward;
mod host_path;
mod mounts;
mod subpath;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use agent_core::env::{EnvProblem, Facts};
use agent_core::pod;
use agent_core::quantity::{Amount, amount};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use rustix::mount::{MountFlags, UnmountFlags};

pub(crate) use mounts::{ContainerMounts, container_mounts};

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeFailed {
    /// The file system refused.
    #[error("{what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A hostPath is not what its type says.
    #[error("hostPath volume {volume:?}: {} is not {expected}: create it, or correct hostPath.path or hostPath.type", path.display())]
    HostPath { volume: String, path: PathBuf, expected: &'static str },
    /// A kind of volume that this node does not have.
    #[error(
        "volume {0:?} is of a kind that this node does not support: use emptyDir, hostPath or downwardAPI"
    )]
    Kind(String),
    /// The downward API lacks what a volume asks for.
    #[error("downwardAPI volume {volume:?}")]
    Downward {
        volume: String,
        #[source]
        source: EnvProblem,
    },
    /// A volume that a container mounts is not in the pod.
    #[error("volumeMount {0:?} names no volume of the pod")]
    Unknown(String),
    /// A subPath leads out of its volume or through a link.
    #[error(
        "subPath {path:?} of volume {volume:?} cannot be used: it must stay inside the volume and not pass through symbolic links"
    )]
    SubPath {
        volume: String,
        path: String,
        #[source]
        source: io::Error,
    },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeFailed {
    let path = path.to_path_buf();
    move |source| VolumeFailed::Io { what, path, source }
}

/// A pod's directory.
#[derive(Debug, Clone)]
pub(crate) struct PodDir(pub(crate) PathBuf);

impl PodDir {
    fn volume(&self, kind: &str, name: &str) -> PathBuf {
        self.0.join("volumes").join(format!("kubernetes.io~{kind}")).join(name)
    }

    /// Where a container's termination message goes.
    fn message(&self, container: &str, attempt: u32) -> PathBuf {
        self.0.join("containers").join(container).join(attempt.to_string())
    }

    fn hosts(&self) -> PathBuf {
        self.0.join("etc-hosts")
    }

    /// Where a volume of the pod is on the host.
    fn source(&self, volume: &Volume) -> Result<PathBuf, VolumeFailed> {
        if volume.empty_dir.is_some() {
            return Ok(self.volume("empty-dir", &volume.name));
        }
        if volume.downward_api.is_some() {
            return Ok(self.volume("downward-api", &volume.name));
        }
        match &volume.host_path {
            Some(host) => Ok(PathBuf::from(&host.path)),
            None => Err(VolumeFailed::Kind(volume.name.clone())),
        }
    }
}

/// Makes all volumes of a pod. What is already there is kept.
pub(crate) fn prepare(dir: &PodDir, facts: &Facts<'_>) -> Result<(), VolumeFailed> {
    fs::create_dir_all(&dir.0).map_err(failed("make directory", &dir.0))?;
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o750)).map_err(failed("set mode of", &dir.0))?;
    let group = pod::spec(facts.pod).security_context.as_ref().and_then(|s| s.fs_group);
    for volume in pod::spec(facts.pod).volumes.iter().flatten() {
        let path = dir.source(volume)?;
        if let Some(source) = &volume.empty_dir {
            empty_dir(&path, source, facts.pod, group)?;
        } else if let Some(source) = &volume.downward_api {
            downward::write(&path, &volume.name, source, facts)?;
        } else if let Some(source) = &volume.host_path {
            host_path::check(&volume.name, source)?;
        }
    }
    Ok(())
}

fn empty_dir(
    path: &Path,
    source: &EmptyDirVolumeSource,
    pod: &Pod,
    group: Option<i64>,
) -> Result<(), VolumeFailed> {
    fs::create_dir_all(path).map_err(failed("make directory", path))?;
    if source.medium.as_deref() == Some("Memory") && !is_mount_point(path)? {
        let own = source.size_limit.as_ref().and_then(amount).map(Amount::units).filter(|n| *n > 0);
        let of_pod = agent_core::resources::pod_limits(pod).memory_bytes;
        let size = match (own, of_pod) {
            (Some(own), Some(of_pod)) => Some(own.min(of_pod)),
            (own, of_pod) => own.or(of_pod),
        };
        let data = size.map_or_else(String::new, |bytes| format!("size={bytes}"));
        let data =
            std::ffi::CString::new(data).map_err(io::Error::from).map_err(failed("mount tmpfs on", path))?;
        rustix::mount::mount(c"tmpfs", path, c"tmpfs", MountFlags::empty(), Some(data.as_c_str()))
            .map_err(|e| failed("mount tmpfs on", path)(e.into()))?;
    }
    let group = group.and_then(|g| u32::try_from(g).ok());
    if group.is_some() {
        chown(path, None, group).map_err(failed("set group of", path))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set mode of", path))
}

/// A directory on another file system than its parent's.
fn is_mount_point(path: &Path) -> Result<bool, VolumeFailed> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::symlink_metadata(path).map(|m| m.dev()).map_err(failed("look at", path));
    let parent = path.parent().unwrap_or(path);
    Ok(device(path)? != device(parent)?)
}

/// Unmounts all there is below a pod's directory, and removes it.
pub(crate) fn teardown(dir: &PodDir) -> Result<(), VolumeFailed> {
    for path in mounts_below(&dir.0)? {
        match rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(failed("unmount", &path)(error.into())),
        }
    }
    match fs::remove_dir_all(&dir.0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(failed("remove", &dir.0)),
    }
}

/// Mount points below a directory, the deepest and latest first.
fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>, VolumeFailed> {
    let table = Path::new("/proc/thread-self/mountinfo");
    let text = fs::read_to_string(table).map_err(failed("read", table))?;
    let dir = match fs::canonicalize(dir) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("resolve", dir)(error)),
    };
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut points: Vec<PathBuf> = points.filter(|p| p.starts_with(&dir)).collect();
    points.reverse();
    Ok(points)
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                out.push(value);
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(out))
}

#[cfg(test)]
mod tests;
