//! The objects, as upstream's API server and its controllers write them.

use std::net::IpAddr;

use proto_kube::{GroupResource, Resource, resource};
use serde_json::{Value, json};

use super::{Rule, Wanted, first_address};
use crate::server::Server;

/// The namespaces that cannot be missing.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Of a kind that is served.
fn wanted(group: &str, plural: &str, rule: Rule, mut object: Value) -> Option<Wanted> {
    let resource: &'static Resource = resource::preferred(GroupResource { group, resource: plural })?;
    object["apiVersion"] = resource.api_version().into();
    object["kind"] = resource.kind.into();
    Some(Wanted { resource, object, rule })
}

/// Everything.
pub(crate) fn all(server: &Server) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = NAMESPACES.into_iter().filter_map(namespace).collect();
    for (resource, object) in authz::bootstrap::objects() {
        all.extend(wanted(resource.group, resource.resource, Rule::Policy, object));
    }
    for (name, value, what) in [
        (
            "system-cluster-critical",
            2_000_000_000_i64,
            "critical to the cluster: they may move to another node",
        ),
        ("system-node-critical", 2_000_001_000, "critical to their node: they must not move"),
    ] {
        let object = json!({
            "metadata": {"name": name, "generation": 1}, "value": value, "description": format!("For system pods that are {what}."),
            "preemptionPolicy": "PreemptLowerPriority",
        });
        all.extend(wanted("scheduling.k8s.io", "priorityclasses", Rule::Once, object));
    }
    all.extend(cidr(server));
    let first = server.config.service_cidrs.first().and_then(first_address);
    all.extend(first.and_then(|ip| record(ip, "default", "kubernetes")));
    all.extend(dns(server));
    all.extend(address(server));
    for namespace in NAMESPACES {
        all.extend(of_namespace(server, namespace));
    }
    all.extend(authorities(server));
    all
}

fn namespace(name: &str) -> Option<Wanted> {
    let object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    });
    wanted("", "namespaces", Rule::Once, object)
}

/// What every namespace has: the authorities that its pods trust, and the account that they use.
pub(crate) fn of_namespace(server: &Server, namespace: &str) -> Vec<Wanted> {
    let trust = json!({
        "metadata": {
            "name": "kube-root-ca.crt", "namespace": namespace,
            "annotations": {"kubernetes.io/description":
                "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."},
        },
        "data": {"ca.crt": server.pki.bundle()},
    });
    let account = json!({"metadata": {"name": "default", "namespace": namespace}});
    [wanted("", "configmaps", bundle_rule(server), trust), wanted("", "serviceaccounts", Rule::Once, account)]
        .into_iter()
        .flatten()
        .collect()
}

/// The authorities by which extension servers check clients.
pub(crate) fn authorities(server: &Server) -> Option<Wanted> {
    let object = json!({
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {"client-ca-file": server.pki.bundle()},
    });
    wanted("", "configmaps", bundle_rule(server), object)
}

/// How objects with our authorities are kept: as they are here, or beside those of other servers.
fn bundle_rule(server: &Server) -> Rule {
    if server.config.etcd.is_some() { Rule::Trust } else { Rule::Always }
}

fn cidr(server: &Server) -> Option<Wanted> {
    let cidrs: Vec<String> = server.config.service_cidrs.iter().map(ToString::to_string).collect();
    let now = jiff::Timestamp::from_second(server.now().as_second()).ok()?.to_string();
    let object = json!({
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": cidrs},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "", "lastTransitionTime": now,
            "message": "Kubernetes default Service CIDR is ready"}]},
    });
    wanted("networking.k8s.io", "servicecidrs", Rule::Once, object)
}

/// The `kubernetes` Service.
fn service(server: &Server) -> Option<Wanted> {
    let ip = server.config.service_cidrs.first().and_then(first_address)?;
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": ip.to_string(), "clusterIPs": [ip.to_string()], "internalTrafficPolicy": "Cluster",
            "ipFamilies": [family(ip)], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port(server)}],
        },
        "status": {"loadBalancer": {}},
    });
    wanted("", "services", Rule::Ports, service)
}

