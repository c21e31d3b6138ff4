//! The addresses and the ports on nodes that a service takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use proto_kube::field::{Error, Errors, Path};
use proto_kube::object;
use serde_json::{Value, json};

use super::{is_headless, needs_address, needs_health_check, needs_node_ports};
use crate::check;

/// From where addresses and ports are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    /// The addresses of services: one block, or one of each family, the preferred one first.
    pub addresses: Vec<IpNet>,
    /// The ports on nodes, 30000 to 32767 by default.
    pub node_ports: RangeInclusive<u16>,
}

/// What other services have taken.
pub trait Taken {
    /// Whether an address is taken.
    fn address(&self, address: IpAddr) -> bool;
    /// Whether a port on nodes is taken, for whatever protocol.
    fn node_port(&self, port: u16) -> bool;
}

/// Why a service cannot have what it needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// What it asks for is wrong or taken.
    Invalid(Errors),
    /// There is nothing left; for an internal error.
    Exhausted(String),
}

/// What a service holds, to be counted as taken for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Its addresses in the cluster.
    pub addresses: Vec<IpAddr>,
    /// Its ports on nodes, the one for health checks included.
    pub node_ports: Vec<u16>,
}

/// What a stored service holds.
#[must_use]
pub fn held(service: &Value) -> Held {
    let spec = &service["spec"];
    let port = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
    let mut node_ports: Vec<u16> =
        object::items(spec, &["ports"]).filter_map(|p| port(&p["nodePort"])).collect();
    node_ports.extend(port(&spec["healthCheckNodePort"]));
    node_ports.sort_unstable();
    node_ports.dedup();
    let addresses = object::items(spec, &["clusterIPs"]).filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    Held { addresses, node_ports }
}

/// Gives a service what it needs and does not have: families, addresses, ports on nodes. It has been prepared
/// (`prepare_create` or `prepare_update`), and is validated afterwards. What the `old` service holds stays its own;
/// `taken` may count it or not. `random` decides where the search for something free begins.
///
/// # Errors
/// When what it asks for is wrong or taken, or nothing is left.
pub fn allocate(
    service: &mut Value,
    old: Option<&Value>,
    ranges: &Ranges,
    taken: &dyn Taken,
    random: u64,
) -> Result<(), Refusal> {
    let own = old.map(held).unwrap_or_default();
    let Some(spec) = service.get_mut("spec").filter(|s| s.is_object()) else { return Ok(()) };
    if needs_address(spec) {
        families(spec, old.map(|old| &old["spec"]), ranges)?;
        if !is_headless(spec) {
            addresses(spec, ranges, &own, taken, random)?;
        }
    }
    let mut ports = Ports { ranges, own: &own.node_ports, taken, new: Vec::new(), random };
    if needs_node_ports(spec) {
        ports.all(spec)?;
    }
    if needs_health_check(spec) {
        ports.health_check(spec)?;
    }
    Ok(())
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv6() { "IPv6" } else { "IPv4" }
}

