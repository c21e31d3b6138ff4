//! Services and packets: in the simulator, and in namespaces with the real kernel.

#![allow(clippy::unwrap_used)]

mod bridge;
mod lab;
mod laws;
mod objects;
mod running;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lab::{Lab, Seen};
use netlink::netns;
use proxy::Kernel;
use proxy_rules::{Family, Outcome, Packet, Target, compile, simulate};
use table::{Flow, Group, NODE_IPS, groups};

fn protocol(name: &str) -> u8 {
    match name {
        "tcp" => 6,
        "udp" => 17,
        _ => 132,
    }
}

impl Flow {
    fn destination(&self) -> (u8, SocketAddr) {
        let (name, address) = self.destination.split_once(' ').unwrap();
        (protocol(name), address.parse().unwrap())
    }

    fn packet(&self) -> Packet {
        let (protocol, to) = self.destination();
        let source: IpAddr = self.source.parse().unwrap();
        let link = Lab::link(source).or_else(|| (!NODE_IPS.contains(&self.source)).then(|| "uplink".into()));
        Packet { source, destination: to.ip(), protocol, port: to.port(), link }
    }

    /// Where connections go, and whether their source is then the node's.
    fn targets(&self) -> BTreeMap<Target, bool> {
        let mut words = self.outcome.split(' ').peekable();
        let all = words.next_if_eq(&"masq").is_some();
        let target = |word: &str| {
            let (address, masq) = word.split_once('=').map_or((word, all), |(a, _)| (a, true));
            let address: SocketAddr = address.parse().unwrap();
            ((address.ip(), address.port()), masq)
        };
        words.map(target).collect()
    }
}

fn node_ips() -> Vec<IpAddr> {
    NODE_IPS.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[test]
fn simulated() {
    for group in groups() {
        let map = group.map();
        for flow in &group.flows {
            let packet = flow.packet();
            let rules = compile(&map, &group.node, Family::of(packet.destination));
            let found = simulate(&rules, &node_ips(), &packet);
            let said = format!("{}: {} -> {}", group.name, flow.source, flow.destination);
            match (flow.outcome, found) {
                ("", found) => assert_eq!(found, Outcome::Untouched, "{said}"),
                ("DROP", found) => assert_eq!(found, Outcome::Dropped, "{said}"),
                ("REJECT", found) => assert!(matches!(found, Outcome::Rejected(_)), "{said}: {found:?}"),
                (_, found) => assert_eq!(found, Outcome::To(flow.targets()), "{said}"),
            }
        }
    }
}

/// What a real connection must meet.
fn expected(flow: &Flow) -> BTreeSet<Seen> {
    let source: IpAddr = flow.source.parse().unwrap();
    match flow.outcome {
        "DROP" => BTreeSet::from([Seen::Silence]),
        "REJECT" => BTreeSet::from([Seen::Refused]),
        _ => flow
            .targets()
            .into_keys()
            .map(|(ip, port)| Seen::Answer(SocketAddr::new(ip, port).to_string(), source))
            .collect(),
    }
}

/// Whether a connection of that kind can be made here.
fn sendable(lab: &Lab, flow: &Flow) -> bool {
    lab.has(flow.source.parse().unwrap()) && flow.destination().0 != protocol("sctp")
}

fn check(lab: &Lab, group: &Group, flow: &Flow) {
    let (protocol, to) = flow.destination();
    let source: IpAddr = flow.source.parse().unwrap();
    let said = format!("{}: {} -> {}", group.name, flow.source, flow.destination);
    if flow.outcome.is_empty() {
        // nobody interferes: who listens there answers, or nobody can
        let seen = lab.meet(source, protocol == 6, to, 0);
        let ours = |s: &Seen| matches!(s, Seen::Answer(at, _) if at != "host" && *at != to.to_string());
        assert!(!seen.iter().any(ours), "{said}: {seen:?}");
        return;
    }
    let number = flow.targets_or_none();
    let met = lab.meet(source, protocol == 6, to, number);
    if number == 0 {
        assert_eq!(met, expected(flow), "{said}");
        return;
    }
    let targets = flow.targets();
    let mut answered = BTreeSet::new();
    for seen in &met {
        let Seen::Answer(at, client) = seen else { panic!("{said}: {seen:?}") };
        let at: SocketAddr = at.parse().unwrap_or_else(|_| panic!("{said}: {seen:?}"));
        let masqueraded = targets.get(&(at.ip(), at.port())).unwrap_or_else(|| panic!("{said}: {seen:?}"));
        // a masqueraded source is the node's; that of the node itself may stay what it is
        let from_node = NODE_IPS.contains(&flow.source);
        assert!(from_node || (*client != source) == *masqueraded, "{said}: {seen:?}");
        answered.insert((at.ip(), at.port()));
    }
    assert_eq!(answered, targets.into_keys().collect(), "{said}");
}

impl Flow {
    fn targets_or_none(&self) -> usize {
        if matches!(self.outcome, "DROP" | "REJECT") { 0 } else { self.targets().len() }
    }
}

#[test]
fn real() {
    let lab = Lab::new();
    let mut kernels: Vec<Kernel> =
        netns::enter(&lab.host, || Family::ALL.map(|f| Kernel::open(f).unwrap())).unwrap().into();
    for group in groups() {
        let map = group.map();
        for (kernel, family) in kernels.iter_mut().zip(Family::ALL) {
            kernel.replace(&compile(&map, &group.node, family)).unwrap();
        }
        for flow in &group.flows {
            if sendable(&lab, flow) {
                check(&lab, &group, flow);
            }
        }
    }
    let listed =
        netns::enter(&lab.host, || std::process::Command::new("nft").args(["list", "ruleset"]).output());
    let listed = listed.unwrap().expect("this test needs nft: apt-get install nftables");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}
