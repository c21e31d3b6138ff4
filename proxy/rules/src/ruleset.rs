//! The form of a rule set: what nf_tables can hold of it, and nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A table is for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Registers of four bytes that an address fills.
    #[must_use]
    pub fn words(self) -> u8 {
        match self {
            Family::V4 => 1,
            Family::V6 => 4,
        }
    }
}

/// A key or a value: parts side by side, each filled up to four bytes, as registers hold them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    bytes: [u8; Key::MOST],
    length: u8,
}

impl Key {
    /// The longest: two IPv6 addresses, a protocol and a port.
    pub const MOST: usize = 40;

    /// Of no parts.
    #[must_use]
    pub fn new() -> Key {
        Key { bytes: [0; Key::MOST], length: 0 }
    }

    /// As the kernel gives it.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Key> {
        let mut key = Key::new();
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        key.length = u8::try_from(bytes.len()).ok()?;
        Some(key)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length.into()]
    }

    fn part(mut self, part: &[u8]) -> Key {
        let at = usize::from(self.length);
        self.bytes[at..at + part.len()].copy_from_slice(part);
        let end = (at + part.len()).next_multiple_of(4);
        self.length = u8::try_from(end).expect("keys have at most 40 bytes");
        self
    }

    /// With an address.
    #[must_use]
    pub fn address(self, ip: IpAddr) -> Key {
        match ip {
            IpAddr::V4(ip) => self.part(&ip.octets()),
            IpAddr::V6(ip) => self.part(&ip.octets()),
        }
    }

    /// With a protocol over IP.
    #[must_use]
    pub fn protocol(self, protocol: u8) -> Key {
        self.part(&[protocol])
    }

    /// With a port.
    #[must_use]
    pub fn port(self, port: u16) -> Key {
        self.part(&port.to_be_bytes())
    }

    /// With an index.
    #[must_use]
    pub fn index(self, index: u32) -> Key {
        self.part(&index.to_ne_bytes())
    }

    /// An address, protocol and port.
    #[must_use]
    pub fn front(ip: IpAddr, protocol: u8, port: u16) -> Key {
        Key::new().address(ip).protocol(protocol).port(port)
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::new()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes().chunks(4).try_for_each(|word| write!(f, "{}", format_args!(" {word:?}")))
    }
}

/// A part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// An address of the table's family.
    Address,
    /// A protocol over IP.
    Protocol,
    /// A port.
    Port,
    /// A number, in the machine's byte order.
    Index,
}

/// What a set's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Keys.
    Set,
    /// From a key to [`Data::Until`] another.
    Ranges,
    /// Keys with values of these parts.
    Map(&'static [Part]),
    /// The same, but rules add them, and they end by themselves.
    Learned(&'static [Part]),
    /// Keys with verdicts.
    Verdicts,
}

/// The sets and maps of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetName {
    /// Each address, protocol and port of a service, to the chain that sends it on.
    ServiceIps,
    /// Each node port of a service, to the same.
    ServiceNodePorts,
    /// An address, protocol and port of a service and an index, to an endpoint.
    Endpoints,
    /// The same of endpoints on this node alone, for the traffic policy `Local`.
    LocalEndpoints,
    /// A node port of a service and an index, to an endpoint.
    NodePortEndpoints,
    /// The same of endpoints on this node alone.
    LocalNodePortEndpoints,
    /// The address, protocol and port of a service that nobody serves, to drop or reject.
    NoEndpointServices,
    /// The same of node ports.
    NoEndpointNodePorts,
    /// Cluster IPs of services that are served here.
    ClusterIps,
    /// Cluster IPs that are somebody else's.
    OtherIps,
    /// An external address, protocol and port, to whom to masquerade.
    MasqueradeIps,
    /// The same of node ports.
    MasqueradeNodePorts,
    /// Load balancers' addresses, protocols and ports that have source ranges.
    FirewallIps,
    /// The same with a source that is allowed.
    FirewallSources,
    /// Endpoints on this node, twice: a pod that is sent to itself.
    Hairpin,
    /// Addresses on which node ports are open.
    NodePortAddresses,
    /// Addresses of pods.
    Pods,
    /// Addresses that cluster IPs are taken from.
    ServiceCidrs,
    /// A client and the address, protocol and port that he knows a service with affinity by, to his endpoint. There
    /// while a service has affinity.
    Affinity,
    /// The address, protocol and port of a service with affinity, to the chain that learns clients.
    AffinityIps,
    /// The same of node ports.
    AffinityNodePorts,
}

