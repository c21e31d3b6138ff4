//! What a pod or a volume refers to.

use std::collections::BTreeSet;

use proto_kube::{object, pod};
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

/// All that a pod needs on its node. A mirror pod gets nothing: its node itself made it up.
pub(super) fn of_pod(pod: &Value) -> BTreeSet<Reference> {
    let (false, Some(spec)) = (pod::is_mirror(pod), pod.get("spec")) else { return BTreeSet::new() };
    let account = object::text(spec, &["serviceAccountName"]);
    let account = (!account.is_empty()).then(|| (Kind::ServiceAccount, account.to_owned()));
    let secrets = pod::secrets(spec).into_iter().map(|name| (Kind::Secret, name.to_owned()));
    let maps = pod::config_maps(spec).into_iter().map(|name| (Kind::ConfigMap, name.to_owned()));
    let claims = object::items(spec, &["volumes"]).filter_map(|volume| pod::claim(pod, volume));
    let all = account.into_iter().chain(secrets).chain(maps).chain(claims.map(|name| (Kind::Claim, name)));
    all.map(|(kind, name)| (kind, object::namespace(pod).to_owned(), name)).collect()
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
