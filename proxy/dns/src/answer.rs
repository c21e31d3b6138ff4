//! What a question about the cluster is answered with: the DNS specification of Kubernetes 1.1, and CoreDNS where that
//! leaves something open. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::message::{Data, Rcode, Record, Reply, kind};
use crate::name::Name;
use crate::zone::{Endpoint, Port, Servers, Service, Zone};

/// The version of the specification, as `dns-version` says it.
const VERSION: &str = "1.1.0";
/// What SRV records of services with an address weigh.
const WEIGHT: u16 = 100;

/// What an answer depends on beside the zone.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The cluster's domain, as `cluster.local`.
    pub domain: Name,
    /// Where this server is reached.
    pub addresses: Vec<IpAddr>,
    /// For how many seconds an answer may be remembered.
    pub ttl: u32,
}

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is answered here.
    Answer(Reply),
    /// The answer is another name outside, whose records are to be added.
    Follow(Reply, Name),
    /// It is none of the cluster's: upstream servers know.
    Forward,
}

/// What there is at a name.
enum Found {
    /// No such name.
    Nothing,
    /// Records; none of them may be of the type asked for.
    Records(Vec<Data>, Vec<Record>),
    /// It stands for another.
    Alias(Name),
}

/// How many names in a row may stand for the next.
const ALIASES_MAX: usize = 8;

/// Answers a question.
#[must_use]
pub fn answer(zone: &Zone, authority: &Authority, name: &Name, asked: u16) -> Outcome {
    Of { zone, authority }.answer(name, asked, ALIASES_MAX)
}

struct Of<'a> {
    zone: &'a Zone,
    authority: &'a Authority,
}

