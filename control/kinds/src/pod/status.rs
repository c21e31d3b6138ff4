//! What a pod's status may be, and how it may change.

use proto_kube::field::{Error, Errors, Path};
use proto_kube::{name, object};
use serde_json::Value;

use crate::check::{self, Field, net};

/// What is wrong with a change of a pod's status.
pub(super) fn validate(new: &Value, old: &Value) -> Errors {
    check::object(new, |pod| {
        let status = pod.at("status");
        for (index, condition) in status.at("conditions").items().enumerate() {
            let kind = condition.at("type");
            if !["PodScheduled", "Ready", "Initialized"].contains(&kind.text()) {
                let path = Path::new("metadata.conditions").index(index).child("Type");
                kind.shown_at(path).all_invalid(name::qualified(kind.text()));
            }
        }
        let node = status.at("nominatedNodeName");
        if node.text() != object::text(old, &["status", "nominatedNodeName"]) {
            node.shaped(name::subdomain);
        }
        if status.at("qosClass").text() != object::text(old, &["status", "qosClass"]) {
            status.at("qosClass").invalid(check::IMMUTABLE);
        }
        let policy = object::text(old, &["spec", "restartPolicy"]);
        for (list, policy) in [
            ("containerStatuses", policy),
            ("initContainerStatuses", policy),
            ("ephemeralContainerStatuses", "Never"),
        ] {
            transitions(&status.at(list), old, list, policy);
        }
        claims(&status.at("resourceClaimStatuses"), new);
        ips(&status.at("podIPs"), "ip");
        let (ip, ips_of_host) = (status.at("hostIP"), status.at("hostIPs"));
        let first = ips_of_host.items().next().map(|ip| ip.at("ip"));
        if let Some(first) = first.filter(|first| first.text() != ip.text()) {
            first.invalid("must be equal to `hostIP`");
        }
        ips(&ips_of_host, "ip");
    })
}

/// Rule: what ended for good stays ended.
fn transitions(now: &Field<'_>, old: &Value, list: &str, policy: &str) {
    if policy == "Always" {
        return;
    }
    let restarts = |name: &str| {
        object::items(old, &["spec", "containers"])
            .chain(object::items(old, &["spec", "initContainers"]))
            .any(|c| {
                let own = !c["restartPolicy"].is_null() || !c["restartPolicyRules"].is_null();
                object::text(c, &["name"]) == name && own
            })
    };
    for (index, before) in object::items(old, &["status", list]).enumerate() {
        let Some(ended) = object::at(before, &["state", "terminated"]) else { continue };
        let failed = ended["exitCode"].as_i64().unwrap_or(0) != 0;
        let name = object::text(before, &["name"]);
        if failed && policy == "OnFailure" || restarts(name) {
            continue;
        }
        let lives =
            now.items().any(|s| s.at("name").text() == name && !s.at("state").at("terminated").is_set());
        if lives {
            let path = now.path.index(index).child("state");
            now.fault(Error::forbidden(&path, "may not be transitioned to non-terminated state"));
        }
    }
}

fn claims(statuses: &Field<'_>, pod: &Value) {
    let mut seen = Vec::new();
    for status in statuses.items() {
        let name = status.at("name");
        let known = object::items(pod, &["spec", "resourceClaims"])
            .any(|c| object::text(c, &["name"]) == name.text());
        if !known {
            name.invalid("must match the name of an entry in `spec.resourceClaims`");
        }
        if seen.contains(&name.text()) {
            name.duplicate();
        }
        seen.push(name.text());
        let claim = status.at("resourceClaimName");
        if claim.is_set() {
            claim.shown_at(name.path.clone()).all_invalid(name::subdomain(claim.text()));
        }
    }
}

/// Rule: at most one address of each family.
fn ips(list: &Field<'_>, key: &str) {
    let mut seen = Vec::new();
    for item in list.items() {
        net::ip(&item.at(key).shown_at(item.path.clone()));
        if seen.contains(&item.value) {
            item.duplicate();
        }
        seen.push(item.value);
    }
    let six = |item: &Field<'_>| item.at(key).text().contains(':');
    let sixes = list.items().filter(six).count();
    if list.len() > 2 || list.len() == 2 && sixes != 1 {
        list.invalid("may specify no more than one IP for each IP family");
    }
}