/// The record of a Service's address.
fn record(ip: IpAddr, namespace: &str, service: &str) -> Option<Wanted> {
    let record = json!({
        "metadata": {"name": canonical(ip), "labels": {"ipaddress.kubernetes.io/ip-family": family(ip),
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    });
    wanted("networking.k8s.io", "ipaddresses", Rule::Once, record)
}

/// The Service of the name service. Each node answers for it by itself: it selects no pods, and proxies leave it alone.
fn dns(server: &Server) -> Vec<Wanted> {
    let ips = &server.config.dns;
    let Some(first) = ips.first() else { return Vec::new() };
    let texts: Vec<String> = ips.iter().map(ToString::to_string).collect();
    let families: Vec<&str> = ips.iter().map(|ip| family(*ip)).collect();
    let policy = if ips.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    let port = |name, protocol| json!({"name": name, "port": 53, "protocol": protocol, "targetPort": 53});
    let service = json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
            "service.kubernetes.io/service-proxy-name": "cleat-dns"}},
        "spec": {
            "clusterIP": first.to_string(), "clusterIPs": texts, "internalTrafficPolicy": "Cluster",
            "ipFamilies": families, "ipFamilyPolicy": policy, "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        },
        "status": {"loadBalancer": {}},
    });
    let records = ips.iter().map(|ip| record(*ip, "kube-system", "kube-dns"));
    records.chain([wanted("", "services", Rule::Once, service)]).flatten().collect()
}

/// How a node finds the cluster that knows no more than a token: anybody may read it, and a controller signs it with each
/// token.
fn cluster_info(server: &Server, port: u16) -> Option<Wanted> {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(server.pki.bundle());
    let url = format!("https://{}", std::net::SocketAddr::new(server.config.advertise, port));
    // JSON is YAML; the order of members matters to nobody.
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "preferences": {}, "users": [], "contexts": [],
        "current-context": "",
        "clusters": [{"name": "", "cluster": {"certificate-authority-data": authority, "server": url}}]});
    let object = json!({
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": kubeconfig.to_string()},
    });
    // Of several servers, each is as good as any.
    let rule = if server.config.etcd.is_some() { Rule::Once } else { Rule::Entries };
    wanted("", "configmaps", rule, object)
}

/// The `kubernetes` Service, where it leads, and how who joins finds it: to this server, and with etcd to those beside it. Nothing while the port
/// is not known.
pub(crate) fn address(server: &Server) -> Vec<Wanted> {
    let (ip, port) = (server.config.advertise, port(server));
    if port == 0 {
        return Vec::new();
    }
    let mut addresses = vec![ip.to_string()];
    if server.config.etcd.is_some() {
        addresses.extend(recorded(server));
        addresses.sort();
        addresses.dedup();
    }
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let ready = |address: &String| json!({"addresses": [address], "conditions": {"ready": true}});
    let slice = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "generation": 1,
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family(ip), "ports": ports, "endpoints": addresses.iter().map(ready).collect::<Vec<_>>(),
    });
    let each: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": each, "ports": ports}],
    });
    let all = [
        service(server),
        wanted("discovery.k8s.io", "endpointslices", Rule::Always, slice),
        wanted("", "endpoints", Rule::Always, endpoints),
        cluster_info(server, port),
    ];
    all.into_iter().flatten().collect()
}

/// The servers that have said lately that they are there.
fn recorded(server: &Server) -> Vec<String> {
    let page = server.store.range(super::leases::PREFIX, store::Range::default());
    let entries = page.map(|page| page.entries).unwrap_or_default();
    entries.iter().filter_map(|e| e.key.strip_prefix(super::leases::PREFIX).map(str::to_owned)).collect()
}

/// The port that is really listened on, or is going to be.
fn port(server: &Server) -> u16 {
    match server.port() {
        0 => server.config.listen.first().map_or(6443, std::net::SocketAddr::port),
        port => port,
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// An address as a name: colons are no part of one.
fn canonical(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.segments().map(|s| format!("{s:04x}")).join("-"),
    }
}
