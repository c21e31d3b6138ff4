//! Ranges of addresses, and which address comes next. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Deserialize;

/// A range as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Range {
    /// The network.
    pub(crate) subnet: IpNet,
    /// The first address to give; the network's first by default.
    #[serde(default)]
    pub(crate) range_start: Option<IpAddr>,
    /// The last address to give; the network's last (but its broadcast address) by default.
    #[serde(default)]
    pub(crate) range_end: Option<IpAddr>,
    /// The gateway, never given; the network's first address by default.
    #[serde(default)]
    pub(crate) gateway: Option<IpAddr>,
}

/// Ranges of which a container gets one address.
pub(crate) type RangeSet = Vec<Range>;

/// A range with its defaults filled in and found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompleteRange {
    subnet: IpNet,
    start: u128,
    end: u128,
    gateway: u128,
}

/// A set of such ranges, of one family, none overlapping another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complete {
    ranges: Vec<CompleteRange>,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

impl CompleteRange {
    fn new(range: &Range) -> Result<CompleteRange, String> {
        let subnet = range.subnet;
        if subnet.addr() != subnet.network() {
            return Err(format!("subnet {subnet} has host bits set: is {} meant?", subnet.trunc()));
        }
        if subnet.prefix_len() > subnet.max_prefix_len() - 2 {
            return Err(format!("subnet {subnet} is too small to give addresses from"));
        }
        let inside = |name: &str, ip: Option<IpAddr>, default: u128| match ip {
            Some(ip) if !subnet.contains(&ip) => Err(format!("{name} {ip} is not in subnet {subnet}")),
            ip => Ok(ip.map_or(default, number)),
        };
        let (first, last) = (number(subnet.network()) + 1, number(subnet.broadcast()));
        let last = if matches!(subnet, IpNet::V4(_)) { last - 1 } else { last };
        let start = inside("rangeStart", range.range_start, first)?;
        let end = inside("rangeEnd", range.range_end, last)?;
        let gateway = inside("gateway", range.gateway, first)?;
        if start > end {
            return Err(format!("rangeStart is after rangeEnd in subnet {subnet}"));
        }
        Ok(CompleteRange { subnet, start, end, gateway })
    }

    fn is_v4(&self) -> bool {
        matches!(self.subnet, IpNet::V4(_))
    }

    fn ip(&self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(number) if self.is_v4() => Ipv4Addr::from(number).into(),
            _ => Ipv6Addr::from(number).into(),
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.is_v4() && (self.start..=self.end).contains(&number(ip))
    }

    /// The gateway.
    pub(crate) fn gateway(&self) -> IpAddr {
        self.ip(self.gateway)
    }

    /// An address with the prefix length of the network.
    pub(crate) fn net(&self, ip: IpAddr) -> IpNet {
        IpNet::new(ip, self.subnet.prefix_len()).expect("the subnet has this prefix length")
    }
}

/// Fills in and checks the sets of a configuration. An error tells people which range is wrong and why.
pub(crate) fn complete(sets: &[RangeSet]) -> Result<Vec<Complete>, String> {
    if sets.iter().all(Vec::is_empty) {
        return Err("is missing or empty: there is no range to give addresses from".into());
    }
    let mut done: Vec<Complete> = Vec::new();
    for set in sets.iter().filter(|s| !s.is_empty()) {
        let ranges = set.iter().map(CompleteRange::new).collect::<Result<Vec<_>, _>>()?;
        if ranges.iter().any(|r| r.is_v4() != ranges[0].is_v4()) {
            return Err(format!("mixes IPv4 and IPv6 in the set of {}", ranges[0].subnet));
        }
        let earlier = done.iter().flat_map(|d| &d.ranges);
        let mut others: Vec<CompleteRange> = earlier.copied().collect();
        for range in &ranges {
            let overlaps = |o: &&CompleteRange| {
                o.is_v4() == range.is_v4() && o.start <= range.end && range.start <= o.end
            };
            if let Some(other) = others.iter().find(overlaps) {
                return Err(format!("has overlapping ranges in {} and {}", other.subnet, range.subnet));
            }
            others.push(*range);
        }
        done.push(Complete { ranges });
    }
    Ok(done)
}

impl Complete {
    /// The range that an address is in.
    pub(crate) fn range_of(&self, ip: IpAddr) -> Option<&CompleteRange> {
        self.ranges.iter().find(|r| r.contains(ip))
    }

    /// Every address once, from the one after `last` on and round to it.
    fn from(&self, last: Option<IpAddr>) -> impl Iterator<Item = (&CompleteRange, u128)> {
        let last =
            last.and_then(|ip| self.ranges.iter().position(|r| r.contains(ip)).map(|at| (at, number(ip))));
        let (at, from) = last.map_or((0, self.ranges[0].start), |(at, ip)| (at, ip + 1));
        let here = &self.ranges[at];
        let tail = (from..=here.end).map(move |n| (here, n));
        let others = (1..self.ranges.len()).map(move |step| &self.ranges[(at + step) % self.ranges.len()]);
        let others = others.flat_map(|r| (r.start..=r.end).map(move |n| (r, n)));
        tail.chain(others).chain((here.start..from).map(move |n| (here, n)))
    }
}

/// The wished address, or the next free one after `last`. No gateway is ever given.
pub(crate) fn choose(
    set: &Complete,
    wish: Option<IpAddr>,
    last: Option<IpAddr>,
    is_taken: impl Fn(IpAddr) -> bool,
) -> Result<IpAddr, String> {
    let is_gateway = |ip: u128| set.ranges.iter().any(|r| r.gateway == ip);
    if let Some(wish) = wish {
        return match () {
            () if is_gateway(number(wish)) => Err(format!("address {wish} is the gateway's")),
            () if is_taken(wish) => Err(format!("address {wish} is taken")),
            () => Ok(wish),
        };
    }
    let mut free = set.from(last).filter(|(_, n)| !is_gateway(*n)).map(|(range, n)| range.ip(n));
    free.find(|ip| !is_taken(*ip)).ok_or_else(|| {
        let nets: Vec<String> = set.ranges.iter().map(|r| r.subnet.to_string()).collect();
        format!("no address is free in {}", nets.join(", "))
    })
}