impl SetName {
    /// Those that are always there.
    pub const BASE: [SetName; 20] = [
        SetName::ServiceIps,
        SetName::ServiceNodePorts,
        SetName::Endpoints,
        SetName::LocalEndpoints,
        SetName::NodePortEndpoints,
        SetName::LocalNodePortEndpoints,
        SetName::NoEndpointServices,
        SetName::NoEndpointNodePorts,
        SetName::ClusterIps,
        SetName::OtherIps,
        SetName::MasqueradeIps,
        SetName::MasqueradeNodePorts,
        SetName::FirewallIps,
        SetName::FirewallSources,
        SetName::Hairpin,
        SetName::NodePortAddresses,
        SetName::Pods,
        SetName::ServiceCidrs,
        SetName::AffinityIps,
        SetName::AffinityNodePorts,
    ];
    /// As the kernel knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.describe().0
    }

    /// The parts of its key.
    #[must_use]
    pub fn key(self) -> &'static [Part] {
        self.describe().1
    }

    /// What its elements are.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.describe().2
    }

    fn describe(self) -> (&'static str, &'static [Part], Kind) {
        use Part::{Address, Index, Port, Protocol};
        const FRONT: &[Part] = &[Address, Protocol, Port];
        const NODE_PORT: &[Part] = &[Protocol, Port];
        const TARGET: &[Part] = &[Address, Port];
        const ENDPOINT: &[Part] = &[Address, Protocol, Port, Index];
        const NODE_ENDPOINT: &[Part] = &[Protocol, Port, Index];
        match self {
            SetName::ServiceIps => ("service-ips", FRONT, Kind::Verdicts),
            SetName::ServiceNodePorts => ("service-nodeports", NODE_PORT, Kind::Verdicts),
            SetName::Endpoints => ("endpoints", ENDPOINT, Kind::Map(TARGET)),
            SetName::LocalEndpoints => ("local-endpoints", ENDPOINT, Kind::Map(TARGET)),
            SetName::NodePortEndpoints => ("nodeport-endpoints", NODE_ENDPOINT, Kind::Map(TARGET)),
            SetName::LocalNodePortEndpoints => ("local-nodeport-endpoints", NODE_ENDPOINT, Kind::Map(TARGET)),
            SetName::NoEndpointServices => ("no-endpoint-services", FRONT, Kind::Verdicts),
            SetName::NoEndpointNodePorts => ("no-endpoint-nodeports", NODE_PORT, Kind::Verdicts),
            SetName::ClusterIps => ("cluster-ips", &[Address], Kind::Set),
            SetName::OtherIps => ("other-ips", &[Address], Kind::Set),
            SetName::MasqueradeIps => ("masquerade-ips", FRONT, Kind::Verdicts),
            SetName::MasqueradeNodePorts => ("masquerade-nodeports", NODE_PORT, Kind::Verdicts),
            SetName::FirewallIps => ("firewall-ips", FRONT, Kind::Set),
            SetName::FirewallSources => {
                ("firewall-sources", &[Address, Protocol, Port, Address], Kind::Ranges)
            }
            SetName::Hairpin => ("hairpin", &[Address, Address], Kind::Set),
            SetName::NodePortAddresses => ("nodeport-addresses", &[Address], Kind::Ranges),
            SetName::Pods => ("pods", &[Address], Kind::Ranges),
            SetName::ServiceCidrs => ("service-cidrs", &[Address], Kind::Ranges),
            SetName::Affinity => ("affinity", &[Address, Address, Protocol, Port], Kind::Learned(TARGET)),
            SetName::AffinityIps => ("affinity-ips", FRONT, Kind::Verdicts),
            SetName::AffinityNodePorts => ("affinity-nodeports", NODE_PORT, Kind::Verdicts),
        }
    }
}

