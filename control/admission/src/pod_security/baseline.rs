//! The checks of the baseline level: nothing that is known to lead out of a container.

use proto_kube::object;
use serde_json::Value;

use super::check::{Check, Finding, Pod, Set, containers, plural, quoted, security, setters};
use super::policy::Level;

const NEVER: u32 = u32::MAX;

const fn check(find: fn(&Pod<'_>, u32) -> Option<Finding>) -> Check {
    Check { level: Level::Baseline, since: 0, until_restricted: NEVER, find }
}

/// In the order of upstream's names for them.
pub(super) const CHECKS: &[Check] = &[
    check(app_armor),
    Check { until_restricted: 22, ..check(capabilities) },
    check(host_namespaces),
    Check { until_restricted: 0, ..check(host_paths) },
    check(host_ports),
    Check { since: 34, ..check(probe_hosts) },
    check(privileged),
    Check { until_restricted: 35, ..check(proc_mount_of_host_users) },
    check(se_linux),
    Check { until_restricted: 19, ..check(seccomp) },
    check(sysctls),
    check(windows_host_process),
];

fn app_armor(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let bad = |profile: &&Value| !confines(profile);
    let own = pod.security("appArmorProfile").filter(bad);
    let of = |container| security(container, "appArmorProfile").filter(bad);
    let names = pod.named(|c| of(c).is_some());
    let profiles = own.into_iter().chain(pod.containers().filter_map(of));
    let values: Set<'_> = profiles.map(|profile| object::text(profile, &["type"])).collect();
    let allowed = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let mut annotations: Vec<String> = object::annotations(pod.object)
        .filter(|(key, value)| key.starts_with(PREFIX) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    annotations.sort();
    let mut who = setters(own.is_some(), &names);
    if !annotations.is_empty() {
        let word = plural(annotations.len(), "annotation");
        who = if who.is_empty() { word } else { format!("{who} and {word}") };
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().map(str::to_owned).chain(annotations).collect();
    Some(Finding::new(
        plural(values.len(), "forbidden AppArmor profile"),
        format!("{who} must not set AppArmor profile type to {}", quoted(values)),
    ))
}

fn capabilities(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut added = Set::new();
    let names = pod.named(|container| {
        let adds = object::items(container, &["securityContext", "capabilities", "add"]);
        let bad: Vec<&str> = adds.filter_map(Value::as_str).filter(|c| !ALLOWED.contains(c)).collect();
        added.extend(&bad);
        !bad.is_empty()
    });
    (!names.is_empty()).then(|| {
        let (who, what) = (containers(&names), quoted(added));
        Finding::new(
            "non-default capabilities",
            format!("{who} must not include {what} in securityContext.capabilities.add"),
        )
    })
}

fn host_namespaces(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|member| pod.spec[member] == true)
        .map(|member| format!("{member}=true"))
        .collect();
    (!shared.is_empty()).then(|| Finding::new("host namespaces", shared.join(", ")))
}

fn host_paths(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    let volumes = object::items(pod.spec, &["volumes"]).filter(|v| object::at(v, &["hostPath"]).is_some());
    let names: Vec<&str> = volumes.map(|volume| object::text(volume, &["name"])).collect();
    (!names.is_empty()).then(|| {
        Finding::new("hostPath volumes", format!("{} {}", plural(names.len(), "volume"), quoted(&names)))
    })
}

fn host_ports(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    let mut ports = std::collections::BTreeSet::new();
    let names = pod.named(|container| {
        let own = object::items(container, &["ports"]).filter_map(|p| p["hostPort"].as_i64());
        let own: Vec<String> = own.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let some = !own.is_empty();
        ports.extend(own);
        some
    });
    (!names.is_empty()).then(|| {
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let word = plural(ports.len(), "hostPort");
        let list: Vec<String> = ports.into_iter().collect();
        Finding::new("hostPort", format!("{} {verb} {word} {}", containers(&names), list.join(", ")))
    })
}

fn probe_hosts(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = Set::new();
    let names = pod.named(|container| {
        let handlers = HANDLERS.iter().filter_map(|path| object::at(container, path));
        let own: Vec<&str> = handlers
            .flat_map(|handler| ["httpGet", "tcpSocket"].map(|kind| object::text(handler, &[kind, "host"])))
            .filter(|host| !host.is_empty())
            .collect();
        hosts.extend(&own);
        !own.is_empty()
    });
    let names: Set<'_> = names.into_iter().collect();
    (!names.is_empty()).then(|| {
        let names: Vec<&str> = names.into_iter().collect();
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let word = plural(hosts.len(), "probe or lifecycle host");
        Finding::new(
            "probe or lifecycle host",
            format!("{} {verb} {word} {}", containers(&names), quoted(hosts)),
        )
    })
}

fn privileged(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    let names = pod.named(|c| security(c, "privileged") == Some(&Value::Bool(true)));
    (!names.is_empty()).then(|| {
        let who = containers(&names);
        Finding::new("privileged", format!("{who} must not set securityContext.privileged=true"))
    })
}

/// As of 1.35 a pod with users of its own may see all of /proc.
fn proc_mount_of_host_users(pod: &Pod<'_>, minor: u32) -> Option<Finding> {
    if minor >= 35 && pod.has_own_users() { None } else { proc_mount(pod, minor) }
}

pub(super) fn proc_mount(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    let mut kinds = Set::new();
    let names = pod.named(|container| match security(container, "procMount").and_then(Value::as_str) {
        None | Some("Default") => false,
        Some(kind) => {
            kinds.insert(kind);
            true
        }
    });
    (!names.is_empty()).then(|| {
        let (who, kinds) = (containers(&names), quoted(kinds));
        Finding::new("procMount", format!("{who} must not set securityContext.procMount to {kinds}"))
    })
}

fn se_linux(pod: &Pod<'_>, minor: u32) -> Option<Finding> {
    fn text<'a>(options: &'a Value, key: &str) -> &'a str {
        object::text(options, &[key])
    }
    let known = |kind: &str| {
        ["", "container_t", "container_init_t", "container_kvm_t"].contains(&kind)
            || (minor >= 31 && kind == "container_engine_t")
    };
    let bad = |options: &&Value| {
        !known(text(options, "type")) || ["user", "role"].iter().any(|key| !text(options, key).is_empty())
    };
    let own = pod.security("seLinuxOptions").filter(bad);
    let of = |container| security(container, "seLinuxOptions").filter(bad);
    let who = setters(own.is_some(), &pod.named(|c| of(c).is_some()));
    let options: Vec<&Value> = own.into_iter().chain(pod.containers().filter_map(of)).collect();
    let kinds: Set<'_> = options.iter().map(|o| text(o, "type")).filter(|kind| !known(kind)).collect();
    let mut what = Vec::new();
    if !kinds.is_empty() {
        what.push(format!("{} {}", plural(kinds.len(), "type"), quoted(kinds)));
    }
    for key in ["user", "role"] {
        if options.iter().any(|options| !text(options, key).is_empty()) {
            what.push(format!("{key} may not be set"));
        }
    }
    let what = what.join("; ");
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {what}");
    (!who.is_empty()).then(|| Finding::new("seLinuxOptions", detail))
}

