//! What the rules of a node are before there is any service: chains that the kernel calls, and the node's own sets.
//!
//! ```text
//! filter-prerouting-pre-dnat, filter-output-pre-dnat   new: firewall         source ranges of load balancers
//! nat-prerouting, nat-output                           services              to an endpoint
//! filter-input, filter-forward, filter-output          new: refused          no endpoint, or no such port
//! nat-postrouting, nat-input                           learn                 who was sent where: affinity
//! nat-postrouting                                      masquerade            hairpin, off-cluster, external
//! ```
//! No packet is marked: what `nat-postrouting` must know, it finds by the connection's original destination.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ruleset::{
    Base, Chain, Data, Family, Field, Hook, Key, Op, Reject, Rule, Ruleset, SetName, Verdict,
};

/// `ct state new`.
const NEW: [u8; 4] = 8u32.to_ne_bytes();
/// `ct status dnat`.
const TRANSLATED: [u8; 4] = 32u32.to_ne_bytes();
/// `fib … type local`.
pub(crate) const LOCAL: [u8; 4] = 2u32.to_ne_bytes();
const TCP: u8 = 6;

/// What a node knows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// How pods are told from the rest of the world.
    pub local_traffic: LocalTraffic,
    /// All that goes to a cluster IP is masqueraded.
    pub masquerade_all: bool,
    /// Where node ports are open.
    pub node_ports: NodePorts,
    /// Where cluster IPs are taken from.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses within these that are somebody else's.
    pub exempt: Vec<IpAddr>,
}

/// How pods are told from the rest of the world. Connections of pods to a cluster IP keep their source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalTraffic {
    /// By these networks. With none, nothing is masqueraded for coming from elsewhere.
    Networks(Vec<IpNet>),
    /// By the link that they come from.
    Bridge(String),
    /// By the beginning of its name.
    LinkPrefix(String),
}

impl Default for LocalTraffic {
    fn default() -> LocalTraffic {
        LocalTraffic::Networks(Vec::new())
    }
}

/// On which of the node's addresses node ports are open. Never on loopback.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodePorts {
    /// On [`Node::ips`].
    #[default]
    Primary,
    /// On all.
    All,
    /// On those within these networks.
    Within(Vec<IpNet>),
}

impl Node {
    /// The networks of the addresses on which node ports are open; `None` for all.
    #[must_use]
    pub fn node_port_networks(&self) -> Option<Vec<IpNet>> {
        match &self.node_ports {
            NodePorts::All => None,
            NodePorts::Primary => Some(self.ips.iter().copied().map(IpNet::from).collect()),
            NodePorts::Within(networks) => Some(networks.clone()),
        }
    }
}

pub(crate) fn load_front(family: Family, at: u8) -> Vec<Op> {
    let words = family.words();
    vec![
        Op::Load(at, Field::Destination),
        Op::Load(at + words, Field::Protocol),
        Op::Load(at + words + 1, Field::Port),
    ]
}

pub(crate) fn rule(comment: &'static str, ops: impl IntoIterator<Item = Op>) -> Rule {
    Rule { ops: ops.into_iter().collect(), comment }
}

fn jump(chain: &str) -> Op {
    Op::Verdict(Verdict::Jump(chain.to_owned()))
}

pub(crate) fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.to_owned())
}

