//! Reading pods: their containers, and what they refer to.

use serde_json::Value;

use crate::{GroupResource, object};

/// The lists of containers in a pod's spec, in the order in which they start.
pub const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Marks a pod that a node made up from a file of its own.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The resource of pods.
pub const PODS: GroupResource<'static> = GroupResource { group: "", resource: "pods" };

/// The fields of a pod that a variable may be filled from, beside single labels and annotations.
pub const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The amounts of a container that variables and files may be filled from, beside those of huge pages.
pub const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// The members of a volume that name a secret, and where the name stands in each.
const SECRETS: [(&str, &[&str]); 9] = [
    ("azureFile", &["secretName"]),
    ("cephfs", &["secretRef", "name"]),
    ("cinder", &["secretRef", "name"]),
    ("csi", &["nodePublishSecretRef", "name"]),
    ("flexVolume", &["secretRef", "name"]),
    ("iscsi", &["secretRef", "name"]),
    ("rbd", &["secretRef", "name"]),
    ("scaleIO", &["secretRef", "name"]),
    ("storageos", &["secretRef", "name"]),
];

/// What of a container concerns others than its node: where it may run, who reaches it, what it costs.
const OF_CONTAINER: [&str; 5] = ["image", "name", "ports", "resources", "restartPolicy"];
/// Volumes that a node makes by itself.
const OF_NODE: [&str; 6] = ["configMap", "downwardAPI", "emptyDir", "hostPath", "projected", "secret"];
/// What of a container's status concerns its node alone.
const OF_STATUS: [&str; 4] = ["containerID", "imageID", "user", "volumeMounts"];

/// Leaves of a pod what concerns others than its node: not what its containers run, see and are probed by, nor volumes
/// that the node makes. It takes a third of the room, and is no pod to write back.
pub fn outline(pod: &mut Value) {
    if let Some(annotations) = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(object::LAST_APPLIED);
    }
    for list in LISTS {
        each(pod, &format!("/spec/{list}"), |member| OF_CONTAINER.contains(&member));
        let list = list.trim_end_matches('s');
        each(pod, &format!("/status/{list}Statuses"), |member| !OF_STATUS.contains(&member));
    }
    if let Some(volumes) = pod.pointer_mut("/spec/volumes").and_then(Value::as_array_mut) {
        volumes.retain(|volume| !OF_NODE.iter().any(|kind| volume.get(kind).is_some()));
        volumes.shrink_to_fit();
    }
}

/// Leaves of each object of a list the members that are wanted.
fn each(pod: &mut Value, list: &str, wanted: impl Fn(&str) -> bool) {
    let objects = pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
    for members in objects.filter_map(Value::as_object_mut) {
        members.retain(|member, _| wanted(member));
    }
}

/// All containers of a spec: init, main, ephemeral.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    LISTS.into_iter().flat_map(|list| object::items(spec, &[list]))
}

/// Whether a pod mirrors a file on its node.
#[must_use]
pub fn is_mirror(pod: &Value) -> bool {
    object::annotations(pod).any(|(key, _)| key == MIRROR)
}

/// A condition of a pod's status.
#[must_use]
pub fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    object::items(pod, &["status", "conditions"]).find(|c| c["type"] == kind)
}

/// Whether a pod says that it is ready.
#[must_use]
pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|c| c["status"] == "True")
}

/// Whether a pod has ended: it succeeded or failed.
#[must_use]
pub fn has_ended(pod: &Value) -> bool {
    matches!(object::text(pod, &["status", "phase"]), "Succeeded" | "Failed")
}

