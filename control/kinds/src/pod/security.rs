//! Rules for security contexts, and for what a pod shares with its node.

use proto_kube::field::Error;
use serde_json::Value;

use super::template::Context;
use crate::check::Field;
use crate::check::net;

const ID: &str = "must be between 0 and 2147483647, inclusive";

fn id(at: &Field<'_>) {
    if at.number().is_some_and(|n| !(0..=i64::from(i32::MAX)).contains(&n)) {
        at.invalid(ID);
    }
}

/// Rule: a pod's `securityContext`.
pub(crate) fn pod(spec: &Field<'_>) {
    let context = spec.at("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context.at(key));
    }
    context.at("supplementalGroups").items().for_each(|group| id(&group));
    let share = spec.at("shareProcessNamespace");
    if share.is_true() && spec.at("hostPID").is_true() {
        let shown = share.shown_at(context.path.child("shareProcessNamespace"));
        shown.invalid("ShareProcessNamespace and HostPID cannot both be enabled");
    }
    sysctls(&context.at("sysctls"), spec);
    context.at("fsGroupChangePolicy").maybe_one_of(&["Always", "OnRootMismatch"]);
    seccomp(&context.at("seccompProfile"));
    windows_options(&context.at("windowsOptions"));
    apparmor(&context.at("appArmorProfile"));
    context.at("supplementalGroupsPolicy").maybe_one_of(&["Merge", "Strict"]);
    context.at("seLinuxChangePolicy").maybe_one_of(&["Recursive"]);
}

/// Parameters of the kernel that each network namespace has, or each namespace of System V objects.
const NET: &[&str] = &["net."];
const IPC: &[&str] = &["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

fn sysctls(sysctls: &Field<'_>, spec: &Field<'_>) {
    let mut seen = Vec::new();
    for sysctl in sysctls.items() {
        let name = sysctl.at("name");
        if name.needs("") {
            if !is_sysctl(name.text()) {
                name.invalid(
                    "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
                );
            } else if seen.contains(&name.text()) {
                name.duplicate();
            }
        }
        let dotted = name.text().replace('/', ".");
        let of = |prefixes: &[&str]| prefixes.iter().any(|p| dotted.starts_with(p));
        if spec.at("hostNetwork").is_true() && of(NET) {
            name.invalid("may not be specified when 'hostNetwork' is true");
        } else if spec.at("hostIPC").is_true() && of(IPC) {
            name.invalid("may not be specified when 'hostIPC' is true");
        }
        seen.push(name.text());
    }
}

fn is_sysctl(text: &str) -> bool {
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|b| edge(b) || b"-_".contains(b))
    };
    text.len() <= 253 && text.split(['.', '/']).all(part)
}

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(profile: &Field<'_>) {
    if !profile.is_set() {
        return;
    }
    let (kind, path) = (profile.at("type"), profile.at("localhostProfile"));
    if kind.needs("type is required when seccompProfile is set") {
        kind.maybe_one_of(PROFILES);
    }
    match (kind.text(), path.is_set()) {
        ("Localhost", false) => path.required("must be set when seccomp type is Localhost"),
        ("Localhost", true) => net::descending(&path),
        (_, true) => {
            path.invalid_value(profile.value.clone(), "can only be set when seccomp type is Localhost");
        }
        _ => {}
    }
}

fn apparmor(profile: &Field<'_>) {
    if !profile.is_set() {
        return;
    }
    let (kind, path) = (profile.at("type"), profile.at("localhostProfile"));
    match kind.text() {
        "Localhost" if path.text().trim() != path.text() => {
            path.invalid("must not be padded with whitespace")
        }
        "Localhost" => {
            path.needs("must be set when AppArmor type is Localhost");
            path.at_most(4095);
        }
        "RuntimeDefault" | "Unconfined" => {
            if path.is_set() {
                path.invalid("can only be set when AppArmor type is Localhost");
            }
        }
        "" => kind.required("type is required when appArmorProfile is set"),
        _ => kind.not_supported(PROFILES),
    }
}

