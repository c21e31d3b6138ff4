//! The addresses and node ports of services. Each is a key of its own in the transaction of the service, so that several
//! API servers never give one away twice: an `IPAddress` object for a cluster IP, as upstream has it, and a record below
//! `/registry/ranges/servicenodeports/` for a node port.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use proto_kube::field::{self, Path};
use proto_kube::object;
use proto_kube::status::{Result, Status};
use serde_json::{Value, json};

use super::call::Call;
use crate::random;
use crate::stored;

/// The ports that are given to services of type `NodePort`.
const PORTS: RangeInclusive<u16> = 30_000..=32_767;
/// How often a free number is looked for by chance before it is looked for in order.
const GUESSES: usize = 64;

/// What a service holds of the cluster's numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

fn is_service(call: &Call<'_>) -> bool {
    call.stored.group.is_empty() && call.stored.plural == "services"
}

fn texts<'a>(service: &'a Value, key: &'a str) -> impl Iterator<Item = &'a str> {
    object::items(service, &["spec", key]).filter_map(Value::as_str)
}

fn kind(service: &Value) -> &str {
    match object::text(service, &["spec", "type"]) {
        "" => "ClusterIP",
        kind => kind,
    }
}

fn has_addresses(service: &Value) -> bool {
    kind(service) != "ExternalName" && object::text(service, &["spec", "clusterIP"]) != "None"
}

fn has_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            object::at(service, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false))
        }
        _ => false,
    }
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
}

fn held(service: &Value) -> Held {
    let mut held = Held::default();
    if has_addresses(service) {
        held.addresses = texts(service, "clusterIPs").filter_map(|ip| ip.parse().ok()).collect();
    }
    if matches!(kind(service), "NodePort" | "LoadBalancer") {
        held.ports =
            object::items(service, &["spec", "ports"]).filter_map(|p| port(&p["nodePort"])).collect();
        held.ports.extend(port(&service["spec"]["healthCheckNodePort"]));
    }
    held
}

fn address_key(address: IpAddr) -> String {
    format!("/registry/ipaddresses/{address}")
}

fn port_key(port: u16) -> String {
    format!("/registry/ranges/servicenodeports/{port}")
}

/// Gives a new or changed service its addresses and ports. What comes back is to be written with it.
///
/// # Errors
/// 422 when an address or port is taken or not of the range, 500 when none is left.
pub(crate) fn allocate(
    call: &Call<'_>,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<store::Write>> {
    if !is_service(call) {
        return Ok(Vec::new());
    }
    let before = old.map(held).unwrap_or_default();
    if let Some(old) = old {
        keep(service, old);
    }
    let mut allocator = Allocator { call, before: &before, errors: Vec::new() };
    if kind(service) != "ExternalName" {
        allocator.families(service);
    }
    if allocator.errors.is_empty() && has_addresses(service) {
        allocator.addresses(service)?;
    }
    if matches!(kind(service), "NodePort" | "LoadBalancer") {
        allocator.ports(service)?;
    }
    if !allocator.errors.is_empty() {
        return Err(Status::invalid(&call.resource.gvk(), object::name(service), &allocator.errors));
    }
    let now = held(service);
    let mut writes = take(call, service, &before, &now);
    writes.extend(give_back(&before, &now));
    Ok(writes)
}

/// What is to be written when a service is removed; its endpoints go with it.
pub(crate) fn release(call: &Call<'_>, service: &Value) -> Vec<store::Write> {
    if !is_service(call) {
        return Vec::new();
    }
    let mut writes = give_back(&held(service), &Held::default());
    let endpoints = format!("/registry/services/endpoints/{}/{}", call.namespace, object::name(service));
    writes.push(gone(endpoints));
    writes
}

fn give_back(before: &Held, now: &Held) -> Vec<store::Write> {
    let addresses = before.addresses.difference(&now.addresses).map(|a| address_key(*a));
    let ports = before.ports.difference(&now.ports).map(|p| port_key(*p));
    addresses.chain(ports).map(gone).collect()
}

fn gone(key: String) -> store::Write {
    store::Write { key, expect: store::Expect::Any, op: store::Op::Delete }
}

fn take(call: &Call<'_>, service: &Value, before: &Held, now: &Held) -> Vec<store::Write> {
    let (namespace, name) = (call.namespace, object::name(service));
    let addresses = now.addresses.difference(&before.addresses).map(|address| {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let object = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IPAddress",
            "metadata": {
                "name": address.to_string(),
                "uid": random::uid(),
                "creationTimestamp": kinds::meta::time(call.ctx.now),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": family,
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
        });
        store::Write::create(address_key(*address), stored::encode(&object))
    });
    let ports = now.ports.difference(&before.ports).map(|port| {
        let record = json!({"service": format!("{namespace}/{name}")});
        store::Write::create(port_key(*port), record.to_string())
    });
    addresses.chain(ports).collect()
}

