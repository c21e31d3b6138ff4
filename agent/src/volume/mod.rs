//! A pod's volumes below its directory: made before its sandbox, unmounted and removed after it.
//!
//! ```text
//! <pods>/<uid>/volumes/kubernetes.io~<kind>/<volume>
//!             /plugins/kubernetes.io~empty-dir/<volume>/ready   an emptyDir is the pod's own from here on
//!             /volume-subpaths/<container>/<n>         bind mounts of subPaths
//!             /containers/<container>/<attempt>        termination messages
//!             /etc-hosts
//! ```
//! Everything here may be done again after a crash.

mod atomic;
mod host_path;
mod mounts;
mod own;
mod subpath;
mod usage;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use agent_core::env::Facts;
use agent_core::pod;
use agent_core::quantity::{Amount, amount};
use agent_core::volume::{PayloadProblem, Sources, payload};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use rustix::mount::{MountFlags, UnmountFlags};

pub(crate) use mounts::{ContainerMounts, container_mounts};
pub(crate) use usage::exceeded;

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
        "volume {0:?} is of a kind that this node does not support: it has configMap, secret, projected, downwardAPI, emptyDir, hostPath and image"
    )]
    Kind(String),
    /// An emptyDir on something else than disk or memory.
    #[error("unknown storage medium {0:?}: this node has \"\" and \"Memory\"")]
    Medium(String),
    /// What the volume is made from.
    #[error(transparent)]
    Payload(#[from] PayloadProblem),
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

    /// Where a volume of the pod comes from.
    fn source(&self, volume: &Volume) -> Result<Source, VolumeFailed> {
        if let Some(host) = &volume.host_path {
            return Ok(Source::Path(PathBuf::from(&host.path)));
        }
        let kinds = [
            ("empty-dir", volume.empty_dir.is_some()),
            ("configmap", volume.config_map.is_some()),
            ("secret", volume.secret.is_some()),
            ("projected", volume.projected.is_some()),
            ("downward-api", volume.downward_api.is_some()),
        ];
        match kinds.into_iter().find(|(_, is)| *is) {
            Some((kind, _)) => Ok(Source::Path(self.volume(kind, &volume.name))),
            None if volume.image.is_some() => Ok(Source::Image),
            None => Err(VolumeFailed::Kind(volume.name.clone())),
        }
    }
}

/// Where a volume comes from.
enum Source {
    /// A file or directory of the host.
    Path(PathBuf),
    /// An image, which the runtime mounts.
    Image,
}

/// What the volumes of a pod are made from.
pub(crate) struct Made<'a> {
    pub(crate) facts: Facts<'a>,
    pub(crate) sources: Sources<'a>,
    pub(crate) now: Timestamp,
}

/// What became of the volumes.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// Volumes that cannot be had, by name.
    pub(crate) failed: Vec<(String, VolumeFailed)>,
    /// Volumes that were kept as they are, because nobody knows how they should be.
    pub(crate) kept: Vec<String>,
}

/// Makes all volumes of a pod, and writes what has changed of those that are there.
///
/// # Errors
/// The pod's directory cannot be made.
pub(crate) fn prepare(dir: &PodDir, made: &Made<'_>) -> Result<Prepared, VolumeFailed> {
    fs::create_dir_all(&dir.0).map_err(failed("make directory", &dir.0))?;
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o750)).map_err(failed("set mode of", &dir.0))?;
    let mut prepared = Prepared::default();
    for volume in pod::spec(made.facts.pod).volumes.iter().flatten() {
        match one(dir, made, volume) {
            Ok(true) => {}
            Ok(false) => prepared.kept.push(volume.name.clone()),
            Err(error) => prepared.failed.push((volume.name.clone(), error)),
        }
    }
    Ok(prepared)
}

