//! How a service may change, and what follows from a change.

use proto_kube::field::Path;
use proto_kube::object;
use serde_json::{Value, json};

use super::{is_external, is_headless, needs_address, needs_health_check, needs_node_ports};
use crate::check::{self, Field};
use crate::meta;

const ONCE: &str = "may not change once set";

/// Keeps `clusterIP` and `clusterIPs` in step where a client has changed only one of them.
pub(super) fn sync_addresses(new: &mut Value, old: Option<&Value>) {
    let Some(spec) = new.get_mut("spec").filter(|s| s.is_object()) else { return };
    let one = object::text(spec, &["clusterIP"]).to_owned();
    let Some(was) = old.map(|old| &old["spec"]) else {
        if !one.is_empty() && object::items(spec, &["clusterIPs"]).next().is_none() {
            spec["clusterIPs"] = json!([one]);
        }
        return;
    };
    if one != object::text(was, &["clusterIP"]) && check::same(&spec["clusterIPs"], &was["clusterIPs"]) {
        let ips = (!one.is_empty()).then(|| json!([one]));
        meta::put(spec, "clusterIPs", ips);
    }
}

/// Fills in what was allocated before and a client leaves out.
pub(super) fn keep_allocated(new: &mut Value, old: &Value) {
    let was = &old["spec"];
    let Some(spec) = new.get_mut("spec").filter(|s| s.is_object()) else { return };
    if needs_address(was) && needs_address(spec) {
        if object::text(spec, &["clusterIP"]).is_empty() {
            meta::keep(spec, was, &["clusterIP"]);
        }
        let empty = object::items(spec, &["clusterIPs"]).next().is_none();
        if empty && check::same(&spec["clusterIP"], &was["clusterIP"]) {
            meta::keep(spec, was, &["clusterIPs"]);
        }
    }
    if needs_node_ports(was) && needs_node_ports(spec) {
        node_ports(spec, was);
    }
    if needs_health_check(was) && needs_health_check(spec) && number(spec, "healthCheckNodePort") == 0 {
        meta::keep(spec, was, &["healthCheckNodePort"]);
    }
}

fn number(object: &Value, key: &str) -> i64 {
    object::at(object, &[key]).and_then(Value::as_i64).unwrap_or(0)
}

fn node_ports(spec: &mut Value, was: &Value) {
    let taken = |spec: &Value| -> Vec<i64> {
        object::items(spec, &["ports"]).map(|p| number(p, "nodePort")).filter(|n| *n != 0).collect()
    };
    let now = taken(spec);
    let mut used: Vec<i64> = taken(was).into_iter().filter(|port| now.contains(port)).collect();
    crate::pod::default::each(spec, "ports", |port| {
        if number(port, "nodePort") != 0 {
            return;
        }
        let name = object::text(port, &["name"]);
        let before = object::items(was, &["ports"]).filter(|p| object::text(p, &["name"]) == name).last();
        let before = before.map_or(0, |p| number(p, "nodePort"));
        if before != 0 && !used.contains(&before) {
            port["nodePort"] = before.into();
            used.push(before);
        }
    });
}

