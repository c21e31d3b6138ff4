//! What a pod's spec is when a client leaves it out.

use proto_kube::object::{self, default};
use proto_kube::quantity::{Amount, Quantity};
use serde_json::{Value, json};

/// Runs a change on each item of the list at a member.
pub(crate) fn each(object: &mut Value, key: &str, mut change: impl FnMut(&mut Value)) {
    if let Some(items) = object.get_mut(key).and_then(Value::as_array_mut) {
        items.iter_mut().for_each(&mut change);
    }
}

/// Runs a change on a member that is an object.
pub(crate) fn within(object: &mut Value, key: &str, change: impl FnOnce(&mut Value)) {
    if let Some(member) = object.get_mut(key).filter(|m| m.is_object()) {
        change(member);
    }
}

/// Rounds up the amounts of a list of resources to thousandths: nothing counts smaller parts.
pub(crate) fn amounts(owner: &mut Value, list: &str) {
    for (_, amount) in owner.get_mut(list).and_then(Value::as_object_mut).into_iter().flatten() {
        let quantity = Quantity::of(amount);
        let rounded = Amount::from_millis(quantity.amount.millis());
        if rounded > quantity.amount {
            *amount = Quantity { amount: rounded, ..quantity }.to_string().into();
        }
    }
}

/// The same for the `resources` of a container, a pod or a claim.
pub(crate) fn resources(owner: &mut Value) {
    within(owner, "resources", |resources| {
        amounts(resources, "limits");
        amounts(resources, "requests");
    });
}

/// Sets a text that is missing, null or empty.
pub(crate) fn text(object: &mut Value, key: &str, value: &str) {
    if object::text(object, &[key]).is_empty() {
        object[key] = value.into();
    }
}

/// Sets a member that is missing or null.
fn fill(object: &mut Value, key: &str, value: impl Into<Value>) {
    default(object, key, value);
}

/// Sets a number that is missing, null or zero.
fn number(object: &mut Value, key: &str, value: i64) {
    if object::at(object, &[key]).and_then(Value::as_i64).unwrap_or(0) == 0 {
        object[key] = value.into();
    }
}

/// What a pod and a pod template share: all defaults of a `PodSpec`.
pub(crate) fn spec(spec: &mut Value) {
    text(spec, "dnsPolicy", "ClusterFirst");
    text(spec, "restartPolicy", "Always");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    text(spec, "schedulerName", "default-scheduler");
    // The old name of the field is kept in step with the new one.
    let account = match (object::text(spec, &["serviceAccountName"]), object::text(spec, &["serviceAccount"]))
    {
        ("", old) => old.to_owned(),
        (new, _) => new.to_owned(),
    };
    if !account.is_empty() {
        spec["serviceAccountName"] = account.clone().into();
        spec["serviceAccount"] = account.into();
    }
    resources(spec);
    amounts(spec, "overhead");
    each(spec, "volumes", volume);
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, key, container);
    }
}

fn container(container: &mut Value) {
    let policy = if is_latest(object::text(container, &["image"])) { "Always" } else { "IfNotPresent" };
    text(container, "imagePullPolicy", policy);
    text(container, "terminationMessagePath", "/dev/termination-log");
    text(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    resources(container);
    each(container, "ports", |port| text(port, "protocol", "TCP"));
    each(container, "env", |env| {
        within(env, "valueFrom", |from| {
            within(from, "fieldRef", |field| text(field, "apiVersion", "v1"));
            within(from, "resourceFieldRef", divisor);
            within(from, "fileKeyRef", |file| fill(file, "optional", false));
        });
    });
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, key, probe);
    }
    within(container, "lifecycle", |lifecycle| {
        for key in ["postStart", "preStop"] {
            within(lifecycle, key, |handler| within(handler, "httpGet", http));
        }
    });
}

fn divisor(reference: &mut Value) {
    default(reference, "divisor", "0");
}

