//! NodeRestriction: a node changes itself and its own pods, and nothing that would draw other pods to it.

mod token;

use std::collections::BTreeSet;

use proto_kube::status::Result;
use proto_kube::{Status, object, pod};
use serde_json::{Value, json};

use crate::scene::{Scene, core};
use crate::{Effects, Operation, csr};

pub(crate) fn admit(scene: &Scene<'_>, object: &mut Value, _: &mut Effects) -> Result<()> {
    let request = scene.request;
    let Some(node) = request.user.node() else { return Ok(()) };
    if node.is_empty() {
        return Err(scene.forbidden(format!("could not determine node from user {:?}", request.user.name)));
    }
    match (request.resource.group, request.resource.plural, request.subresource) {
        ("", "pods", "") => own_pod(scene, node, object),
        ("", "pods", "status") => pod_status(scene, node, object),
        ("", "pods", "eviction") => eviction(scene, node, object),
        ("", "pods", other) => Err(scene.forbidden(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        ))),
        ("", "nodes", _) => own_node(scene, node, object),
        ("", "persistentvolumeclaims", "status") => claim_status(scene, node, object),
        ("", "persistentvolumeclaims", _) => Err(scene.forbidden("may only update PVC status")),
        ("", "serviceaccounts", "token") if scene.creates() => token::admit(scene, node, object),
        ("coordination.k8s.io", "leases", _) => lease(scene, node, object),
        ("storage.k8s.io", "csinodes", _) if named(scene, object) != node => {
            Err(scene.forbidden("can only access CSINode with the same name as the requesting node"))
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") if scene.creates() => {
            certificate(scene, node, object)
        }
        _ => Ok(()),
    }
}

/// What upstream calls an operation.
fn title(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// The name of what is written: before it is stored only the object has it.
fn named<'a>(scene: &'a Scene<'_>, object: &'a Value) -> &'a str {
    match scene.request.name {
        "" => object::name(object),
        name => name,
    }
}

fn runs_on(pod: &Value) -> &str {
    object::text(pod, &["spec", "nodeName"])
}

fn own_pod(scene: &Scene<'_>, node: &str, pod: &Value) -> Result<()> {
    match scene.request.operation {
        Operation::Create => mirror_pod(scene, node, pod),
        Operation::Delete => match scene.request.old {
            Some(old) if runs_on(old) != node => Err(scene
                .forbidden(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))),
            _ => Ok(()),
        },
        other => Err(scene.forbidden(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            title(other)
        ))),
    }
}

fn mirror_pod(scene: &Scene<'_>, node: &str, pod: &Value) -> Result<()> {
    let only = |what: &str| Err(scene.forbidden(format!("node {node:?} can only create pods with {what}")));
    if !pod::is_mirror(pod) {
        let mark = pod::MIRROR;
        return Err(scene.forbidden(format!(
            "pod does not have {mark:?} annotation, node {node:?} can only create mirror pods"
        )));
    }
    if runs_on(pod) != node {
        return only("spec.nodeName set to itself");
    }
    let owners: Vec<&Value> = object::items(pod, &["metadata", "ownerReferences"]).collect();
    let owner = match owners.as_slice() {
        [] => return only("an owner reference set to itself"),
        [owner] => owner,
        _ => return only("a single owner reference set to itself"),
    };
    let text = |key| object::text(owner, &[key]);
    if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
        return only("an owner reference set to itself");
    }
    if owner["controller"] != true {
        return only("a controller owner reference set to itself");
    }
    if owner["blockOwnerDeletion"] == true {
        let why = format!("node {node:?} must not set blockOwnerDeletion on an owner reference");
        return Err(scene.forbidden(why));
    }
    let Some(own) = scene.view.get(core("nodes"), "", node) else {
        return Err(Status::not_found(core("nodes"), node));
    };
    if text("uid") != object::uid(&own) {
        let (expected, got) = (text("uid"), object::uid(&own));
        return Err(scene.forbidden(format!("node {node} UID mismatch: expected {expected} got {got}")));
    }
    match reference(pod) {
        Some(what) => {
            Err(scene.forbidden(format!("node {node:?} can not create pods that reference {what}")))
        }
        None => Ok(()),
    }
}

