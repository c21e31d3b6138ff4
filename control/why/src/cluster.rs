//! Services, nodes, namespaces, and whatever else has conditions.

use jiff::{SignedDuration, Timestamp};
use proto_kube::{object, view::View};
use serde_json::Value;

use crate::Finding;
use crate::read::{condition, get, list, number, since, taint};
use crate::workload::{selected, worst};

/// How long a lease may be silent before its node counts as lost.
const LEASE_SECONDS: i64 = 40;

pub(crate) fn service(view: &dyn View, service: &Value) -> Finding {
    let (namespace, name) = (object::namespace(service), object::name(service));
    if service["spec"]["type"] == "ExternalName" {
        let target = object::text(service, &["spec", "externalName"]);
        return Finding::new(format!("is another name of {target}"), None);
    }
    let slices = list(view, "discovery.k8s.io", "endpointslices", namespace);
    let own = slices.iter().filter(|s| object::label(s, "kubernetes.io/service-name") == Some(name));
    let endpoints: Vec<&Value> = own.flat_map(|slice| object::items(slice, &["endpoints"])).collect();
    let ready = endpoints.iter().filter(|e| e["conditions"]["ready"] != false).count();
    if ready > 0 {
        return Finding::new(format!("leads to {ready} ready endpoints of {}", endpoints.len()), None);
    }
    let Some(selector) = object::at(service, &["spec", "selector"]) else {
        let what = "write an EndpointSlice, or give the service a selector";
        return Finding::new("has no selector and no endpoints", None).next("you", what, None);
    };
    let pods = selected(view, namespace, selector);
    match (worst(pods.clone()), pods.len()) {
        (_, 0) => {
            let labels = selector.as_object().into_iter().flatten();
            let labels: Vec<String> =
                labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
            let state = format!("leads nowhere: no pod in {namespace} has the labels {}", labels.join(","));
            Finding::new(state, None).next("you", "compare the selector with the pods' labels", None)
        }
        (Some(pod), all) => {
            Finding::new(format!("leads nowhere: none of its {all} pods is ready"), None).because("Pod", &pod)
        }
        (None, all) => Finding::new(format!("its {all} pods are ready and not yet endpoints"), None).next(
            "the endpoint slice controller",
            "adds them",
            None,
        ),
    }
}

pub(crate) fn node(view: &dyn View, node: &Value, now: Timestamp) -> Finding {
    let name = object::name(node);
    let Some(ready) = condition(node, "Ready") else {
        let born = object::time(node, &["metadata", "creationTimestamp"]);
        return Finding::new("has never said how it is", born).next("its agent", "reports", None);
    };
    let message = object::text(ready, &["message"]);
    let lease = get(view, ("coordination.k8s.io", "leases"), "kube-node-lease", name);
    let renewed = lease.as_deref().and_then(|lease| object::time(lease, &["spec", "renewTime"]));
    let silent = renewed.filter(|at| now.duration_since(*at) > SignedDuration::from_secs(LEASE_SECONDS));
    if let Some(at) = silent {
        let state = "does not answer: its lease was last renewed at the time given";
        return Finding::new(state, Some(at)).next(
            "the node",
            "comes back, or its pods are evicted by their tolerations; look at the machine and its network",
            None,
        );
    }
    match object::text(ready, &["status"]) {
        "True" if node["spec"]["unschedulable"] == true => {
            let finding = Finding::new("is ready and cordoned: it takes no new pods", since(ready));
            finding.next("you", "kubectl uncordon it", None)
        }
        "True" => match object::items(node, &["status", "conditions"])
            .find(|c| c["type"] != "Ready" && c["status"] == "True")
        {
            Some(pressure) => {
                let kind = object::text(pressure, &["type"]);
                let state = format!("is ready, with {kind}: {}", object::text(pressure, &["message"]));
                Finding::new(state, since(pressure)).next("the node", "frees what it lacks", None)
            }
            None => {
                let taints: Vec<String> = object::items(node, &["spec", "taints"]).map(taint).collect();
                let state = match taints.is_empty() {
                    true => "is ready".to_owned(),
                    false => format!("is ready, for pods that tolerate {}", taints.join(", ")),
                };
                Finding::new(state, since(ready))
            }
        },
        _ => Finding::new(format!("is not ready: {message}"), since(ready)).next(
            "the node",
            "mends what the message names",
            None,
        ),
    }
}