fn probe(probe: &mut Value) {
    for (key, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        number(probe, key, value);
    }
    within(probe, "httpGet", http);
    within(probe, "grpc", |grpc| fill(grpc, "service", ""));
}

fn http(get: &mut Value) {
    text(get, "path", "/");
    text(get, "scheme", "HTTP");
}

fn volume(volume: &mut Value) {
    let sources = volume.as_object().into_iter().flatten().filter(|(key, v)| *key != "name" && !v.is_null());
    if sources.count() == 0 {
        volume["emptyDir"] = json!({});
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        within(volume, key, |source| fill(source, "defaultMode", 0o644));
    }
    within(volume, "downwardAPI", downward);
    within(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            within(source, "downwardAPI", downward);
            within(source, "serviceAccountToken", |token| fill(token, "expirationSeconds", 3600));
        });
    });
    within(volume, "hostPath", |path| fill(path, "type", ""));
    within(volume, "image", |image| {
        let policy = if is_latest(object::text(image, &["reference"])) { "Always" } else { "IfNotPresent" };
        text(image, "pullPolicy", policy);
    });
    within(volume, "ephemeral", |ephemeral| {
        within(ephemeral, "volumeClaimTemplate", |claim| {
            within(claim, "spec", |spec| {
                resources(spec);
                text(spec, "volumeMode", "Filesystem");
            });
        });
    });
    source(volume);
}

/// The defaults of volume sources that pods and persistent volumes share.
pub(crate) fn source(volume: &mut Value) {
    let sources: [(&str, &[(&str, &str)]); 4] = [
        ("iscsi", &[("iscsiInterface", "default")]),
        ("rbd", &[("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")]),
        ("azureDisk", &[("cachingMode", "ReadWrite"), ("fsType", "ext4"), ("kind", "Shared")]),
        ("scaleIO", &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")]),
    ];
    for (key, texts) in sources {
        within(volume, key, |source| texts.iter().for_each(|(key, value)| text(source, key, value)));
    }
    within(volume, "azureDisk", |disk| fill(disk, "readOnly", false));
}

fn downward(source: &mut Value) {
    each(source, "items", |item| {
        within(item, "fieldRef", |field| text(field, "apiVersion", "v1"));
        within(item, "resourceFieldRef", divisor);
    });
}

/// Whether an image is named with the tag `latest`, said or implied: no digest and no other tag.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or_default();
    if image.contains('@') {
        return false;
    }
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// What a pod has beyond its template's defaults: requests follow limits, ports of the host follow those of containers.
pub(crate) fn pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").filter(|s| s.is_object()) else { return };
    let host = object::at(spec, &["hostNetwork"]) == Some(&Value::Bool(true));
    for key in ["containers", "initContainers"] {
        each(spec, key, |container| {
            within(container, "resources", requests);
            if host {
                each(container, "ports", |port| {
                    let own = object::at(port, &["containerPort"]).and_then(Value::as_i64).unwrap_or(0);
                    if own != 0 {
                        number(port, "hostPort", own);
                    }
                });
            }
        });
    }
    super::resources::default_pod_level(spec);
    default(spec, "enableServiceLinks", true);
    if object::at(spec, &["terminationGracePeriodSeconds"]).and_then(Value::as_i64) < Some(0)
        && !spec["terminationGracePeriodSeconds"].is_null()
    {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
}

/// Each limit without a request is one.
fn requests(resources: &mut Value) {
    let Some(limits) = object::at(resources, &["limits"]).and_then(Value::as_object).cloned() else { return };
    let requests = object::member(resources, "requests");
    for (name, amount) in limits {
        requests.entry(name).or_insert(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest() {
        for (image, latest) in [
            ("busybox", true),
            ("busybox:latest", true),
            ("busybox:1", false),
            ("r:5000/busybox", true),
            ("r:5000/busybox:1", false),
            ("busybox@sha256:abc", false),
            ("busybox:latest@sha256:abc", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