/// The rules of a node without services.
pub(crate) fn frame(node: &Node, family: Family) -> Ruleset {
    let mut rules = Ruleset::empty(family);
    for set in SetName::BASE {
        rules.sets.insert(set, Default::default());
    }
    let loopback: IpNet =
        if family == Family::V4 { "127.0.0.0/8" } else { "::1/128" }.parse().expect("it is one");
    let open = node.node_port_networks().unwrap_or_default();
    let open: Vec<IpNet> = open.into_iter().filter(|n| !loopback.contains(n)).collect();
    rules.add_networks(SetName::NodePortAddresses, &open);
    if let LocalTraffic::Networks(pods) = &node.local_traffic {
        rules.add_networks(SetName::Pods, pods);
    }
    rules.add_networks(SetName::ServiceCidrs, &node.service_cidrs);
    for ip in node.exempt.iter().filter(|ip| Family::of(**ip) == family) {
        rules.add(SetName::OtherIps, Key::new().address(*ip), Data::None);
    }
    let mut chain = |name: &str, base: Option<(bool, Hook, i32)>, list: Vec<Rule>| {
        let base = base.map(|(nat, hook, priority)| Base { nat, hook, priority });
        rules.chains.insert(name.to_owned(), Chain { base, rules: list });
    };
    let new = |chain: &str| {
        let state = [Op::Load(0, Field::State), Op::Mask(0, NEW.to_vec()), Op::Differs(0, vec![0; 4])];
        rule("", state.into_iter().chain([jump(chain)]))
    };
    let (filter, nat) = (false, true);
    chain("filter-prerouting-pre-dnat", Some((filter, Hook::Prerouting, -110)), vec![new("firewall")]);
    chain("filter-output-pre-dnat", Some((filter, Hook::Output, -110)), vec![new("firewall")]);
    chain("nat-prerouting", Some((nat, Hook::Prerouting, -100)), vec![rule("", [jump("services")])]);
    chain("nat-output", Some((nat, Hook::Output, -100)), vec![rule("", [jump("services")])]);
    let refused = ["no-endpoints", "no-service"];
    chain(
        "filter-input",
        Some((filter, Hook::Input, 0)),
        ["no-endpoints-nodeport", "no-endpoints"].map(new).to_vec(),
    );
    chain("filter-forward", Some((filter, Hook::Forward, 0)), refused.map(new).to_vec());
    chain("filter-output", Some((filter, Hook::Output, 0)), refused.map(new).to_vec());
    chain("nat-postrouting", Some((nat, Hook::Postrouting, 100)), postrouting(node, family));
    chain("nat-input", Some((nat, Hook::Input, 100)), vec![rule("", [jump("learn")])]);
    chain("learn", None, learn(node, family));
    chain("firewall", None, firewall(family));
    chain("services", None, services(node, family));
    chain("no-endpoints", None, no_endpoints(family));
    chain("no-endpoints-nodeport", None, node_port(node, family, SetName::NoEndpointNodePorts));
    chain("no-service", None, no_service(node, family));
    chain("reject", None, reject());
    chain("masquerade", None, vec![rule("", [Op::Masquerade])]);
    chain("masquerade-off-cluster", None, off_cluster(node, family));
    let host = [Op::Load(0, Field::SourceType), Op::Equal(0, LOCAL.to_vec()), Op::Masquerade];
    chain("masquerade-host", None, vec![rule("what the node itself sends", host)]);
    rules
}

fn firewall(family: Family) -> Vec<Rule> {
    let mut ops = load_front(family, 0);
    ops.push(Op::In(0, SetName::FirewallIps));
    ops.push(Op::Load(family.words() + 2, Field::Source));
    ops.extend([Op::NotIn(0, SetName::FirewallSources), Op::Verdict(Verdict::Drop)]);
    vec![rule("sources that loadBalancerSourceRanges leaves out", ops)]
}

fn services(node: &Node, family: Family) -> Vec<Rule> {
    let mut ops = load_front(family, 0);
    ops.push(Op::Verdicts(0, SetName::ServiceIps));
    let mut rules = vec![rule("services by address", ops)];
    rules.extend(node_port(node, family, SetName::ServiceNodePorts));
    rules
}

/// A verdict for a node port, where these are open.
fn node_port(node: &Node, family: Family, verdicts: SetName) -> Vec<Rule> {
    let mut ops = vec![Op::Load(0, Field::DestinationType), Op::Equal(0, LOCAL.to_vec())];
    ops.push(Op::Load(0, Field::Destination));
    match (node.node_port_networks(), family) {
        (Some(_), _) => ops.push(Op::In(0, SetName::NodePortAddresses)),
        (None, Family::V4) => {
            ops.extend([Op::Mask(0, vec![255, 0, 0, 0]), Op::Differs(0, vec![127, 0, 0, 0])]);
        }
        (None, Family::V6) => {
            ops.push(Op::Differs(0, std::net::Ipv6Addr::LOCALHOST.octets().to_vec()));
        }
    }
    ops.extend([Op::Load(0, Field::Protocol), Op::Load(1, Field::Port), Op::Verdicts(0, verdicts)]);
    vec![rule("services by node port", ops)]
}

fn no_endpoints(family: Family) -> Vec<Rule> {
    let mut ops = load_front(family, 0);
    ops.push(Op::Verdicts(0, SetName::NoEndpointServices));
    vec![rule("services that nobody serves", ops)]
}

