//! Containers: names, images, ports, environment, mounts, resources, security.

mod handler;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, ResourceRequirements, SeccompProfile};

use proto_kube::name;
use proto_kube::pod::{FIELDS, RESOURCES};

use super::{Fault, Findings, volume};
use crate::pod;
use crate::quantity::{self, Amount};

const API: &str = "static pods may not reference";

pub(super) fn all(findings: &mut Findings, pod: &Pod) {
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    let volumes: BTreeSet<&str> =
        pod::spec(pod).volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    for (field, container, init) in super::containers(pod) {
        let name = format!("{field}.name");
        if container.name.is_empty() {
            findings.required(&name, "");
        } else {
            findings.name(&name, &container.name, name::label);
            findings.unique(&name, &container.name, &mut names);
        }
        if container.image.as_deref().unwrap_or_default().trim().is_empty() {
            findings.required(&format!("{field}.image"), "name the image to run");
        }
        choices(findings, &field, container, init);
        ports(findings, &field, container, pod::host_network(pod), &mut host_ports);
        environment(findings, &field, container);
        mounts(findings, &field, container, &volumes);
        if let Some(resources) = &container.resources {
            self::resources(findings, &format!("{field}.resources"), resources);
        }
        security(findings, &field, container);
        handler::all(findings, &field, container, init);
    }
    if let Some(resources) = &pod::spec(pod).resources {
        self::resources(findings, "spec.resources", resources);
    }
}

