//! Changes to one table, as the messages of one transaction.

use std::borrow::Borrow;

use super::element::{Element, comment, range};
use super::expr::{Rule, TypeId};
use super::{Family, SUBSYSTEM};
use crate::attr::{nest, put, put_str, put_u32};
use crate::socket::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, begin, finish};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const BATCH_GENID: u16 = 1;

pub(super) const NEWTABLE: u16 = 0;
pub(super) const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
pub(super) const NEWCHAIN: u16 = 3;
pub(super) const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
pub(super) const NEWRULE: u16 = 6;
pub(super) const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
pub(super) const NEWSET: u16 = 9;
pub(super) const GETSET: u16 = 10;
const DELSET: u16 = 11;
pub(super) const NEWSETELEM: u16 = 12;
pub(super) const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;
pub(super) const GETGEN: u16 = 16;

const SET_F_INTERVAL: u32 = 0x4;
const SET_F_MAP: u32 = 0x8;
const SET_F_TIMEOUT: u32 = 0x10;
/// Rules may add elements.
const SET_F_EVAL: u32 = 0x20;
const SET_F_CONCAT: u32 = 0x80;
/// Elements are packed into messages of about this size; an attribute ends at 64 kB.
const PACK_BYTES: usize = 48 * 1024;
/// The type of a map's data that are verdicts.
const DATA_VERDICT: u32 = 0xffff_ff00;

/// Where a base chain sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the routing decision.
    Prerouting = 0,
    /// To a local process.
    Input = 1,
    /// Through this machine.
    Forward = 2,
    /// From a local process.
    Output = 3,
    /// After the routing decision.
    Postrouting = 4,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// `filter`, `nat` or `route`.
    pub kind: &'static str,
    /// Where it sits.
    pub hook: Hook,
    /// Order among the chains of the hook; -100 is dstnat, 0 filter, 100 srcnat.
    pub priority: i32,
    /// What happens to packets that no rule decides about: accept or drop.
    pub accept: bool,
}

/// What a rule or an element of a verdict map decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let the packet go on to the next hook.
    Accept,
    /// Throw it away.
    Drop,
    /// On with the calling chain.
    Return,
    /// On with that chain, then here.
    Jump(String),
    /// On with that chain, then with the calling chain.
    Goto(String),
}

impl Verdict {
    /// The verdict with that code.
    pub(super) fn read(code: i32, chain: Option<String>) -> Option<Verdict> {
        match (code, chain) {
            (0, _) => Some(Verdict::Drop),
            (1, _) => Some(Verdict::Accept),
            (-3, Some(chain)) => Some(Verdict::Jump(chain)),
            (-4, Some(chain)) => Some(Verdict::Goto(chain)),
            (-5, _) => Some(Verdict::Return),
            _ => None,
        }
    }

    /// As attributes of a verdict.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        let (code, chain) = match self {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5i32, None),
        };
        nest(buffer, 2, |b| {
            put(b, 1, &code.to_be_bytes());
            if let Some(chain) = chain {
                put_str(b, 2, chain);
            }
        });
    }
}

/// A set or, with data, a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// The types of its key, concatenated.
    pub key: &'a [TypeId],
    /// For a map: the types of its data, concatenated.
    pub data: &'a [TypeId],
    /// For a verdict map.
    pub verdicts: bool,
    /// Elements may be ranges.
    pub interval: bool,
}

impl Set<'_> {
    /// Number and length in bytes of its key's type, then of its data's: as [`FoundSet`](super::FoundSet) has them.
    pub fn form(&self) -> ((u32, u32), (u32, u32)) {
        let of = |types| (TypeId::concat(types), TypeId::length(types));
        let data = match (self.verdicts, self.data) {
            // the kernel's own length of a verdict
            (true, _) => (DATA_VERDICT, 16),
            (false, []) => (0, 0),
            (false, types) => of(types),
        };
        (of(self.key), data)
    }
}