/// A client that does not name what was given to the service keeps it.
fn keep(service: &mut Value, old: &Value) {
    let was = |key: &str| object::at(old, &["spec", key]).cloned();
    if has_addresses(service)
        && has_addresses(old)
        && object::text(service, &["spec", "clusterIP"]).is_empty()
    {
        let spec = object::member(service, "spec");
        for key in ["clusterIP", "clusterIPs"] {
            spec.extend(was(key).map(|value| (key.to_owned(), value)));
        }
    }
    if kind(service) != "ExternalName" && kind(old) != "ExternalName" {
        let spec = object::member(service, "spec");
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if spec.get(key).is_none_or(|v| v.is_null() || v.as_array().is_some_and(Vec::is_empty)) {
                spec.extend(was(key).map(|value| (key.to_owned(), value)));
            }
        }
    }
    if kind(service) == "ExternalName" && kind(old) != "ExternalName" {
        let spec = object::member(service, "spec");
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if spec.get(key) == was(key).as_ref() {
                spec.remove(key);
            }
        }
    }
    if has_ports(service) && has_ports(old) {
        keep_ports(service, old);
    }
}

fn keep_ports(service: &mut Value, old: &Value) {
    let same = |a: &Value, b: &Value| a["port"] == b["port"] && a["protocol"] == b["protocol"];
    let mut used: BTreeSet<u16> = held(service).ports;
    let Some(ports) = service["spec"]["ports"].as_array_mut() else { return };
    for entry in ports.iter_mut().filter(|entry| port(&entry["nodePort"]).is_none()) {
        let before = object::items(old, &["spec", "ports"]).find(|b| same(entry, b));
        if let Some(number) = before.and_then(|b| port(&b["nodePort"])).filter(|n| used.insert(*n)) {
            entry["nodePort"] = number.into();
        }
    }
}

struct Allocator<'a> {
    call: &'a Call<'a>,
    before: &'a Held,
    errors: field::Errors,
}

