//! What the cluster's names stand for, kept up to date object by object. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use proto_kube::object;
use serde_json::Value;

/// Namespace and name of a service.
pub type Key = (String, String);

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A port with a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its name; empty for the only one.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its number.
    pub number: u16,
}

/// A server behind a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// The name it wants to have.
    pub hostname: Option<String>,
}

impl Endpoint {
    /// The label before the service's name: what it wants, else its address with dashes.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.hostname {
            Some(name) => name.clone(),
            None => self.ip.to_string().replace(['.', ':'], "-"),
        }
    }
}

/// The part of an `EndpointSlice` that names are made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// Servers that are ready, or all where the service wants that.
    pub endpoints: Vec<Endpoint>,
    /// Their ports.
    pub ports: Vec<Port>,
}

/// The servers behind a service that have names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers {
    /// Servers that are not ready too.
    pub unready: bool,
    /// Only servers that want a name, without ports: the service has an address, and all others are known by that.
    pub named: bool,
    /// By the slice's name; only those with servers where `named`.
    pub slices: BTreeMap<String, Slice>,
}

impl Servers {
    /// All of them.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.slices.values().flat_map(|slice| &slice.endpoints)
    }

    /// Adds or changes a slice. Gives what it was before.
    fn set(&mut self, slice: &Value) -> Option<Slice> {
        let (name, new) = (object::name(slice), read_slice(slice, self.unready, self.named));
        match self.named && new.endpoints.is_empty() {
            true => self.slices.remove(name),
            false => self.slices.insert(name.to_owned(), new),
        }
    }
}

/// What a service's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// Addresses of its own.
    Cluster {
        /// The addresses.
        ips: Vec<IpAddr>,
        /// Its ports.
        ports: Vec<Port>,
        /// Those of its servers that want a name.
        servers: Servers,
    },
    /// Its servers.
    Headless(Servers),
    /// Another name.
    External(String),
}

impl Service {
    fn servers(&self) -> Option<&Servers> {
        match self {
            Service::Cluster { servers, .. } | Service::Headless(servers) => Some(servers),
            Service::External(_) => None,
        }
    }

    fn servers_mut(&mut self) -> Option<&mut Servers> {
        match self {
            Service::Cluster { servers, .. } | Service::Headless(servers) => Some(servers),
            Service::External(_) => None,
        }
    }
}

/// All names of a cluster.
#[derive(Debug, Default)]
pub struct Zone {
    services: HashMap<Key, Service>,
    namespaces: BTreeSet<String>,
    /// Not all namespaces are known yet: any may be there.
    namespaces_known: bool,
    /// Services by their own addresses.
    cluster_ips: HashMap<IpAddr, Key>,
    /// Services by the addresses of their servers that have names; how often one has it.
    endpoint_ips: HashMap<IpAddr, BTreeMap<Key, usize>>,
}

fn key(object: &Value) -> Key {
    (object::namespace(object).to_owned(), object::name(object).to_owned())
}

fn port(port: &Value, number: &str) -> Option<Port> {
    let protocol = match object::text(port, &["protocol"]) {
        "" => "tcp".to_owned(),
        protocol => protocol.to_lowercase(),
    };
    let number = u16::try_from(object::at(port, &[number])?.as_u64()?).ok()?;
    Some(Port { name: object::text(port, &["name"]).to_owned(), protocol, number })
}

impl Zone {
    /// A service, by namespace and name.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        // a key of borrowed parts does not exist for tuples
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Whether there is such a namespace, as far as is known.
    #[must_use]
    pub fn has_namespace(&self, name: &str) -> bool {
        !self.namespaces_known || self.namespaces.contains(name)
    }

    /// All namespaces have been told.
    pub fn namespaces_known(&mut self) {
        self.namespaces_known = true;
    }

    /// The service that has an address of its own.
    #[must_use]
    pub fn service_at(&self, ip: IpAddr) -> Option<&Key> {
        self.cluster_ips.get(&ip)
    }

    /// The servers, with their services, that have an address.
    pub fn endpoints_at(&self, ip: IpAddr) -> impl Iterator<Item = (&Key, &Endpoint)> {
        let keys = self.endpoint_ips.get(&ip).into_iter().flat_map(BTreeMap::keys);
        keys.flat_map(move |key| {
            let servers = self.services.get(key).and_then(Service::servers);
            let endpoints = servers.into_iter().flat_map(Servers::endpoints);
            endpoints.filter(move |endpoint| endpoint.ip == ip).map(move |endpoint| (key, endpoint))
        })
    }

    /// How many services there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// A Namespace that is there or gone.
    pub fn set_namespace(&mut self, name: &str, there: bool) {
        match there {
            true => self.namespaces.insert(name.to_owned()),
            false => self.namespaces.remove(name),
        };
    }

    /// Removes a Service.
    pub fn remove_service(&mut self, service: &Value) {
        self.put(key(service), None);
    }

