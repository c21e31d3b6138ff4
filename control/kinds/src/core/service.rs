//! `Service`: as a kind. Its addresses and ports on nodes are taken by [`allocate`].

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::{Value, json};

use crate::pod::default;
use crate::{Column, Kind, check, meta};

pub mod allocate;

mod columns;
mod rules;
mod update;

pub(super) struct Service;

/// The most seconds for which a client can stick to an endpoint, and how many it is by default.
const STICKY: (i64, i64) = (86_400, 10_800);

impl Kind for Service {
    fn default(&self, service: &mut Value) {
        default::within(service, "spec", spec);
        if kind(service) == "LoadBalancer" {
            default::within(service, "status", |status| {
                default::within(status, "loadBalancer", |balancer| {
                    default::each(balancer, "ingress", |ingress| {
                        if !object::text(ingress, &["ip"]).is_empty() {
                            object::default(ingress, "ipMode", "VIP");
                        }
                    });
                });
            });
        }
    }

    fn name(&self, text: &str, prefix: bool) -> Vec<String> {
        meta::maybe_prefix(text, prefix, name::label)
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"loadBalancer": {}}))
    }

    fn prepare_create(&self, service: &mut Value) {
        update::sync_addresses(service, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        update::sync_addresses(new, Some(old));
        update::keep_allocated(new, old);
        update::drop_unneeded(new, old);
    }

    fn validate(&self, service: &Value) -> Errors {
        check::object(service, |service| rules::all(&service))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = check::object(new, |service| update::rules(&service, old));
        errors.extend(self.validate(new));
        errors
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Errors {
        check::object(new, |service| rules::status(&service))
    }

    fn warnings(&self, service: &Value, _old: Option<&Value>) -> Vec<String> {
        rules::warnings(service)
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn cells(&self, service: &Value, now: Timestamp) -> Vec<Value> {
        columns::cells(service, now)
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn fields(&self, service: &Value) -> Vec<(&'static str, String)> {
        let text = |key: &str| object::text(service, &["spec", key]).to_owned();
        vec![("spec.clusterIP", text("clusterIP")), ("spec.type", text("type"))]
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

/// As `ClusterIP`.
fn kind(service: &Value) -> &str {
    object::text(service, &["spec", "type"])
}

fn spec(spec: &mut Value) {
    default::text(spec, "sessionAffinity", "None");
    match object::text(spec, &["sessionAffinity"]) {
        "None" => meta::put(spec, "sessionAffinityConfig", None),
        "ClientIP"
            if object::at(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).is_none() =>
        {
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": STICKY.1}});
        }
        _ => {}
    }
    default::text(spec, "type", "ClusterIP");
    default::each(spec, "ports", |port| {
        default::text(port, "protocol", "TCP");
        let target = &port["targetPort"];
        if target.is_null() || target == 0 || target == "" {
            port["targetPort"] = port["port"].clone();
        }
    });
    if is_external(spec) {
        default::text(spec, "externalTrafficPolicy", "Cluster");
    }
    let kind = object::text(spec, &["type"]).to_owned();
    if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind.as_str()) {
        object::default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        object::default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// Whether a spec's service can be reached from outside of the cluster.
fn is_external(spec: &Value) -> bool {
    match object::text(spec, &["type"]) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => object::items(spec, &["externalIPs"]).next().is_some(),
        _ => false,
    }
}

/// Whether a spec's service has addresses in the cluster.
fn needs_address(spec: &Value) -> bool {
    ["ClusterIP", "NodePort", "LoadBalancer"].contains(&object::text(spec, &["type"]))
}

/// Whether a spec's service has a port on each node for each of its ports.
fn needs_node_ports(spec: &Value) -> bool {
    match object::text(spec, &["type"]) {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != Value::Bool(false),
        _ => false,
    }
}

/// Whether load balancers ask each node whether it has endpoints of a spec's service.
fn needs_health_check(spec: &Value) -> bool {
    object::text(spec, &["type"]) == "LoadBalancer"
        && object::text(spec, &["externalTrafficPolicy"]) == "Local"
}

/// Whether a spec's service has no address of its own: clients are told those of its pods.
fn is_headless(spec: &Value) -> bool {
    spec["clusterIPs"] == json!(["None"])
}
