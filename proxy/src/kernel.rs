//! The kernel's side: our table, read once, then kept by changes alone.

use std::collections::{BTreeMap, BTreeSet};

use netlink::NetlinkError;
use netlink::nft::{self, Nft};
use proxy_rules::{Batch, Change, Data, Family, Key, Kind, Ruleset, SetName, Verdict, diff};

use crate::encode::{TABLE, family, transaction, with_set};

/// Tries of a transaction that others' transactions get between.
const TRIES: usize = 100;
/// What a socket takes of anybody: a process without `CAP_NET_ADMIN` over the machine cannot make its buffer larger.
const PART_BYTES: usize = 64 * 1024;
/// `E…`, as the kernel numbers them.
mod errno {
    pub(super) const BUSY: i32 = 16;
    pub(super) const RESTART: i32 = 85;
    pub(super) const MSGSIZE: i32 = 90;
    pub(super) const NOBUFS: i32 = 105;
}
/// Flags of sets that are of interest: interval, map, timeout.
const KIND_FLAGS: u32 = 0x4 | 0x8 | 0x10;
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;

/// Our table of one family.
pub struct Kernel {
    nft: Nft,
    family: Family,
    /// The kernel's number of the table, and of the last transaction that we know of.
    known: Option<(u64, u32)>,
    /// What nothing uses any more. Removed a transaction later: older kernels count the uses only after a while.
    idle_chains: BTreeSet<String>,
    idle_sets: BTreeSet<SetName>,
}

/// What a change led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The kernel has it.
    Done,
    /// Somebody else has changed our table: it must be read and written as a whole.
    Lost,
}

impl Kernel {
    /// For the network namespace of the calling thread.
    ///
    /// # Errors
    /// Where the kernel has no nf_tables, or we may not.
    pub fn open(family: Family) -> Result<Kernel, NetlinkError> {
        let nft = Nft::open()?;
        Ok(Kernel { nft, family, known: None, idle_chains: BTreeSet::new(), idle_sets: BTreeSet::new() })
    }

    /// Makes the table equal to `rules`, whatever it was; packets see all of it or nothing. Gives how many elements that
    /// changed.
    pub fn replace(&mut self, rules: &Ruleset) -> Result<usize, NetlinkError> {
        let mut tries = 0;
        loop {
            let generation = self.nft.generation()?;
            let there = self.nft.has_table(family(self.family), TABLE)?;
            let found = if there { self.read()? } else { None };
            let fits = found.is_some();
            let known = found.unwrap_or_else(|| Ruleset::empty(self.family));
            let (batch, hooks) = rewritten(diff(&known, rules), rules);
            let (mut to, hooks) = (transaction(&batch, true), transaction(&hooks, false));
            let done = if there {
                let mut all = nft::Batch::new(family(self.family), TABLE);
                if !fits {
                    all.delete_table();
                }
                all.append(&to);
                all.append(&hooks);
                all.if_generation(generation);
                self.commit(&all).map(drop)
            } else {
                // Without its base chains nobody sees the table. The kernel's hash tables grow between transactions:
                // a large one would fill a chain of tables that are too small.
                to.if_generation(generation);
                to.parts(PART_BYTES).iter().chain([&hooks]).try_for_each(|part| self.nft.commit(part))
            };
            match done {
                Err(e) if is(&e, errno::RESTART) && tries < TRIES => tries += 1,
                Err(e) => return Err(e),
                Ok(()) => {
                    self.retire(&batch);
                    self.remember()?;
                    return Ok(batch.elements());
                }
            }
        }
    }

    /// Makes a change, if the table is still as we left it.
    pub fn apply(&mut self, batch: &Batch) -> Result<Applied, NetlinkError> {
        if batch.is_empty() {
            return Ok(Applied::Done);
        }
        let mut to = transaction(batch, false);
        for _ in 0..TRIES {
            let Some((_, generation)) = self.known else { return Ok(Applied::Lost) };
            to.if_generation(generation);
            match self.commit(&to) {
                Ok(transactions) => {
                    // one transaction is one generation
                    self.known = self.known.map(|(table, known)| (table, known.wrapping_add(transactions)));
                    self.retire(batch);
                    return Ok(Applied::Done);
                }
                Err(e) if is(&e, errno::RESTART) => {
                    if self.check()? == Applied::Lost {
                        return Ok(Applied::Lost);
                    }
                }
                Err(e) => {
                    self.known = None;
                    return Err(e);
                }
            }
        }
        Ok(Applied::Lost)
    }

