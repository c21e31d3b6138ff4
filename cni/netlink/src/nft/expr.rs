//! Rules: expressions that load registers, compare, look up and decide.
//!
//! A register here is the number of a four-byte word, 0 to 15, as concatenations need them side by side.

use super::Family;
use super::batch::Verdict;
use crate::attr::{nest, put, put_str, put_u32};

/// `NFT_REG32_00`.
const FIRST_WORD: u32 = 8;
/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;

/// A type of nft's, by its number in `nft`'s own table: it tells `nft list` how to print keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeId {
    /// `ipv4_addr`
    Ipv4 = 7,
    /// `ipv6_addr`
    Ipv6 = 8,
    /// `inet_proto`
    Proto = 12,
    /// `inet_service`: a port.
    Port = 13,
    /// `mark`
    Mark = 19,
}

impl TypeId {
    /// Length of a value in bytes.
    pub(super) fn bytes(self) -> u32 {
        match self {
            TypeId::Ipv4 | TypeId::Mark => 4,
            TypeId::Ipv6 => 16,
            TypeId::Proto => 1,
            TypeId::Port => 2,
        }
    }

    /// Number of a concatenation: six bits a type.
    pub(super) fn concat(types: &[TypeId]) -> u32 {
        types.iter().fold(0, |all, &one| all << 6 | one as u32)
    }

    /// Length of a concatenation; one type alone is not padded.
    pub(super) fn length(types: &[TypeId]) -> u32 {
        match types {
            [one] => one.bytes(),
            _ => types.iter().map(|t| t.bytes().next_multiple_of(4)).sum(),
        }
    }
}

/// What a packet can be asked for beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// The packet's mark, 4 bytes.
    Mark = 3,
    /// Index of the link it came by, 4 bytes.
    InputIndex = 4,
    /// Index of the link it leaves by, 4 bytes.
    OutputIndex = 5,
    /// Name of the link it came by, 16 bytes filled up with zeros.
    InputName = 6,
    /// 2 for IPv4, 10 for IPv6; 1 byte.
    Family = 15,
    /// Protocol over IP, 1 byte.
    L4Proto = 16,
}

/// What a packet's connection can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ct {
    /// Bits of the state, 4 bytes.
    State = 0,
    /// Bits of `IPS_*`, 4 bytes.
    Status = 2,
    /// The connection's mark, 4 bytes.
    Mark = 3,
    /// Destination port of the original direction, 2 bytes.
    OriginalPort = 12,
    /// Destination address of the original direction, 4 bytes.
    OriginalDestination = 20,
    /// Destination address of the original direction, 16 bytes.
    OriginalDestination6 = 22,
}

/// Which header bytes are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// IP.
    Network = 1,
    /// TCP, UDP, SCTP.
    Transport = 2,
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cmp {
    /// Equal.
    Eq = 0,
    /// Not equal.
    Ne = 1,
    /// Less, in network byte order.
    Lt = 2,
    /// Greater or equal, in network byte order.
    Ge = 5,
}

/// A rule being written, expression by expression. A comparison or lookup that fails ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    expressions: Vec<u8>,
    comment: String,
}

fn word(word: u32) -> u32 {
    FIRST_WORD + word
}

impl Rule {
    /// Applies to every packet, does nothing.
    pub fn new() -> Rule {
        Rule::default()
    }

    /// For people, and for finding it again; at most 120 bytes.
    #[must_use]
    pub fn with_comment(self, comment: &str) -> Rule {
        Rule { comment: comment.to_owned(), ..self }
    }

    /// The comment.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// As the list of expressions in the kernel's form.
    pub(super) fn expressions(&self) -> &[u8] {
        &self.expressions
    }

