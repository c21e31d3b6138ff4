//! The table of host ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink::NetlinkError;
use netlink::nft::{Batch, Cmp, Data, Element, Family, Hook, Meta, Nft, Rule, Set, TypeId, Verdict, key};

use super::{
    Chain, FAMILIES, HOSTPORTS, address_type, base, chain, ensure, family, name, octets, of, translated,
    within,
};

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proto {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

/// Which addresses of the host listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Listen {
    /// All of the pod's family.
    Any,
    /// One.
    On(IpAddr),
}

/// A port of the host that leads to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    /// Where.
    pub(crate) listen: Listen,
    /// Protocol.
    pub(crate) proto: Proto,
    /// Port of the host.
    pub(crate) host: u16,
    /// The pod's address, with its network's prefix length.
    pub(crate) pod: IpNet,
    /// Port of the pod.
    pub(crate) port: u16,
    /// Masquerade connections from the pod's network and from 127.0.0.1, whose answers would not come back.
    pub(crate) snat: bool,
}

const SETS: [&str; 6] = ["ports4", "ports6", "any4", "any6", "snat4", "snat6"];

impl HostPort {
    fn element(&self, owner: &str) -> (String, Element) {
        let (proto, host) = ([self.proto as u8], self.host.to_be_bytes());
        let (set, key_of) = match self.listen {
            Listen::Any => ("any", key(&[&proto, &host])),
            Listen::On(ip) => ("ports", key(&[&octets(ip), &proto, &host])),
        };
        let data = Data::Value(key(&[&octets(self.pod.addr()), &self.port.to_be_bytes()]));
        let element = Element { key: key_of, last: None, data: Some(data), comment: owner.to_owned() };
        (name(set, family(self.pod)), element)
    }

    fn snat_element(&self, owner: &str) -> (String, Element) {
        let (proto, host) = ([self.proto as u8], self.host.to_be_bytes());
        let key = key(&[&proto, &host, &octets(self.pod.addr()), &self.port.to_be_bytes()]);
        let data = Data::Verdict(Verdict::Goto(chain("in", self.pod)));
        let element = Element { key, last: None, data: Some(data), comment: owner.to_owned() };
        (name("snat", family(self.pod)), element)
    }

    fn elements(&self, owner: &str) -> impl Iterator<Item = (String, Element)> {
        let snat = self.snat.then(|| self.snat_element(owner));
        std::iter::once(self.element(owner)).chain(snat)
    }
}

/// Adds ports for an owner, all or none. A port that leads elsewhere already refuses with `EEXIST`.
pub(crate) fn set_hostports(nft: &mut Nft, owner: &str, ports: &[HostPort]) -> Result<(), NetlinkError> {
    let elements: Vec<(String, Element)> = ports.iter().flat_map(|port| port.elements(owner)).collect();
    ensure(
        nft,
        HOSTPORTS,
        |batch| FAMILIES.into_iter().for_each(|f| sets(batch, f)),
        &chains(ports),
        &elements,
    )
}

/// Removes what belongs to owners that `gone` says yes to.
pub(crate) fn remove_hostports(nft: &mut Nft, gone: impl Fn(&str) -> bool) -> Result<(), NetlinkError> {
    super::remove(nft, HOSTPORTS, &SETS, gone)
}

/// The first of the ports that is not in the table for that owner.
pub(crate) fn has_hostports(
    nft: &mut Nft,
    owner: &str,
    ports: &[HostPort],
) -> Result<Option<HostPort>, NetlinkError> {
    let mut there = BTreeSet::new();
    for set in SETS {
        for found in nft.elements(Family::Inet, HOSTPORTS, set)? {
            if found.comment == owner {
                there.insert((set.to_owned(), found.key, found.value));
            }
        }
    }
    let is_there = |(set, element): (String, Element)| {
        let value = match element.data {
            Some(Data::Value(value)) => value,
            _ => Vec::new(),
        };
        there.contains(&(set, element.key, value))
    };
    Ok(ports.iter().find(|port| !port.elements(owner).all(is_there)).copied())
}

fn chains(ports: &[HostPort]) -> Vec<Chain> {
    const LOCAL: [u8; 4] = 2u32.to_ne_bytes();
    let local =
        Rule::new().destination_type(0).cmp(0, Cmp::Eq, &LOCAL).verdict(Verdict::Jump("hostports".into()));
    let local = vec![local.with_comment("to an address of this machine")];
    let rules = FAMILIES.into_iter().flat_map(|f| [dnat_on(f), dnat_any(f)]).collect();
    let mut chains = vec![
        Chain { name: "hostports".into(), base: None, rules },
        Chain { name: "prerouting".into(), base: base(Hook::Prerouting, -100), rules: local.clone() },
        Chain { name: "output".into(), base: base(Hook::Output, -100), rules: local },
        Chain {
            name: "postrouting".into(),
            base: base(Hook::Postrouting, 100),
            rules: FAMILIES.map(snat).into(),
        },
    ];
    let nets: BTreeSet<IpNet> = ports.iter().filter(|p| p.snat).map(|p| p.pod.trunc()).collect();
    for net in nets {
        let from = |net: IpNet| within(of(family(net)).source(0, family(net)), net, Cmp::Eq).masquerade();
        let mut rules = vec![from(net).with_comment("from the pod's network or itself")];
        if family(net) == Family::Ip {
            let loopback = from("127.0.0.0/8".parse().expect("it is a network"));
            rules.push(loopback.with_comment("from this machine by 127.0.0.1"));
        }
        chains.push(Chain { name: chain("in", net), base: None, rules });
    }
    chains
}

fn sets(batch: &mut Batch, family: Family) {
    let (ip, proto, port) = (address_type(family), TypeId::Proto, TypeId::Port);
    let to = [ip, port];
    for (set, key) in [("ports", vec![ip, proto, port]), ("any", vec![proto, port])] {
        let set = name(set, family);
        batch.add_set(&Set { name: &set, key: &key, data: &to, verdicts: false, interval: false });
    }
    let (set, key) = (name("snat", family), [proto, port, ip, port]);
    batch.add_set(&Set { name: &set, key: &key, data: &[], verdicts: true, interval: false });
}

/// Registers an address takes.
fn words(family: Family) -> u32 {
    if family == Family::Ip { 1 } else { 4 }
}

fn dnat_on(family: Family) -> Rule {
    let n = words(family);
    let rule = of(family).destination(0, family).meta(n, Meta::L4Proto).port(n + 1);
    rule.map(0, &name("ports", family), 0).dnat(family, 0, n).with_comment("ports of one address")
}

fn dnat_any(family: Family) -> Rule {
    let rule = of(family).meta(0, Meta::L4Proto).port(1);
    rule.map(0, &name("any", family), 0).dnat(family, 0, words(family)).with_comment("ports of every address")
}

fn snat(family: Family) -> Rule {
    let n = words(family);
    let rule = translated(of(family)).meta(0, Meta::L4Proto).ct(1, netlink::nft::Ct::OriginalPort);
    rule.destination(2, family)
        .port(2 + n)
        .vmap(0, &name("snat", family))
        .with_comment("answers must come back here")
}
