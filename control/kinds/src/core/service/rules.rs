//! What a service may be.

use proto_kube::field::{Error, Path};
use proto_kube::{name, object};
use serde_json::{Value, json};

use super::{STICKY, is_external, is_headless, needs_health_check};
use crate::check::{Field, net};
use crate::meta;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

/// Rule: a service.
pub(super) fn all(service: &Field<'_>) {
    let spec = service.at("spec");
    let kind = spec.at("type").text();
    let ports = spec.at("ports");
    topology(&service.at("metadata").at("annotations"));
    if ports.is_empty() && !is_headless(spec.value) && kind != "ExternalName" {
        ports.required("");
    }
    of_type(&spec, kind);
    self::ports(&ports);
    meta::labels(&spec.at("selector"));
    affinity(&spec);
    addresses(&spec);
    for ip in spec.at("externalIPs").items() {
        let before = ip.count();
        net::ip(&ip);
        if ip.count() == before {
            net::not_special(&ip);
        }
    }
    spec.at("type").one_of(TYPES);
    node_ports(&ports, kind);
    ranges(service, &spec, kind);
    let allocates = spec.at("allocateLoadBalancerNodePorts");
    if allocates.is_set() && kind != "LoadBalancer" {
        allocates.forbidden(ONLY_BALANCED);
    } else if !allocates.is_set() && kind == "LoadBalancer" {
        allocates.shown_at(Path::new("allocateLoadBalancerNodePorts")).required("");
    }
    class(&spec, kind);
    external(&spec);
    let internal = spec.at("internalTrafficPolicy");
    if !internal.is_set() && kind != "ExternalName" && TYPES.contains(&kind) {
        internal.required("");
    }
    internal.maybe_one_of(&["Cluster", "Local"]);
    spec.at("trafficDistribution").maybe_one_of(&["PreferClose", "PreferSameZone", "PreferSameNode"]);
}

fn topology(annotations: &Field<'_>) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let (hints, mode) = (annotations.entry(HINTS), annotations.entry("service.kubernetes.io/topology-mode"));
    if hints.is_set() && mode.is_set() && hints.text() != mode.text() {
        mode.invalid(format!("must match annotations[{HINTS}] when both are specified"));
    }
}

fn of_type(spec: &Field<'_>, kind: &str) {
    if ["LoadBalancer", "NodePort"].contains(&kind) && is_headless(spec.value) {
        let path = spec.path.child("clusterIPs").index(0);
        let detail = format!("may not be set to 'None' for {kind} services");
        spec.fault(Error::invalid(&path, "None", detail));
    }
    if kind != "ExternalName" {
        return;
    }
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !spec.at(key).is_empty() {
            spec.at(key).forbidden("may not be set for ExternalName services");
        }
    }
    let host = spec.at("externalName");
    match host.text().strip_suffix('.').unwrap_or(host.text()) {
        "" => host.required(""),
        text => name::subdomain(text).into_iter().for_each(|fault| host.invalid_value(text, fault)),
    }
}

fn ports(ports: &Field<'_>) {
    let mut names = Vec::new();
    for port in ports.items() {
        let name = port.at("name");
        if name.is_empty() && ports.len() > 1 {
            name.required("");
        } else if !name.is_empty() {
            name.all_invalid(name::label(name.text()));
            if names.contains(&name.text()) {
                name.duplicate();
            }
            names.push(name.text());
        }
        net::port_number(&port.at("port"));
        port.at("protocol").one_of(&["SCTP", "TCP", "UDP"]);
        net::port(&port.at("targetPort"));
        let protocol = port.at("appProtocol");
        if protocol.is_set() {
            protocol.all_invalid(name::qualified(protocol.text()));
        }
    }
}

fn node_ports(ports: &Field<'_>, kind: &str) {
    let (mut on_nodes, mut own) = (Vec::new(), Vec::new());
    for port in ports.items() {
        let (node, protocol) = (port.at("nodePort"), port.at("protocol").text());
        if node.number_or_zero() == 0 {
            continue;
        }
        if kind == "ClusterIP" {
            node.forbidden("may not be used when `type` is 'ClusterIP'");
        }
        let pair = (protocol, node.number_or_zero());
        if on_nodes.contains(&pair) {
            node.duplicate();
        }
        on_nodes.push(pair);
    }
    for port in ports.items() {
        let pair = (port.at("protocol").text(), port.at("port").number_or_zero());
        if own.contains(&pair) {
            let shown = json!({"port": pair.1, "protocol": pair.0, "targetPort": 0});
            port.fault(Error::duplicate(&port.path, shown));
        }
        own.push(pair);
    }
}

fn affinity(spec: &Field<'_>) {
    const WHEN: &str = "when session affinity type is ClientIP";
    let (affinity, config) = (spec.at("sessionAffinity"), spec.at("sessionAffinityConfig"));
    affinity.one_of(&["ClientIP", "None"]);
    match affinity.text() {
        "ClientIP" => {
            let seconds = config.at("clientIP").at("timeoutSeconds");
            let there = config.needs_value(WHEN)
                && config.at("clientIP").needs_value(WHEN)
                && seconds.needs_value(WHEN);
            if there && !(1..=STICKY.0).contains(&seconds.number_or_zero()) {
                seconds.invalid(format!("must be greater than 0 and less than {}", STICKY.0));
            }
        }
        "None" if config.is_set() => config.forbidden("must not be set when session affinity is None"),
        _ => {}
    }
}

