//! Services and their endpoints, as far as a proxy needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proto_kube::object::{self, at, items, text};
use serde_json::Value;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Three hours.
const AFFINITY_SECONDS: u32 = 10_800;
/// A service with this label is another proxy's.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The service that a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A service's namespace and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ServiceName {
    /// Of these texts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> ServiceName {
        ServiceName { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name; endpoints have it under the same.
    pub name: String,
    /// Its protocol over IP.
    pub protocol: u8,
    /// Its number on the cluster IP and the external addresses.
    pub port: u16,
    /// Its number on each node; 0 for none.
    pub node_port: u16,
}

/// A service that has cluster IPs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct Service {
    /// Another proxy serves it.
    pub elsewhere: bool,
    /// At most one a family.
    pub cluster_ips: Vec<IpAddr>,
    /// `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of load balancers that deliver packets with these addresses to the node.
    pub balancer_ips: Vec<IpAddr>,
    /// Who may come by a load balancer; empty for all.
    pub source_ranges: Vec<IpNet>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// `internalTrafficPolicy` is `Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy` is `Local`.
    pub external_local: bool,
    /// How many seconds a client stays with an endpoint; 0 for no affinity.
    pub affinity: u32,
    /// Where load balancers ask for the node's endpoints; 0 for nowhere.
    pub health_port: u16,
}

impl Service {
    /// A Service; `None` if it has no cluster IP.
    #[must_use]
    pub fn read(object: &Value) -> Option<Service> {
        let spec = |field| text(object, &["spec", field]);
        let mut cluster_ips: Vec<IpAddr> =
            items(object, &["spec", "clusterIPs"]).filter_map(address).collect();
        if cluster_ips.is_empty() {
            cluster_ips.extend(spec("clusterIP").parse::<IpAddr>().ok());
        }
        let kind = spec("type");
        if kind == "ExternalName" || cluster_ips.is_empty() {
            return None;
        }
        let external_ips: Vec<IpAddr> = items(object, &["spec", "externalIPs"]).filter_map(address).collect();
        let ingress = items(object, &["status", "loadBalancer", "ingress"]);
        let delivered = ingress.filter(|i| matches!(text(i, &["ipMode"]), "" | "VIP"));
        let accessible = matches!(kind, "LoadBalancer" | "NodePort") || !external_ips.is_empty();
        let external_local = accessible && spec("externalTrafficPolicy") == "Local";
        let needs_health = kind == "LoadBalancer" && external_local;
        let timeout = ["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"];
        let affinity = at(object, &timeout).and_then(Value::as_u64).and_then(|s| u32::try_from(s).ok());
        Some(Service {
            elsewhere: object::labels(object).any(|(label, _)| label == PROXY_NAME),
            cluster_ips,
            external_ips,
            balancer_ips: delivered.filter_map(|i| address(i.get("ip")?)).collect(),
            source_ranges: items(object, &["spec", "loadBalancerSourceRanges"])
                .filter_map(|range| range.as_str()?.trim().parse().ok())
                .collect(),
            ports: items(object, &["spec", "ports"]).filter_map(port).collect(),
            internal_local: spec("internalTrafficPolicy") == "Local",
            external_local,
            affinity: match spec("sessionAffinity") {
                "ClientIP" => affinity.unwrap_or(AFFINITY_SECONDS).max(1),
                _ => 0,
            },
            health_port: if needs_health { number(object, &["spec", "healthCheckNodePort"]) } else { 0 },
        })
    }
}

fn port(object: &Value) -> Option<Port> {
    Some(Port {
        name: text(object, &["name"]).to_owned(),
        protocol: protocol(text(object, &["protocol"]))?,
        port: Some(number(object, &["port"])).filter(|p| *p != 0)?,
        node_port: number(object, &["nodePort"]),
    })
}

fn number(object: &Value, path: &[&str]) -> u16 {
    at(object, path).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
}

fn protocol(name: &str) -> Option<u8> {
    match name {
        "" | "TCP" => Some(TCP),
        "UDP" => Some(UDP),
        "SCTP" => Some(SCTP),
        _ => None,
    }
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.trim().parse().ok()
}

/// An endpoint, at each port of its slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// The node it is on.
    pub node: Option<Box<str>>,
    /// It takes new connections.
    pub ready: bool,
    /// It could, were it not ending.
    pub serving: bool,
    /// It is ending.
    pub terminating: bool,
    /// Zones that should use it.
    pub zones: Vec<Box<str>>,
    /// Nodes that should use it.
    pub nodes: Vec<Box<str>>,
}