fn choices(findings: &mut Findings, field: &str, container: &Container, init: bool) {
    let policy = container.image_pull_policy.as_deref();
    findings.one_of(&format!("{field}.imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    let policy = container.termination_message_policy.as_deref();
    findings.one_of(&format!("{field}.terminationMessagePolicy"), policy, &["File", "FallbackToLogsOnError"]);
    let policy = container.restart_policy.as_deref();
    findings.one_of(&format!("{field}.restartPolicy"), policy, &["Always", "OnFailure", "Never"]);
    for (n, rule) in container.restart_policy_rules.iter().flatten().enumerate() {
        let field = format!("{field}.restartPolicyRules[{n}]");
        findings.one_of(&format!("{field}.action"), Some(&rule.action), &["Restart"]);
        match &rule.exit_codes {
            None => findings.required(&format!("{field}.exitCodes"), "must be specified"),
            Some(codes) => findings.one_of(
                &format!("{field}.exitCodes.operator"),
                Some(&codes.operator),
                &["In", "NotIn"],
            ),
        }
    }
    if init && pod::sidecar(container) && container.restart_policy_rules.iter().flatten().next().is_some() {
        findings.forbidden(&format!("{field}.restartPolicyRules"), "a sidecar is always restarted");
    }
}

/// Whether a number is a port's.
fn port(findings: &mut Findings, field: &str, number: i32) {
    if !(1..=65535).contains(&number) {
        findings.number(field, number, "must be between 1 and 65535, inclusive");
    }
}

fn ports(
    findings: &mut Findings,
    field: &str,
    container: &Container,
    host_network: bool,
    host_ports: &mut BTreeSet<String>,
) {
    let mut names = BTreeSet::new();
    for (n, own) in container.ports.iter().flatten().enumerate() {
        let field = format!("{field}.ports[{n}]");
        if let Some(name) = own.name.as_deref().filter(|name| !name.is_empty()) {
            findings.name(&format!("{field}.name"), name, name::port);
            findings.unique(&format!("{field}.name"), name, &mut names);
        }
        port(findings, &format!("{field}.containerPort"), own.container_port);
        findings.one_of(&format!("{field}.protocol"), own.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
        if let Some(ip) =
            own.host_ip.as_deref().filter(|ip| !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err())
        {
            findings.text(&format!("{field}.hostIP"), ip, "must be a valid IP address");
        }
        let Some(number) = own.host_port.filter(|number| *number != 0) else { continue };
        let host = format!("{field}.hostPort");
        port(findings, &host, number);
        if host_network && number != own.container_port {
            findings.number(&host, number, "must match `containerPort` when `hostNetwork` is true");
        }
        let protocol = own.protocol.as_deref().unwrap_or("TCP");
        let key = format!("{protocol}/{}/{number}", own.host_ip.as_deref().unwrap_or_default());
        findings.unique(&host, &key, host_ports);
    }
}

fn environment(findings: &mut Findings, field: &str, container: &Container) {
    for (n, var) in container.env.iter().flatten().enumerate() {
        variable(findings, &format!("{field}.env[{n}]"), var);
    }
    for (n, from) in container.env_from.iter().flatten().enumerate() {
        let kind = if from.secret_ref.is_some() { "secretRef" } else { "configMapRef" };
        let text = format!("{API} API objects: write the variables into env");
        findings.forbidden(&format!("{field}.envFrom[{n}].{kind}"), &text);
    }
}

fn variable(findings: &mut Findings, field: &str, var: &EnvVar) {
    let name = format!("{field}.name");
    if var.name.is_empty() {
        findings.required(&name, "");
    } else if !var.name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        findings.text(&name, &var.name, "a valid environment variable name must consist only of printable ASCII characters other than '='");
    }
    let Some(from) = &var.value_from else { return };
    let field = format!("{field}.valueFrom");
    if var.value.as_deref().is_some_and(|value| !value.is_empty()) {
        findings.text(&field, "", "may not be specified when `value` is not empty");
    }
    for (kind, there) in [
        ("configMapKeyRef", from.config_map_key_ref.is_some()),
        ("secretKeyRef", from.secret_key_ref.is_some()),
    ] {
        if there {
            let text = format!("{API} API objects: write the value into the manifest");
            findings.forbidden(&format!("{field}.{kind}"), &text);
        }
    }
    if let Some(selector) = &from.field_ref {
        let path = selector.field_path.as_str();
        let subscripted =
            |map: &str| path.strip_prefix(map).is_some_and(|p| p.starts_with("['") && p.ends_with("']"));
        let whole = FIELDS.contains(&path);
        if !whole && !subscripted("metadata.labels") && !subscripted("metadata.annotations") {
            let at = format!("{field}.fieldRef.fieldPath");
            findings.one_of(&at, Some(path), FIELDS);
        }
    }
    if let Some(selector) = &from.resource_field_ref {
        let at = format!("{field}.resourceFieldRef.resource");
        findings.one_of(&at, Some(&selector.resource), RESOURCES);
    }
}

fn mounts(findings: &mut Findings, field: &str, container: &Container, volumes: &BTreeSet<&str>) {
    let mut paths = BTreeSet::new();
    let security = container.security_context.as_ref();
    let privileged = security.and_then(|s| s.privileged) == Some(true);
    for (n, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let field = format!("{field}.volumeMounts[{n}]");
        let name = format!("{field}.name");
        if mount.name.is_empty() {
            findings.required(&name, "");
        } else if !volumes.contains(mount.name.as_str()) {
            let names: Vec<&str> = volumes.iter().copied().collect();
            let text = format!("not found in spec.volumes, which has [{}]", names.join(" "));
            findings.text(&name, &mount.name, text);
        }
        let path = format!("{field}.mountPath");
        match mount.mount_path.is_empty() {
            true => findings.required(&path, ""),
            false => findings.unique(&path, &mount.mount_path, &mut paths),
        }
        for (sub, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
                volume::relative(findings, &format!("{field}.{sub}"), value);
            }
        }
        let options = mount.bind_mount_options.as_ref().filter(|o| !o.is_empty());
        findings.absent(
            &format!("{field}.bindMountOptions"),
            options,
            "not supported by this node yet: remove it",
        );
        let propagation = mount.mount_propagation.as_deref();
        let at = format!("{field}.mountPropagation");
        findings.one_of(&at, propagation, &["Bidirectional", "HostToContainer", "None"]);
        if propagation == Some("Bidirectional") && !privileged {
            findings
                .forbidden(&at, "Bidirectional mount propagation is available only to privileged containers");
        }
    }
    let devices = container.volume_devices.as_ref().filter(|d| !d.is_empty());
    findings.absent(
        &format!("{field}.volumeDevices"),
        devices,
        "block volumes need an API server: remove them",
    );
}

fn resources(findings: &mut Findings, field: &str, resources: &ResourceRequirements) {
    let lists = [("limits", &resources.limits), ("requests", &resources.requests)];
    for (list, quantities) in lists {
        for (name, quantity) in quantities.iter().flatten() {
            let field = format!("{field}.{list}[{name}]");
            if !["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) {
                let text = "this node has cpu, memory and ephemeral-storage";
                findings.add(&field, Fault::Unsupported(name.clone()), text);
            }
            match Amount::parse(&quantity.0) {
                Err(error) => findings.text(&field, &quantity.0, error.to_string()),
                Ok(amount) if amount < Amount::default() => {
                    findings.text(&field, &quantity.0, "must be greater than or equal to 0");
                }
                Ok(amount) => {
                    let limit =
                        resources.limits.as_ref().and_then(|l| l.get(name)).and_then(quantity::amount);
                    if let Some(limit) = limit.filter(|limit| list == "requests" && amount > *limit) {
                        let text =
                            format!("must be less than or equal to {name} limit of {}", units(name, limit));
                        findings.text(&field, &quantity.0, text);
                    }
                }
            }
        }
    }
    let claims = resources.claims.as_ref().filter(|c| !c.is_empty());
    findings.absent(&format!("{field}.claims"), claims, &format!("{API} resourceclaims: remove them"));
}

fn units(name: &str, amount: Amount) -> String {
    if name == "cpu" { format!("{}m", amount.millis()) } else { amount.units().to_string() }
}

/// A user's or group's number.
pub(super) fn id(findings: &mut Findings, field: &str, value: Option<i64>) {
    if let Some(value) = value.filter(|v| !(0..=i64::from(i32::MAX)).contains(v)) {
        findings.number(field, value, "must be between 0 and 2147483647, inclusive");
    }
}

pub(super) fn seccomp(findings: &mut Findings, field: &str, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    let kinds = &["Localhost", "RuntimeDefault", "Unconfined"];
    findings.one_of(&format!("{field}.type"), Some(&profile.type_), kinds);
    let path = profile.localhost_profile.as_deref().filter(|p| !p.is_empty());
    match (profile.type_ == "Localhost", path) {
        (true, None) => {
            findings
                .required(&format!("{field}.localhostProfile"), "must be set when seccomp type is Localhost");
        }
        (false, Some(_)) => {
            let text = "can only be set when seccomp type is Localhost";
            findings.forbidden(&format!("{field}.localhostProfile"), text);
        }
        _ => {}
    }
}

fn security(findings: &mut Findings, field: &str, container: &Container) {
    let Some(security) = &container.security_context else { return };
    let field = format!("{field}.securityContext");
    id(findings, &format!("{field}.runAsUser"), security.run_as_user);
    id(findings, &format!("{field}.runAsGroup"), security.run_as_group);
    let escalation = format!("{field}.allowPrivilegeEscalation");
    if security.allow_privilege_escalation == Some(false) && security.privileged == Some(true) {
        findings.number(
            &escalation,
            false,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
    seccomp(findings, &format!("{field}.seccompProfile"), security.seccomp_profile.as_ref());
    findings.one_of(&format!("{field}.procMount"), security.proc_mount.as_deref(), &["Default"]);
    let windows = security.windows_options.as_ref();
    findings.absent(&format!("{field}.windowsOptions"), windows, "this node runs linux");
    let confined = security.app_armor_profile.as_ref().filter(|p| p.type_ == "Localhost");
    findings.absent(
        &format!("{field}.appArmorProfile"),
        confined,
        "AppArmor profiles are not supported by this node yet",
    );
}
