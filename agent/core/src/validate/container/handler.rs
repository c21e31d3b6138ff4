//! Probes and lifecycle hooks.

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proto_kube::name;

use super::super::Findings;
use super::port;
use crate::pod;

pub(super) fn all(findings: &mut Findings, field: &str, container: &Container, init: bool) {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    let alone = init && !pod::sidecar(container);
    for (kind, probe) in probes {
        let Some(probe) = probe else { continue };
        let field = format!("{field}.{kind}");
        if alone {
            findings.forbidden(&field, "may not be set for init containers without restartPolicy=Always");
        }
        self::probe(findings, &field, probe, kind == "readinessProbe");
    }
    let Some(lifecycle) = &container.lifecycle else { return };
    let field = format!("{field}.lifecycle");
    if alone {
        findings.forbidden(&field, "may not be set for init containers without restartPolicy=Always");
    }
    for (kind, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(handler) = handler {
            hook(findings, &format!("{field}.{kind}"), handler);
        }
    }
}

fn probe(findings: &mut Findings, field: &str, probe: &Probe, readiness: bool) {
    let handlers =
        [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some()];
    count(findings, field, &handlers, "exec, httpGet, tcpSocket or grpc");
    for (name, value, least) in [
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ] {
        findings.at_least(&format!("{field}.{name}"), value.map(i64::from), least);
    }
    if let Some(value) = probe.success_threshold.filter(|v| !readiness && *v > 1) {
        findings.number(&format!("{field}.successThreshold"), value, "must be 1");
    }
    let grace = format!("{field}.terminationGracePeriodSeconds");
    match probe.termination_grace_period_seconds {
        Some(value) if readiness => findings.number(&grace, value, "must not be set for readinessProbes"),
        value => findings.at_least(&grace, value, 1),
    }
    exec(findings, field, probe.exec.as_ref());
    http_get(findings, field, probe.http_get.as_ref());
    if let Some(action) = &probe.tcp_socket {
        port_or_name(findings, &format!("{field}.tcpSocket.port"), &action.port);
    }
    if let Some(action) = &probe.grpc {
        port(findings, &format!("{field}.grpc.port"), action.port);
        findings.one_of(&format!("{field}.grpc.mode"), action.mode.as_deref(), &["Plaintext"]);
    }
}

fn hook(findings: &mut Findings, field: &str, handler: &LifecycleHandler) {
    let handlers = [handler.exec.is_some(), handler.http_get.is_some(), handler.sleep.is_some()];
    let tcp = handler.tcp_socket.as_ref();
    findings.absent(
        &format!("{field}.tcpSocket"),
        tcp,
        "hooks cannot connect by TCP: use exec, httpGet or sleep",
    );
    if tcp.is_none() {
        count(findings, field, &handlers, "exec, httpGet or sleep");
    }
    exec(findings, field, handler.exec.as_ref());
    http_get(findings, field, handler.http_get.as_ref());
    let seconds = handler.sleep.as_ref().map(|s| s.seconds);
    findings.at_least(&format!("{field}.sleep.seconds"), seconds, 0);
}

fn count(findings: &mut Findings, field: &str, handlers: &[bool], names: &str) {
    match handlers.iter().filter(|there| **there).count() {
        0 => findings.required(field, &format!("must specify a handler type: {names}")),
        1 => {}
        _ => findings.forbidden(field, "may not specify more than 1 handler type"),
    }
}

fn exec(findings: &mut Findings, field: &str, action: Option<&ExecAction>) {
    if action.is_some_and(|a| a.command.as_ref().is_none_or(Vec::is_empty)) {
        findings.required(&format!("{field}.exec.command"), "");
    }
}

fn http_get(findings: &mut Findings, field: &str, action: Option<&HTTPGetAction>) {
    let Some(action) = action else { return };
    let field = format!("{field}.httpGet");
    port_or_name(findings, &format!("{field}.port"), &action.port);
    let protocol = action.protocol.as_ref();
    findings.absent(
        &format!("{field}.protocol"),
        protocol,
        "not supported by this node yet: probes speak HTTP/1.1",
    );
    findings.one_of(&format!("{field}.scheme"), action.scheme.as_deref(), &["HTTP", "HTTPS"]);
    for (n, header) in action.http_headers.iter().flatten().enumerate() {
        let token = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if header.name.is_empty() || !header.name.chars().all(token) {
            let text = "a valid HTTP header must consist of alphanumeric characters, '-' or '_'";
            findings.text(&format!("{field}.httpHeaders[{n}].name"), &header.name, text);
        }
    }
}

fn port_or_name(findings: &mut Findings, field: &str, value: &IntOrString) {
    match value {
        IntOrString::Int(number) => port(findings, field, *number),
        IntOrString::String(text) => findings.name(field, text, name::port),
    }
}