fn windows_options(options: &Field<'_>) {
    let spec = options.at("gmsaCredentialSpec");
    if spec.is_set() {
        if spec.is_empty() {
            spec.invalid("gmsaCredentialSpec cannot be an empty string");
        } else if spec.text().len() > 64 << 10 {
            spec.invalid("gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    let name = options.at("gmsaCredentialSpecName");
    if name.is_set() {
        name.all_invalid(proto_kube::name::subdomain(name.text()));
    }
    let user = options.at("runAsUserName");
    if user.is_set() {
        if user.is_empty() {
            user.invalid("runAsUserName cannot be an empty string");
        } else if user.text().chars().any(char::is_control) {
            user.invalid("runAsUserName cannot contain control characters");
        }
    }
}

/// Rule: a container's `securityContext`.
pub(crate) fn container(context: &Field<'_>, pod: &Context<'_>) {
    if !context.is_set() {
        return;
    }
    id(&context.at("runAsUser"));
    id(&context.at("runAsGroup"));
    let mount = context.at("procMount");
    if mount.is_set() {
        mount.one_of(&["Default", "Unmasked"]);
        if pod.host_users && mount.text() == "Unmasked" {
            mount.invalid("`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(&context.at("seccompProfile"));
    let escalation = context.at("allowPrivilegeEscalation");
    if escalation.value == &Value::Bool(false) {
        if context.at("privileged").is_true() {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        let added = || context.at("capabilities").at("add").items().map(|c| c.text()).collect::<Vec<_>>();
        if added().contains(&"CAP_SYS_ADMIN") {
            context.invalid(
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    windows_options(&context.at("windowsOptions"));
    apparmor(&context.at("appArmorProfile"));
}

/// Rule: a pod with users of its own shares no other namespace with its node.
pub(crate) fn host(spec: &Field<'_>, context: &Context<'_>) {
    if context.host_users {
        return;
    }
    for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.at(key).is_true() {
            spec.at(key).shown_at(spec.path.child(shown)).forbidden("when `hostUsers` is false");
        }
    }
}

fn each_context(spec: &Field<'_>, mut rule: impl FnMut(Field<'_>)) {
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        spec.at(key).items().for_each(|container| rule(container.at("securityContext")));
    }
}

/// Rule: nothing that only Windows knows.
pub(crate) fn no_windows(spec: &Field<'_>) {
    let rule = |context: Field<'_>| {
        if context.at("windowsOptions").is_set() {
            context.at("windowsOptions").forbidden("windows options cannot be set for a linux pod");
        }
    };
    rule(spec.at("securityContext"));
    each_context(spec, rule);
}

/// Rule: nothing that only Linux knows.
pub(crate) fn windows(spec: &Field<'_>) {
    const POD: &[&str] = &[
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    const CONTAINER: &[&str] = &[
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let refuse = |at: &Field<'_>, keys: &[&str]| {
        for key in keys {
            if !at.at(key).is_empty() && at.at(key).value != &Value::Bool(false) || at.at(key).is_true() {
                at.at(key).forbidden("cannot be set for a windows pod");
            }
        }
    };
    refuse(spec, &["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"]);
    refuse(&spec.at("securityContext"), POD);
    each_context(spec, |context| refuse(&context, CONTAINER));
}

/// Rule: the annotations by which a pod's profiles used to be set.
pub(crate) fn annotations(annotations: &Field<'_>, spec: &Field<'_>) {
    const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    for (key, value) in annotations.entries() {
        let text = value.text();
        if key == MIRROR && spec.at("nodeName").is_empty() {
            value.invalid("must set spec.nodeName if mirror pod annotation is set");
        }
        if key == COST && !is_cost(text) {
            value.invalid("must be a 32bit integer");
        }
        if key == "seccomp.security.alpha.kubernetes.io/pod"
            || key.starts_with("container.seccomp.security.alpha.kubernetes.io/")
        {
            let at = value.shown_at(annotations.path.child(key));
            seccomp_text(&at, text);
        }
        if let Some(name) = key.strip_prefix(APPARMOR) {
            let known = ["containers", "initContainers", "ephemeralContainers"]
                .into_iter()
                .any(|list| spec.at(list).items().any(|c| c.at("name").text() == name));
            if !known {
                value.invalid_value(name, "container not found");
            }
            if !["", "runtime/default", "unconfined"].contains(&text) && !text.starts_with("localhost/") {
                value.invalid(format!("invalid AppArmor profile name: {text:?}"));
            }
        }
    }
}

fn is_cost(text: &str) -> bool {
    !text.starts_with('+') && !text.starts_with("0") && text.parse::<i32>().is_ok() || text == "0"
}

fn seccomp_text(at: &Field<'_>, text: &str) {
    if ["runtime/default", "docker/default", "unconfined"].contains(&text) {
        return;
    }
    match text.strip_prefix("localhost/") {
        Some(path) if path.starts_with('/') => at.invalid_value(path, "must be a relative path"),
        Some(path) if path.split('/').any(|p| p == "..") => at.invalid_value(path, "must not contain '..'"),
        Some(_) => {}
        None => at.fault(Error::invalid(&at.path, text, "must be a valid seccomp profile")),
    }
}

/// Whether a container runs as a process of a Windows host.
pub(crate) fn has_host_process(spec: &Field<'_>) -> bool {
    let asks = |of: &Field<'_>| {
        let asked = of.at("securityContext").at("windowsOptions").at("hostProcess");
        asked.is_set().then(|| asked.is_true())
    };
    let whole = asks(spec).unwrap_or(false);
    ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .any(|list| spec.at(list).items().any(|container| asks(&container).unwrap_or(whole)))
}
