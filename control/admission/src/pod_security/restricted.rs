//! The checks of the restricted level: what a pod must give up that needs no privilege.

use proto_kube::object;
use serde_json::Value;

use super::baseline::{confines, proc_mount, seccomp_fields};
use super::check::{Check, Finding, Pod, Set, containers, plural, quoted, security, setters};
use super::policy::Level;

const fn check(since: u32, find: fn(&Pod<'_>, u32) -> Option<Finding>) -> Check {
    Check { level: Level::Restricted, since, until_restricted: u32::MAX, find }
}

/// In the order of upstream's names for them.
pub(super) const CHECKS: &[Check] = &[
    check(8, privilege_escalation),
    check(22, capabilities),
    check(35, proc_mount),
    check(0, volumes),
    check(0, run_as_non_root),
    check(23, run_as_user),
    check(19, seccomp),
];

/// As of 1.25 the rules that Windows has no means to follow do not apply to it.
fn spared(pod: &Pod<'_>, minor: u32) -> bool {
    minor >= 25 && pod.is_windows()
}

fn privilege_escalation(pod: &Pod<'_>, minor: u32) -> Option<Finding> {
    let names = pod.named(|c| security(c, "allowPrivilegeEscalation") != Some(&Value::Bool(false)));
    (!names.is_empty() && !spared(pod, minor)).then(|| {
        Finding::new(
            "allowPrivilegeEscalation != false",
            format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names)),
        )
    })
}

fn capabilities(pod: &Pod<'_>, minor: u32) -> Option<Finding> {
    let list = |container: &'_ Value, key: &str| -> Vec<String> {
        let items = object::items(container, &["securityContext", "capabilities", key]);
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let keeping = pod.named(|c| !list(c, "drop").iter().any(|dropped| dropped == "ALL"));
    let mut added = std::collections::BTreeSet::new();
    let adding = pod.named(|c| {
        let bad: Vec<String> = list(c, "add").into_iter().filter(|c| c != "NET_BIND_SERVICE").collect();
        let some = !bad.is_empty();
        added.extend(bad);
        some
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details
            .push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        let (who, what) = (containers(&adding), quoted(added));
        details.push(format!("{who} must not include {what} in securityContext.capabilities.add"));
    }
    (!details.is_empty() && !spared(pod, minor))
        .then(|| Finding::new("unrestricted capabilities", details.join("; ")))
}

fn volumes(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let (mut names, mut kinds) = (Vec::new(), Set::new());
    for volume in object::items(pod.spec, &["volumes"]) {
        let members = volume.as_object().into_iter().flatten();
        let sources: Vec<&str> = members
            .filter(|(key, value)| *key != "name" && !value.is_null())
            .map(|(key, _)| key.as_str())
            .collect();
        if !sources.iter().any(|source| ALLOWED.contains(source)) {
            names.push(object::text(volume, &["name"]));
            kinds.insert(sources.first().copied().unwrap_or("unknown"));
        }
    }
    (!names.is_empty()).then(|| {
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let (who, word) = (plural(names.len(), "volume"), plural(kinds.len(), "restricted volume type"));
        let detail = format!("{who} {} {verb} {word} {}", quoted(&names), quoted(kinds));
        Finding::new("restricted volume types", detail)
    })
}

fn run_as_non_root(pod: &Pod<'_>, minor: u32) -> Option<Finding> {
    if minor >= 35 && pod.has_own_users() {
        return None;
    }
    let of_pod = pod.security("runAsNonRoot").and_then(Value::as_bool);
    let own = |c| security(c, "runAsNonRoot").and_then(Value::as_bool);
    let explicit = setters(of_pod == Some(false), &pod.named(|c| own(c) == Some(false)));
    let implicit = pod.named(|c| own(c).is_none() && of_pod != Some(true));
    let detail = if !explicit.is_empty() {
        format!("{explicit} must not set securityContext.runAsNonRoot=false")
    } else if !implicit.is_empty() {
        format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&implicit))
    } else {
        return None;
    };
    Some(Finding::new("runAsNonRoot != true", detail))
}

fn run_as_user(pod: &Pod<'_>, minor: u32) -> Option<Finding> {
    if minor >= 35 && pod.has_own_users() {
        return None;
    }
    let root = |user: Option<&Value>| user.and_then(Value::as_i64) == Some(0);
    let who = setters(root(pod.security("runAsUser")), &pod.named(|c| root(security(c, "runAsUser"))));
    (!who.is_empty()).then(|| Finding::new("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

fn seccomp(pod: &Pod<'_>, minor: u32) -> Option<Finding> {
    if spared(pod, minor) {
        return None;
    }
    if let Some(finding) = seccomp_fields(pod) {
        return Some(finding);
    }
    let confined = pod.security("seccompProfile").is_some_and(confines);
    let names = pod.named(|c| !confined && security(c, "seccompProfile").is_none());
    (!names.is_empty()).then(|| {
        let who = containers(&names);
        Finding::new(
            "seccompProfile",
            format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""),
        )
    })
}
