//! A packet's way through a rule set: what the kernel would do, without one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::pick::Target;
use crate::ruleset::{Data, Family, Field, Hook, Key, Op, Reject, Rule, Ruleset, SetName, Verdict};

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub source: IpAddr,
    /// Whom he sends it to.
    pub destination: IpAddr,
    /// Protocol over IP.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
    /// The link that it comes by; none if the node itself sends it.
    pub link: Option<String>,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes where it was sent to.
    Untouched,
    /// To one of these, with its source or (true) the node's.
    To(BTreeMap<Target, bool>),
    /// Refused.
    Rejected(Reject),
    /// It vanishes.
    Dropped,
}

/// What rules have learned: the elements of learned maps.
pub type Learned = BTreeMap<(SetName, Key), Key>;

/// All that may become of a packet, at a node with these addresses.
#[must_use]
pub fn simulate(rules: &Ruleset, addresses: &[IpAddr], packet: &Packet) -> Outcome {
    let mut all = BTreeMap::new();
    for dice in 0.. {
        let (outcome, sides) = walk(rules, addresses, packet, &mut Learned::new(), dice);
        match outcome {
            Outcome::To(targets) => all.extend(targets),
            other if dice == 0 => return other,
            _ => {}
        }
        if dice + 1 >= sides {
            break;
        }
    }
    Outcome::To(all)
}

/// What becomes of a packet when the kernel throws `dice`; and how many sides these had.
pub fn walk(
    rules: &Ruleset,
    addresses: &[IpAddr],
    packet: &Packet,
    learned: &mut Learned,
    dice: u32,
) -> (Outcome, u32) {
    let way = Way {
        rules,
        addresses,
        packet,
        learned,
        dice,
        sides: 1,
        registers: [0; 64],
        target: (packet.destination, packet.port),
        masqueraded: false,
    };
    way.go()
}

struct Way<'a> {
    rules: &'a Ruleset,
    addresses: &'a [IpAddr],
    packet: &'a Packet,
    learned: &'a mut Learned,
    dice: u32,
    sides: u32,
    registers: [u8; 64],
    target: Target,
    masqueraded: bool,
}

/// How a chain or a rule ended.
enum End {
    /// On with what comes next.
    On,
    /// Back to the calling chain.
    Return,
    /// On in another chain.
    Goto(String),
    /// In another chain, then here.
    Jump(String),
    /// This hook has done its work.
    Done,
    Drop,
    Reject(Reject),
}

