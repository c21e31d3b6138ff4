//! A service's row in a table.

use jiff::Timestamp;
use proto_kube::object;
use serde_json::Value;

use crate::column::{self, AGE, Column, NAME, or_none, text, wide};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Type", "From where the service can be reached."),
    text("Cluster-IP", "The service's address in the cluster."),
    text("External-IP", "The service's addresses outside of the cluster."),
    text("Port(s)", "The service's ports, and those on nodes."),
    AGE,
    wide(text("Selector", "The labels of the pods behind the service.")),
];

pub(super) fn cells(service: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &service["spec"];
    let first = object::items(spec, &["clusterIPs"]).next().and_then(Value::as_str);
    let address = first.unwrap_or_else(|| object::text(spec, &["clusterIP"]));
    vec![
        object::name(service).into(),
        object::text(spec, &["type"]).into(),
        or_none(address),
        external(service).into(),
        or_none(&ports(spec)),
        column::age(service, now),
        column::labels(spec.get("selector")).into(),
    ]
}

fn external(service: &Value) -> String {
    let spec = &service["spec"];
    let mut own: Vec<&str> = object::items(spec, &["externalIPs"]).filter_map(Value::as_str).collect();
    let none = match object::text(spec, &["type"]) {
        "ClusterIP" | "NodePort" => "<none>",
        "LoadBalancer" => {
            let ingress = object::items(service, &["status", "loadBalancer", "ingress"]);
            let address = |i| match object::text(i, &["ip"]) {
                "" => object::text(i, &["hostname"]),
                ip => ip,
            };
            let mut balanced: Vec<&str> = ingress.map(address).filter(|a| !a.is_empty()).collect();
            balanced.sort_unstable();
            balanced.dedup();
            balanced.append(&mut own);
            own = balanced;
            "<pending>"
        }
        "ExternalName" => return object::text(spec, &["externalName"]).to_owned(),
        _ => return "<unknown>".to_owned(),
    };
    if own.is_empty() { none.to_owned() } else { own.join(",") }
}

fn ports(spec: &Value) -> String {
    let one = |port: &Value| {
        let number = |key: &str| port[key].as_i64().unwrap_or(0);
        let protocol = object::text(port, &["protocol"]);
        match number("nodePort") {
            0 => format!("{}/{protocol}", number("port")),
            node => format!("{}:{node}/{protocol}", number("port")),
        }
    };
    object::items(spec, &["ports"]).map(one).collect::<Vec<_>>().join(",")
}