pub(crate) fn namespace(namespace: &Value) -> Finding {
    if !object::is_terminating(namespace) {
        return Finding::new("is active", object::time(namespace, &["metadata", "creationTimestamp"]));
    }
    let asked = object::time(namespace, &["metadata", "deletionTimestamp"]);
    let left: Vec<String> = object::items(namespace, &["status", "conditions"])
        .filter(|c| c["status"] == "True")
        .map(|c| object::text(c, &["message"]).to_owned())
        .collect();
    let state = match left.is_empty() {
        true => "is being emptied".to_owned(),
        false => format!("is being emptied: {}", left.join("; ")),
    };
    Finding::new(state, asked).next("the namespace controller", "removes it when it is empty", None)
}

pub(crate) fn claim(view: &dyn View, claim: &Value) -> Finding {
    let born = object::time(claim, &["metadata", "creationTimestamp"]);
    let volume = object::text(claim, &["spec", "volumeName"]);
    let there = !volume.is_empty() && get(view, ("", "persistentvolumes"), "", volume).is_some();
    match object::text(claim, &["status", "phase"]) {
        "Bound" if there => return Finding::new(format!("is bound to {volume}"), born),
        "Bound" | "Lost" => {
            let finding = Finding::new(format!("has lost its volume {volume}: it does not exist"), born);
            return finding.next("you", "bring the volume back, or delete the claim", None);
        }
        _ => {}
    }
    let class = object::text(claim, &["spec", "storageClassName"]);
    let Some(found) = get(view, ("storage.k8s.io", "storageclasses"), "", class) else {
        let state = match class {
            "" => "has no volume, and no storage class that would make one".to_owned(),
            class => format!("has no volume: its storage class {class} does not exist"),
        };
        return Finding::new(state, born).next(
            "you",
            "make a PersistentVolume that fits, or the class",
            None,
        );
    };
    let by = object::text(&found, &["provisioner"]);
    if found["volumeBindingMode"] == "WaitForFirstConsumer"
        && object::annotation(claim, "volume.kubernetes.io/selected-node").is_none()
    {
        let finding = Finding::new("waits for a pod that uses it to be given a node", born);
        return finding.next("the scheduler", format!("picks the node, then {by} makes the volume"), None);
    }
    let finding = Finding::new(format!("has no volume yet, of storage class {class}"), born);
    finding.next(&format!("the provisioner {by}"), "makes the volume; is it running?", None)
}

pub(crate) fn budget(budget: &Value) -> Finding {
    let [allowed, healthy, desired, expected] =
        ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"]
            .map(|key| number(budget, &["status", key]));
    let state = format!(
        "allows {allowed} disruptions: {healthy} of {expected} pods are healthy, {desired} have to be"
    );
    let finding = Finding::new(state, None);
    match allowed {
        0 => finding.next("its pods", "become ready; until then evictions wait", None),
        _ => finding,
    }
}

/// Whatever has conditions: those that say no, and why.
pub(crate) fn other(object: &Value) -> Finding {
    let born = object::time(object, &["metadata", "creationTimestamp"]);
    let bad = object::items(object, &["status", "conditions"]).find(|c| {
        let failed = matches!(object::text(c, &["type"]), "Failed" | "Denied" | "Stalled");
        if failed { c["status"] == "True" } else { c["status"] == "False" }
    });
    match bad {
        Some(c) => {
            let [kind, reason, message] = ["type", "reason", "message"].map(|key| object::text(c, &[key]));
            let state = format!("{kind} is {}: {reason} {message}", object::text(c, &["status"]));
            Finding::new(state, since(c)).next("whoever set that", "changes it", None)
        }
        None => Finding::new("is there, and nothing says that anything is wrong with it", born),
    }
}
