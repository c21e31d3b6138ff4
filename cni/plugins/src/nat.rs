//! Our two tables of nf_tables. Every element carries its owner as its comment, so an attachment is undone exactly.
//!
//! ```text
//! table inet cleat-masquerade
//!   postrouting   ip saddr vmap @pods4           pods4: pod -> goto out-<network>
//!   out-<network> to the network: return · to multicast: return · masquerade
//!
//! table inet cleat-hostports
//!   prerouting, output   to an address of this machine: jump hostports
//!   hostports            dnat to  host ip . proto . port map @ports4, then  proto . port map @any4
//!   postrouting          of translated connections  proto . original port . pod . port vmap @snat4
//!                        snat4: -> goto in-<network>
//!   in-<network>         from the network, or from 127.0.0.0/8: masquerade
//! ```
//! and the same for IPv6. There is one chain a network, never one a pod; each change is one transaction.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink::NetlinkError;
use netlink::nft::{
    Base, Batch, Cmp, Ct, Data, Element, Family, Hook, Meta, Nft, Rule, Set, TypeId, Verdict,
};

use rustix::io::Errno;

mod hostport;

pub(crate) use hostport::{HostPort, Listen, Proto, has_hostports, remove_hostports, set_hostports};

/// The table of masquerade.
pub(crate) const MASQUERADE: &str = "cleat-masquerade";
/// The table of host ports.
pub(crate) const HOSTPORTS: &str = "cleat-hostports";

/// Tries of a transaction that others' transactions get between.
const TRIES: usize = 200;

/// What of a pod is to be masqueraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Masquerade {
    /// Whose it is.
    pub(crate) owner: String,
    /// The pod's addresses with their networks' prefix lengths; none: remove all of the owner.
    pub(crate) nets: Vec<IpNet>,
}

/// The two halves of an inet table.
pub(crate) const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

pub(crate) fn family(net: IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::Ip,
        IpNet::V6(_) => Family::Ip6,
    }
}

/// `base4` or `base6`.
pub(crate) fn name(base: &str, family: Family) -> String {
    format!("{base}{}", if family == Family::Ip { 4 } else { 6 })
}

pub(crate) fn address_type(family: Family) -> TypeId {
    if family == Family::Ip { TypeId::Ipv4 } else { TypeId::Ipv6 }
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A rule for packets of one family.
pub(crate) fn of(family: Family) -> Rule {
    Rule::new().meta(0, Meta::Family).cmp(0, Cmp::Eq, &[family as u8])
}

/// Compares the address in the registers from 0 on with a network.
pub(crate) fn within(rule: Rule, net: IpNet, how: Cmp) -> Rule {
    let (mask, zero) = (octets(net.netmask()), vec![0; octets(net.netmask()).len()]);
    rule.bitwise(0, &mask, &zero).cmp(0, how, &octets(net.network()))
}

/// A network's chain: `out-10.88.0.0-16`.
pub(crate) fn chain(prefix: &str, net: IpNet) -> String {
    match net.network() {
        IpAddr::V4(ip) => format!("{prefix}-{ip}-{}", net.prefix_len()),
        IpAddr::V6(ip) => format!("{prefix}-{:032x}-{}", u128::from(ip), net.prefix_len()),
    }
}

pub(crate) fn base(hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind: "nat", hook, priority, accept: true })
}

