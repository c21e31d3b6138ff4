//! Rule sets in the kernel's own form.

use netlink::nft::{self, Cmp, Ct, Element, Meta, TypeId};
use proxy_rules::{
    Base, Batch, Change, Data, Family, Field, Hook, Key, Kind, Op, Part, Reject, Rule, SetName, Verdict,
};

/// Our table, in each family.
pub(crate) const TABLE: &str = "cleat-proxy";
/// How many clients of services with affinity are known at once, by all services of a family. It takes memory for those
/// that there are. One more is served, but not remembered: each of his connections may go to another endpoint.
const MOST_CLIENTS: u32 = 1 << 20;

pub(crate) fn family(family: Family) -> nft::Family {
    match family {
        Family::V4 => nft::Family::Ip,
        Family::V6 => nft::Family::Ip6,
    }
}

/// The types of a key's or value's parts.
fn types(parts: &[Part], family: Family) -> Vec<TypeId> {
    let of = |part: &Part| match (part, family) {
        (Part::Address, Family::V4) => TypeId::Ipv4,
        (Part::Address, Family::V6) => TypeId::Ipv6,
        (Part::Protocol, _) => TypeId::Proto,
        (Part::Port, _) => TypeId::Port,
        // `integer` has no length of its own, and nft 1.0.6 aborts when it lists such keys
        (Part::Index, _) => TypeId::Mark,
    };
    parts.iter().map(of).collect()
}

