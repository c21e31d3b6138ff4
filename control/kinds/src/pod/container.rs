//! Rules for containers: those of the pod, those that run before, and those that join later to look at it.

use proto_kube::field::Error;
use proto_kube::name;
use proto_kube::pod::{FIELDS, RESOURCES};
use serde_json::Value;

use super::template::Context;
use super::{mount, probe, resources, security};
use crate::check::Field;
use crate::check::net;

/// Rule: all containers of a spec.
pub(crate) fn all(spec: &Field<'_>, context: &Context<'_>) {
    regular(&spec.at("containers"), context);
    init(&spec.at("initContainers"), &spec.at("containers"), context);
    ephemeral(spec, context);
}

fn regular(containers: &Field<'_>, context: &Context<'_>) {
    if !containers.needs("") {
        return;
    }
    let mut names = Vec::new();
    for container in containers.items() {
        one(&container, context);
        unique(&container, &mut names);
        probe::lifecycle(&container.at("lifecycle"), context);
        probe::all(&container, context);
        restart_policy(&container, &["Always", "Never", "OnFailure"]);
    }
    host_ports(containers.items());
}

fn init(containers: &Field<'_>, regular: &Field<'_>, context: &Context<'_>) {
    let mut names: Vec<&str> = regular.items().map(|c| c.at("name").text()).collect();
    for container in containers.items() {
        one(&container, context);
        restart_policy(&container, &["Always", "Never", "OnFailure"]);
        unique(&container, &mut names);
        host_ports([container.clone()]);
        if container.at("restartPolicy").text() == "Always" {
            probe::lifecycle(&container.at("lifecycle"), context);
            probe::all(&container, context);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.at(key).is_set() {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    container.at(key).forbidden(detail);
                }
            }
            if !container.at("resizePolicy").is_empty() {
                container.at("resizePolicy").invalid("must not be set for init containers");
            }
        }
    }
}

fn restart_policy(container: &Field<'_>, known: &[&str]) {
    let (policy, rules) = (container.at("restartPolicy"), container.at("restartPolicyRules"));
    policy.maybe_one_of(known);
    if rules.is_empty() {
        return;
    }
    if !policy.is_set() {
        policy.required("must specify restartPolicy when restart rules are used");
    }
    if rules.len() > 20 {
        rules.fault(Error::too_long(&rules.path, 20));
    }
    for rule in rules.items() {
        rule.at("action").one_of(&["Restart", "RestartAllContainers"]);
        let codes = rule.at("exitCodes");
        if codes.needs_value("must be specified") {
            codes.at("operator").one_of(&["In", "NotIn"]);
            if codes.at("values").len() > 255 {
                codes.at("values").fault(Error::too_long(&codes.at("values").path, 255));
            }
        }
    }
}

/// The members that a container which joins later may have.
const EPHEMERAL: &[&str] = &[
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "envFrom",
    "env",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "targetContainerName",
];