/// Makes a volume; false when it is kept as it was before.
fn one(dir: &PodDir, made: &Made<'_>, volume: &Volume) -> Result<bool, VolumeFailed> {
    let pod = made.facts.pod;
    let group = pod::fs_group(pod).and_then(|group| u32::try_from(group).ok());
    let path = match dir.source(volume)? {
        Source::Image => return Ok(true),
        Source::Path(path) => path,
    };
    if let Some(source) = &volume.empty_dir {
        let ready = dir.0.join("plugins/kubernetes.io~empty-dir").join(&volume.name).join("ready");
        empty_dir(&path, &ready, source, (pod, group))?;
    } else if let Some(source) = &volume.host_path {
        host_path::check(&volume.name, source)?;
    } else {
        let payload = match payload(&made.facts, made.sources, volume) {
            Ok(payload) => payload,
            Err(problem) if problem.passing() && atomic::is_written(&path) => return Ok(false),
            Err(problem) => return Err(VolumeFailed::Payload(problem)),
        };
        let secret = volume.config_map.is_none();
        directory(&path, secret.then_some(None), group)?;
        for below in mounts::nested(pod, &volume.name) {
            let below = path.join(below);
            fs::create_dir_all(&below).map_err(failed("make directory", &below))?;
        }
        atomic::write(&path, &payload, group, made.now)?;
    }
    Ok(true)
}

/// Makes an emptyDir, once: `ready` says that it was. What its containers make of its mode and owner stays.
fn empty_dir(
    path: &Path,
    ready: &Path,
    source: &EmptyDirVolumeSource,
    (pod, group): (&Pod, Option<u32>),
) -> Result<(), VolumeFailed> {
    let memory = match source.medium.as_deref().unwrap_or_default() {
        "" => None,
        "Memory" => {
            let own = source.size_limit.as_ref().and_then(amount).map(Amount::units).filter(|n| *n > 0);
            let of_pod = agent_core::resources::pod_limits(pod).memory_bytes;
            Some([own, of_pod].into_iter().flatten().min())
        }
        medium => return Err(VolumeFailed::Medium(medium.to_owned())),
    };
    // A restart of the machine leaves the directory on which the memory was mounted.
    if ready.exists() && path.exists() && (memory.is_none() || is_mount_point(path)?) {
        return Ok(());
    }
    directory(path, memory, group)?;
    let above = ready.parent().unwrap_or(ready);
    fs::create_dir_all(above).map_err(failed("make directory", above))?;
    fs::write(ready, "").map_err(failed("write", ready))
}

/// Makes the directory of a volume, on disk or in `memory` of at most so many bytes. What is in it is kept.
fn directory(path: &Path, memory: Option<Option<i64>>, group: Option<u32>) -> Result<(), VolumeFailed> {
    fs::create_dir_all(path).map_err(failed("make directory", path))?;
    if let Some(size) = memory
        && !is_mount_point(path)?
    {
        let data = size.map_or_else(String::new, |bytes| format!("size={bytes}"));
        let data =
            std::ffi::CString::new(data).map_err(io::Error::from).map_err(failed("mount tmpfs on", path))?;
        rustix::mount::mount(c"tmpfs", path, c"tmpfs", MountFlags::empty(), Some(data.as_c_str()))
            .map_err(|e| failed("mount tmpfs on", path)(e.into()))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if group.is_some() {
        chown(path, None, group).map_err(failed("set group of", path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set mode of", path))
}

/// Reads a file of a volume as text; links that lead out of the volume are not followed.
///
/// # Errors
/// There is no such volume or file.
pub(crate) fn read(dir: &PodDir, pod: &Pod, volume: &str, path: &str) -> Result<String, VolumeFailed> {
    let volumes = pod::spec(pod).volumes.iter().flatten();
    let found = volumes.into_iter().find(|v| v.name == volume);
    let source = found.map(|v| dir.source(v)).transpose()?;
    let Some(Source::Path(root)) = source else { return Err(VolumeFailed::Unknown(volume.to_owned())) };
    subpath::read(&root, Path::new(path)).map_err(failed("read", &root.join(path)))
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
    match linux::remove::tree(&dir.0) {
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
