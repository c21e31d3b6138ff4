//! What is mounted into a container: its volumes, its termination message file, the pod's hosts file.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent_core::{env, pod};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, Volume, VolumeMount};
use proto_cri as cri;

use crate::dns;

use super::{PodDir, Source, VolumeFailed, failed, subpath};

const HOSTS: &str = "/etc/hosts";

/// What a container's mounts are made from.
pub(crate) struct ContainerMounts<'a> {
    pub(crate) dir: &'a PodDir,
    pub(crate) pod: &'a Pod,
    pub(crate) spec: &'a Spec,
    pub(crate) attempt: u32,
    pub(crate) pod_ips: &'a [String],
    pub(crate) environment: &'a [(String, String)],
    /// The cluster's domain.
    pub(crate) domain: &'a str,
}

/// Makes what a container's mounts need, and lists them.
pub(crate) fn container_mounts(of: &ContainerMounts<'_>) -> Result<Vec<cri::Mount>, VolumeFailed> {
    let mut mounts = Vec::new();
    for (number, mount) in of.spec.volume_mounts.iter().flatten().enumerate() {
        mounts.push(volume(of, number, mount)?);
    }
    let taken = |path: &str| {
        of.spec.volume_mounts.iter().flatten().any(|m| m.mount_path.trim_end_matches('/') == path)
    };
    let aliases = pod::spec(of.pod).host_aliases.iter().flatten().next().is_some();
    if !taken(HOSTS) && (!pod::host_network(of.pod) || aliases) {
        let path = of.dir.hosts();
        fs::write(&path, hosts(of.pod, of.pod_ips, of.domain)).map_err(failed("write", &path))?;
        mode(&path, 0o644)?;
        mounts.push(bind(HOSTS, &path));
    }
    if let Some(inside) = of.spec.termination_message_path.as_deref().filter(|p| !p.is_empty()) {
        let path = of.dir.message(&of.spec.name, of.attempt);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(failed("make directory", parent))?;
        File::create(&path).map_err(failed("make file", &path))?;
        // The container may run as any user.
        mode(&path, 0o666)?;
        mounts.push(bind(inside, &path));
    }
    Ok(mounts)
}

fn mode(path: &Path, mode: u32) -> Result<(), VolumeFailed> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set mode of", path))
}

fn bind(inside: &str, outside: &Path) -> cri::Mount {
    cri::Mount {
        container_path: inside.to_owned(),
        host_path: outside.to_string_lossy().into_owned(),
        ..Default::default()
    }
}

fn volume(of: &ContainerMounts<'_>, number: usize, mount: &VolumeMount) -> Result<cri::Mount, VolumeFailed> {
    let volumes = pod::spec(of.pod).volumes.iter().flatten();
    let volume = volumes.into_iter().find(|v| v.name == mount.name);
    let volume = volume.ok_or_else(|| VolumeFailed::Unknown(mount.name.clone()))?;
    let source = of.dir.source(volume)?;
    let value = |name: &str| of.environment.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let expanded = mount.sub_path_expr.as_deref().filter(|p| !p.is_empty()).map(|p| env::expand(p, value));
    let below = expanded.as_deref().or(mount.sub_path.as_deref()).filter(|p| !p.is_empty());
    let inside = match mount.mount_path.starts_with('/') {
        true => mount.mount_path.clone(),
        false => format!("/{}", mount.mount_path),
    };
    let root = match source {
        Source::Path(root) => root,
        Source::Image => return Ok(image(volume, &inside, below)),
    };
    let path = match below {
        None => root,
        Some(path) => {
            let at = of.dir.0.join("volume-subpaths").join(&of.spec.name).join(number.to_string());
            subpath::bind(&mount.name, &root, path, &at)?
        }
    };
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
        _ => cri::MountPropagation::PropagationPrivate,
    };
    Ok(cri::Mount {
        readonly: mount.read_only == Some(true) || agent_core::volume::has_payload(volume),
        recursive_read_only: mount.recursive_read_only.as_deref() == Some("Enabled"),
        propagation: propagation.into(),
        ..bind(&inside, &path)
    })
}

/// An image as a volume; the runtime has it, and mounts it.
fn image(volume: &Volume, inside: &str, below: Option<&str>) -> cri::Mount {
    let reference = volume.image.as_ref().and_then(|i| i.reference.clone()).unwrap_or_default();
    cri::Mount {
        container_path: inside.to_owned(),
        image: Some(cri::ImageSpec {
            image: reference.clone(),
            user_specified_image: reference,
            ..Default::default()
        }),
        image_sub_path: below.unwrap_or_default().to_owned(),
        readonly: true,
        ..Default::default()
    }
}

/// Directories that must be there in a volume that containers cannot write, because they mount others onto them.
pub(super) fn nested(pod: &Pod, volume: &str) -> Vec<PathBuf> {
    let clean = |path: &str| Path::new("/").join(path).components().collect::<PathBuf>();
    let mut all = Vec::new();
    for spec in pod::every_container(pod) {
        let mounts = || spec.volume_mounts.iter().flatten();
        let mut paths: Vec<PathBuf> = mounts().map(|m| clean(&m.mount_path)).collect();
        paths.sort();
        for own in mounts().filter(|m| m.name == volume).map(|m| clean(&m.mount_path)) {
            let mut before: Vec<&PathBuf> = Vec::new();
            for path in paths.iter().filter(|path| **path != own && path.starts_with(&own)) {
                if !before.iter().any(|outer| path.starts_with(outer)) {
                    before.push(path);
                    all.extend(path.strip_prefix(&own).ok().map(Path::to_path_buf));
                }
            }
        }
    }
    let climbs = |path: &PathBuf| path.components().any(|part| part == std::path::Component::ParentDir);
    all.retain(|path| !climbs(path));
    all
}

/// The pod's hosts file.
fn hosts(pod: &Pod, pod_ips: &[String], domain: &str) -> String {
    let mut text = String::new();
    if pod::host_network(pod) {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(&fs::read_to_string(HOSTS).unwrap_or_default());
    } else {
        text.push_str("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n");
        text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n");
        text.push_str("fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let name = dns::hostname(pod);
        let names = match dns::domain(pod, domain) {
            Some(domain) => format!("{name}.{domain}\t{name}"),
            None => name,
        };
        text.extend(pod_ips.iter().map(|ip| format!("{ip}\t{names}\n")));
    }
    let aliases = pod::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}