/// Changes to one table. Each adds or removes one object; the order counts, as in `nft -f`.
pub struct Batch {
    family: Family,
    table: String,
    generation: Option<u32>,
    body: Vec<u8>,
    /// Each message's beginning, and what it does.
    messages: Vec<(usize, String)>,
}

impl Batch {
    /// No changes yet.
    pub fn new(family: Family, table: &str) -> Batch {
        Batch { family, table: table.to_owned(), generation: None, body: Vec::new(), messages: Vec::new() }
    }

    /// Commit only if nobody has changed any table since [`Nft::generation`](super::Nft::generation) said so;
    /// otherwise the error is `ERESTART`.
    pub fn if_generation(&mut self, generation: u32) {
        self.generation = Some(generation);
    }

    /// There are no changes.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Sequence number of the last change; the first has 1, the batch's beginning 0.
    pub(super) fn last(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap_or(u32::MAX)
    }

    /// What the change with that sequence number does.
    pub(super) fn object(&self, sequence: u32) -> String {
        let what = (sequence as usize).checked_sub(1).and_then(|at| self.messages.get(at));
        let what = what.map_or("begin the transaction", |(_, what)| what.as_str());
        format!("{what} in nf_tables table {}", self.table)
    }

    /// The whole transaction, ready to be sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.body.len() + 64);
        let bound = |all: &mut Vec<u8>, kind, sequence, generation: Option<u32>| {
            let at = begin(all, kind, NLM_F_REQUEST, sequence);
            all.extend_from_slice(&[0, 0]);
            all.extend_from_slice(&SUBSYSTEM.to_be_bytes());
            if let Some(generation) = generation {
                put_u32(all, BATCH_GENID, generation);
            }
            finish(all, at);
        };
        bound(&mut all, BATCH_BEGIN, 0, self.generation);
        let shift = all.len();
        all.extend_from_slice(&self.body);
        if let Some((at, _)) = self.messages.last() {
            let flags = u16::from_ne_bytes([all[shift + at + 6], all[shift + at + 7]]) | NLM_F_ACK;
            all[shift + at + 6..shift + at + 8].copy_from_slice(&flags.to_ne_bytes());
        }
        bound(&mut all, BATCH_END, self.last() + 1, None);
        all
    }

    fn message(&mut self, what: String, kind: u16, flags: u16, write: impl FnOnce(&mut Vec<u8>, &str)) {
        let sequence = self.last() + 1;
        let at = begin(&mut self.body, SUBSYSTEM << 8 | kind, flags | NLM_F_REQUEST, sequence);
        header(&mut self.body, self.family);
        write(&mut self.body, &self.table);
        finish(&mut self.body, at);
        self.messages.push((at, what));
    }

    /// The same changes in order, in transactions of about so many bytes; no change is cut.
    pub fn parts(&self, bytes: usize) -> Vec<Batch> {
        let mut parts: Vec<Batch> = Vec::new();
        let ends = self.messages.iter().skip(1).map(|(at, _)| *at).chain([self.body.len()]);
        for ((at, what), end) in self.messages.iter().zip(ends) {
            if parts.last().is_none_or(|part| !part.is_empty() && part.body.len() + end - at > bytes) {
                parts.push(Batch::new(self.family, &self.table));
            }
            let part = parts.last_mut().expect("one was made");
            part.take(&self.body[*at..end], what.clone());
        }
        if let Some(first) = parts.first_mut() {
            first.generation = self.generation;
        }
        parts
    }

    /// One change more, as it is, but for its number.
    fn take(&mut self, message: &[u8], what: String) {
        let (at, number) = (self.body.len(), self.last() + 1);
        self.body.extend_from_slice(message);
        self.body[at + 8..at + 12].copy_from_slice(&number.to_ne_bytes());
        self.messages.push((at, what));
    }

    /// The changes of another batch of the same table, after these.
    pub fn append(&mut self, other: &Batch) {
        let ends = other.messages.iter().skip(1).map(|(at, _)| *at).chain([other.body.len()]);
        for ((at, what), end) in other.messages.iter().zip(ends) {
            self.take(&other.body[*at..end], what.clone());
        }
    }

    /// Makes the table if it is not there.
    pub fn add_table(&mut self) {
        self.message("add the table".into(), NEWTABLE, NLM_F_CREATE, |b, table| put_str(b, 1, table));
    }

    /// Removes the table with all that is in it.
    pub fn delete_table(&mut self) {
        self.message("delete the table".into(), DELTABLE, 0, |b, table| put_str(b, 1, table));
    }

    /// Makes a chain if it is not there.
    pub fn add_chain(&mut self, chain: &str, base: Option<Base>) {
        self.message(format!("add chain {chain}"), NEWCHAIN, NLM_F_CREATE, |b, table| {
            put_str(b, 1, table);
            put_str(b, 3, chain);
            if let Some(base) = base {
                nest(b, 4, |b| {
                    put_u32(b, 1, base.hook as u32);
                    put(b, 2, &base.priority.to_be_bytes());
                });
                put_u32(b, 5, base.accept.into());
                put_str(b, 7, base.kind);
            }
        });
    }

    /// Removes a chain, which must be empty and used by no rule or element.
    pub fn delete_chain(&mut self, chain: &str) {
        self.message(format!("delete chain {chain}"), DELCHAIN, 0, |b, table| {
            put_str(b, 1, table);
            put_str(b, 3, chain);
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, chain: &str) {
        self.message(format!("flush chain {chain}"), DELRULE, 0, |b, table| {
            put_str(b, 1, table);
            put_str(b, 2, chain);
        });
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        let what = match rule.comment() {
            "" => format!("add a rule to chain {chain}"),
            comment => format!("add rule {comment:?} to chain {chain}"),
        };
        self.message(what, NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |b, table| {
            put_str(b, 1, table);
            put_str(b, 2, chain);
            nest(b, 4, |b| b.extend_from_slice(rule.expressions()));
            if !rule.comment().is_empty() {
                put(b, 7, &comment(rule.comment()));
            }
        });
    }

    /// Removes one rule.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.message(format!("delete rule {handle} of chain {chain}"), DELRULE, 0, |b, table| {
            put_str(b, 1, table);
            put_str(b, 2, chain);
            put(b, 3, &handle.to_be_bytes());
        });
    }

    /// Makes a set or map if it is not there.
    pub fn add_set(&mut self, set: &Set<'_>) {
        self.add_set_with(set, 0, None);
    }

    /// Makes a set or map, if it is not there, to which rules add elements that end by themselves; at most so many.
    pub fn add_learning_set(&mut self, set: &Set<'_>, most: u32) {
        self.add_set_with(set, SET_F_TIMEOUT | SET_F_EVAL, Some(most));
    }

    fn add_set_with(&mut self, set: &Set<'_>, flags: u32, most: Option<u32>) {
        // a number that ties the set to rules of the same transaction
        let id = self.last() + 1;
        self.message(format!("add set {}", set.name), NEWSET, NLM_F_CREATE, |b, table| {
            put_str(b, 1, table);
            put_str(b, 2, set.name);
            let is_map = set.verdicts || !set.data.is_empty();
            let concat = set.interval && set.key.len() > 1;
            let kinds = [(is_map, SET_F_MAP), (set.interval, SET_F_INTERVAL), (concat, SET_F_CONCAT)];
            put_u32(b, 3, flags | kinds.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum::<u32>());
            put_u32(b, 4, TypeId::concat(set.key));
            put_u32(b, 5, TypeId::length(set.key));
            if set.verdicts {
                put_u32(b, 6, DATA_VERDICT);
            } else if is_map {
                put_u32(b, 6, TypeId::concat(set.data));
                put_u32(b, 7, TypeId::length(set.data));
            }
            if let Some(most) = most {
                nest(b, 9, |b| put_u32(b, 1, most));
            } else if concat {
                nest(b, 9, |b| {
                    nest(b, 2, |b| {
                        set.key.iter().for_each(|t| nest(b, 1, |b| put_u32(b, 1, t.bytes())));
                    });
                });
            }
            put_u32(b, 10, id);
        });
    }

    /// Removes a set or map that no rule uses.
    pub fn delete_set(&mut self, set: &str) {
        self.message(format!("delete set {set}"), DELSET, 0, |b, table| {
            put_str(b, 1, table);
            put_str(b, 2, set);
        });
    }

    /// Removes all elements of a set.
    pub fn flush_set(&mut self, set: &str) {
        self.message(format!("flush set {set}"), DELSETELEM, 0, |b, table| {
            put_str(b, 1, table);
            put_str(b, 2, set);
        });
    }

    /// Adds an element. One that is there already with the same data is no error unless `exclusive`.
    pub fn add_element(&mut self, set: &str, element: &Element, exclusive: bool) {
        let flags = if exclusive { NLM_F_CREATE | NLM_F_EXCL } else { NLM_F_CREATE };
        self.element(
            format!("add element {:?} to set {set}", element.comment),
            NEWSETELEM,
            flags,
            set,
            element,
        );
    }

    /// Removes an element.
    pub fn delete_element(&mut self, set: &str, element: &Element) {
        let what = format!("delete element {:?} of set {set}", element.comment);
        self.element(what, DELSETELEM, 0, set, element);
    }

    /// Adds many elements, in as few messages as they fit in. One that is there already with other data is an error.
    pub fn add_elements(&mut self, set: &str, elements: impl IntoIterator<Item = impl Borrow<Element>>) {
        self.pack(&format!("add elements to set {set}"), NEWSETELEM, NLM_F_CREATE, set, elements);
    }

    /// Removes many elements; each must be there.
    pub fn delete_elements(&mut self, set: &str, elements: impl IntoIterator<Item = impl Borrow<Element>>) {
        self.pack(&format!("delete elements of set {set}"), DELSETELEM, 0, set, elements);
    }

    fn pack(
        &mut self,
        what: &str,
        kind: u16,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = impl Borrow<Element>>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.message(what.to_owned(), kind, flags, |b, table| {
                put_str(b, 1, table);
                put_str(b, 2, set);
                nest(b, 3, |b| {
                    let start = b.len();
                    while b.len() - start < PACK_BYTES {
                        let Some(element) = elements.next() else { break };
                        nest(b, 1, |b| element.borrow().write(b, kind == NEWSETELEM));
                    }
                });
            });
        }
    }

    /// Adds a range to a set of single (not concatenated) keys; `end` is the first key after it.
    pub fn add_range(&mut self, set: &str, first: &[u8], end: &[u8]) {
        let what = format!("add a range to set {set}");
        self.message(what, NEWSETELEM, NLM_F_CREATE, |b, table| range(b, table, set, first, end));
    }

    /// Removes a range that [`Batch::add_range`] made.
    pub fn delete_range(&mut self, set: &str, first: &[u8], end: &[u8]) {
        let what = format!("delete a range of set {set}");
        self.message(what, DELSETELEM, 0, |b, table| range(b, table, set, first, end));
    }

    fn element(&mut self, what: String, kind: u16, flags: u16, set: &str, element: &Element) {
        self.message(what, kind, flags, |b, table| {
            put_str(b, 1, table);
            put_str(b, 2, set);
            nest(b, 3, |b| nest(b, 1, |b| element.write(b, kind == NEWSETELEM)));
        });
    }
}

/// `struct nfgenmsg`.
pub(super) fn header(buffer: &mut Vec<u8>, family: Family) {
    buffer.extend_from_slice(&[family as u8, 0, 0, 0]);
}