fn ephemeral(spec: &Field<'_>, context: &Context<'_>) {
    let others: Vec<&str> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|key| spec.at(key).items().map(|c| c.at("name").text()).collect::<Vec<_>>())
        .collect();
    let mut names = others.clone();
    for container in spec.at("ephemeralContainers").items() {
        one(&container, context);
        only_in_pods(&container);
        unique(&container, &mut names);
        let target = container.at("targetContainerName");
        if !target.is_empty() && !others.contains(&target.text()) {
            target.not_found();
        }
        for (key, value) in container.value.as_object().into_iter().flatten() {
            let empty = value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty);
            if !EPHEMERAL.contains(&key.as_str()) && !value.is_null() && !empty {
                container.at(key).forbidden("cannot be set for an Ephemeral Container");
            }
        }
        for mount in container.at("volumeMounts").items() {
            for key in ["subPath", "subPathExpr"] {
                if !mount.at(key).is_empty() {
                    mount.at(key).forbidden("cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

/// Rule: what holds for a container of a pod but not for one of a template.
pub(crate) fn only_in_pods(container: &Field<'_>) {
    let image = container.at("image");
    if image.text().trim() != image.text() {
        image.invalid("must not have leading or trailing whitespace");
    }
}

fn unique<'a>(container: &Field<'a>, names: &mut Vec<&'a str>) {
    let name = container.at("name");
    if names.contains(&name.text()) && !name.is_empty() {
        name.duplicate();
    }
    names.push(name.text());
}

/// Rule: what all containers share.
fn one(container: &Field<'_>, context: &Context<'_>) {
    container.at("name").needs_shape(name::label);
    container.at("image").needs("");
    container.at("terminationMessagePolicy").one_of(&["File", "FallbackToLogsOnError"]);
    ports(&container.at("ports"));
    environment(&container.at("env"), context);
    sources(&container.at("envFrom"));
    mount::mounts(container, context);
    mount::devices(container, context);
    container.at("imagePullPolicy").one_of(&["Always", "IfNotPresent", "Never"]);
    resources::requirements(&container.at("resources"), context);
    resize(&container.at("resizePolicy"), context);
    security::container(&container.at("securityContext"), context);
}

fn ports(ports: &Field<'_>) {
    let mut names = Vec::new();
    for port in ports.items() {
        let name = port.at("name");
        if !name.is_empty() {
            let faults = name::port(name.text());
            if faults.is_empty() {
                if names.contains(&name.text()) {
                    name.duplicate();
                }
                names.push(name.text());
            }
            name.all_invalid(faults);
        }
        let own = port.at("containerPort");
        if own.number_or_zero() == 0 {
            own.required("");
        } else {
            net::port_number(&own);
        }
        if port.at("hostPort").number_or_zero() != 0 {
            net::port_number(&port.at("hostPort"));
        }
        port.at("protocol").one_of(&["SCTP", "TCP", "UDP"]);
    }
}

/// Rule: no two containers that run together take the same port of the host.
fn host_ports<'a>(containers: impl IntoIterator<Item = Field<'a>>) {
    let mut taken = Vec::new();
    for container in containers {
        for port in container.at("ports").items() {
            let host = port.at("hostPort");
            if host.number_or_zero() == 0 {
                continue;
            }
            let key = format!(
                "{}/{}/{}",
                port.at("protocol").text(),
                port.at("hostIP").text(),
                host.number_or_zero()
            );
            if taken.contains(&key) {
                host.fault(Error::duplicate(&host.path, key));
            } else {
                taken.push(key);
            }
        }
    }
}

fn environment(env: &Field<'_>, context: &Context<'_>) {
    for variable in env.items() {
        variable.at("name").needs_shape(net::variable);
        let from = variable.at("valueFrom");
        if from.is_set() {
            value_from(&from, !variable.at("value").is_empty(), context);
        }
    }
}

fn value_from(from: &Field<'_>, has_value: bool, context: &Context<'_>) {
    let mut sources = 0;
    for key in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let Some(reference) = from.member(key) else { continue };
        sources += 1;
        match key {
            "fieldRef" => field_reference(&reference, FIELDS),
            "resourceFieldRef" => resource_reference(&reference, false),
            "fileKeyRef" => file_reference(&reference, context),
            _ => key_reference(&reference),
        }
    }
    let detail = match sources {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if has_value => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    from.invalid_value("", detail);
}

fn key_reference(reference: &Field<'_>) {
    let name = reference.at("name");
    name.all_invalid(name::subdomain(name.text()));
    reference.at("key").needs_shape(name::config_key);
}

fn file_reference(reference: &Field<'_>, context: &Context<'_>) {
    reference.at("key").needs_shape(net::variable);
    if reference.at("path").needs("") {
        net::local(&reference.at("path"));
    }
    let volume = reference.at("volumeName");
    if volume.needs("") && context.volume(volume.text()).is_none() {
        volume.not_found();
    }
}

/// Rule: a reference to a field of the pod, one of those that can be had.
pub(crate) fn field_reference(reference: &Field<'_>, known: &[&str]) {
    if !reference.at("apiVersion").needs("") || !reference.at("fieldPath").needs("") {
        return;
    }
    let path = reference.at("fieldPath");
    let subscript = path.text().strip_suffix("']").and_then(|p| p.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            name::qualified(&key).into_iter().for_each(|f| reference.invalid_value(key.clone(), f));
        }
        Some(("metadata.labels", key)) => {
            name::qualified(key).into_iter().for_each(|f| reference.invalid_value(key, f));
        }
        Some(_) => {
            let detail = "error converting fieldPath: field label does not support subscript";
            path.invalid(format!("{detail}: {}", path.text()));
        }
        None if known.contains(&path.text()) => {}
        None if is_field(path.text()) => path.not_supported(known),
        None => {
            let detail = format!("error converting fieldPath: field label not supported: {}", path.text());
            path.invalid(detail);
        }
    }
}

/// Whether a path is one that some reference to a pod's fields may have.
fn is_field(path: &str) -> bool {
    FIELDS.contains(&path)
        || [
            "metadata.annotations",
            "metadata.labels",
            "spec.restartPolicy",
            "spec.schedulerName",
            "status.phase",
        ]
        .contains(&path)
}

/// Rule: a reference to a request or limit of a container.
pub(crate) fn resource_reference(reference: &Field<'_>, of_volume: bool) {
    let resource = reference.at("resource");
    let huge = resource.text().starts_with("requests.hugepages-")
        || resource.text().starts_with("limits.hugepages-");
    if of_volume && reference.at("containerName").is_empty() {
        reference.at("containerName").required("");
    } else if resource.needs("") && !RESOURCES.contains(&resource.text()) && !huge {
        resource.not_supported(RESOURCES);
    }
    divisor(&reference.at("divisor"), resource.text());
}

fn divisor(divisor: &Field<'_>, resource: &str) {
    const SIZES: &[&str] =
        &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let text = match divisor.value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    if divisor.quantity().is_none_or(|amount| amount.millis() == 0) {
        return;
    }
    let (known, what): (&[&str], _) = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") => (&["1m", "1"], "cpu"),
        Some("memory") => (SIZES, "memory"),
        Some("ephemeral-storage") => (SIZES, "local ephemeral storage"),
        Some(name) if name.starts_with("hugepages-") => (SIZES, "hugepages"),
        _ => return,
    };
    if !known.contains(&text.as_str()) {
        let list = if known.len() == 2 { "1m and 1".to_owned() } else { known.join(", ") };
        let detail = format!("only divisor's values {list} are supported with the {what} resource");
        divisor.invalid_value(resource, detail);
    }
}

