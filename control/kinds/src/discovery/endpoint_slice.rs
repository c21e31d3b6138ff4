//! `EndpointSlice`: some of the endpoints of a service.

use std::net::IpAddr;

use jiff::Timestamp;
use proto_kube::field::{Error, Errors};
use proto_kube::{name, object};
use serde_json::Value;

use crate::Kind;
use crate::apps::workload::{self, number};
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, text};
use crate::networking::address;

const ENDPOINTS_MOST: usize = 1000;
const ADDRESSES_MOST: usize = 100;
const PORTS_MOST: usize = 20_000;
const HINTS_MOST: usize = 8;
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The controllers whose addresses are those of other objects, where they have been warned of.
const CONTROLLERS: [&str; 2] =
    ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

pub(super) struct EndpointSlice;

impl Kind for EndpointSlice {
    fn default(&self, object: &mut Value) {
        for port in object.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            object::default(port, "name", "");
            object::default(port, "protocol", "TCP");
        }
    }

    fn generation(&self) -> &'static [&'static str] {
        &["addressType", "endpoints", "ports"]
    }

    fn prepare_create(&self, object: &mut Value) {
        for endpoint in object.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
            crate::meta::put(endpoint, "deprecatedTopology", None);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if !check::same_at(new, old, &["endpoints"]) {
            self.prepare_create(new);
        }
        if !check::same_at(new, old, &["metadata", "labels"]) {
            let generation = number(old, &["metadata", "generation"]) + 1;
            object::metadata(new).insert("generation".to_owned(), generation.into());
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |slice| {
            slice.at("addressType").one_of(&["FQDN", "IPv4", "IPv6"]);
            ports(&slice.at("ports"));
            endpoints(&slice.at("endpoints"), slice.at("addressType").text());
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |slice| {
            slice.at("addressType").one_of(&["FQDN", "IPv4", "IPv6"]);
            ports(&slice.at("ports"));
            // What was let in once does not stop later updates.
            if !check::same_at(new, old, &["endpoints"]) {
                endpoints(&slice.at("endpoints"), slice.at("addressType").text());
            }
            slice.at("addressType").unchanged(old);
        })
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() && new["addressType"] == "FQDN" {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        if object::labels(new).any(|(key, value)| key == MANAGED_BY && CONTROLLERS.contains(&value)) {
            return warnings;
        }
        check::object(new, |new| {
            let addresses = new.at("endpoints").items().flat_map(|endpoint| endpoint.at("addresses").items());
            warnings.extend(addresses.filter_map(|at| address::ip_warning(&at.path, at.text())));
        });
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("AddressType", "What kind of addresses the endpoints have."),
            text("Ports", "The ports that the endpoints serve."),
            text("Endpoints", "The addresses of the endpoints."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let port = |port: &Value| match object::at(port, &["port"]) {
            Some(number) => number.to_string(),
            None if port["name"].is_null() => "*".to_owned(),
            None => object::text(port, &["name"]).to_owned(),
        };
        let ports = object::items(object, &["ports"]).map(port).collect();
        let addresses = object::items(object, &["endpoints"])
            .flat_map(|endpoint| object::items(endpoint, &["addresses"]))
            .map(|address| address.as_str().unwrap_or_default().to_owned())
            .collect();
        let middle =
            vec![object::text(object, &["addressType"]).into(), some(ports).into(), some(addresses).into()];
        workload::row(object, middle, now)
    }
}

/// The first three of some texts, and how many more.
fn some(texts: Vec<String>) -> String {
    const SHOWN: usize = 3;
    match texts.len() {
        n if n > SHOWN => format!("{} + {} more...", texts[..SHOWN].join(","), n - SHOWN),
        _ if texts.concat().is_empty() && texts.len() < 2 => "<unset>".to_owned(),
        _ => texts.join(","),
    }
}

/// Rule: a list that is not too long. Tells whether it holds.
fn at_most(list: &Field<'_>, most: usize) -> bool {
    if list.len() > most {
        list.fault(Error::too_many(&list.path, list.len(), most));
    }
    list.len() <= most
}

fn ports(ports: &Field<'_>) {
    if !at_most(ports, PORTS_MOST) {
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let at = port.at("name");
        at.shaped(name::label);
        if seen.contains(&at.text()) {
            at.duplicate();
        }
        seen.push(at.text());
        if port.at("protocol").needs_value("") {
            port.at("protocol").maybe_one_of(&["SCTP", "TCP", "UDP"]);
        }
        let protocol = port.at("appProtocol");
        if protocol.is_set() {
            protocol.all_invalid(name::qualified(protocol.text()));
        }
    }
}

fn endpoints(endpoints: &Field<'_>, kind: &str) {
    if !at_most(endpoints, ENDPOINTS_MOST) {
        return;
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.at("addresses");
        if addresses.needs("must contain at least 1 address") {
            at_most(&addresses, ADDRESSES_MOST);
        }
        addresses.items().for_each(|at| one_address(&addresses, &at, kind));
        for (member, shape) in
            [("nodeName", name::subdomain as fn(&str) -> Vec<String>), ("hostname", name::label)]
        {
            let at = endpoint.at(member);
            if at.is_set() {
                at.all_invalid(shape(at.text()));
            }
        }
        hints(&endpoint.at("hints"));
    }
}

fn one_address(list: &Field<'_>, at: &Field<'_>, kind: &str) {
    let before = at.count();
    match kind {
        "IPv4" => address::ip(at),
        "IPv6" => at.all_invalid(address::canonical_fault(at.text())),
        "FQDN" => domain(at),
        _ => {}
    }
    let Some(ip) = address::sloppy(at.text()).filter(|_| kind != "FQDN" && at.count() == before) else {
        return;
    };
    if ip.is_ipv4() != (kind == "IPv4") {
        list.invalid_value(at.text(), format!("must be an {kind} address"));
    }
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_local_multicast = match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    for (broken, text) in [
        (ip.is_unspecified(), format!("may not be unspecified ({})", at.text())),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ] {
        if broken {
            at.invalid(text);
        }
    }
}

/// Rule: a domain of at least two parts.
fn domain(at: &Field<'_>) {
    if !at.needs("") {
        return;
    }
    let text = at.text().strip_suffix('.').unwrap_or(at.text());
    let faults = name::subdomain(text);
    if !faults.is_empty() {
        at.invalid_value(text, faults.join(","));
    } else if !text.contains('.') {
        at.invalid_value(text, "should be a domain with at least two segments separated by dots");
    } else if let Some(part) = text.split('.').find(|part| !name::label(part).is_empty()) {
        at.invalid_value(part, name::label(part).join(","));
    }
}

fn hints(hints: &Field<'_>) {
    for (member, shape) in
        [("forZones", name::label_value as fn(&str) -> Vec<String>), ("forNodes", name::subdomain)]
    {
        let list = hints.at(member);
        if !at_most(&list, HINTS_MOST) {
            return;
        }
        let mut seen: Vec<&str> = Vec::new();
        for at in list.items().map(|hint| hint.at("name")) {
            if seen.contains(&at.text()) {
                at.duplicate();
            }
            seen.push(at.text());
            at.all_invalid(shape(at.text()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(object: Value) -> Vec<String> {
        let mut object = object;
        EndpointSlice.default(&mut object);
        EndpointSlice.validate(&object).iter().map(ToString::to_string).collect()
    }

    fn of(kind: &str, address: &str) -> Vec<String> {
        faults(json!({"addressType": kind, "endpoints": [{"addresses": [address]}]}))
    }

    #[test]
    fn addresses() {
        let first = |faults: Vec<String>| faults.into_iter().next().unwrap_or_default();
        for (kind, address) in [("IPv4", "10.0.0.1"), ("IPv6", "2001:db8::1"), ("FQDN", "a.example.")] {
            assert_eq!(of(kind, address), Vec::<String>::new());
        }
        assert_eq!(
            first(of("IPv6", "10.0.0.1")),
            "endpoints[0].addresses: Invalid value: \"10.0.0.1\": must be an IPv6 address"
        );
        assert_eq!(
            first(of("IPv4", "127.0.0.1")),
            "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
        );
        assert_eq!(
            first(of("FQDN", "a")),
            "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by dots"
        );
        assert_eq!(first(of("", "a")), "addressType: Required value");
    }

    #[test]
    fn ports_and_hints() {
        assert_eq!(
            faults(json!({"addressType": "IPv4", "ports": [{"name": "a"}, {"name": "a", "protocol": "x"}],
                "endpoints": [{"addresses": [], "hints": {"forZones": [{"name": "z"}, {"name": "z"}]}}]})),
            [
                "ports[1].name: Duplicate value: \"a\"",
                "ports[1].protocol: Unsupported value: \"x\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                "endpoints[0].hints.forZones[1].name: Duplicate value: \"z\"",
            ]
        );
    }

    #[test]
    fn rows_and_warnings() {
        let slice = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.3"]}, {"addresses": ["010.0.0.4"]}]});
        let addresses = "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...";
        let cells = Value::from(EndpointSlice.cells(&slice, Timestamp::UNIX_EPOCH));
        assert_eq!(cells, json!(["a", "IPv4", "80", addresses, "<unknown>"]));
        assert_eq!(
            EndpointSlice.warnings(&slice, None),
            ["endpoints[3].addresses[0]: non-standard IP address \"010.0.0.4\" is invalid: use \"10.0.0.4\""]
        );
        let empty = Value::from(EndpointSlice.cells(&json!({}), Timestamp::UNIX_EPOCH));
        assert_eq!(empty, json!(["", "", "<unset>", "<unset>", "<unknown>"]));
    }
}