/// Drops what the new type has no use for and the client has left as it was.
pub(super) fn drop_unneeded(new: &mut Value, old: &Value) {
    let was = &old["spec"];
    let balanced = |spec: &Value| object::text(spec, &["type"]) == "LoadBalancer";
    let Some(spec) = new.get_mut("spec").filter(|s| s.is_object()) else { return };
    let mut unneeded: Vec<&str> = Vec::new();
    if needs_address(was) && !needs_address(spec) {
        if check::same(&spec["clusterIPs"], &was["clusterIPs"]) {
            unneeded.push("clusterIP");
        }
        unneeded.extend(["clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
    }
    if needs_health_check(was) && !needs_health_check(spec) {
        unneeded.push("healthCheckNodePort");
    }
    if balanced(was) && !balanced(spec) {
        unneeded.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if is_external(was) && !is_external(spec) {
        unneeded.push("externalTrafficPolicy");
    }
    for key in unneeded {
        if check::same(&spec[key], &was[key]) {
            meta::put(spec, key, None);
        }
    }
    if needs_node_ports(was) && !needs_node_ports(spec) {
        let ports = |spec: &Value| -> Vec<i64> {
            object::items(spec, &["ports"]).map(|p| number(p, "nodePort")).collect()
        };
        if ports(spec) == ports(was) {
            crate::pod::default::each(spec, "ports", |port| meta::put(port, "nodePort", None));
        }
    }
    if !balanced(spec) && object::at(new, &["status", "loadBalancer"]).is_some() {
        new["status"]["loadBalancer"] = json!({});
    }
}

/// What is wrong with a change of a service.
pub(super) fn rules(service: &Field<'_>, old: &Value) {
    let (spec, was) = (service.at("spec"), &old["spec"]);
    let named = |spec: &Value| object::text(spec, &["type"]) == "ExternalName";
    if !named(spec.value) && !named(was) {
        addresses(&spec, was);
        families(&spec, was);
    }
    let balanced = |spec: &Value| object::text(spec, &["type"]) == "LoadBalancer";
    let class = spec.at("loadBalancerClass");
    if balanced(spec.value) && balanced(was) && !check::same(class.value, &was["loadBalancerClass"]) {
        class.invalid_value(class.value.clone(), ONCE);
    }
    let health = spec.at("healthCheckNodePort");
    let both = needs_health_check(spec.value) && needs_health_check(was);
    if both && health.number_or_zero() != number(was, "healthCheckNodePort") {
        health.forbidden(check::IMMUTABLE);
    }
}

fn addresses(spec: &Field<'_>, was: &Value) {
    if is_headless(spec.value) && is_headless(was) {
        return;
    }
    let ips = spec.at("clusterIPs");
    let shown = if ips.is_set() { ips.value.clone() } else { json!([]) };
    let now: Vec<&str> = ips.items().map(|ip| ip.text()).collect();
    let before: Vec<&str> = object::items(was, &["clusterIPs"]).filter_map(Value::as_str).collect();
    let fault = |index: usize, detail: &str| {
        ips.shown_at(ips.path.index(index)).invalid_value(shown.clone(), detail);
    };
    if now.len() == before.len() {
        for index in (0..now.len()).filter(|i| now[*i] != before[*i]) {
            fault(index, ONCE);
        }
        return;
    }
    match (now.first(), before.first()) {
        (None, Some(_)) => fault(0, "primary clusterIP can not be unset"),
        (Some(now), Some(before)) if now != before => fault(0, ONCE),
        _ => {}
    }
    if now.len() == 1 && before.len() > 1 {
        single(spec, "must be set to 'SingleStack' when releasing the secondary clusterIP");
    }
}

fn single(spec: &Field<'_>, detail: &str) {
    let policy = spec.at("ipFamilyPolicy");
    if policy.text() != "SingleStack" {
        policy.invalid_value(policy.value.clone(), detail);
    }
}

fn families(spec: &Field<'_>, was: &Value) {
    if is_headless(spec.value) || is_headless(was) {
        return;
    }
    let families = spec.at("ipFamilies");
    let now: Vec<&str> = families.items().map(|f| f.text()).collect();
    let before: Vec<&str> = object::items(was, &["ipFamilies"]).filter_map(Value::as_str).collect();
    let at = families.shown_at(Path::new("spec.ipFamilies[0]"));
    if now.len() == before.len() {
        if now != before {
            at.invalid(ONCE);
        }
        return;
    }
    match (now.first(), before.first()) {
        (None, Some(_)) => at.invalid("primary ipFamily can not be unset"),
        (Some(now), Some(before)) if now != before => at.invalid(ONCE),
        _ => {}
    }
    if now.len() == 1 && before.len() > 1 {
        single(spec, "must be set to 'SingleStack' when releasing the secondary ipFamily");
    }
}