impl Allocator<'_> {
    fn ranges(&self) -> &[IpNet] {
        &self.call.server.config.service_cidrs
    }

    fn range(&self, family: &str) -> Option<IpNet> {
        self.ranges().iter().find(|net| matches!(net, IpNet::V4(_)) == (family == "IPv4")).copied()
    }

    fn is_taken(&self, key: &str) -> bool {
        self.call.server.store.get(key).is_some()
    }

    fn invalid(&mut self, path: &Path, value: impl Into<Value>, why: impl Into<String>) {
        self.errors.push(field::Error::invalid(path, value, why));
    }

    /// Decides the families of addresses.
    fn families(&mut self, service: &mut Value) {
        let name_of = |net: &IpNet| if matches!(net, IpNet::V4(_)) { "IPv4" } else { "IPv6" };
        let known: Vec<&str> = self.ranges().iter().map(name_of).collect();
        let Some(primary) = known.first().copied() else { return };
        let headless = object::text(service, &["spec", "clusterIP"]) == "None";
        let bare = object::at(service, &["spec", "selector"])
            .and_then(Value::as_object)
            .is_none_or(|s| s.is_empty());
        let loose = headless && bare;
        let mut families: Vec<String> = texts(service, "ipFamilies").map(str::to_owned).collect();
        let addresses: Vec<IpAddr> = texts(service, "clusterIPs").filter_map(|ip| ip.parse().ok()).collect();
        let two = families.len() == 2 || addresses.len() == 2;
        let policy = match object::text(service, &["spec", "ipFamilyPolicy"]) {
            "" if loose || two => "RequireDualStack",
            "" => "SingleStack",
            policy => policy,
        }
        .to_owned();
        if families.is_empty() {
            families =
                addresses.iter().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned()).collect();
        }
        if families.is_empty() {
            families.push(primary.to_owned());
        }
        if !loose {
            for (at, family) in families.iter().enumerate().filter(|(_, f)| !known.contains(&f.as_str())) {
                let path = Path::new("spec.ipFamilies").index(at);
                self.errors.push(field::Error::invalid(
                    &path,
                    family.as_str(),
                    "not configured on this cluster",
                ));
            }
            if policy == "RequireDualStack" && known.len() < 2 {
                let why = "this cluster is not configured for dual-stack services";
                self.invalid(&Path::new("spec.ipFamilyPolicy"), policy.as_str(), why);
            }
        }
        if policy != "SingleStack" && families.len() == 1 && (loose || known.len() > 1) {
            let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
            families.push(other.to_owned());
        }
        let spec = object::member(service, "spec");
        spec.insert("ipFamilyPolicy".to_owned(), policy.into());
        spec.insert("ipFamilies".to_owned(), families.into());
        if headless {
            spec.insert("clusterIPs".to_owned(), json!(["None"]));
        }
    }

    /// Gives the service an address of each of its families.
    fn addresses(&mut self, service: &mut Value) -> Result<()> {
        let families: Vec<String> = texts(service, "ipFamilies").map(str::to_owned).collect();
        let mut addresses: Vec<String> = texts(service, "clusterIPs").map(str::to_owned).collect();
        let single = object::text(service, &["spec", "clusterIP"]);
        if addresses.is_empty() && !single.is_empty() {
            addresses.push(single.to_owned());
        }
        for (at, family) in families.iter().enumerate() {
            match addresses.get(at).map(|text| (text, text.parse::<IpAddr>())) {
                None => {
                    let range = self.range(family);
                    let address = range.and_then(|range| self.free_address(range));
                    let address = address
                        .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?;
                    addresses.push(address.to_string());
                }
                // The rules of the kind say what is wrong with it.
                Some((_, Err(_))) => {}
                Some((_, Ok(address))) if self.before.addresses.contains(&address) => {}
                Some((text, Ok(address))) => {
                    let shown = json!([text]);
                    let range = self.range(if address.is_ipv4() { "IPv4" } else { "IPv6" });
                    let why = match range {
                        Some(range) if is_host(range, address) => self
                            .is_taken(&address_key(address))
                            .then(|| "provided IP is already allocated".to_owned()),
                        _ => Some("the provided network does not match the current range".to_owned()),
                    };
                    if let Some(why) = why {
                        let why = format!("failed to allocate IP {address}: {why}");
                        self.invalid(&Path::new("spec.clusterIPs"), shown, why);
                    }
                }
            }
        }
        let spec = object::member(service, "spec");
        spec.insert("clusterIP".to_owned(), addresses.first().cloned().unwrap_or_default().into());
        spec.insert("clusterIPs".to_owned(), addresses.into());
        Ok(())
    }

    /// An address that nobody has. The lowest are left to those who ask for one by name.
    fn free_address(&self, range: IpNet) -> Option<IpAddr> {
        let size = size(range);
        let low = (size / 16).clamp(16, 256).min(size / 2);
        let free = |offset: &u128| {
            let address = nth(range, *offset)?;
            (is_host(range, address) && !self.is_taken(&address_key(address))).then_some(address)
        };
        (0..GUESSES)
            .map(|_| fastrand::u128(low..size.max(low + 1)))
            .find_map(|offset| free(&offset))
            .or_else(|| (low..size.min(1 << 20)).chain(1..low).find_map(|offset| free(&offset)))
    }

    /// Gives each port of the service a node port.
    fn ports(&mut self, service: &mut Value) -> Result<()> {
        let wanted = has_ports(service);
        let path = Path::new("spec.ports");
        let mut own: BTreeSet<u16> = held(service).ports;
        let asked: Vec<(usize, u16)> = object::items(service, &["spec", "ports"])
            .enumerate()
            .filter_map(|(at, entry)| Some((at, port(&entry["nodePort"])?)))
            .collect();
        for (at, number) in asked {
            self.check_port(&path.index(at).child("nodePort"), number);
        }
        for entry in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
            if wanted && port(&entry["nodePort"]).is_none() {
                let number = self.free_port(&own)?;
                own.insert(number);
                entry["nodePort"] = number.into();
            }
        }
        self.health_port(service, &own)
    }

    /// Gives a load balancer that looks for local endpoints the port to ask.
    fn health_port(&mut self, service: &mut Value, own: &BTreeSet<u16>) -> Result<()> {
        let local = kind(service) == "LoadBalancer"
            && object::text(service, &["spec", "externalTrafficPolicy"]) == "Local";
        match port(&service["spec"]["healthCheckNodePort"]) {
            Some(number) => self.check_port(&Path::new("spec.healthCheckNodePort"), number),
            None if local => {
                let number = self.free_port(own)?;
                object::member(service, "spec").insert("healthCheckNodePort".to_owned(), number.into());
            }
            None => {}
        }
        Ok(())
    }

    fn check_port(&mut self, path: &Path, number: u16) {
        if self.before.ports.contains(&number) {
            return;
        }
        if !PORTS.contains(&number) {
            let (first, last) = PORTS.into_inner();
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            self.invalid(path, number, why);
        } else if self.is_taken(&port_key(number)) {
            self.invalid(path, number, "provided port is already allocated");
        }
    }

    fn free_port(&self, own: &BTreeSet<u16>) -> Result<u16> {
        let free = |number: &u16| !own.contains(number) && !self.is_taken(&port_key(*number));
        (0..GUESSES)
            .map(|_| fastrand::u16(PORTS))
            .find(free)
            .or_else(|| PORTS.into_iter().find(free))
            .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
    }
}

fn size(range: IpNet) -> u128 {
    1_u128.checked_shl(u32::from(range.max_prefix_len() - range.prefix_len())).unwrap_or(u128::MAX)
}

fn nth(range: IpNet, offset: u128) -> Option<IpAddr> {
    match range.network() {
        IpAddr::V4(first) => {
            Some(IpAddr::V4((u32::from(first).checked_add(u32::try_from(offset).ok()?)?).into()))
        }
        IpAddr::V6(first) => Some(IpAddr::V6((u128::from(first).checked_add(offset)?).into())),
    }
}

/// Whether an address of a range can be given away: not the first, nor in IPv4 the last.
fn is_host(range: IpNet, address: IpAddr) -> bool {
    let last = range.broadcast() == address && address.is_ipv4();
    range.contains(&address) && range.network() != address && !last
}