/// An `EndpointSlice` of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// Name, protocol and number of each port.
    pub ports: Vec<(String, u8, u16)>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl Slice {
    /// An EndpointSlice and whose it is; `None` if it is nobody's, or of names.
    #[must_use]
    pub fn read(object: &Value) -> Option<(ServiceName, Slice)> {
        let (_, service) = object::labels(object).find(|(label, _)| *label == SERVICE_NAME)?;
        let v4 = match text(object, &["addressType"]) {
            "IPv4" => true,
            "IPv6" => false,
            _ => return None,
        };
        let ports = items(object, &["ports"]).filter_map(|port| {
            let number = Some(number(port, &["port"])).filter(|p| *p != 0)?;
            Some((text(port, &["name"]).to_owned(), protocol(text(port, &["protocol"]))?, number))
        });
        let endpoints = items(object, &["endpoints"]).filter_map(|one| {
            let condition =
                |name, unset| at(one, &["conditions", name]).and_then(Value::as_bool).unwrap_or(unset);
            let hints = |of| {
                let names = items(one, &["hints", of]).map(|hint| text(hint, &["name"]).into());
                names.collect::<Vec<Box<str>>>()
            };
            Some(Endpoint {
                // all addresses of an endpoint are the same pod: the first is as good as any
                ip: items(one, &["addresses"]).find_map(address).filter(|ip| ip.is_ipv4() == v4)?,
                node: Some(text(one, &["nodeName"])).filter(|n| !n.is_empty()).map(Into::into),
                ready: condition("ready", true),
                serving: condition("serving", condition("ready", true)),
                terminating: condition("terminating", false),
                zones: hints("forZones"),
                nodes: hints("forNodes"),
            })
        });
        let name = ServiceName::new(object::namespace(object), service);
        Some((name, Slice { ports: ports.collect(), endpoints: endpoints.collect() }))
    }
}

/// A service's two halves; either may be there first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) service: Option<Service>,
    pub(crate) slices: BTreeMap<Box<str>, Slice>,
}

/// The services of a cluster with their endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceMap {
    pub(crate) entries: BTreeMap<ServiceName, Entry>,
    /// Those that load balancers ask the node about.
    asked: BTreeSet<ServiceName>,
}

impl ServiceMap {
    /// Takes in a Service that has come, changed or gone. Gives its name if that matters to a proxy.
    pub fn change_service(&mut self, old: Option<&Value>, new: Option<&Value>) -> Option<ServiceName> {
        let object = new.or(old)?;
        let name = ServiceName::new(object::namespace(object), object::name(object));
        let service = new.and_then(Service::read);
        let entry = self.entries.entry(name.clone()).or_default();
        let changed = entry.service != service;
        if service.as_ref().is_some_and(|s| s.health_port != 0 && !s.elsewhere) {
            self.asked.insert(name.clone());
        } else {
            self.asked.remove(&name);
        }
        entry.service = service;
        self.tidy(&name);
        changed.then_some(name)
    }

    /// Takes in an EndpointSlice that has come, changed or gone. Gives the services to which that matters.
    pub fn change_slice(&mut self, old: Option<&Value>, new: Option<&Value>) -> Vec<ServiceName> {
        let mut changed = Vec::new();
        let before = old.and_then(|o| Some((Slice::read(o)?.0, object::name(o))));
        let after = new.and_then(|o| Some((Slice::read(o)?, object::name(o))));
        if let Some((name, slice)) = &before
            && after.as_ref().is_none_or(|((of, _), _)| of != name)
            && let Some(entry) = self.entries.get_mut(name)
            && entry.slices.remove(*slice).is_some()
        {
            changed.push(name.clone());
            self.tidy(name);
        }
        if let Some(((name, slice), object)) = after {
            let entry = self.entries.entry(name.clone()).or_default();
            if entry.slices.get(object) != Some(&slice) {
                entry.slices.insert(object.into(), slice);
                changed.push(name);
            }
        }
        changed
    }

    fn tidy(&mut self, name: &ServiceName) {
        if self.entries.get(name).is_some_and(|e| e.service.is_none() && e.slices.is_empty()) {
            self.entries.remove(name);
        }
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.entries.keys()
    }

    /// A service.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.entries.get(name)?.service.as_ref()
    }

    /// Services that load balancers ask the node about: port, name, and how many ready endpoints are on the node.
    #[must_use]
    pub fn health_ports(&self, node: &str) -> BTreeMap<u16, (ServiceName, usize)> {
        let mut ports = BTreeMap::new();
        for name in &self.asked {
            let Some((entry, service)) = self.entries.get(name).and_then(|e| Some((e, e.service.as_ref()?)))
            else {
                continue;
            };
            let endpoints = entry.slices.values().flat_map(|s| &s.endpoints);
            let local = endpoints.filter(|e| e.ready && e.node.as_deref() == Some(node)).map(|e| e.ip);
            let local = local.collect::<BTreeSet<_>>().len();
            ports.entry(service.health_port).or_insert((name.clone(), local));
        }
        ports
    }
}
