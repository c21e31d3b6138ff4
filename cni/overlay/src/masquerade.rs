//! Our table of nf_tables: what pods of this node send outside the cluster gets the node's address.
//!
//! ```text
//! table inet cleat-overlay
//!   postrouting   from one of this node's ranges: goto leaving
//!   leaving       to a range of the cluster: return · to multicast: return · masquerade
//! ```
//! Between pods nothing is changed, whatever nodes they are on. A rule's comment says all that the rule says, so what
//! is there can be compared with what should be.

use ipnet::IpNet;
use netlink::NetlinkError;
use netlink::nft::{Base, Batch, Cmp, Family, Hook, Meta, Nft, Rule, Verdict};

const TABLE: &str = "cleat-overlay";
const LEAVING: &str = "leaving";

/// What the table must say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Masquerade {
    /// This node's ranges.
    pub(crate) from: Vec<IpNet>,
    /// The cluster's ranges, none within another.
    pub(crate) inside: Vec<IpNet>,
}

impl Masquerade {
    /// For ranges that may overlap.
    pub(crate) fn new(from: &[IpNet], inside: impl Iterator<Item = IpNet>) -> Masquerade {
        let inside: Vec<IpNet> = inside.chain(from.iter().copied()).collect();
        Masquerade { from: from.to_vec(), inside: IpNet::aggregate(&inside) }
    }

    /// The rules by chain.
    fn rules(&self) -> Vec<(&'static str, Rule)> {
        let from = |net: &IpNet| {
            let rule = of(net).source(0, family(net));
            let rule = within(rule, net).verdict(Verdict::Goto(LEAVING.to_owned()));
            ("postrouting", rule.with_comment(&format!("from {net}")))
        };
        let stay = |net: &IpNet| {
            let rule = of(net).destination(0, family(net));
            (LEAVING, within(rule, net).verdict(Verdict::Return).with_comment(&format!("to {net}")))
        };
        let multicast = ["224.0.0.0/4", "ff00::/8"].map(|net| net.parse().expect("it is a network"));
        let mut rules: Vec<_> = self.from.iter().map(from).collect();
        rules.extend(self.inside.iter().chain(&multicast).map(stay));
        rules.push((LEAVING, Rule::new().masquerade().with_comment("all else")));
        rules
    }

    /// Brings the table to say this. Tells whether it had to be changed.
    pub(crate) fn ensure(&self, nft: &mut Nft) -> Result<bool, NetlinkError> {
        let rules = self.rules();
        let there = nft.rules(Family::Inet, TABLE)?;
        let same = ["postrouting", LEAVING].iter().all(|chain| {
            let wanted = rules.iter().filter(|(of, _)| of == chain).map(|(_, rule)| rule.comment());
            wanted.eq(there.iter().filter(|rule| rule.chain == *chain).map(|rule| rule.comment.as_str()))
        });
        if same {
            return Ok(false);
        }
        let mut batch = Batch::new(Family::Inet, TABLE);
        batch.add_table();
        let base = Base { kind: "nat", hook: Hook::Postrouting, priority: 100, accept: true };
        batch.add_chain("postrouting", Some(base));
        batch.add_chain(LEAVING, None);
        batch.flush_chain("postrouting");
        batch.flush_chain(LEAVING);
        rules.iter().for_each(|(chain, rule)| batch.add_rule(chain, rule));
        nft.commit(&batch)?;
        Ok(true)
    }
}

/// Removes the table.
pub(crate) fn remove(nft: &mut Nft) -> Result<(), NetlinkError> {
    nft.remove_table(Family::Inet, TABLE)
}

fn family(net: &IpNet) -> Family {
    if net.addr().is_ipv4() { Family::Ip } else { Family::Ip6 }
}

fn of(net: &IpNet) -> Rule {
    Rule::new().meta(0, Meta::Family).cmp(0, Cmp::Eq, &[family(net) as u8])
}

/// Compares the address in the registers from 0 on with a network.
fn within(rule: Rule, net: &IpNet) -> Rule {
    let octets = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mask = octets(net.netmask());
    let zero = vec![0; mask.len()];
    rule.bitwise(0, &mask, &zero).cmp(0, Cmp::Eq, &octets(net.network()))
}