/// A chain and all its rules.
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// Brings a table to have these chains, then adds the elements, in one transaction. A chain that is as it must be
/// is left alone: whoever removes a rule waits for the kernel to forget it. `sets` adds the sets to a batch.
pub(crate) fn ensure(
    nft: &mut Nft,
    table: &str,
    sets: impl Fn(&mut Batch),
    chains: &[Chain],
    elements: &[(String, Element)],
) -> Result<(), NetlinkError> {
    let mut tries = 0;
    loop {
        let there = nft.rules(Family::Inet, table)?;
        let is_there = |chain: &&Chain| {
            let found = there.iter().filter(|r| r.chain == chain.name).map(|r| r.comment.as_str());
            found.eq(chain.rules.iter().map(Rule::comment))
        };
        let missing: Vec<&Chain> = chains.iter().filter(|c| !is_there(c)).collect();
        let mut batch = Batch::new(Family::Inet, table);
        if !missing.is_empty() {
            batch.add_table();
            sets(&mut batch);
        }
        for chain in missing {
            batch.add_chain(&chain.name, chain.base);
            batch.flush_chain(&chain.name);
            chain.rules.iter().for_each(|rule| batch.add_rule(&chain.name, rule));
        }
        elements.iter().for_each(|(set, element)| batch.add_element(set, element, false));
        match nft.commit(&batch) {
            // the last attachment's removal took the chains or the table away meanwhile
            Err(e) if e.errno() == Some(Errno::NOENT) && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

/// Adds, or, without networks, removes what an owner has in the masquerade table.
pub(crate) fn set_masquerade(nft: &mut Nft, masquerade: &Masquerade) -> Result<(), NetlinkError> {
    if masquerade.nets.is_empty() {
        return remove(nft, MASQUERADE, &["pods4", "pods6"], |owner| owner == masquerade.owner);
    }
    let sets = |batch: &mut Batch| {
        for family in FAMILIES {
            let (set, key) = (name("pods", family), [address_type(family)]);
            batch.add_set(&Set { name: &set, key: &key, data: &[], verdicts: true, interval: false });
        }
    };
    let elements: Vec<(String, Element)> = masquerade
        .nets
        .iter()
        .map(|net| {
            let data = Some(Data::Verdict(Verdict::Goto(chain("out", *net))));
            let (key, comment) = (octets(net.addr()), masquerade.owner.clone());
            (name("pods", family(*net)), Element { key, last: None, data, comment })
        })
        .collect();
    ensure(nft, MASQUERADE, sets, &masquerade_chains(&masquerade.nets), &elements)
}

/// Removes from the masquerade table what belongs to owners that `gone` says yes to.
pub(crate) fn remove_masquerade(nft: &mut Nft, gone: impl Fn(&str) -> bool) -> Result<(), NetlinkError> {
    remove(nft, MASQUERADE, &["pods4", "pods6"], gone)
}

/// The addresses that an owner has in the masquerade table.
pub(crate) fn masqueraded(nft: &mut Nft, owner: &str) -> Result<Vec<IpAddr>, NetlinkError> {
    let mut found = Vec::new();
    for set in ["pods4", "pods6"] {
        for element in nft.elements(Family::Inet, MASQUERADE, set)? {
            if element.comment == owner {
                let four = <[u8; 4]>::try_from(element.key.as_slice()).map(IpAddr::from);
                let sixteen = <[u8; 16]>::try_from(element.key.as_slice()).map(IpAddr::from);
                found.extend(four.or(sixteen).ok());
            }
        }
    }
    Ok(found)
}

fn masquerade_chains(nets: &[IpNet]) -> Vec<Chain> {
    let pods = |family| {
        let rule = of(family).source(0, family).vmap(0, &name("pods", family));
        rule.with_comment("what pods send outside their network")
    };
    let base = base(Hook::Postrouting, 100);
    let mut chains = vec![Chain { name: "postrouting".into(), base, rules: FAMILIES.map(pods).to_vec() }];
    for net in nets {
        let family = family(*net);
        let stay =
            |net: IpNet| within(of(family).destination(0, family), net, Cmp::Eq).verdict(Verdict::Return);
        let multicast = if family == Family::Ip { "224.0.0.0/4" } else { "ff00::/8" };
        let multicast: IpNet = multicast.parse().expect("it is a network");
        let rules = vec![
            stay(net.trunc()).with_comment("within the network"),
            stay(multicast).with_comment("multicast"),
            Rule::new().masquerade().with_comment("all else"),
        ];
        let name = chain("out", *net);
        if chains.iter().all(|c| c.name != name) {
            chains.push(Chain { name, base: None, rules });
        }
    }
    chains
}

/// Removes the elements of owners that are `gone`, with chains that no element leads to any more, and the table
/// with the last of them. One transaction, tried again when another one came between reading and writing.
pub(crate) fn remove(
    nft: &mut Nft,
    table: &str,
    sets: &[&str],
    gone: impl Fn(&str) -> bool,
) -> Result<(), NetlinkError> {
    let mut tries = 0;
    loop {
        let generation = nft.generation()?;
        let Some(mut batch) = removal(nft, table, sets, &gone)? else { return Ok(()) };
        batch.if_generation(generation);
        match nft.commit(&batch) {
            Err(e) if e.errno() == Some(Errno::RESTART) && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

/// `None`: there is nothing to remove.
fn removal(
    nft: &mut Nft,
    table: &str,
    sets: &[&str],
    gone: &impl Fn(&str) -> bool,
) -> Result<Option<Batch>, NetlinkError> {
    let mut batch = Batch::new(Family::Inet, table);
    let (mut left, mut chains, mut kept) = (0, BTreeSet::new(), BTreeSet::new());
    for set in sets {
        for found in nft.elements(Family::Inet, table, set)? {
            if gone(&found.comment) {
                chains.extend(found.chain);
                let element = Element { key: found.key, last: None, data: None, comment: found.comment };
                batch.delete_element(set, &element);
            } else {
                kept.extend(found.chain);
                left += 1;
            }
        }
    }
    if batch.is_empty() {
        return Ok(None);
    }
    if left == 0 {
        batch = Batch::new(Family::Inet, table);
        batch.delete_table();
        return Ok(Some(batch));
    }
    for chain in chains.difference(&kept) {
        batch.flush_chain(chain);
        batch.delete_chain(chain);
    }
    Ok(Some(batch))
}

/// Used by rules of translated connections: `IPS_DST_NAT`.
pub(crate) fn translated(rule: Rule) -> Rule {
    const DST_NAT: [u8; 4] = 32u32.to_ne_bytes();
    rule.ct(0, Ct::Status).bitwise(0, &DST_NAT, &[0; 4]).cmp(0, Cmp::Ne, &[0; 4])
}
