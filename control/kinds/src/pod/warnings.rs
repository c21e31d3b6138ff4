//! What a client should know of a pod or a template that is valid all the same.

use proto_kube::field::Path;
use proto_kube::object;
use proto_kube::quantity::Quantity;
use serde_json::Value;

/// Where warnings are collected.
type Found = Vec<String>;

/// Old labels of nodes, and what became of them.
const LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// The annotations that said which profile of AppArmor a container has.
pub(super) const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Kinds of volumes that have gone.
const VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The warnings of a pod (at an empty path) or a template.
pub(crate) fn of(path: &Path, template: &Value, old: Option<&Value>) -> Found {
    let mut found = Found::new();
    let spec = &template["spec"];
    let at = path.child("spec");
    scheduling(&mut found, spec, &at);
    let annotations = &template["metadata"]["annotations"];
    for (key, text) in ANNOTATIONS {
        if annotations.get(key).is_some() {
            found.push(format!("{}: {text}", path.child("metadata.annotations").key(key)));
        }
    }
    volumes(&mut found, spec, &at);
    lists(&mut found, spec, &at);
    seccomp(&mut found, template, path);
    for (container, at) in containers(spec, &at) {
        memory(&mut found, &container["resources"], &at.child("resources"));
        environment(&mut found, container, &at);
    }
    ports(&mut found, spec, &at);
    let negative = |template: &Value| {
        object::at(template, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64) < Some(0)
    };
    let set = !spec["terminationGracePeriodSeconds"].is_null();
    if set
        && negative(template)
        && !old.is_some_and(|o| !o["spec"]["terminationGracePeriodSeconds"].is_null() && negative(o))
    {
        found.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            at.child("terminationGracePeriodSeconds")
        ));
    }
    found
}

/// All containers with their paths, in the order in which upstream looks at them.
fn containers<'a>(spec: &'a Value, at: &Path) -> Vec<(&'a Value, Path)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|key| {
            let list = spec.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let at = at.child(key);
            list.iter().enumerate().map(move |(index, container)| (container, at.index(index)))
        })
        .collect()
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().enumerate()
}

pub(crate) fn old_label(key: &str) -> Option<&'static str> {
    LABELS.iter().find(|(label, _)| *label == key).map(|(_, text)| *text)
}