    fn expr(mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> Rule {
        nest(&mut self.expressions, 1, |b| {
            put_str(b, 1, name);
            nest(b, 2, write);
        });
        self
    }

    /// Bytes of a header into registers from `to` on.
    #[must_use]
    pub fn payload(self, to: u32, header: Header, offset: u32, length: u32) -> Rule {
        self.expr("payload", |b| {
            put_u32(b, 1, word(to));
            put_u32(b, 2, header as u32);
            put_u32(b, 3, offset);
            put_u32(b, 4, length);
        })
    }

    /// The packet's source address (4 or 16 bytes).
    #[must_use]
    pub fn source(self, to: u32, family: Family) -> Rule {
        match family {
            Family::Ip6 => self.payload(to, Header::Network, 8, 16),
            _ => self.payload(to, Header::Network, 12, 4),
        }
    }

    /// The packet's destination address (4 or 16 bytes).
    #[must_use]
    pub fn destination(self, to: u32, family: Family) -> Rule {
        match family {
            Family::Ip6 => self.payload(to, Header::Network, 24, 16),
            _ => self.payload(to, Header::Network, 16, 4),
        }
    }

    /// The packet's destination port (2 bytes).
    #[must_use]
    pub fn port(self, to: u32) -> Rule {
        self.payload(to, Header::Transport, 2, 2)
    }

    /// What is known of the packet.
    #[must_use]
    pub fn meta(self, to: u32, what: Meta) -> Rule {
        self.expr("meta", |b| {
            put_u32(b, 2, what as u32);
            put_u32(b, 1, word(to));
        })
    }

    /// Sets the packet's mark.
    #[must_use]
    pub fn set_mark(self, from: u32) -> Rule {
        self.expr("meta", |b| {
            put_u32(b, 2, Meta::Mark as u32);
            put_u32(b, 3, word(from));
        })
    }

    /// What is known of the packet's connection.
    #[must_use]
    pub fn ct(self, to: u32, what: Ct) -> Rule {
        self.expr("ct", |b| {
            put_u32(b, 2, what as u32);
            put_u32(b, 1, word(to));
            if matches!(what, Ct::OriginalPort | Ct::OriginalDestination | Ct::OriginalDestination6) {
                put(b, 3, &[0]);
            }
        })
    }

    /// What kind of address the destination is to this machine; 2 is local. 4 bytes, in the machine's byte order.
    #[must_use]
    pub fn destination_type(self, to: u32) -> Rule {
        self.address_type(to, 2)
    }

    /// The same of the source.
    #[must_use]
    pub fn source_type(self, to: u32) -> Rule {
        self.address_type(to, 1)
    }

    fn address_type(self, to: u32, of: u32) -> Rule {
        self.expr("fib", |b| {
            put_u32(b, 3, of);
            put_u32(b, 2, 3);
            put_u32(b, 1, word(to));
        })
    }

    /// A random number smaller than `below`; 4 bytes, in the machine's byte order.
    #[must_use]
    pub fn random(self, to: u32, below: u32) -> Rule {
        self.expr("numgen", |b| {
            put_u32(b, 1, word(to));
            put_u32(b, 2, below);
            put_u32(b, 3, 1);
        })
    }

    /// Puts the key in registers from `key` on, with data from `data` on, into a learning map, for so many seconds.
    /// One that is there keeps its data and begins its time again. Ends the rule when the map is full.
    #[must_use]
    pub fn learn(self, map: &str, key: u32, data: u32, seconds: u32) -> Rule {
        self.expr("dynset", |b| {
            put_str(b, 1, map);
            put_u32(b, 3, 1);
            put_u32(b, 4, word(key));
            put_u32(b, 5, word(data));
            put(b, 6, &(u64::from(seconds) * 1000).to_be_bytes());
        })
    }

    /// Ends the rule unless the comparison holds.
    #[must_use]
    pub fn cmp(self, from: u32, how: Cmp, value: &[u8]) -> Rule {
        self.expr("cmp", |b| {
            put_u32(b, 1, word(from));
            put_u32(b, 2, how as u32);
            nest(b, 3, |b| put(b, 1, value));
        })
    }

    /// `register = register & mask ^ xor`.
    #[must_use]
    pub fn bitwise(self, at: u32, mask: &[u8], xor: &[u8]) -> Rule {
        let length = u32::try_from(mask.len()).expect("a mask is as short as a register");
        self.expr("bitwise", |b| {
            put_u32(b, 1, word(at));
            put_u32(b, 2, word(at));
            put_u32(b, 3, length);
            nest(b, 4, |b| put(b, 1, mask));
            nest(b, 5, |b| put(b, 1, xor));
        })
    }

    /// A constant into a register.
    #[must_use]
    pub fn immediate(self, to: u32, value: &[u8]) -> Rule {
        self.expr("immediate", |b| {
            put_u32(b, 1, word(to));
            nest(b, 2, |b| put(b, 1, value));
        })
    }

    /// Ends the rule unless (`inverse`: if) the key in registers from `from` on is in the set.
    #[must_use]
    pub fn lookup(self, from: u32, set: &str, inverse: bool) -> Rule {
        self.expr("lookup", |b| {
            put_str(b, 1, set);
            put_u32(b, 2, word(from));
            if inverse {
                put_u32(b, 5, 1);
            }
        })
    }

    /// What the map has for the key in registers from `from` on, into registers from `to` on. Ends the rule if it
    /// has nothing.
    #[must_use]
    pub fn map(self, from: u32, map: &str, to: u32) -> Rule {
        self.expr("lookup", |b| {
            put_str(b, 1, map);
            put_u32(b, 2, word(from));
            put_u32(b, 3, word(to));
        })
    }

    /// Decides as the verdict map says for the key in registers from `from` on.
    #[must_use]
    pub fn vmap(self, from: u32, map: &str) -> Rule {
        self.expr("lookup", |b| {
            put_str(b, 1, map);
            put_u32(b, 2, word(from));
            put_u32(b, 3, VERDICT);
        })
    }

    /// New destination: address and port from registers.
    #[must_use]
    pub fn dnat(self, family: Family, address: u32, port: u32) -> Rule {
        self.expr("nat", |b| {
            put_u32(b, 1, 1);
            put_u32(b, 2, family as u32);
            put_u32(b, 3, word(address));
            put_u32(b, 5, word(port));
        })
    }

    /// New source: an address of the link the packet leaves by.
    #[must_use]
    pub fn masquerade(self) -> Rule {
        self.expr("masq", |_| ())
    }

    /// The same, from a random port: two connections do not race for one.
    #[must_use]
    pub fn masquerade_random(self) -> Rule {
        const PROTO_RANDOM_FULLY: u32 = 1 << 4;
        self.expr("masq", |b| put_u32(b, 1, PROTO_RANDOM_FULLY))
    }

    /// Ends a TCP connection with a reset.
    #[must_use]
    pub fn reset(self) -> Rule {
        self.expr("reject", |b| put_u32(b, 1, 1))
    }

    /// Answers that the port is unreachable. For tables of one family.
    #[must_use]
    pub fn unreachable(self, family: Family) -> Rule {
        self.expr("reject", |b| {
            put_u32(b, 1, 0);
            put(b, 2, &[if family == Family::Ip6 { 4 } else { 3 }]);
        })
    }

    /// Counts packets and bytes.
    #[must_use]
    pub fn counter(self) -> Rule {
        self.expr("counter", |b| {
            put(b, 1, &[0; 8]);
            put(b, 2, &[0; 8]);
        })
    }

    /// Decides.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Rule {
        self.expr("immediate", |b| {
            put_u32(b, 1, VERDICT);
            nest(b, 2, |b| verdict.write(b));
        })
    }
}