/// The first kind of object that a pod refers to.
fn reference(pod: &Value) -> Option<&'static str> {
    let spec = pod.get("spec")?;
    if !object::text(spec, &["serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    if !pod::secrets(spec).is_empty() {
        return Some("secrets");
    }
    if !pod::config_maps(spec).is_empty() {
        return Some("configmaps");
    }
    if object::items(spec, &["resourceClaims"]).next().is_some() {
        return Some("resourceclaims");
    }
    let of_volume = |volume: &Value| {
        let has = |member: &str| object::at(volume, &[member]).is_some();
        let whole = [
            ("configMap", "configmaps (via configmap volumes)"),
            ("secret", "secrets (via secret volumes)"),
            ("csi", "csidrivers (via CSI volumes)"),
            ("glusterfs", "endpoints (via glusterFS volumes)"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
            ("azureFile", "secrets (via azureFile volumes)"),
        ];
        let parts = [
            ("configMap", "configmaps (via projected volumes)"),
            ("secret", "secrets (via projected volumes)"),
            ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
            ("clusterTrustBundle", "clustertrustbundles"),
            ("podCertificate", "podcertificates"),
        ];
        let part = |source: &Value| parts.iter().find(|(m, _)| object::at(source, &[m]).is_some());
        let of = whole.iter().find(|(member, _)| has(member));
        of.or_else(|| object::items(volume, &["projected", "sources"]).find_map(part)).map(|(_, what)| *what)
    };
    object::items(spec, &["volumes"]).find_map(of_volume)
}

fn pod_status(scene: &Scene<'_>, node: &str, pod: &Value) -> Result<()> {
    let Some(old) = scene.request.old.filter(|_| scene.request.operation == Operation::Update) else {
        return Err(scene.forbidden(format!("unexpected operation {:?}", title(scene.request.operation))));
    };
    let same = |path: &[&str]| {
        let filled = |value: Option<&Value>| value.cloned().filter(|v| *v != json!({}) && *v != json!([]));
        filled(object::at(old, path)) == filled(object::at(pod, path))
    };
    let why = if runs_on(old) != node {
        "can only update pod status for pods with spec.nodeName set to itself"
    } else if !same(&["metadata", "labels"]) {
        "cannot update labels through pod status"
    } else if !same(&["status", "resourceClaimStatuses"]) {
        "cannot update resource claim statues"
    } else if !same(&["status", "extendedResourceClaimStatus"]) {
        "cannot update extended resource claim status"
    } else {
        return Ok(());
    };
    Err(scene.forbidden(format!("node {node:?} {why}")))
}

fn eviction(scene: &Scene<'_>, node: &str, eviction: &Value) -> Result<()> {
    if !scene.creates() {
        return Err(scene.forbidden(format!("unexpected operation {}", title(scene.request.operation))));
    }
    let name = named(scene, eviction);
    if name.is_empty() {
        return Err(scene.forbidden("could not determine pod from request data"));
    }
    let Some(pod) = scene.get("pods", name) else { return Err(Status::not_found(core("pods"), name)) };
    if runs_on(&pod) != node {
        return Err(
            scene.forbidden(format!("node {node} can only evict pods with spec.nodeName set to itself"))
        );
    }
    Ok(())
}

fn claim_status(scene: &Scene<'_>, node: &str, claim: &Value) -> Result<()> {
    let Some(old) = scene.request.old.filter(|_| scene.request.operation == Operation::Update) else {
        return Err(scene.forbidden(format!("unexpected operation {:?}", title(scene.request.operation))));
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        let status = ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"];
        for (part, keys) in [("status", &status[..]), ("metadata", &["resourceVersion", "managedFields"])] {
            let members = claim.get_mut(part).and_then(Value::as_object_mut);
            if let Some(members) = members {
                members.retain(|key, _| !keys.contains(&key.as_str()));
            }
        }
        claim
    };
    if rest(old) != rest(claim) {
        return Err(scene.forbidden(format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        )));
    }
    Ok(())
}

fn own_node(scene: &Scene<'_>, node: &str, object: &Value) -> Result<()> {
    let name = named(scene, object);
    if name != node {
        return Err(scene.forbidden(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let old = match (scene.request.operation, scene.request.old) {
        (Operation::Create, _) => None,
        (Operation::Update, Some(old)) => Some(old),
        _ => return Ok(()),
    };
    let source = object::at(object, &["spec", "configSource"]);
    match old {
        None if source.is_some() => {
            let why = format!("node {node:?} is not allowed to create pods with a non-nil configSource");
            return Err(scene.forbidden(why));
        }
        Some(old) => {
            let changed = |path: &[&str]| object::items(old, path).ne(object::items(object, path));
            let what = if source.is_some() && source != object::at(old, &["spec", "configSource"]) {
                "update configSource to a new non-nil configSource"
            } else if changed(&["spec", "taints"]) {
                "modify taints"
            } else if changed(&["metadata", "ownerReferences"]) {
                "modify ownerReferences"
            } else {
                ""
            };
            if !what.is_empty() {
                return Err(scene.forbidden(format!("node {node:?} is not allowed to {what}")));
            }
        }
        None => {}
    }
    let forbidden = reserved_labels(object, old.unwrap_or(&Value::Null));
    if forbidden.is_empty() {
        return Ok(());
    }
    let list = forbidden.into_iter().collect::<Vec<_>>().join(", ");
    Err(scene.forbidden(match old {
        None => format!("node {node:?} is not allowed to set the following labels: {list}"),
        Some(_) => format!("is not allowed to modify labels: {list}"),
    }))
}

/// The labels that differ and that a node must not choose for itself.
fn reserved_labels<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    const OWN: [&str; 11] = [
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    let (new, old): (BTreeSet<_>, BTreeSet<_>) =
        (object::labels(new).collect(), object::labels(old).collect());
    let differing = new.symmetric_difference(&old).map(|(key, _)| *key);
    let is_reserved = |key: &&str| {
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        let within =
            |of: &str| domain.strip_suffix(of).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let own = OWN.contains(key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io");
        within("node-restriction.kubernetes.io") || ((within("kubernetes.io") || within("k8s.io")) && !own)
    };
    differing.filter(is_reserved).collect()
}

fn lease(scene: &Scene<'_>, node: &str, lease: &Value) -> Result<()> {
    if scene.request.namespace != "kube-node-lease" {
        return Err(scene.forbidden("can only access leases in the \"kube-node-lease\" system namespace"));
    }
    if named(scene, lease) != node {
        return Err(scene.forbidden("can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

fn certificate(scene: &Scene<'_>, node: &str, request: &Value) -> Result<()> {
    let signer = object::text(request, &["spec", "signerName"]);
    if !["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"].contains(&signer) {
        return Ok(());
    }
    let Some(subject) = csr::subject(object::text(request, &["spec", "request"])) else {
        return Err(scene.forbidden("unable to parse csr: PEM block type must be CERTIFICATE REQUEST"));
    };
    if subject.common_name != format!("system:node:{node}") {
        return Err(scene.forbidden(format!("can only create a node CSR with CN=system:node:{node}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
