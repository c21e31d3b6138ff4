//! What is mounted into a container: its volumes, its termination message file, the pod's hosts file.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agent_core::{env, pod};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, VolumeMount};
use proto_cri as cri;

use super::{PodDir, VolumeFailed, failed, subpath};

const HOSTS: &str = "/etc/hosts";

/// What a container's mounts are made from.
pub(crate) struct ContainerMounts<'a> {
    pub(crate) dir: &'a PodDir,
    pub(crate) pod: &'a Pod,
    pub(crate) spec: &'a Spec,
    pub(crate) attempt: u32,
    pub(crate) pod_ips: &'a [String],
    pub(crate) environment: &'a [(String, String)],
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
        fs::write(&path, hosts(of.pod, of.pod_ips)).map_err(failed("write", &path))?;
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
    let root = of.dir.source(volume)?;
    let value = |name: &str| of.environment.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let expanded = mount.sub_path_expr.as_deref().filter(|p| !p.is_empty()).map(|p| env::expand(p, value));
    let path = match expanded.as_deref().or(mount.sub_path.as_deref()).filter(|p| !p.is_empty()) {
        None => root,
        Some(path) => {
            let at = of.dir.0.join("volume-subpaths").join(&of.spec.name).join(number.to_string());
            subpath::bind(&mount.name, &root, path, &at)?
        }
    };
    let inside = match mount.mount_path.starts_with('/') {
        true => mount.mount_path.clone(),
        false => format!("/{}", mount.mount_path),
    };
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
        _ => cri::MountPropagation::PropagationPrivate,
    };
    Ok(cri::Mount {
        readonly: mount.read_only == Some(true) || volume.downward_api.is_some(),
        recursive_read_only: mount.recursive_read_only.as_deref() == Some("Enabled"),
        propagation: propagation.into(),
        ..bind(&inside, &path)
    })
}

/// The pod's hosts file.
fn hosts(pod: &Pod, pod_ips: &[String]) -> String {
    let own =
        if pod::host_network(pod) { fs::read_to_string(HOSTS).unwrap_or_default() } else { String::new() };
    let mut text = if own.is_empty() {
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n".to_owned()
    } else {
        own
    };
    if !pod::host_network(pod) {
        let name = crate::translate::hostname(pod);
        text.extend(pod_ips.iter().map(|ip| format!("{ip}\t{name}\n")));
    }
    for alias in pod::spec(pod).host_aliases.iter().flatten() {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}