    /// Commits a transaction; where it may not be as large, in order and in parts. Gives how many there were.
    fn commit(&mut self, batch: &nft::Batch) -> Result<u32, NetlinkError> {
        match self.nft.commit(batch) {
            Err(NetlinkError::Io { source, .. })
                if matches!(source.raw_os_error(), Some(errno::MSGSIZE | errno::NOBUFS)) =>
            {
                let parts = batch.parts(PART_BYTES);
                parts.iter().try_for_each(|part| self.nft.commit(part))?;
                Ok(u32::try_from(parts.len()).unwrap_or(u32::MAX))
            }
            done => done.map(|()| 1),
        }
    }

    /// Whether the table is still the one we know. Cheap.
    pub fn check(&mut self) -> Result<Applied, NetlinkError> {
        let generation = self.nft.generation()?;
        match self.known {
            Some((_, known)) if known == generation => Ok(Applied::Done),
            Some((table, _)) if self.nft.table_handle(family(self.family), TABLE)? == Some(table) => {
                self.known = Some((table, generation));
                Ok(Applied::Done)
            }
            _ => {
                self.known = None;
                Ok(Applied::Lost)
            }
        }
    }

    /// Removes what nothing uses any more. What an old kernel still counts as used stays for the next time.
    pub fn tidy(&mut self) -> Result<(), NetlinkError> {
        if self.idle_chains.is_empty() && self.idle_sets.is_empty() || self.check()? == Applied::Lost {
            return Ok(());
        }
        let mut to = nft::Batch::new(family(self.family), TABLE);
        self.idle_chains.iter().for_each(|chain| to.delete_chain(chain));
        self.idle_sets.iter().for_each(|set| to.delete_set(set.name()));
        match self.nft.commit(&to) {
            Err(e) if is(&e, errno::BUSY) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => {
                self.idle_chains.clear();
                self.idle_sets.clear();
                self.known = self.known.map(|(table, generation)| (table, generation.wrapping_add(1)));
                Ok(())
            }
        }
    }

    /// Removes the table, if it is there.
    pub fn remove(&mut self) -> Result<(), NetlinkError> {
        self.known = None;
        self.nft.remove_table(family(self.family), TABLE)
    }

    /// Forgets the clients of services with affinity whose key and value `stale` says yes to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn forget_clients(&mut self, stale: impl Fn(Key, Key) -> bool) -> Result<(), NetlinkError> {
        let of = family(self.family);
        let set = SetName::Affinity.name();
        for found in self.nft.elements(of, TABLE, set)? {
            let both = Key::read(&found.key).zip(Key::read(&found.value));
            if !both.is_some_and(|(key, value)| stale(key, value)) {
                continue;
            }
            let client = nft::Element { key: found.key, last: None, data: None, comment: String::new() };
            let mut batch = nft::Batch::new(of, TABLE);
            batch.delete_elements(set, [&client]);
            match self.nft.commit(&batch) {
                // his time was over meanwhile
                Err(e) if e.is_absent() => {}
                done => done?,
            }
        }
        self.check().map(drop)
    }

    fn retire(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::RetireChain(name) => drop(self.idle_chains.insert(name.clone())),
                Change::RetireSet(set) => drop(self.idle_sets.insert(*set)),
                Change::AddChain(name, _) => drop(self.idle_chains.remove(name)),
                Change::AddSet(set) => drop(self.idle_sets.remove(set)),
                _ => {}
            }
        }
    }

    fn remember(&mut self) -> Result<(), NetlinkError> {
        let generation = self.nft.generation()?;
        let table = self.nft.table_handle(family(self.family), TABLE)?;
        self.known = table.map(|table| (table, generation));
        Ok(())
    }

    /// The table as the kernel has it, but for rules and learned elements; `None` if it has sets that we would make
    /// otherwise, as another version may have done.
    pub fn read(&mut self) -> Result<Option<Ruleset>, NetlinkError> {
        let of = family(self.family);
        let names: BTreeMap<&str, SetName> =
            SetName::BASE.into_iter().chain([SetName::Affinity]).map(|set| (set.name(), set)).collect();
        let mut rules = Ruleset::empty(self.family);
        for found in self.nft.sets(of, TABLE)? {
            let Some(set) = names.get(found.name.as_str()).copied() else { return Ok(None) };
            let wanted = with_set(set, self.family, |described| described.form());
            let flags = match set.kind() {
                Kind::Set => 0,
                Kind::Ranges => INTERVAL,
                Kind::Map(_) | Kind::Verdicts => MAP,
                Kind::Learned(_) => MAP | TIMEOUT,
            };
            if (found.key, found.data, found.flags & KIND_FLAGS) != (wanted.0, wanted.1, flags) {
                return Ok(None);
            }
            let elements = rules.sets.entry(set).or_default();
            if matches!(set.kind(), Kind::Learned(_)) {
                continue;
            }
            let mut found = self.nft.elements(of, TABLE, set.name())?;
            if set.kind() == Kind::Ranges && set.key().len() == 1 {
                join(&mut found);
            }
            for one in &found {
                let Some((key, data)) = read_element(one, set.kind()) else { return Ok(None) };
                elements.insert(key, data);
            }
        }
        for name in self.nft.chains(of, TABLE)? {
            rules.chains.insert(name, proxy_rules::Chain { base: None, rules: Vec::new() });
        }
        Ok(Some(rules))
    }
}