fn texts(spec: &Value, key: &str) -> Vec<String> {
    object::items(spec, &[key]).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Decides on the families and whether there are one or two.
fn families(spec: &mut Value, was: Option<&Value>, ranges: &Ranges) -> Result<(), Refusal> {
    if was.is_some_and(|was| prefers_as_before(spec, was)) {
        return Ok(());
    }
    let headless = object::text(spec, &["clusterIP"]) == "None";
    let selects = object::at(spec, &["selector"]).and_then(Value::as_object).is_some_and(|s| !s.is_empty());
    if object::text(spec, &["ipFamilyPolicy"]).is_empty() {
        let before = was.map_or("", |was| object::text(was, &["ipFamilyPolicy"]));
        let policy = match before {
            "" if headless && !selects => "RequireDualStack",
            "" => "SingleStack",
            before => before,
        };
        spec["ipFamilyPolicy"] = policy.into();
    }
    let errors = check::at(spec, &Path::new("spec"), |spec| super::rules::addresses(&spec));
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    release(spec, was);
    let policy = object::text(spec, &["ipFamilyPolicy"]).to_owned();
    let single = policy == "SingleStack";
    let configured: Vec<&str> = ranges.addresses.iter().map(|block| family(block.addr())).collect();
    let (ips, mut wanted) = (texts(spec, "clusterIPs"), texts(spec, "ipFamilies"));
    let mut errors = Errors::new();
    let path = Path::new("spec.ipFamilyPolicy");
    for (many, what) in [(ips.len() == 2, "cluster IPs"), (wanted.len() == 2, "IP families")] {
        if single && many {
            let detail =
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(Error::invalid(&path, policy.clone(), detail));
        }
    }
    for (index, ip) in ips.iter().enumerate().skip(wanted.len()) {
        let Ok(ip) = ip.parse::<IpAddr>() else { break };
        if configured.contains(&family(ip)) {
            wanted.push(family(ip).to_owned());
        } else {
            let path = Path::new("spec.clusterIPs").index(index);
            errors.push(Error::invalid(
                &path,
                json!(ips),
                format!("{} is not configured on this cluster", family(ip)),
            ));
        }
    }
    if errors.is_empty() && (selects || !headless) {
        if policy == "RequireDualStack" && configured.len() < 2 {
            let detail = "this cluster is not configured for dual-stack services";
            errors.push(Error::invalid(&path, policy.clone(), detail));
        }
        for (index, family) in wanted.iter().enumerate().filter(|(_, f)| !configured.contains(&f.as_str())) {
            let path = Path::new("spec.ipFamilies").index(index);
            errors.push(Error::invalid(&path, family.clone(), "not configured on this cluster"));
        }
    }
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    if wanted.is_empty() {
        wanted.extend(configured.first().map(|f| (*f).to_owned()));
    }
    if !single && wanted.len() == 1 && (configured.len() == 2 || headless && !selects) {
        wanted.push(if wanted[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    spec["ipFamilies"] = json!(wanted);
    Ok(())
}

/// Whether a service that would like two families leaves them as they are: it gets no second one, nor loses it, only
/// because the cluster has changed.
fn prefers_as_before(spec: &Value, was: &Value) -> bool {
    let prefers = |spec: &Value| object::text(spec, &["ipFamilyPolicy"]) == "PreferDualStack";
    let same = |key: &str| check::same(&spec[key], &was[key]);
    prefers(spec) && prefers(was) && ["clusterIP", "clusterIPs", "ipFamilies"].into_iter().all(same)
}

/// A service that becomes one of a single family gives up the second address.
fn release(spec: &mut Value, was: Option<&Value>) {
    let Some(was) = was else { return };
    if object::text(spec, &["ipFamilyPolicy"]) != "SingleStack" {
        return;
    }
    for key in ["clusterIPs", "ipFamilies"] {
        let unchanged = check::same(&spec[key], &was[key]);
        if let Some(list) = spec.get_mut(key).and_then(Value::as_array_mut).filter(|_| unchanged) {
            list.truncate(1);
        }
    }
}

fn addresses(
    spec: &mut Value,
    ranges: &Ranges,
    own: &Held,
    taken: &dyn Taken,
    random: u64,
) -> Result<(), Refusal> {
    let mut ips = texts(spec, "clusterIPs");
    for (index, wanted) in texts(spec, "ipFamilies").iter().enumerate() {
        let Some(block) = ranges.addresses.iter().find(|b| family(b.addr()) == wanted) else { continue };
        match ips.get(index).map(String::as_str) {
            None | Some("") => {
                let free =
                    free_address(block, random, |ip| taken.address(ip) && !own.addresses.contains(&ip));
                let free = free.ok_or_else(|| {
                    Refusal::Exhausted("failed to allocate a serviceIP: range is full".to_owned())
                })?;
                ips.truncate(index);
                ips.push(free.to_string());
            }
            Some(text) => {
                let why = match text.parse::<IpAddr>() {
                    Ok(ip) if own.addresses.contains(&ip) => continue,
                    Ok(ip) if !usable(block, ip) => {
                        "the provided network does not match the current range".to_owned()
                    }
                    Ok(ip) if taken.address(ip) => "provided IP is already allocated".to_owned(),
                    Ok(_) => continue,
                    Err(_) => "the provided IP is not valid".to_owned(),
                };
                let detail = format!("failed to allocate IP {text}: {why}");
                let fault = Error::invalid(&Path::new("spec.clusterIPs"), json!(ips), detail);
                return Err(Refusal::Invalid(vec![fault]));
            }
        }
    }
    if let Some(first) = ips.first() {
        spec["clusterIP"] = first.clone().into();
        spec["clusterIPs"] = json!(ips);
    }
    Ok(())
}

/// The addresses of a block that services can have, counted from its first.
fn size(block: &IpNet) -> u64 {
    let bits = u32::from(block.max_prefix_len() - block.prefix_len());
    let all = 1_u64 << bits.min(20);
    match block {
        // Neither the network's own address nor the one for all.
        IpNet::V4(_) if bits <= 20 => all.saturating_sub(2),
        _ => all.saturating_sub(1),
    }
}

fn nth(block: &IpNet, index: u64) -> IpAddr {
    match block {
        IpNet::V4(block) => {
            let offset = u32::try_from(index + 1).unwrap_or(u32::MAX);
            Ipv4Addr::from(u32::from(block.network()).saturating_add(offset)).into()
        }
        IpNet::V6(block) => {
            Ipv6Addr::from(u128::from(block.network()).saturating_add(u128::from(index) + 1)).into()
        }
    }
}

fn usable(block: &IpNet, ip: IpAddr) -> bool {
    block.contains(&ip) && ip != block.network() && !(ip.is_ipv4() && ip == block.broadcast())
}

/// Something free among so many things: first among those that are not kept for whoever asks for one by name.
fn free(count: u64, reserved: u64, random: u64, is_taken: impl Fn(u64) -> bool) -> Option<u64> {
    let upper = count.saturating_sub(reserved);
    let search = |from: u64, count: u64| {
        let start = random.checked_rem(count)?;
        (0..count).map(|step| from + (start + step) % count).find(|index| !is_taken(*index))
    };
    search(reserved, upper).or_else(|| search(0, reserved.min(count)))
}

fn free_address(block: &IpNet, random: u64, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let count = size(block);
    let reserved = if count < 16 { 0 } else { (count / 16).clamp(16, 256) };
    free(count, reserved.min(count), random, |index| is_taken(nth(block, index)))
        .map(|index| nth(block, index))
}

/// The search for ports on nodes.
struct Ports<'a> {
    ranges: &'a Ranges,
    own: &'a [u16],
    taken: &'a dyn Taken,
    /// The ports that the service takes now, with their protocols; it may take one for several protocols.
    new: Vec<(u16, String)>,
    random: u64,
}

impl Ports<'_> {
    fn all(&mut self, spec: &mut Value) -> Result<(), Refusal> {
        let count = object::items(spec, &["ports"]).count();
        // What is asked for by number is taken first, so that nobody else is given it.
        for index in 0..count {
            let port = &spec["ports"][index];
            let Some(number) = port["nodePort"].as_i64().filter(|n| *n != 0) else { continue };
            let protocol = object::text(port, &["protocol"]).to_owned();
            let path = Path::new("spec.ports").index(index).child("nodePort");
            let number =
                self.ask(number).map_err(|why| Refusal::Invalid(vec![Error::invalid(&path, number, why)]))?;
            self.new.push((number, protocol));
        }
        for index in 0..count {
            let port = &spec["ports"][index];
            if port["nodePort"].as_i64().is_some_and(|n| n != 0) {
                continue;
            }
            let protocol = object::text(port, &["protocol"]).to_owned();
            let own = port["port"].clone();
            // The same port for another protocol is the same port on nodes.
            let twin = object::items(spec, &["ports"])
                .filter(|p| p["port"] == own && object::text(p, &["protocol"]) != protocol)
                .find_map(|p| u16::try_from(p["nodePort"].as_u64()?).ok())
                .filter(|n| *n != 0 && !self.new.contains(&(*n, protocol.clone())));
            let number = match twin {
                Some(number) => number,
                None => self
                    .next()
                    .map_err(|why| Refusal::Exhausted(format!("failed to allocate a nodePort: {why}")))?,
            };
            spec["ports"][index]["nodePort"] = number.into();
            self.new.push((number, protocol));
        }
        Ok(())
    }

    fn health_check(&mut self, spec: &mut Value) -> Result<(), Refusal> {
        let asked = spec["healthCheckNodePort"].as_i64().unwrap_or(0);
        let number = match asked {
            0 => self.next().map_err(|why| {
                Refusal::Exhausted(format!("failed to allocate a HealthCheck NodePort : {why}"))
            })?,
            asked => self.ask(asked).map_err(|why| {
                Refusal::Exhausted(format!(
                    "failed to allocate requested HealthCheck NodePort {asked}: {why}"
                ))
            })?,
        };
        spec["healthCheckNodePort"] = number.into();
        Ok(())
    }

    /// A port asked for by its number.
    fn ask(&self, number: i64) -> Result<u16, String> {
        let range = &self.ranges.node_ports;
        let port = u16::try_from(number).ok().filter(|port| range.contains(port)).ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
        })?;
        if self.taken.node_port(port) && !self.own.contains(&port) {
            return Err("provided port is already allocated".to_owned());
        }
        Ok(port)
    }

    /// Some port that is free.
    fn next(&self) -> Result<u16, String> {
        let (first, last) =
            (u64::from(*self.ranges.node_ports.start()), u64::from(*self.ranges.node_ports.end()));
        let count = (last + 1).saturating_sub(first);
        let reserved = if count < 16 { 0 } else { (count / 32).clamp(16, 128) };
        let port = |index: u64| u16::try_from(first + index).unwrap_or(u16::MAX);
        let is_taken = |index: u64| {
            let port = port(index);
            self.taken.node_port(port) || self.own.contains(&port) || self.new.iter().any(|(p, _)| *p == port)
        };
        free(count, reserved, self.random, is_taken).map(port).ok_or_else(|| "range is full".to_owned())
    }
}