impl Of<'_> {
    fn answer(&self, name: &Name, asked: u16, aliases: usize) -> Outcome {
        let Some(labels) = name.within(&self.authority.domain) else { return self.reverse(name, asked) };
        let texts: Option<Vec<&str>> = labels.iter().map(|label| std::str::from_utf8(label).ok()).collect();
        let found = texts.map_or(Found::Nothing, |labels| self.find(&labels, asked));
        match found {
            Found::Alias(target) => self.alias(name, target, asked, aliases),
            found => Outcome::Answer(self.reply(name, asked, found)),
        }
    }

    fn alias(&self, name: &Name, target: Name, asked: u16, aliases: usize) -> Outcome {
        let data = Data::Cname(target.clone());
        let cname = Record { name: name.clone(), ttl: self.authority.ttl, data };
        let mut reply = Reply { authoritative: true, answers: vec![cname], ..Reply::default() };
        if asked == kind::CNAME || aliases == 0 {
            return Outcome::Answer(reply);
        }
        match self.answer(&target, asked, aliases - 1) {
            Outcome::Forward => Outcome::Follow(reply, target),
            Outcome::Follow(rest, last) => {
                reply.answers.extend(rest.answers);
                Outcome::Follow(reply, last)
            }
            Outcome::Answer(rest) => {
                reply.answers.extend(rest.answers);
                Outcome::Answer(Reply { answers: reply.answers, ..rest })
            }
        }
    }

    fn reply(&self, name: &Name, asked: u16, found: Found) -> Reply {
        let ttl = self.authority.ttl;
        let mut reply = Reply { authoritative: true, ..Reply::default() };
        let record = |data: Data| Record { name: name.clone(), ttl, data };
        match found {
            Found::Nothing | Found::Alias(_) => reply.rcode = Rcode::NxDomain,
            Found::Records(all, extra) => {
                let fits = |data: &Data| {
                    data.kind() == asked || asked == kind::ANY && matches!(data, Data::Ip(_) | Data::Txt(_))
                };
                reply.answers = all.into_iter().filter(fits).map(record).collect();
                if !reply.answers.is_empty() {
                    reply.extra = extra;
                }
            }
        }
        if reply.answers.is_empty() {
            reply.authority.push(Record { name: self.authority.domain.clone(), ttl, data: self.soa() });
        }
        reply
    }

    fn name(&self, labels: &[&str]) -> Option<Name> {
        self.authority.domain.below(labels.iter().map(|label| label.as_bytes()))
    }

    fn server(&self) -> Name {
        self.name(&["ns", "dns"]).unwrap_or_else(Name::root)
    }

    fn soa(&self) -> Data {
        let mailbox = self.name(&["hostmaster"]).unwrap_or_else(Name::root);
        Data::Soa(self.server(), mailbox, 1, self.authority.ttl)
    }

    /// `labels` stand before the domain.
    fn find(&self, labels: &[&str], asked: u16) -> Found {
        let exists = |is: bool| if is { Found::Records(Vec::new(), Vec::new()) } else { Found::Nothing };
        match labels {
            [] => Found::Records(vec![self.soa(), Data::Ns(self.server())], self.server_addresses()),
            ["dns-version"] => Found::Records(vec![Data::Txt(VERSION.to_owned())], Vec::new()),
            ["dns"] | ["svc"] | ["pod"] => exists(true),
            ["ns", "dns"] => {
                Found::Records(self.authority.addresses.iter().map(|ip| Data::Ip(*ip)).collect(), Vec::new())
            }
            [namespace, "svc" | "pod"] => exists(self.zone.has_namespace(namespace)),
            [ip, namespace, "pod"] => match pod_ip(ip) {
                Some(ip) if self.zone.has_namespace(namespace) => {
                    Found::Records(vec![Data::Ip(ip)], Vec::new())
                }
                _ => Found::Nothing,
            },
            [before @ .., service, namespace, "svc"] => match self.zone.service(namespace, service) {
                Some(found) => self.service((service, namespace), found, before, asked),
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }

    fn server_addresses(&self) -> Vec<Record> {
        let (name, ttl) = (self.server(), self.authority.ttl);
        let record = |ip: &IpAddr| Record { name: name.clone(), ttl, data: Data::Ip(*ip) };
        self.authority.addresses.iter().map(record).collect()
    }

    fn service(&self, of: (&str, &str), service: &Service, before: &[&str], asked: u16) -> Found {
        let srv = asked == kind::SRV;
        match (service, before) {
            (Service::External(target), []) => match Name::from_text(target) {
                Some(target) => Found::Alias(target),
                None => Found::Nothing,
            },
            (Service::Cluster { ips, ports, .. }, []) => {
                let mut all: Vec<Data> = ips.iter().map(|ip| Data::Ip(*ip)).collect();
                let (hosts, extra) = if srv { self.ports(of, ips, ports.iter()) } else { Default::default() };
                all.extend(hosts);
                Found::Records(all, extra)
            }
            (Service::Cluster { ips, ports, .. }, [port, protocol]) => {
                let (all, extra) = self.ports(of, ips, ports.iter().filter(|p| is_port(p, port, protocol)));
                if all.is_empty() { Found::Nothing } else { Found::Records(all, extra) }
            }
            (Service::Headless(servers), []) => {
                let ips: BTreeSet<IpAddr> = servers.endpoints().map(|endpoint| endpoint.ip).collect();
                if ips.is_empty() {
                    return Found::Nothing;
                }
                let mut all: Vec<Data> = ips.into_iter().map(Data::Ip).collect();
                let every = |_: &&Port| true;
                let (hosts, extra) = if srv { self.hosts(of, servers, every) } else { Default::default() };
                all.extend(hosts);
                Found::Records(all, extra)
            }
            (Service::Headless(servers), [port, protocol]) => {
                let (all, extra) = self.hosts(of, servers, |p| is_port(p, port, protocol));
                if all.is_empty() { Found::Nothing } else { Found::Records(all, extra) }
            }
            (Service::Headless(servers), [label]) => host(servers, label)
                .unwrap_or_else(|| self.protocol(servers.slices.values().flat_map(|s| &s.ports), label)),
            (Service::Cluster { ports, servers, .. }, [label]) => {
                host(servers, label).unwrap_or_else(|| self.protocol(ports.iter(), label))
            }
            _ => Found::Nothing,
        }
    }

    /// `_tcp.<service>` has no records, but names below it.
    fn protocol<'a>(&self, mut ports: impl Iterator<Item = &'a Port>, label: &str) -> Found {
        let protocol = label.strip_prefix('_').unwrap_or_default();
        match ports.any(|port| !port.name.is_empty() && port.protocol == protocol) {
            true => Found::Records(Vec::new(), Vec::new()),
            false => Found::Nothing,
        }
    }

    /// SRV records of a service with addresses.
    fn ports<'a>(
        &self,
        (service, namespace): (&str, &str),
        ips: &[IpAddr],
        ports: impl Iterator<Item = &'a Port>,
    ) -> (Vec<Data>, Vec<Record>) {
        let Some(host) = self.name(&[service, namespace, "svc"]) else { return Default::default() };
        let srv: Vec<Data> = ports.map(|port| Data::Srv(0, WEIGHT, port.number, host.clone())).collect();
        let record =
            |ip: &IpAddr| Record { name: host.clone(), ttl: self.authority.ttl, data: Data::Ip(*ip) };
        (srv, ips.iter().map(record).collect())
    }

    /// SRV records of a service's servers.
    fn hosts(
        &self,
        (service, namespace): (&str, &str),
        servers: &Servers,
        wanted: impl Fn(&&Port) -> bool,
    ) -> (Vec<Data>, Vec<Record>) {
        let (mut srv, mut extra) = (BTreeSet::new(), BTreeSet::new());
        for slice in servers.slices.values() {
            let ports: Vec<&Port> = slice.ports.iter().filter(&wanted).collect();
            for endpoint in slice.endpoints.iter().filter(|_| !ports.is_empty()) {
                let Some(host) = self.name(&[&endpoint.label(), service, namespace, "svc"]) else { continue };
                srv.extend(ports.iter().map(|port| (port.number, host.clone())));
                extra.insert((host, endpoint.ip));
            }
        }
        // together they weigh what one address of a service would
        let names = srv.len().max(1);
        let weight = u16::try_from(usize::from(WEIGHT) / names).unwrap_or(0).max(1);
        let srv = srv.into_iter().map(|(port, host)| Data::Srv(0, weight, port, host)).collect();
        let ttl = self.authority.ttl;
        let record = |(name, ip)| Record { name, ttl, data: Data::Ip(ip) };
        (srv, extra.into_iter().map(record).collect())
    }

    /// Names of addresses. Those that are not the cluster's are somebody else's.
    fn reverse(&self, name: &Name, asked: u16) -> Outcome {
        let Some(ip) = reverse_ip(name) else { return Outcome::Forward };
        let mut names: Vec<Name> = Vec::new();
        if let Some((namespace, service)) = self.zone.service_at(ip) {
            names.extend(self.name(&[service, namespace, "svc"]));
        }
        for ((namespace, service), endpoint) in self.zone.endpoints_at(ip) {
            names.extend(self.name(&[&endpoint.label(), service, namespace, "svc"]));
        }
        if names.is_empty() {
            return Outcome::Forward;
        }
        names.sort();
        names.dedup();
        let names = names.into_iter().map(Data::Ptr).collect();
        Outcome::Answer(self.reply(name, asked, Found::Records(names, Vec::new())))
    }
}

