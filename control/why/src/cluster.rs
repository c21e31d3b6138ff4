//! Services, nodes, namespaces, and whatever else has conditions.

use jiff::{SignedDuration, Timestamp};
use proto_kube::{object, view::View};
use serde_json::Value;

use crate::Finding;
use crate::read::{condition, get, list, number, since, time};
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
    let own = slices.iter().filter(|slice| {
        object::labels(slice).any(|(key, value)| key == "kubernetes.io/service-name" && value == name)
    });
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
            let state = format!("leads nowhere: no pod in {namespace} has the labels {selector}");
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
        let born = time(node, &["metadata", "creationTimestamp"]);
        return Finding::new("has never said how it is", born).next("its agent", "reports", None);
    };
    let message = object::text(ready, &["message"]);
    let lease = get(view, ("coordination.k8s.io", "leases"), "kube-node-lease", name);
    let renewed = lease.as_deref().and_then(|lease| time(lease, &["spec", "renewTime"]));
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
            None => Finding::new("is ready", since(ready)),
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
        return Finding::new("is active", time(namespace, &["metadata", "creationTimestamp"]));
    }
    let asked = time(namespace, &["metadata", "deletionTimestamp"]);
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

pub(crate) fn claim(claim: &Value) -> Finding {
    let born = time(claim, &["metadata", "creationTimestamp"]);
    match object::text(claim, &["status", "phase"]) {
        "Bound" => {
            Finding::new(format!("is bound to {}", object::text(claim, &["spec", "volumeName"])), born)
        }
        _ => Finding::new("is not bound to a volume", born).next(
            "a storage provisioner, or you",
            "makes a PersistentVolume that fits",
            None,
        ),
    }
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
    let born = time(object, &["metadata", "creationTimestamp"]);
    let bad = object::items(object, &["status", "conditions"]).find(|c| {
        let failed = matches!(object::text(c, &["type"]), "Failed" | "Denied" | "Stalled");
        if failed { c["status"] == "True" } else { c["status"] == "False" }
    });
    match bad {
        Some(c) => {
            let [kind, reason, message] = ["type", "reason", "message"].map(|key| object::text(c, &[key]));
            Finding::new(format!("{kind} is {}: {reason} {message}", object::text(c, &["status"])), since(c))
        }
        None => Finding::new("is there, and nothing says that anything is wrong with it", born),
    }
}
