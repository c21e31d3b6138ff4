//! `Ingress`: which requests from outside go to which service.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proto_kube::field::{Error, Errors, Path};
use proto_kube::{name, object};
use serde_json::{Value, json};

use super::address;
use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{self, AGE, Column, NAME, text};

/// How a class was named before `spec.ingressClassName`.
const CLASS: &str = "kubernetes.io/ingress.class";
const WILDCARD: &str = r"a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

pub(super) struct Ingress;

impl Kind for Ingress {
    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"loadBalancer": {}}))
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            spec(&object.at("spec"), false, false);
            let annotation = object.at("metadata").at("annotations").at(CLASS);
            let class = object.at("spec").at("ingressClassName");
            if annotation.is_set() && class.is_set() && annotation.text() != class.text() {
                let path = Path::new("annotations").child(CLASS);
                let detail = "must match `ingressClassName` when both are specified";
                object.fault(Error::invalid(&path, annotation.text(), detail));
            }
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        // What was let in once does not stop later updates.
        let bad_secret = object::items(old, &["spec", "tls"])
            .any(|tls| !secret_faults(object::text(tls, &["secretName"])).is_empty());
        let bad_wildcard = check::object(old, |old| {
            old.at("spec")
                .at("rules")
                .items()
                .filter(|rule| rule.at("host").text().contains('*'))
                .for_each(|r| http(&r));
        });
        check::object(new, |new| spec(&new.at("spec"), bad_secret, !bad_wildcard.is_empty()))
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Errors {
        let known = |ip: &str| {
            object::items(old, &["status", "loadBalancer", "ingress"]).any(|i| object::text(i, &["ip"]) == ip)
        };
        check::object(new, |new| {
            for ingress in new.at("status").at("loadBalancer").at("ingress").items() {
                let (ip, host) = (ingress.at("ip"), ingress.at("hostname"));
                if !ip.is_empty() && !known(ip.text()) {
                    address::ip(&ip);
                }
                host.shaped(name::subdomain);
                if address::sloppy(host.text()).is_some() {
                    host.invalid("must be a DNS name, not an IP address");
                }
            }
        })
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let annotated = !object::text(new, &["metadata", "annotations", CLASS]).is_empty();
        if old.is_none() && annotated && new["spec"]["ingressClassName"].is_null() {
            return vec![format!(
                "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Class", "The class of controllers that serve the ingress."),
            text("Hosts", "For which hosts it has rules."),
            text("Address", "Where it is served."),
            text("Ports", "The ports on which it is served."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let addresses: BTreeSet<&str> = object::items(object, &["status", "loadBalancer", "ingress"])
            .filter_map(|i| {
                ["ip", "hostname"].map(|m| object::text(i, &[m])).into_iter().find(|t| !t.is_empty())
            })
            .collect();
        let tls = object::items(object, &["spec", "tls"]).next().is_some();
        let middle = vec![
            column::or_none(object::text(object, &["spec", "ingressClassName"])),
            hosts(object).into(),
            addresses.into_iter().collect::<Vec<_>>().join(",").into(),
            if tls { "80, 443" } else { "80" }.into(),
        ];
        workload::row(object, middle, now)
    }
}

/// The hosts of the rules: the first three, and how many more.
fn hosts(object: &Value) -> String {
    let rules: Vec<&str> =
        object::items(object, &["spec", "rules"]).map(|r| object::text(r, &["host"])).collect();
    let named = rules.iter().filter(|host| !host.is_empty());
    let first: Vec<&str> = named.clone().take(3).copied().collect();
    // Counted as upstream does: once three are found, the next rule, with a host or without, is one more.
    let third = rules.iter().enumerate().filter(|(_, host)| !host.is_empty()).nth(2).map(|(at, _)| at);
    match third {
        _ if first.is_empty() => "*".to_owned(),
        Some(at) if at + 1 < rules.len() => format!("{} + {} more...", first.join(","), rules.len() - 3),
        _ => first.join(","),
    }
}

fn spec(spec: &Field<'_>, any_secret: bool, any_wildcard: bool) {
    let (rules, backend_of_all) = (spec.at("rules"), spec.at("defaultBackend"));
    if rules.is_empty() && !backend_of_all.is_set() {
        spec.invalid_value(rules.value.clone(), "either `defaultBackend` or `rules` must be specified");
    }
    if backend_of_all.is_set() {
        backend(&backend_of_all);
    }
    for rule in rules.items() {
        let host = rule.at("host");
        if address::sloppy(host.text()).is_some() {
            host.invalid("must be a DNS name, not an IP address");
        }
        host_name(&host);
        if !(any_wildcard && host.text().contains('*')) {
            http(&rule);
        }
    }
    for tls in spec.at("tls").items() {
        tls.at("hosts").items().for_each(|host| host_name(&host));
        if !any_secret {
            tls.at("secretName").all_invalid(secret_faults(tls.at("secretName").text()));
        }
    }
    let class = spec.at("ingressClassName");
    if class.is_set() {
        class.all_invalid(name::subdomain(class.text()));
    }
}

fn secret_faults(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { name::subdomain(text) }
}

fn host_name(host: &Field<'_>) {
    if !host.text().contains('*') {
        host.shaped(name::subdomain);
        return;
    }
    if host.text().len() > 253 {
        host.invalid("must be no more than 253 bytes");
    }
    let rest = host.text().strip_prefix("*.");
    if rest.is_none_or(|rest| rest.contains('*') || !name::subdomain(rest).is_empty()) {
        host.invalid(WILDCARD);
    }
}

fn http(rule: &Field<'_>) {
    let Some(http) = rule.member("http") else { return };
    http.at("paths").needs("");
    http.at("paths").items().for_each(|path| path_rule(&path));
}

fn path_rule(rule: &Field<'_>) {
    let (kind, path) = (rule.at("pathType"), rule.at("path"));
    if !kind.needs_value("pathType must be specified") {
        return;
    }
    let absolute = path.text().starts_with('/');
    match kind.text() {
        "Exact" | "Prefix" => {
            if !absolute {
                path.invalid("must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|part| path.text().contains(**part))
            {
                path.invalid(format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].iter().filter(|end| path.text().ends_with(**end)) {
                path.invalid(format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" if !absolute && !path.is_empty() => path.invalid("must be an absolute path"),
        "ImplementationSpecific" => {}
        _ => kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(&rule.at("backend"));
}

fn backend(backend: &Field<'_>) {
    let (resource, service) = (backend.at("resource"), backend.at("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => backend.invalid_value("", "cannot set both resource and service backends"),
        (false, false) => backend.invalid_value("", "resource or service backend is required"),
        (true, false) => super::ingress_class::reference(&resource),
        (false, true) => {
            service.at("name").needs_shape(name::label);
            let (name, number) = (service.at("port").at("name"), service.at("port").at("number"));
            match (!name.is_empty(), number.number_or_zero() != 0) {
                (true, true) => backend.invalid_value("", "cannot set both port name & port number"),
                (true, false) => name.all_invalid(name::port(name.text())),
                (false, true) => number.between(1, 65535),
                (false, false) => backend.required("port name or number is required"),
            }
        }
    }
}