/// Rule: the addresses in the cluster, their families, and how many there are to be, fit together.
pub(super) fn addresses(spec: &Field<'_>) {
    if spec.at("type").text() == "ExternalName" {
        return;
    }
    let (one, ips, families) = (spec.at("clusterIP"), spec.at("clusterIPs"), spec.at("ipFamilies"));
    let first = ips.items().next().map_or("", |ip| ip.text());
    match (one.text(), first) {
        ("", "") => {}
        ("", _) => ips.invalid("must be empty when `clusterIP` is not specified"),
        (_, "") => ips.required(""),
        (one, first) if one != first => ips.invalid("first value must match `clusterIP`"),
        _ => {}
    }
    let mut seen = Vec::new();
    for family in families.items() {
        family.maybe_one_of(&["IPv4", "IPv6"]);
        if seen.contains(&family.text()) {
            family.duplicate();
        }
        seen.push(family.text());
    }
    spec.at("ipFamilyPolicy").maybe_one_of(&["PreferDualStack", "RequireDualStack", "SingleStack"]);
    let before = ips.count();
    for (index, ip) in ips.items().enumerate() {
        if index == 0 && ip.text() == "None" {
            if ips.len() > 1 {
                ips.invalid("'None' must be the first and only value");
            }
        } else {
            net::ip(&ip);
        }
    }
    let broken = ips.count() > before;
    if ips.len() > 2 {
        ips.invalid("may only hold up to 2 values");
    }
    if broken {
        return;
    }
    let is_six = |ip: &Field<'_>| ip.text().contains(':');
    let sixes = ips.items().filter(is_six).count();
    if ips.len() > 1 && (sixes == 0 || sixes == ips.len()) {
        ips.invalid("may specify no more than one IP for each IP family");
    }
    if !is_headless(spec.value) {
        for (index, (ip, family)) in ips.items().zip(families.items()).enumerate() {
            let wanted = family.text();
            if (wanted == "IPv6") != is_six(&ip) && ["IPv4", "IPv6"].contains(&wanted) {
                ip.invalid(format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`"));
            }
        }
    }
}

fn ranges(service: &Field<'_>, spec: &Field<'_>, kind: &str) {
    let ranges = spec.at("loadBalancerSourceRanges").shown_at(spec.path.child("LoadBalancerSourceRanges"));
    let old = service
        .at("metadata")
        .at("annotations")
        .entry("service.beta.kubernetes.io/load-balancer-source-ranges");
    if !ranges.is_empty() {
        if kind != "LoadBalancer" {
            ranges.forbidden(ONLY_BALANCED);
        }
        for range in ranges.items() {
            net::cidr(&range, range.text().trim());
            if net::block(range.text().trim()).is_some_and(|block| block.trunc() != block) {
                range.invalid("must not have bits set beyond the prefix length");
            }
        }
    } else if old.is_set() {
        if kind != "LoadBalancer" {
            old.forbidden(ONLY_BALANCED);
        }
        old.text()
            .split(',')
            .map(str::trim)
            .filter(|r| !r.is_empty())
            .for_each(|range| net::cidr(&old, range));
    }
}

fn class(spec: &Field<'_>, kind: &str) {
    let class = spec.at("loadBalancerClass");
    if class.is_set() {
        match kind {
            "LoadBalancer" => class.all_invalid(name::qualified(class.text())),
            _ => class.forbidden(ONLY_BALANCED),
        }
    }
}

fn external(spec: &Field<'_>) {
    let (policy, check) = (spec.at("externalTrafficPolicy"), spec.at("healthCheckNodePort"));
    if is_external(spec.value) {
        policy.one_of(&["Cluster", "Local"]);
    } else if !policy.is_empty() {
        policy.invalid("may only be set for externally-accessible services");
    }
    match (needs_health_check(spec.value), check.number_or_zero()) {
        (true, 0) => check.required(""),
        (true, _) => net::port_number(&check),
        (false, 0) => {}
        (false, _) => {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            check.invalid(detail);
        }
    }
}

/// Rule: the status of a service.
pub(super) fn status(service: &Field<'_>) {
    let ingresses = service.at("status").at("loadBalancer").at("ingress");
    if service.at("spec").at("type").text() != "LoadBalancer" && !ingresses.is_empty() {
        return ingresses.forbidden("may only be used when `spec.type` is 'LoadBalancer'");
    }
    for ingress in ingresses.items() {
        let [ip, mode, host] = ["ip", "ipMode", "hostname"].map(|key| ingress.at(key));
        if !ip.is_empty() {
            net::ip(&ip);
            if mode.needs_value("must be specified when `ip` is set") {
                mode.maybe_one_of(&["Proxy", "VIP"]);
            }
        } else if mode.is_set() {
            mode.forbidden("may not be specified when `ip` is not set");
        }
        if !host.is_empty() {
            host.all_invalid(name::subdomain(host.text()));
            if host.text().parse::<std::net::IpAddr>().is_ok() {
                host.invalid("must be a DNS name, not an IP address");
            }
        }
    }
}

/// What a client should know of a service that is valid all the same.
pub(super) fn warnings(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let mut found = Vec::new();
    if service["metadata"]["annotations"].get("service.kubernetes.io/topology-aware-hints").is_some() {
        found.push(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead"
                .to_owned(),
        );
    }
    if is_headless(spec) {
        if !object::text(spec, &["loadBalancerIP"]).is_empty() {
            found.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if object::items(spec, &["externalIPs"]).next().is_some() {
            found.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if object::text(spec, &["sessionAffinity"]) != "None" {
            found.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    let external = object::text(spec, &["type"]) == "ExternalName";
    if object::items(spec, &["externalIPs"]).next().is_some() {
        if external {
            found.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
        } else if !is_headless(spec) {
            let text = "spec.externalIPs is deprecated and may no longer be implemented in some clusters";
            found.push(text.to_owned());
        }
    }
    if !external && !object::text(spec, &["externalName"]).is_empty() {
        found.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if object::text(spec, &["trafficDistribution"]) == "PreferClose" {
        found.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
    found
}