/// Changes that write all rules again, as they are few and have no form to compare; apart, and to be made last, those of
/// the chains that the kernel calls.
fn rewritten(mut batch: Batch, rules: &Ruleset) -> (Batch, Batch) {
    let family = batch.family;
    let (sets, rest): (Vec<_>, Vec<_>) = batch
        .changes
        .into_iter()
        .filter(|change| !matches!(change, Change::SetRules(..) | Change::AddChain(..)))
        .partition(|change| matches!(change, Change::AddSet(_)));
    let chains = |hooked: bool| {
        let of = rules.chains.iter().filter(move |(_, chain)| chain.base.is_some() == hooked);
        let made = of.clone().map(|(name, chain)| Change::AddChain(name.clone(), chain.base));
        made.chain(of.map(|(name, chain)| Change::SetRules(name.clone(), chain.rules.clone())))
    };
    batch.changes = sets.into_iter().chain(chains(false)).chain(rest).collect();
    (batch, Batch { family, changes: chains(true).collect() })
}

fn is(error: &NetlinkError, number: i32) -> bool {
    error.errno().is_some_and(|e| e.raw_os_error() == number)
}

/// Ranges of single keys are two elements to the kernel: the first key, and the first that is not in it.
fn join(found: &mut Vec<nft::FoundElement>) {
    found.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
    let mut joined: Vec<nft::FoundElement> = Vec::new();
    for one in found.drain(..) {
        if !one.is_end {
            joined.push(one);
        } else if let Some(open) = joined.last_mut().filter(|open| open.last.is_none()) {
            let mut last = one.key;
            for byte in last.iter_mut().rev() {
                *byte = byte.wrapping_sub(1);
                if *byte != 0xff {
                    break;
                }
            }
            open.last = Some(last);
        }
    }
    *found = joined;
}

fn read_element(found: &nft::FoundElement, kind: Kind) -> Option<(Key, Data)> {
    let data = match kind {
        Kind::Set => Data::None,
        Kind::Ranges => Data::Until(Key::read(found.last.as_ref()?)?),
        Kind::Map(_) | Kind::Learned(_) => Data::Value(Key::read(&found.value)?),
        Kind::Verdicts => Data::Verdict(match found.verdict.clone()? {
            nft::Verdict::Drop => Verdict::Drop,
            nft::Verdict::Goto(chain) => Verdict::Goto(chain),
            nft::Verdict::Jump(chain) => Verdict::Jump(chain),
            nft::Verdict::Return => Verdict::Return,
            nft::Verdict::Accept => return None,
        }),
    };
    Some((Key::read(&found.key)?, data))
}