fn no_service(node: &Node, family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    let daddr = Op::Load(0, Field::Destination);
    let other = [daddr.clone(), Op::In(0, SetName::OtherIps), Op::Verdict(Verdict::Return)];
    rules.push(rule("cluster IPs that others answer", other));
    let ours = [daddr.clone(), Op::In(0, SetName::ClusterIps), Op::Verdict(goto("reject"))];
    rules.push(rule("a port that the service does not have", ours));
    if node.service_cidrs.iter().any(|n| Family::of(n.addr()) == family) {
        let free = [daddr, Op::In(0, SetName::ServiceCidrs), Op::Verdict(Verdict::Drop)];
        rules.push(rule("a cluster IP that no service has", free));
    }
    rules
}

fn reject() -> Vec<Rule> {
    let tcp = [Op::Load(0, Field::Protocol), Op::Equal(0, vec![TCP]), Op::Reject(Reject::Reset)];
    vec![rule("", tcp), rule("", [Op::Reject(Reject::Unreachable)])]
}

fn off_cluster(node: &Node, family: Family) -> Vec<Rule> {
    let comment = "what does not come from a pod";
    if node.masquerade_all {
        return vec![rule("masqueradeAll", [Op::Masquerade])];
    }
    match pods(node, family, false) {
        Some(ops) => vec![rule(comment, ops.into_iter().chain([Op::Masquerade]))],
        None => Vec::new(),
    }
}

/// Steps that go on for what comes from pods, or from elsewhere; `None` where that cannot be told.
pub(crate) fn pods(node: &Node, family: Family, from_pods: bool) -> Option<Vec<Op>> {
    let link = |name: &str, whole: bool| {
        let mut bytes = name.as_bytes().to_vec();
        bytes.truncate(15);
        if whole {
            bytes.resize(16, 0);
        }
        let compare = if from_pods { Op::Equal(0, bytes) } else { Op::Differs(0, bytes) };
        Some(vec![Op::Load(0, Field::InputName), compare])
    };
    match &node.local_traffic {
        LocalTraffic::Networks(pods) if pods.iter().any(|n| Family::of(n.addr()) == family) => {
            let set = SetName::Pods;
            let within = if from_pods { Op::In(0, set) } else { Op::NotIn(0, set) };
            Some(vec![Op::Load(0, Field::Source), within])
        }
        LocalTraffic::Networks(_) => None,
        LocalTraffic::Bridge(name) => link(name, true),
        LocalTraffic::LinkPrefix(prefix) => link(prefix, false),
    }
}

fn postrouting(node: &Node, family: Family) -> Vec<Rule> {
    let words = family.words();
    let status = [Op::Load(0, Field::Status), Op::Mask(0, TRANSLATED.to_vec()), Op::Equal(0, vec![0; 4])];
    let hairpin = [
        Op::Load(0, Field::Source),
        Op::Load(words, Field::Destination),
        Op::In(0, SetName::Hairpin),
        Op::Masquerade,
    ];
    let original = Op::Load(0, Field::OriginalDestination);
    let cluster = [original, Op::In(0, SetName::ClusterIps), Op::Verdict(goto("masquerade-off-cluster"))];
    vec![
        rule("not translated", status.into_iter().chain([Op::Verdict(Verdict::Return)])),
        rule("", [jump("learn")]),
        rule("a pod that was sent to itself", hairpin),
        rule("by cluster IP", cluster),
        rule("by external address", original_front(family, SetName::MasqueradeIps)),
        rule("by node port", original_node_port(node, SetName::MasqueradeNodePorts)),
    ]
}

/// A verdict for the address, protocol and port that the client sent to.
fn original_front(family: Family, verdicts: SetName) -> Vec<Op> {
    let words = family.words();
    vec![
        Op::Load(0, Field::OriginalDestination),
        Op::Load(words, Field::Protocol),
        Op::Load(words + 1, Field::OriginalPort),
        Op::Verdicts(0, verdicts),
    ]
}

/// The same for a node port.
fn original_node_port(node: &Node, verdicts: SetName) -> Vec<Op> {
    let mut ops = Vec::new();
    if node.node_port_networks().is_some() {
        ops.extend([Op::Load(0, Field::OriginalDestination), Op::In(0, SetName::NodePortAddresses)]);
    }
    ops.extend([Op::Load(0, Field::Protocol), Op::Load(1, Field::OriginalPort), Op::Verdicts(0, verdicts)]);
    ops
}

/// Remembers whom a client was sent to.
fn learn(node: &Node, family: Family) -> Vec<Rule> {
    vec![
        rule("clients of services with affinity", original_front(family, SetName::AffinityIps)),
        rule("the same by node port", original_node_port(node, SetName::AffinityNodePorts)),
    ]
}
