//! What a pod or a volume refers to.

use std::collections::BTreeSet;

use proto_kube::object;
use serde_json::Value;

use super::Key;

/// What a node may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    Attachment,
    ServiceAccount,
}

/// A kind, a namespace and a name.
pub(super) type Reference = (Kind, String, String);

/// The members of a volume that name its secret, and where the name stands in each.
const SECRETS: [(&str, &[&str]); 10] = [
    ("azureFile", &["secretName"]),
    ("cephfs", &["secretRef", "name"]),
    ("cinder", &["secretRef", "name"]),
    ("csi", &["nodePublishSecretRef", "name"]),
    ("flexVolume", &["secretRef", "name"]),
    ("iscsi", &["secretRef", "name"]),
    ("rbd", &["secretRef", "name"]),
    ("scaleIO", &["secretRef", "name"]),
    ("secret", &["secretName"]),
    ("storageos", &["secretRef", "name"]),
];

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All that a pod needs on its node. A mirror pod gets nothing: its node itself made it up.
pub(super) fn of_pod(pod: &Value) -> BTreeSet<Reference> {
    let mut needs = BTreeSet::new();
    if object::annotations(pod).any(|(key, _)| key == "kubernetes.io/config.mirror") {
        return needs;
    }
    let Some(spec) = pod.get("spec") else { return needs };
    let mut add = |kind, name: &str| {
        if !name.is_empty() {
            needs.insert((kind, object::namespace(pod).to_owned(), name.to_owned()));
        }
    };
    add(Kind::ServiceAccount, object::text(spec, &["serviceAccountName"]));
    for secret in object::items(spec, &["imagePullSecrets"]) {
        add(Kind::Secret, object::text(secret, &["name"]));
    }
    for container in CONTAINERS.iter().flat_map(|list| object::items(spec, &[list])) {
        for variable in object::items(container, &["env"]) {
            add(Kind::Secret, object::text(variable, &["valueFrom", "secretKeyRef", "name"]));
            add(Kind::ConfigMap, object::text(variable, &["valueFrom", "configMapKeyRef", "name"]));
        }
        for source in object::items(container, &["envFrom"]) {
            add(Kind::Secret, object::text(source, &["secretRef", "name"]));
            add(Kind::ConfigMap, object::text(source, &["configMapRef", "name"]));
        }
    }
    for volume in object::items(spec, &["volumes"]) {
        for (member, path) in SECRETS {
            add(Kind::Secret, volume.get(member).map_or("", |source| object::text(source, path)));
        }
        add(Kind::ConfigMap, object::text(volume, &["configMap", "name"]));
        for source in object::items(volume, &["projected", "sources"]) {
            add(Kind::Secret, object::text(source, &["secret", "name"]));
            add(Kind::ConfigMap, object::text(source, &["configMap", "name"]));
        }
        add(Kind::Claim, object::text(volume, &["persistentVolumeClaim", "claimName"]));
        if object::at(volume, &["ephemeral"]).is_some() {
            add(Kind::Claim, &format!("{}-{}", object::name(pod), object::text(volume, &["name"])));
        }
    }
    needs
}

/// The secrets that a node needs to mount a volume; those without a namespace are in that of the claim.
pub(super) fn secrets_of_volume(volume: &Value) -> BTreeSet<Key> {
    let Some(spec) = volume.get("spec") else { return BTreeSet::new() };
    let claim = object::text(spec, &["claimRef", "namespace"]);
    let mut secrets = BTreeSet::new();
    let mut add = |namespace: &str, name: &str| {
        if !name.is_empty() {
            let namespace = if namespace.is_empty() { claim } else { namespace };
            secrets.insert((namespace.to_owned(), name.to_owned()));
        }
    };
    add(
        object::text(spec, &["azureFile", "secretNamespace"]),
        object::text(spec, &["azureFile", "secretName"]),
    );
    let references =
        ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"].map(|m| [m, "secretRef"]);
    let csi = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"].map(|r| ["csi", r]);
    for [member, reference] in references.into_iter().chain(csi) {
        let text = |key| object::text(spec, &[member, reference, key]);
        add(text("namespace"), text("name"));
    }
    secrets
}
