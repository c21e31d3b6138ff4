//! What must change for one rule set to become another.

use std::collections::BTreeMap;

use crate::ruleset::{Base, Chain, Data, Family, Key, Kind, Rule, Ruleset, SetName};

/// One change. They are in an order that the kernel takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A set is made.
    AddSet(SetName),
    /// A chain is made, without rules.
    AddChain(String, Option<Base>),
    /// A chain has these rules, instead of those it had.
    SetRules(String, Vec<Rule>),
    /// Elements go.
    Remove(SetName, Vec<(Key, Data)>),
    /// Elements come.
    Add(SetName, Vec<(Key, Data)>),
    /// Nothing leads to a chain any more.
    RetireChain(String),
    /// No rule uses a set any more.
    RetireSet(SetName),
}

/// Changes to one table that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Of the table.
    pub family: Family,
    /// In order.
    pub changes: Vec<Change>,
}

impl Batch {
    /// There is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many elements come or go.
    #[must_use]
    pub fn elements(&self) -> usize {
        let count = |change: &Change| match change {
            Change::Remove(_, elements) | Change::Add(_, elements) => elements.len(),
            _ => 0,
        };
        self.changes.iter().map(count).sum()
    }
}

/// What makes `old` into `new`; nothing if they are equal.
#[must_use]
pub fn diff(old: &Ruleset, new: &Ruleset) -> Batch {
    let mut changes = Vec::new();
    changes.extend(new.sets.keys().filter(|set| !old.sets.contains_key(set)).map(|set| Change::AddSet(*set)));
    let same_hook = |name: &String, chain: &Chain| old.chains.get(name).is_some_and(|o| o.base == chain.base);
    let made = new.chains.iter().filter(|(name, chain)| !same_hook(name, chain));
    changes.extend(made.map(|(name, chain)| Change::AddChain(name.clone(), chain.base)));
    for (name, chain) in &new.chains {
        if old.chains.get(name).map_or(&Vec::new(), |old| &old.rules) != &chain.rules {
            changes.push(Change::SetRules(name.clone(), chain.rules.clone()));
        }
    }
    let (mut remove, mut add) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for (set, elements) in &old.sets {
        let Some(wanted) = new.sets.get(set) else { continue };
        let gone = elements.iter().filter(|(key, data)| wanted.get(key) != Some(data));
        remove.insert(*set, gone.map(|(key, data)| (*key, data.clone())).collect());
    }
    for (set, elements) in &new.sets {
        let known = old.sets.get(set);
        let come = elements.iter().filter(|(key, data)| known.and_then(|k| k.get(key)) != Some(data));
        add.insert(*set, come.map(|(key, data)| (*key, data.clone())).collect());
    }
    let elements = |of: BTreeMap<SetName, Vec<_>>, leading_first: bool| {
        let mut sets: Vec<_> = of.into_iter().filter(|(_, e)| !e.is_empty()).collect();
        // what leads somewhere comes after that, and goes before: for kernels that take no large transaction
        sets.sort_by_key(|(set, _)| (set.kind() == Kind::Verdicts) != leading_first);
        sets
    };
    changes.extend(elements(remove, true).into_iter().map(|(set, e)| Change::Remove(set, e)));
    changes.extend(elements(add, false).into_iter().map(|(set, e)| Change::Add(set, e)));
    let idle = old.chains.keys().filter(|name| !new.chains.contains_key(*name));
    changes.extend(idle.map(|name| Change::RetireChain(name.clone())));
    let idle = old.sets.keys().filter(|set| !new.sets.contains_key(set));
    changes.extend(idle.map(|set| Change::RetireSet(*set)));
    Batch { family: new.family, changes }
}

impl Ruleset {
    /// Makes the changes, as the kernel would.
    pub fn apply(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::AddSet(set) => drop(self.sets.entry(*set).or_default()),
                Change::AddChain(name, base) => {
                    let chain = self.chains.entry(name.clone());
                    chain.or_insert(Chain { base: *base, rules: Vec::new() }).base = *base;
                }
                Change::SetRules(name, rules) => {
                    let chain = self.chains.get_mut(name).expect("the chain is made before");
                    chain.rules.clone_from(rules);
                }
                Change::Remove(set, elements) => {
                    let known = self.sets.get_mut(set).expect("the set is made before");
                    for (key, _) in elements {
                        known.remove(key).expect("what goes was there");
                    }
                }
                Change::Add(set, elements) => {
                    let known = self.sets.get_mut(set).expect("the set is made before");
                    for (key, data) in elements {
                        assert!(known.insert(*key, data.clone()).is_none(), "what comes was not there");
                    }
                }
                Change::RetireChain(name) => drop(self.chains.remove(name)),
                Change::RetireSet(set) => drop(self.sets.remove(set)),
            }
        }
    }
}