/// Whether a profile confines, as upstream sees it.
pub(super) fn confines(profile: &Value) -> bool {
    ["RuntimeDefault", "Localhost"].contains(&object::text(profile, &["type"]))
}

fn seccomp(pod: &Pod<'_>, minor: u32) -> Option<Finding> {
    if minor < 19 {
        return seccomp_annotations(pod);
    }
    seccomp_fields(pod)
}

/// Before the fields there were annotations.
fn seccomp_annotations(pod: &Pod<'_>) -> Option<Finding> {
    let allowed = |value: &str| {
        ["runtime/default", "docker/default"].contains(&value) || value.starts_with("localhost/")
    };
    let names = pod.containers().map(|c| object::text(c, &["name"]));
    let mut keys: Vec<String> =
        names.map(|name| format!("container.seccomp.security.alpha.kubernetes.io/{name}")).collect();
    keys.push("seccomp.security.alpha.kubernetes.io/pod".to_owned());
    let forbidden: std::collections::BTreeSet<String> = object::annotations(pod.object)
        .filter(|(key, value)| keys.iter().any(|k| k == key) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    (!forbidden.is_empty()).then(|| {
        let word = plural(forbidden.len(), "annotation");
        let list = forbidden.into_iter().collect::<Vec<_>>().join(", ");
        Finding::new("seccompProfile", format!("forbidden {word} {list}"))
    })
}

/// Profiles that are set and do not confine.
pub(super) fn seccomp_fields(pod: &Pod<'_>) -> Option<Finding> {
    let bad = |profile: &&Value| !confines(profile);
    let own = pod.security("seccompProfile").filter(bad);
    let of = |container| security(container, "seccompProfile").filter(bad);
    let who = setters(own.is_some(), &pod.named(|c| of(c).is_some()));
    let profiles = own.into_iter().chain(pod.containers().filter_map(of));
    let kinds: Set<'_> = profiles.map(|profile| object::text(profile, &["type"])).collect();
    (!who.is_empty()).then(|| {
        let kinds = quoted(kinds);
        Finding::new(
            "seccompProfile",
            format!("{who} must not set securityContext.seccompProfile.type to {kinds}"),
        )
    })
}

fn sysctls(pod: &Pod<'_>, minor: u32) -> Option<Finding> {
    /// The safe ones, and the minor version that first allows each.
    const SAFE: [(u32, &str); 14] = [
        (0, "kernel.shm_rmid_forced"),
        (0, "net.ipv4.ip_local_port_range"),
        (0, "net.ipv4.tcp_syncookies"),
        (0, "net.ipv4.ping_group_range"),
        (0, "net.ipv4.ip_unprivileged_port_start"),
        (27, "net.ipv4.ip_local_reserved_ports"),
        (29, "net.ipv4.tcp_keepalive_time"),
        (29, "net.ipv4.tcp_fin_timeout"),
        (29, "net.ipv4.tcp_keepalive_intvl"),
        (29, "net.ipv4.tcp_keepalive_probes"),
        (32, "net.ipv4.tcp_rmem"),
        (32, "net.ipv4.tcp_wmem"),
        (37, "net.ipv4.tcp_slow_start_after_idle"),
        (37, "net.ipv4.tcp_notsent_lowat"),
    ];
    let safe = |name: &str| SAFE.iter().any(|(since, safe)| *safe == name && minor >= *since);
    let names = object::items(pod.spec, &["securityContext", "sysctls"]).map(|s| object::text(s, &["name"]));
    let unsafe_ones: Vec<&str> = names.filter(|name| !safe(name)).collect();
    (!unsafe_ones.is_empty()).then(|| Finding::new("forbidden sysctls", unsafe_ones.join(", ")))
}

fn windows_host_process(pod: &Pod<'_>, _: u32) -> Option<Finding> {
    let on = |options: Option<&Value>| options.is_some_and(|options| options["hostProcess"] == true);
    let names = pod.named(|c| on(security(c, "windowsOptions")));
    let who = setters(on(pod.security("windowsOptions")), &names);
    (!who.is_empty()).then(|| {
        Finding::new(
            "hostProcess",
            format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
        )
    })
}
