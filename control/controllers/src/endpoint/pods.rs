//! What a pod is to a service.

use std::net::IpAddr;

use proto_kube::selector::Labels;
use proto_kube::{object, pod, view::View};
use serde_json::{Value, json};

use crate::Key;
use crate::owner::key;
use crate::resources::SERVICES;

/// What chooses a service's pods; `None` when somebody else writes its endpoints, or it has none.
pub(super) fn selector(service: &Value) -> Option<Labels> {
    let labels = object::at(service, &["spec", "selector"])?;
    let selector = Labels::of_map(labels);
    let external = object::text(service, &["spec", "type"]) == "ExternalName";
    (!selector.is_empty() && !external).then_some(selector)
}

/// Whether a pod can be an endpoint at all.
pub(super) fn counts(pod: &Value, with_terminating: bool) -> bool {
    let addressed = !object::text(pod, &["status", "podIP"]).is_empty()
        || object::items(pod, &["status", "podIPs"]).next().is_some();
    addressed && !pod::has_ended(pod) && (with_terminating || !object::is_terminating(pod))
}

/// The services whose endpoints a change of a pod concerns.
pub(super) fn services(view: &dyn View, old: Option<&Value>, new: Option<&Value>) -> Vec<Key> {
    if let (Some(old), Some(new)) = (old, new)
        && matters(old) == matters(new)
    {
        return Vec::new();
    }
    let Some(pod) = new.or(old) else { return Vec::new() };
    let chosen = |service: &Value| {
        selector(service).is_some_and(|s| [old, new].into_iter().flatten().any(|pod| s.selects(pod)))
    };
    let services = view.list(SERVICES, object::namespace(pod));
    services.iter().filter(|service| chosen(service)).map(|service| key(service)).collect()
}

/// What of a pod endpoints follow from.
fn matters(pod: &Value) -> Value {
    let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    json!([
        meta["labels"],
        meta["uid"],
        object::is_terminating(pod),
        pod::is_ready(pod),
        pod::has_ended(pod),
        status["podIP"],
        status["podIPs"],
        spec["nodeName"],
        spec["hostname"],
        spec["subdomain"],
    ])
}

/// The host name that a pod has in a service that its `subdomain` names.
pub(super) fn hostname<'a>(pod: &'a Value, service: &Value) -> Option<&'a str> {
    let hostname = object::text(pod, &["spec", "hostname"]);
    let here = object::text(pod, &["spec", "subdomain"]) == object::name(service)
        && object::namespace(pod) == object::namespace(service);
    (here && !hostname.is_empty()).then_some(hostname)
}

/// The addresses of a family (`IPv4`, `IPv6`) that a pod has.
pub(super) fn addresses(pod: &Value, family: &str) -> Vec<String> {
    let mut all: Vec<&str> =
        object::items(pod, &["status", "podIPs"]).map(|ip| object::text(ip, &["ip"])).collect();
    if all.is_empty() {
        all.push(object::text(pod, &["status", "podIP"]));
    }
    let of_family = |ip: &IpAddr| ip.is_ipv6() == (family == "IPv6");
    all.iter().filter_map(|ip| ip.parse().ok()).filter(of_family).map(|ip| ip.to_string()).collect()
}

/// The number of a service's port on a pod; `None` when no container has a port of the name that it asks for.
pub(super) fn port(pod: &Value, port: &Value) -> Option<i64> {
    let target = &port["targetPort"];
    if let Some(number) = target.as_i64() {
        return Some(number);
    }
    let (name, protocol) = (target.as_str()?, protocol(port));
    let main = object::items(pod, &["spec", "containers"]);
    let sidecars = object::items(pod, &["spec", "initContainers"]).filter(|c| c["restartPolicy"] == "Always");
    main.chain(sidecars)
        .flat_map(|container| object::items(container, &["ports"]))
        .find(|p| p["name"] == name && self::protocol(p) == protocol)
        .and_then(|p| p["containerPort"].as_i64())
}

/// The protocol of a port, which is TCP where nothing is said.
pub(super) fn protocol(port: &Value) -> &str {
    match object::text(port, &["protocol"]) {
        "" => "TCP",
        protocol => protocol,
    }
}

/// The ports of a service on a pod, in a fixed order.
pub(super) fn ports(pod: &Value, service: &Value) -> Vec<Value> {
    let on_pod = |port: &Value| Some(canonical(&port["name"], self::port(pod, port)?.into(), port));
    let mut ports: Vec<Value> = object::items(service, &["spec", "ports"]).filter_map(on_pod).collect();
    sort(&mut ports);
    ports
}

/// A port of a slice with all that tells it from others.
pub(super) fn canonical(name: &Value, number: Value, port: &Value) -> Value {
    let mut canonical =
        json!({"name": name.as_str().unwrap_or_default(), "port": number, "protocol": protocol(port)});
    if let Some(app) = object::at(port, &["appProtocol"]) {
        canonical["appProtocol"] = app.clone();
    }
    canonical
}

/// Puts ports into an order that follows from what they are.
pub(super) fn sort(ports: &mut [Value]) {
    ports.sort_by_cached_key(ToString::to_string);
}