    /// Adds or changes a Service. `slices` gives the slices of its namespace, asked where it has come to need them.
    pub fn set_service<S>(&mut self, service: &Value, slices: impl FnOnce() -> S)
    where
        S: IntoIterator<Item = std::sync::Arc<Value>>,
    {
        let key = key(service);
        let text = |name: &str| object::text(service, &["spec", name]);
        if text("type") == "ExternalName" {
            return self.put(key, Some(Service::External(text("externalName").to_owned())));
        }
        let ips: BTreeSet<IpAddr> = object::items(service, &["spec", "clusterIPs"])
            .filter_map(Value::as_str)
            .chain([text("clusterIP")])
            .filter_map(|ip| ip.parse().ok())
            .collect();
        if ips.is_empty() && text("clusterIP") != "None" {
            // no address has been given yet
            return self.put(key, None);
        }
        let named = !ips.is_empty();
        let unready = object::at(service, &["spec", "publishNotReadyAddresses"])
            .is_some_and(|on| *on == Value::Bool(true));
        let known = self.services.get(&key).and_then(Service::servers);
        let known = known.filter(|servers| servers.unready == unready && servers.named == named);
        let servers = match known {
            Some(_) if !named => return,
            Some(known) => known.clone(),
            None => {
                let mut servers = Servers { unready, named, ..Servers::default() };
                let of = |slice: &std::sync::Arc<Value>| is_of(slice, &key);
                slices().into_iter().filter(of).for_each(|slice| drop(servers.set(&slice)));
                servers
            }
        };
        if !named {
            return self.put(key, Some(Service::Headless(servers)));
        }
        let ports = object::items(service, &["spec", "ports"]).filter_map(|p| port(p, "port")).collect();
        self.put(key, Some(Service::Cluster { ips: ips.into_iter().collect(), ports, servers }));
    }

    /// Adds or changes an `EndpointSlice`; of services with addresses only servers that want a name are kept.
    pub fn set_slice(&mut self, slice: &Value) {
        let Some(key) = service_of(slice) else { return };
        let Some(servers) = self.services.get_mut(&key).and_then(Service::servers_mut) else { return };
        let old = servers.set(slice);
        let new = servers.slices.get(object::name(slice));
        let ips = new.into_iter().flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.ip).collect();
        self.count(&key, ips, old);
    }

    /// Removes an `EndpointSlice`.
    pub fn remove_slice(&mut self, slice: &Value) {
        let name = object::name(slice);
        let known = service_of(slice).filter(|key| self.services.contains_key(key));
        // one that went while nobody watched is known by its name alone
        let named = || {
            let has = |(key, service): &(&Key, &Service)| {
                key.0 == object::namespace(slice)
                    && service.servers().is_some_and(|servers| servers.slices.contains_key(name))
            };
            self.services.iter().find(has).map(|(key, _)| key.clone())
        };
        let Some(key) = known.or_else(named) else { return };
        if let Some(servers) = self.services.get_mut(&key).and_then(Service::servers_mut) {
            let old = servers.slices.remove(name);
            self.count(&key, Vec::new(), old);
        }
    }

    fn put(&mut self, key: Key, new: Option<Service>) {
        let old = match new {
            Some(new) => {
                if let Service::Cluster { ips, .. } = &new {
                    self.cluster_ips.extend(ips.iter().map(|ip| (*ip, key.clone())));
                }
                let servers = new.servers().into_iter().flat_map(Servers::endpoints);
                self.count(&key, servers.map(|endpoint| endpoint.ip).collect(), None);
                self.services.insert(key.clone(), new)
            }
            None => self.services.remove(&key),
        };
        let Some(mut old) = old else { return };
        let servers = old.servers_mut().map(std::mem::take).unwrap_or_default();
        servers.slices.into_values().for_each(|slice| self.count(&key, Vec::new(), Some(slice)));
        let Service::Cluster { ips, .. } = old else { return };
        let now: &[IpAddr] = match self.services.get(&key) {
            Some(Service::Cluster { ips, .. }) => ips,
            _ => &[],
        };
        for ip in ips.iter().filter(|ip| !now.contains(ip)) {
            // another service may have been given the address meanwhile
            if self.cluster_ips.get(ip) == Some(&key) {
                self.cluster_ips.remove(ip);
            }
        }
    }

    /// Counts addresses of servers in and those of an old slice out.
    fn count(&mut self, key: &Key, new: Vec<IpAddr>, old: Option<Slice>) {
        for ip in new {
            *self.endpoint_ips.entry(ip).or_default().entry(key.clone()).or_default() += 1;
        }
        for Endpoint { ip, .. } in old.map(|slice| slice.endpoints).unwrap_or_default() {
            let Some(keys) = self.endpoint_ips.get_mut(&ip) else { continue };
            if let Some(count) = keys.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    keys.remove(key);
                }
            }
            if keys.is_empty() {
                self.endpoint_ips.remove(&ip);
            }
        }
    }
}

fn service_name(slice: &Value) -> Option<&str> {
    object::labels(slice).find(|(label, _)| *label == SERVICE_NAME).map(|(_, name)| name)
}

fn service_of(slice: &Value) -> Option<Key> {
    Some((object::namespace(slice).to_owned(), service_name(slice)?.to_owned()))
}

fn is_of(slice: &Value, (namespace, service): &Key) -> bool {
    service_name(slice) == Some(service) && object::namespace(slice) == namespace
}

fn read_slice(slice: &Value, unready: bool, named: bool) -> Slice {
    let mut read = Slice::default();
    // names of hosts are known by other means
    if object::text(slice, &["addressType"]) == "FQDN" {
        return read;
    }
    for endpoint in object::items(slice, &["endpoints"]) {
        // not said means ready
        let ready =
            object::at(endpoint, &["conditions", "ready"]).is_none_or(|ready| *ready == Value::Bool(true));
        if !ready && !unready {
            continue;
        }
        let hostname = Some(object::text(endpoint, &["hostname"])).filter(|name| !name.is_empty());
        if named && hostname.is_none() {
            continue;
        }
        let ips = object::items(endpoint, &["addresses"]).filter_map(Value::as_str);
        read.endpoints.extend(
            ips.filter_map(|ip| ip.parse().ok())
                .map(|ip| Endpoint { ip, hostname: hostname.map(str::to_lowercase) }),
        );
    }
    if !named {
        read.ports = object::items(slice, &["ports"]).filter_map(|p| port(p, "port")).collect();
    }
    read
}

#[cfg(test)]
mod tests;
