//! `Endpoints`.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::Value;

use crate::check::{self, Field, net};
use crate::column::{self, AGE, NAME, text};
use crate::pod::default;
use crate::{Column, Kind};

pub(super) struct Endpoints;

const COLUMNS: &[Column] = &[NAME, text("Endpoints", "The addresses and ports behind the service."), AGE];

impl Kind for Endpoints {
    fn default(&self, endpoints: &mut Value) {
        default::each(endpoints, "subsets", |subset| {
            default::each(subset, "ports", |port| default::text(port, "protocol", "TCP"));
        });
    }

    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn validate(&self, endpoints: &Value) -> Errors {
        check::object(endpoints, |endpoints| endpoints.at("subsets").items().for_each(|s| subset(&s)))
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, endpoints: &Value, now: Timestamp) -> Vec<Value> {
        vec![object::name(endpoints).into(), list(endpoints).into(), column::age(endpoints, now)]
    }
}

fn subset(subset: &Field<'_>) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists.iter().all(|list| subset.at(list).is_empty()) {
        subset.required("must specify `addresses` or `notReadyAddresses`");
    }
    for list in lists {
        for address in subset.at(list).items() {
            net::ip(&address.at("ip"));
            address.at("hostname").shaped(name::label);
            let node = address.at("nodeName");
            if node.is_set() {
                node.all_invalid(name::subdomain(node.text()));
            }
            net::not_special(&address.at("ip"));
        }
    }
    let ports = subset.at("ports");
    for port in ports.items() {
        if port.at("name").is_empty() && ports.len() > 1 {
            port.at("name").required("");
        }
        port.at("name").shaped(name::label);
        net::port_number(&port.at("port"));
        port.at("protocol").one_of(&["SCTP", "TCP", "UDP"]);
        let protocol = port.at("appProtocol");
        if protocol.is_set() {
            protocol.all_invalid(name::qualified(protocol.text()));
        }
    }
}

/// The first three of the endpoints, and how many more there are.
fn list(endpoints: &Value) -> String {
    const SHOWN: usize = 3;
    if object::items(endpoints, &["subsets"]).next().is_none() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in object::items(endpoints, &["subsets"]) {
        let ips: Vec<&str> =
            object::items(subset, &["addresses"]).map(|a| object::text(a, &["ip"])).collect();
        let ports: Vec<i64> = object::items(subset, &["ports"]).filter_map(|p| p["port"].as_i64()).collect();
        if ports.is_empty() {
            all.extend(ips.iter().map(|ip| (*ip).to_owned()));
        }
        for port in ports {
            all.extend(ips.iter().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    let shown = all[..all.len().min(SHOWN)].join(",");
    match all.len() {
        ..=SHOWN => shown,
        count => format!("{shown} + {} more...", count - SHOWN),
    }
}