/// The secrets that a spec names: for pulling images, in variables, in volumes. A name may come more than once.
#[must_use]
pub fn secrets(spec: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        object::items(spec, &["imagePullSecrets"]).map(|secret| object::text(secret, &["name"])).collect();
    variables(spec, ["secretKeyRef", "secretRef"], &mut names);
    for volume in object::items(spec, &["volumes"]) {
        names.push(object::text(volume, &["secret", "secretName"]));
        for (member, path) in SECRETS {
            names.extend(volume.get(member).map(|source| object::text(source, path)));
        }
        names.extend(projected(volume, "secret"));
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The config maps that a spec names: in variables, in volumes. A name may come more than once.
#[must_use]
pub fn config_maps(spec: &Value) -> Vec<&str> {
    let mut names = Vec::new();
    variables(spec, ["configMapKeyRef", "configMapRef"], &mut names);
    for volume in object::items(spec, &["volumes"]) {
        names.push(object::text(volume, &["configMap", "name"]));
        names.extend(projected(volume, "configMap"));
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The claim of a volume of a pod; one that is made with the pod bears the names of both.
#[must_use]
pub fn claim(pod: &Value, volume: &Value) -> Option<String> {
    if object::at(volume, &["ephemeral"]).is_some() {
        return Some(format!("{}-{}", object::name(pod), object::text(volume, &["name"])));
    }
    let name = object::text(volume, &["persistentVolumeClaim", "claimName"]);
    (!name.is_empty()).then(|| name.to_owned())
}

fn variables<'a>(spec: &'a Value, [one, all]: [&str; 2], names: &mut Vec<&'a str>) {
    for container in containers(spec) {
        names.extend(
            object::items(container, &["env"]).map(|env| object::text(env, &["valueFrom", one, "name"])),
        );
        names.extend(
            object::items(container, &["envFrom"]).map(|source| object::text(source, &[all, "name"])),
        );
    }
}

fn projected<'a>(volume: &'a Value, member: &'static str) -> impl Iterator<Item = &'a str> {
    object::items(volume, &["projected", "sources"])
        .map(move |source| object::text(source, &[member, "name"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_reference_is_found() {
        let spec = json!({
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}, {"name": "x", "value": "y"}]}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "from"}}, {"secretRef": {"name": "all"}}]}],
            "ephemeralContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "debug"}}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "volume"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "ca"}}, {"secret": {"name": "part"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "d", "ephemeral": {}},
                {"name": "e", "csi": {"nodePublishSecretRef": {"name": "csi"}}},
                {"name": "f", "azureFile": {"secretName": "azure"}},
                {"name": "g", "configMap": {"name": "files"}},
                {"name": "h", "emptyDir": {}},
            ],
        });
        assert_eq!(secrets(&spec), ["pull", "env", "all", "volume", "part", "csi", "azure"]);
        assert_eq!(config_maps(&spec), ["from", "debug", "ca", "files"]);
        let pod = json!({"metadata": {"name": "p"}, "spec": spec});
        let claims: Vec<_> =
            object::items(&pod, &["spec", "volumes"]).filter_map(|v| claim(&pod, v)).collect();
        assert_eq!(claims, ["data", "p-d"]);
        assert_eq!(containers(&pod["spec"]).count(), 3);
    }

    #[test]
    fn an_outline_is_what_others_read() {
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "v"}});
        let mut pod = json!({
            "metadata": {"name": "p", "annotations": {"a": "b", (object::LAST_APPLIED): "{}"}},
            "spec": {
                "nodeName": "n",
                "containers": [{"name": "c", "image": "i", "env": [{"name": "A"}], "ports": [{"containerPort": 80}]}],
                "volumes": [{"name": "e", "emptyDir": {}}, volume],
            },
            "status": {"phase": "Running", "containerStatuses": [{"name": "c", "ready": true, "imageID": "i"}]},
        });
        outline(&mut pod);
        let expected = json!({
            "metadata": {"name": "p", "annotations": {"a": "b"}},
            "spec": {
                "nodeName": "n",
                "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}],
                "volumes": [volume],
            },
            "status": {"phase": "Running", "containerStatuses": [{"name": "c", "ready": true}]},
        });
        assert_eq!(pod, expected);
    }
}