impl Way<'_> {
    fn go(mut self) -> (Outcome, u32) {
        let hooks = |way: &Way<'_>| {
            let to_node = way.is_local(way.target.0);
            match (way.packet.link.is_some(), to_node) {
                (true, true) => [Hook::Input].as_slice(),
                (true, false) => &[Hook::Forward, Hook::Postrouting],
                // it comes in again, by lo, as part of a connection that is no longer asked about translation
                (false, true) => &[Hook::Postrouting, Hook::Input],
                (false, false) => &[Hook::Postrouting],
            }
        };
        let first = if self.packet.link.is_some() { Hook::Prerouting } else { Hook::Output };
        if let Some(end) = self.hook(first) {
            return (end, self.sides);
        }
        for hook in hooks(&self) {
            if let Some(end) = self.hook(*hook) {
                return (end, self.sides);
            }
        }
        let translated = self.target != (self.packet.destination, self.packet.port);
        let outcome = match translated || self.masqueraded {
            true => Outcome::To(BTreeMap::from([(self.target, self.masqueraded)])),
            false => Outcome::Untouched,
        };
        (outcome, self.sides)
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.contains(&ip)
    }

    fn hook(&mut self, hook: Hook) -> Option<Outcome> {
        let chains = &self.rules.chains;
        let mut called: Vec<(i32, &String)> = Vec::new();
        for (name, chain) in chains {
            called.extend(chain.base.filter(|b| b.hook == hook).map(|b| (b.priority, name)));
        }
        called.sort();
        for (_, chain) in called {
            match self.chain(chain) {
                End::Drop => return Some(Outcome::Dropped),
                End::Reject(how) => return Some(Outcome::Rejected(how)),
                _ => {}
            }
        }
        None
    }

    fn chain(&mut self, name: &str) -> End {
        let rules = self.rules;
        let chain = rules.chains.get(name).unwrap_or_else(|| panic!("chain {name} is not there"));
        for rule in &chain.rules {
            match self.rule(rule) {
                End::On => {}
                End::Goto(chain) => return self.chain(&chain),
                End::Jump(chain) => match self.chain(&chain) {
                    End::On | End::Return => {}
                    end => return end,
                },
                end => return end,
            }
        }
        End::On
    }

    fn rule(&mut self, rule: &Rule) -> End {
        self.registers = [0; 64];
        for op in &rule.ops {
            if let Some(end) = self.step(op) {
                return end;
            }
        }
        End::On
    }

    /// `None`: on with the next step.
    fn step(&mut self, op: &Op) -> Option<End> {
        let stop = |on: bool| if on { None } else { Some(End::On) };
        match op {
            Op::Load(to, field) => {
                let bytes = self.field(field);
                self.put(*to, &bytes);
                None
            }
            Op::Mask(at, mask) => {
                let at = usize::from(*at) * 4;
                self.registers[at..].iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
                None
            }
            Op::Equal(at, value) => stop(self.get(*at, value.len()) == value),
            Op::Differs(at, value) => stop(self.get(*at, value.len()) != value),
            Op::In(at, set) => stop(self.find(*at, *set).is_some()),
            Op::NotIn(at, set) => stop(self.find(*at, *set).is_none()),
            Op::Map(at, map, to) => match self.find(*at, *map) {
                Some(Data::Value(value)) => {
                    self.put(*to, value.bytes());
                    None
                }
                _ => Some(End::On),
            },
            Op::Verdicts(at, map) => match self.find(*at, *map) {
                Some(Data::Verdict(verdict)) => Some(end(&verdict)),
                _ => Some(End::On),
            },
            Op::Random(to, below) => {
                self.sides = self.sides.max(*below);
                let dice = self.dice % below;
                self.put(*to, &dice.to_ne_bytes());
                None
            }
            Op::Learn(map, key, data, _) => {
                let (key, data) = (self.key(*key, map.key()), self.target_at(*data));
                self.learned.entry((*map, key)).or_insert(data);
                None
            }
            Op::Dnat(address, port) => {
                self.target = (self.address(*address), self.port(*port));
                Some(End::Done)
            }
            Op::Masquerade => {
                self.masqueraded = true;
                Some(End::Done)
            }
            Op::Reject(how) => Some(End::Reject(*how)),
            Op::Verdict(verdict) => Some(end(verdict)),
        }
    }

    fn put(&mut self, to: u8, bytes: &[u8]) {
        let at = usize::from(to) * 4;
        let end = (at + bytes.len()).next_multiple_of(4);
        self.registers[at..end].fill(0);
        self.registers[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn get(&self, at: u8, length: usize) -> &[u8] {
        let at = usize::from(at) * 4;
        &self.registers[at..at + length]
    }

    fn address(&self, at: u8) -> IpAddr {
        let bytes = self.get(at, 16);
        match self.rules.family {
            Family::V4 => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
            Family::V6 => IpAddr::from(<[u8; 16]>::try_from(bytes).expect("16 bytes")),
        }
    }

    fn port(&self, at: u8) -> u16 {
        let bytes = self.get(at, 2);
        u16::from_be_bytes([bytes[0], bytes[1]])
    }

    fn target_at(&self, at: u8) -> Key {
        let words = self.rules.family.words();
        Key::new().address(self.address(at)).port(self.port(at + words))
    }

    fn key(&self, at: u8, parts: &[crate::ruleset::Part]) -> Key {
        let words = |part: &crate::ruleset::Part| match part {
            crate::ruleset::Part::Address => usize::from(self.rules.family.words()),
            _ => 1,
        };
        let length = parts.iter().map(words).sum::<usize>() * 4;
        Key::read(self.get(at, length)).expect("keys fit")
    }

    fn find(&self, at: u8, set: SetName) -> Option<Data> {
        let key = self.key(at, set.key());
        if let Some(value) = self.learned.get(&(set, key)) {
            return Some(Data::Value(*value));
        }
        let elements = self.rules.sets.get(&set)?;
        if set.kind() != crate::ruleset::Kind::Ranges {
            return elements.get(&key).cloned();
        }
        // each part for itself lies between those of the first and the last key; only the last part is a range
        let (_, until) = elements.range(..=key).next_back()?;
        matches!(until, Data::Until(last) if key <= *last).then_some(Data::None)
    }

    fn field(&self, field: &Field) -> Vec<u8> {
        let octets = |ip: IpAddr| Key::new().address(ip).bytes().to_vec();
        let kind = |ip: IpAddr| u32::from(self.is_local(ip)) + 1;
        match field {
            Field::Source => octets(self.packet.source),
            Field::Destination => octets(self.target.0),
            Field::Protocol => vec![self.packet.protocol],
            Field::Port => self.target.1.to_be_bytes().to_vec(),
            Field::OriginalDestination => octets(self.packet.destination),
            Field::OriginalPort => self.packet.port.to_be_bytes().to_vec(),
            Field::State => 8u32.to_ne_bytes().to_vec(),
            Field::Status => {
                let translated = self.target != (self.packet.destination, self.packet.port);
                (u32::from(translated) * 32).to_ne_bytes().to_vec()
            }
            Field::SourceType => kind(self.packet.source).to_ne_bytes().to_vec(),
            Field::DestinationType => kind(self.target.0).to_ne_bytes().to_vec(),
            Field::InputName => {
                let mut name = self.packet.link.clone().unwrap_or_default().into_bytes();
                name.resize(16, 0);
                name
            }
        }
    }
}

fn end(verdict: &Verdict) -> End {
    match verdict {
        Verdict::Drop => End::Drop,
        Verdict::Return => End::Return,
        Verdict::Jump(chain) => End::Jump(chain.clone()),
        Verdict::Goto(chain) => End::Goto(chain.clone()),
    }
}