fn sources(sources: &Field<'_>) {
    for source in sources.items() {
        source.at("prefix").shaped(net::variable);
        let given: Vec<_> =
            ["configMapRef", "secretRef"].into_iter().filter_map(|k| source.member(k)).collect();
        for reference in &given {
            reference.at("name").needs_shape(|text| crate::meta::maybe_prefix(text, true, name::subdomain));
        }
        match given.len() {
            0 => sources.invalid_value("", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => sources.invalid_value("", "may not have more than one field specified at a time"),
        }
    }
}

fn resize(policies: &Field<'_>, context: &Context<'_>) {
    let mut seen = Vec::new();
    for policy in policies.items() {
        let (resource, restart) = (policy.at("resourceName"), policy.at("restartPolicy"));
        if seen.contains(&resource.text()) {
            policy.fault(Error::duplicate(&policy.path, resource.text()));
        }
        seen.push(resource.text());
        for (part, known) in [(&resource, ["cpu", "memory"]), (&restart, ["NotRequired", "RestartContainer"])]
        {
            if part.is_empty() {
                policies.required("");
            } else if !known.contains(&part.text()) {
                policies.fault(Error::not_supported(&policies.path, part.value.clone(), &known));
            }
        }
        if context.restart_policy == "Never" && restart.text() != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            policies.invalid_value(restart.value.clone(), detail);
        }
    }
}