/// Calls `with` with a set as it must be.
pub(crate) fn with_set<T>(set: SetName, family: Family, with: impl FnOnce(&nft::Set<'_>) -> T) -> T {
    let key = types(set.key(), family);
    let data = match set.kind() {
        Kind::Map(parts) | Kind::Learned(parts) => types(parts, family),
        _ => Vec::new(),
    };
    let (verdicts, interval) = (set.kind() == Kind::Verdicts, set.kind() == Kind::Ranges);
    with(&nft::Set { name: set.name(), key: &key, data: &data, verdicts, interval })
}

/// The transaction that makes a batch's changes, without the retirements; these are the second value's business.
pub(crate) fn transaction(batch: &Batch, whole: bool) -> nft::Batch {
    let mut to = nft::Batch::new(family(batch.family), TABLE);
    if whole {
        to.add_table();
    }
    for change in &batch.changes {
        encode(change, batch.family, &mut to);
    }
    to
}

fn encode(change: &Change, of: Family, to: &mut nft::Batch) {
    match change {
        Change::AddSet(set) => with_set(*set, of, |described| match set.kind() {
            Kind::Learned(_) => to.add_learning_set(described, MOST_CLIENTS),
            _ => to.add_set(described),
        }),
        Change::AddChain(name, at) => to.add_chain(name, at.map(base)),
        Change::SetRules(name, rules) => {
            to.flush_chain(name);
            rules.iter().for_each(|one| to.add_rule(name, &rule(one, of)));
        }
        Change::Remove(set, elements) => match ranges(*set) {
            true => elements.iter().filter_map(range).for_each(|(first, end)| {
                to.delete_range(set.name(), &first, &end);
            }),
            false => to.delete_elements(set.name(), elements.iter().map(element)),
        },
        Change::Add(set, elements) => match ranges(*set) {
            true => elements.iter().filter_map(range).for_each(|(first, end)| {
                to.add_range(set.name(), &first, &end);
            }),
            false => to.add_elements(set.name(), elements.iter().map(element)),
        },
        Change::RetireChain(name) => to.flush_chain(name),
        Change::RetireSet(set) => to.flush_set(set.name()),
    }
}

/// Ranges of single keys have another form in the kernel than those of several parts.
fn ranges(set: SetName) -> bool {
    set.kind() == Kind::Ranges && set.key().len() == 1
}

fn element((key, data): &(Key, Data)) -> Element {
    let (last, data) = match data {
        Data::None => (None, None),
        Data::Until(last) => (Some(last.bytes().to_vec()), None),
        Data::Value(value) => (None, Some(nft::Data::Value(value.bytes().to_vec()))),
        Data::Verdict(decided) => (None, Some(nft::Data::Verdict(verdict(decided)))),
    };
    Element { key: key.bytes().to_vec(), last, data, comment: String::new() }
}

/// The first key and the first after the last; none after the last of all addresses.
fn range((first, data): &(Key, Data)) -> Option<(Vec<u8>, Vec<u8>)> {
    let Data::Until(last) = data else { return None };
    let mut end = last.bytes().to_vec();
    for byte in end.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    Some((first.bytes().to_vec(), end))
}

fn base(base: Base) -> nft::Base {
    nft::Base {
        kind: if base.nat { "nat" } else { "filter" },
        hook: match base.hook {
            Hook::Prerouting => nft::Hook::Prerouting,
            Hook::Input => nft::Hook::Input,
            Hook::Forward => nft::Hook::Forward,
            Hook::Output => nft::Hook::Output,
            Hook::Postrouting => nft::Hook::Postrouting,
        },
        priority: base.priority,
        accept: true,
    }
}

fn verdict(verdict: &Verdict) -> nft::Verdict {
    match verdict {
        Verdict::Drop => nft::Verdict::Drop,
        Verdict::Return => nft::Verdict::Return,
        Verdict::Jump(chain) => nft::Verdict::Jump(chain.clone()),
        Verdict::Goto(chain) => nft::Verdict::Goto(chain.clone()),
    }
}

fn rule(rule: &Rule, of: Family) -> nft::Rule {
    rule.ops.iter().fold(nft::Rule::new().with_comment(rule.comment), |rule, op| step(rule, op, of))
}

fn step(rule: nft::Rule, op: &Op, of: Family) -> nft::Rule {
    let at = |register: &u8| u32::from(*register);
    match op {
        Op::Load(to, field) => load(rule, at(to), field, of),
        Op::Mask(of, mask) => rule.bitwise(at(of), mask, &vec![0; mask.len()]),
        Op::Equal(from, value) => rule.cmp(at(from), Cmp::Eq, value),
        Op::Differs(from, value) => rule.cmp(at(from), Cmp::Ne, value),
        Op::In(from, set) => rule.lookup(at(from), set.name(), false),
        Op::NotIn(from, set) => rule.lookup(at(from), set.name(), true),
        Op::Map(from, map, to) => rule.map(at(from), map.name(), at(to)),
        Op::Verdicts(from, map) => rule.vmap(at(from), map.name()),
        Op::Random(to, below) => rule.random(at(to), *below),
        Op::Learn(map, key, data, seconds) => rule.learn(map.name(), at(key), at(data), *seconds),
        Op::Dnat(address, port) => rule.dnat(family(of), at(address), at(port)),
        Op::Masquerade => rule.masquerade_random(),
        Op::Reject(Reject::Reset) => rule.reset(),
        Op::Reject(Reject::Unreachable) => rule.unreachable(family(of)),
        Op::Verdict(decided) => rule.verdict(verdict(decided)),
    }
}

fn load(rule: nft::Rule, to: u32, field: &Field, of: Family) -> nft::Rule {
    match field {
        Field::Source => rule.source(to, family(of)),
        Field::Destination => rule.destination(to, family(of)),
        Field::Protocol => rule.meta(to, Meta::L4Proto),
        Field::Port => rule.port(to),
        Field::OriginalDestination if of == Family::V4 => rule.ct(to, Ct::OriginalDestination),
        Field::OriginalDestination => rule.ct(to, Ct::OriginalDestination6),
        Field::OriginalPort => rule.ct(to, Ct::OriginalPort),
        Field::State => rule.ct(to, Ct::State),
        Field::Status => rule.ct(to, Ct::Status),
        Field::SourceType => rule.source_type(to),
        Field::DestinationType => rule.destination_type(to),
        Field::InputName => rule.meta(to, Meta::InputName),
    }
}