/// What an element has beside its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    None,
    /// The last key of a range.
    Until(Key),
    /// A value.
    Value(Key),
    /// A verdict.
    Verdict(Verdict),
}

/// What is decided about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It vanishes.
    Drop,
    /// Back to the chain that jumped here.
    Return,
    /// That chain, then on here.
    Jump(String),
    /// That chain instead of the rest of this.
    Goto(String),
}

/// What a register can be loaded with. Addresses are those of the table's family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Source address.
    Source,
    /// Destination address.
    Destination,
    /// Protocol over IP.
    Protocol,
    /// Destination port.
    Port,
    /// Destination address before any translation.
    OriginalDestination,
    /// Destination port before any translation.
    OriginalPort,
    /// `ct state`, in the machine's byte order.
    State,
    /// `ct status`, in the machine's byte order.
    Status,
    /// Kind of the source address; 2 is this machine's own. In the machine's byte order.
    SourceType,
    /// Kind of the destination address.
    DestinationType,
    /// Name of the link that the packet came by, 16 bytes.
    InputName,
}

/// How a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// By a TCP reset.
    Reset,
    /// By ICMP: port unreachable.
    Unreachable,
}

/// A step of a rule. Numbers are registers of four bytes, of which there are 16.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A register gets a field of the packet.
    Load(u8, Field),
    /// The bits of a register that are in a mask.
    Mask(u8, Vec<u8>),
    /// The rule ends unless the register has these bytes.
    Equal(u8, Vec<u8>),
    /// The rule ends if it has.
    Differs(u8, Vec<u8>),
    /// The rule ends unless the key is in the set.
    In(u8, SetName),
    /// The rule ends if it is.
    NotIn(u8, SetName),
    /// The map's value for the key at the first register, from the second on. The rule ends if there is none.
    Map(u8, SetName, u8),
    /// The verdict for the key; the rule ends if there is none.
    Verdicts(u8, SetName),
    /// A random number below another.
    Random(u8, u32),
    /// Key and data into a learned map, for so many seconds; known data stays. The rule ends if there is no room.
    Learn(SetName, u8, u8, u32),
    /// A new destination: address and port.
    Dnat(u8, u8),
    /// The node's address for source.
    Masquerade,
    /// The connection is refused.
    Reject(Reject),
    /// A verdict.
    Verdict(Verdict),
}

/// Steps, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub ops: Vec<Op>,
    /// For people.
    pub comment: &'static str,
}

/// Where the kernel calls a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What comes in.
    Prerouting,
    /// What is for this node.
    Input,
    /// What is passed on.
    Forward,
    /// What this node sends.
    Output,
    /// What goes out.
    Postrouting,
}

/// What makes a chain be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// It translates addresses: it is asked for the first packet of a connection only.
    pub nat: bool,
    /// Where.
    pub hook: Hook,
    /// Order among the chains of a hook.
    pub priority: i32,
}

/// Rules in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// None: only other chains call it.
    pub base: Option<Base>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A set's elements.
pub type Elements = BTreeMap<Key, Data>;

/// A table, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Of the addresses in it.
    pub family: Family,
    /// Its sets, with their elements.
    pub sets: BTreeMap<SetName, Elements>,
    /// Its chains.
    pub chains: BTreeMap<String, Chain>,
}

impl Ruleset {
    /// Without anything.
    #[must_use]
    pub fn empty(family: Family) -> Ruleset {
        Ruleset { family, sets: BTreeMap::new(), chains: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, set: SetName, key: Key, data: Data) {
        self.sets.entry(set).or_default().insert(key, data);
    }

    /// Networks of the table's family, as ranges.
    pub(crate) fn add_networks(&mut self, set: SetName, networks: &[IpNet]) {
        let mut of: Vec<IpNet> =
            networks.iter().copied().filter(|n| Family::of(n.addr()) == self.family).collect();
        of = IpNet::aggregate(&of);
        for network in of {
            let [first, last] = [network.network(), network.broadcast()].map(|ip| Key::new().address(ip));
            self.add(set, first, Data::Until(last));
        }
    }
}