fn scheduling(found: &mut Found, spec: &Value, at: &Path) {
    for key in spec["nodeSelector"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if let Some(text) = old_label(key) {
            found.push(format!("{}: {text}", at.child("nodeSelector").key(key)));
        }
    }
    let affinity = &spec["affinity"]["nodeAffinity"];
    let at_affinity = at.child("affinity.nodeAffinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in items(&affinity[required], "nodeSelectorTerms") {
        node_term(found, term, &at_affinity.child(required).child("nodeSelectorTerms").index(index));
    }
    for (index, term) in items(affinity, preferred) {
        node_term(found, &term["preference"], &at_affinity.child(preferred).index(index).child("preference"));
    }
    for (index, constraint) in items(spec, "topologySpreadConstraints") {
        let at = at.child("topologySpreadConstraints").index(index);
        let key = object::text(constraint, &["topologyKey"]);
        if let Some(text) = old_label(key) {
            found.push(format!("{}: {key} is {text}", at.child("topologyKey")));
        }
        if constraint["labelSelector"].is_null() {
            found.push(format!(
                "{}: a null labelSelector results in matching no pod",
                at.child("labelSelector")
            ));
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (affinity, at) = (&spec["affinity"][kind], at.child("affinity").child(kind));
        let plain = items(affinity, required).map(|(i, term)| (at.child(required).index(i), term));
        let weighted = items(affinity, preferred).map(|(i, term)| {
            (at.child(preferred).index(i).child("podAffinityTerm"), &term["podAffinityTerm"])
        });
        for (at, term) in plain.chain(weighted) {
            if term["labelSelector"].is_null() {
                found.push(format!(
                    "{}: a null labelSelector results in matching no pod",
                    at.child("labelSelector")
                ));
            }
        }
    }
}

fn node_term(found: &mut Found, term: &Value, at: &Path) {
    for (index, expression) in items(term, "matchExpressions") {
        let key = object::text(expression, &["key"]);
        if let Some(text) = old_label(key) {
            let at = at.child("matchExpressions").index(index).child("key");
            found.push(format!("{at}: {key} is {text}"));
        }
    }
}

fn volumes(found: &mut Found, spec: &Value, at: &Path) {
    for (index, volume) in items(spec, "volumes") {
        for (kind, text) in VOLUMES {
            if !volume[*kind].is_null() {
                let shown = if *kind == "storageos" { "storageOS" } else { kind };
                found.push(format!("{}: {text}", at.child("volumes").index(index).child(shown)));
            }
        }
        for (_, source) in items(&volume["projected"], "sources") {
            if source.as_object().is_none_or(|s| s.values().all(Value::is_null)) {
                let name = object::text(volume, &["name"]);
                found.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
        }
    }
}

fn lists(found: &mut Found, spec: &Value, at: &Path) {
    for (list, key, what) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")] {
        let mut seen = Vec::new();
        for (index, item) in items(spec, list) {
            let text = object::text(item, &[key]);
            let at = at.child(list).index(index).child(key);
            if seen.contains(&text) {
                found.push(format!("{at}: duplicate {what} {text:?}"));
            }
            if list == "imagePullSecrets" && text.is_empty() {
                found.push(format!("{at}: invalid empty name {text:?}"));
            }
            seen.push(text);
        }
    }
    bytes(found, &spec["overhead"], &at.child("overhead"));
}

fn seccomp(found: &mut Found, template: &Value, path: &Path) {
    let annotations = &template["metadata"]["annotations"];
    let warn = |found: &mut Found, key: &str, field: &Value| {
        if annotations.get(key).is_some() && field["seccompProfile"].is_null() {
            let at = path.child("metadata.annotations").key(key);
            found.push(format!("{at}: non-functional in v1.27+; use the \"seccompProfile\" field instead"));
        }
    };
    warn(found, "seccomp.security.alpha.kubernetes.io/pod", &template["spec"]["securityContext"]);
    for (container, _) in containers(&template["spec"], path) {
        let name = object::text(container, &["name"]);
        let armor = format!("{APPARMOR}{name}");
        if annotations.get(&armor).is_some() {
            let at = path.child("metadata.annotations").key(&armor);
            found.push(format!("{at}: deprecated since v1.30; use the \"appArmorProfile\" field instead"));
        }
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
        warn(found, &key, &container["securityContext"]);
    }
}

fn memory(found: &mut Found, resources: &Value, at: &Path) {
    for list in ["limits", "requests"] {
        bytes(found, &resources[list], &at.child(list));
    }
}

fn bytes(found: &mut Found, list: &Value, at: &Path) {
    for name in ["memory", "ephemeral-storage"] {
        let Some(value) = list.get(name).map(Quantity::of) else { continue };
        if value.amount.millis() % 1000 != 0 {
            let text = value.to_string();
            found.push(format!(
                "{}: fractional byte value {text:?} is invalid, must be an integer",
                at.key(name)
            ));
        }
    }
}

fn environment(found: &mut Found, container: &Value, at: &Path) {
    let mut seen = Vec::new();
    for (index, variable) in items(container, "env") {
        let (name, value) = (object::text(variable, &["name"]), object::text(variable, &["value"]));
        let reference = format!("$({name})");
        let builds_on_it =
            variable["valueFrom"].is_null() && value != reference && value.contains(&reference);
        if seen.contains(&name) && !builds_on_it {
            found.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                at.child("env").index(index)
            ));
        }
        seen.push(name);
    }
}

fn ports(found: &mut Found, spec: &Value, at: &Path) {
    let mut seen: Vec<(&Value, Path)> = Vec::new();
    let number = |port: &Value, key: &str| port[key].as_i64().unwrap_or(0);
    for (container, at) in containers(spec, at) {
        for (index, port) in items(container, "ports") {
            let at = at.child("ports").index(index);
            if !object::text(port, &["hostIP"]).is_empty() && number(port, "hostPort") == 0 {
                let shown = format!(
                    "{{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                    object::text(port, &["name"]),
                    number(port, "containerPort"),
                    object::text(port, &["protocol"]),
                    object::text(port, &["hostIP"]),
                );
                found.push(format!("{at}: hostIP set without hostPort: {shown}"));
            }
            let same =
                |other: &Value| ["containerPort", "protocol"].iter().all(|key| other[*key] == port[*key]);
            for (other, path) in seen.iter().filter(|(other, _)| same(other)) {
                let (ours, theirs) = (number(port, "hostPort"), number(other, "hostPort"));
                let (ip, other_ip) = (object::text(port, &["hostIP"]), object::text(other, &["hostIP"]));
                let overlaps =
                    ours == 0 || theirs == 0 || ours == theirs && (ip.is_empty() || other_ip.is_empty());
                if ip == other_ip && ours == theirs {
                    found.push(format!("{at}: duplicate port definition with {path}"));
                } else if overlaps {
                    found.push(format!("{at}: overlapping port definition with {path}"));
                }
            }
            seen.push((port, at));
        }
    }
}
