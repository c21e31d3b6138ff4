//! Volumes.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use k8s_openapi::api::core::v1::{PodSpec, Volume};
use proto_kube::name;

use super::Findings;
use crate::quantity::Amount;

const HOST_PATH_TYPES: &[&str] =
    &["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

pub(super) fn all(findings: &mut Findings, spec: &PodSpec) {
    let mut names = BTreeSet::new();
    for (n, volume) in spec.volumes.iter().flatten().enumerate() {
        let field = format!("spec.volumes[{n}]");
        let name = format!("{field}.name");
        if volume.name.is_empty() {
            findings.required(&name, "");
        } else {
            findings.name(&name, &volume.name, name::label);
            findings.unique(&name, &volume.name, &mut names);
        }
        source(findings, &field, volume);
    }
}

fn source(findings: &mut Findings, field: &str, volume: &Volume) {
    for (kind, there) in [
        ("secret", volume.secret.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("projected", volume.projected.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
    ] {
        if there {
            let text = "static pods may not reference API objects: use emptyDir, hostPath or downwardAPI";
            findings.forbidden(&format!("{field}.{kind}"), text);
            return;
        }
    }
    let sources = [
        volume.empty_dir.is_some(),
        volume.host_path.is_some(),
        volume.downward_api.is_some(),
        volume.image.is_some(),
    ];
    match sources.iter().filter(|there| **there).count() {
        1 => {}
        0 => {
            let text = "must specify a volume type that this node supports: emptyDir, hostPath, downwardAPI or image";
            return findings.required(field, text);
        }
        _ => return findings.forbidden(field, "may not specify more than 1 volume type"),
    }
    if let Some(source) = &volume.empty_dir {
        findings.one_of(&format!("{field}.emptyDir.medium"), source.medium.as_deref(), &["", "Memory"]);
        if let Some(limit) = &source.size_limit {
            match Amount::parse(&limit.0) {
                Ok(amount) if amount >= Amount::default() => {}
                Ok(_) => {
                    findings.text(&format!("{field}.emptyDir.sizeLimit"), &limit.0, "must not be negative")
                }
                Err(error) => {
                    findings.text(&format!("{field}.emptyDir.sizeLimit"), &limit.0, error.to_string())
                }
            }
        }
    }
    if let Some(source) = &volume.host_path {
        let path = format!("{field}.hostPath.path");
        if source.path.is_empty() {
            findings.required(&path, "");
        } else if !source.path.starts_with('/') {
            findings.text(&path, &source.path, "must be an absolute path");
        } else if climbs(&source.path) {
            findings.text(&path, &source.path, "must not contain '..'");
        }
        findings.one_of(&format!("{field}.hostPath.type"), source.type_.as_deref(), HOST_PATH_TYPES);
    }
    for (n, item) in volume.downward_api.iter().flat_map(|d| d.items.iter().flatten()).enumerate() {
        let field = format!("{field}.downwardAPI.items[{n}]");
        relative(findings, &format!("{field}.path"), &item.path);
        if item.field_ref.is_some() == item.resource_field_ref.is_some() {
            findings.required(&field, "exactly one of fieldRef and resourceFieldRef");
        }
    }
}

fn climbs(path: &str) -> bool {
    Path::new(path).components().any(|part| part == Component::ParentDir)
}

/// A path that stays below where it begins.
pub(super) fn relative(findings: &mut Findings, field: &str, path: &str) {
    if path.is_empty() {
        findings.required(field, "");
    } else if path.starts_with('/') {
        findings.text(field, path, "must be a relative path");
    } else if climbs(path) {
        findings.text(field, path, "must not contain '..'");
    }
}