/// A service's server, by its label.
fn host(servers: &Servers, label: &str) -> Option<Found> {
    let named = |endpoint: &&Endpoint| endpoint.label() == label;
    let ips: BTreeSet<IpAddr> = servers.endpoints().filter(named).map(|endpoint| endpoint.ip).collect();
    (!ips.is_empty()).then(|| Found::Records(ips.into_iter().map(Data::Ip).collect(), Vec::new()))
}

fn is_port(port: &Port, name: &str, protocol: &str) -> bool {
    let (name, protocol) = (name.strip_prefix('_'), protocol.strip_prefix('_'));
    !port.name.is_empty() && name == Some(port.name.as_str()) && protocol == Some(port.protocol.as_str())
}

/// `10-244-1-5`, or an IPv6 address with dashes for colons.
fn pod_ip(label: &str) -> Option<IpAddr> {
    let four = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
    four.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from)).ok()
}

/// `5.1.244.10.in-addr.arpa`, or 32 digits before `ip6.arpa`.
fn reverse_ip(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&[u8]> = name.labels().collect();
    match labels.as_slice() {
        [d, c, b, a, b"in-addr", b"arpa"] => {
            let mut octets = [0; 4];
            for (octet, label) in octets.iter_mut().zip([a, b, c, d]) {
                *octet = std::str::from_utf8(label).ok()?.parse().ok()?;
            }
            Some(IpAddr::from(octets))
        }
        [digits @ .., b"ip6", b"arpa"] if digits.len() == 32 => {
            let mut all = 0u128;
            for digit in digits.iter().rev() {
                let [digit] = digit else { return None };
                all = all << 4 | u128::from(char::from(*digit).to_digit(16)?);
            }
            Some(Ipv6Addr::from(all).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
