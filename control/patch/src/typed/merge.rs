//! One object brought into another: nothing goes away, and where both set a field the second one counts.

use std::collections::{BTreeMap, BTreeSet};

use proto_kube::schema::Shape;
use serde_json::{Map, Value};

use super::{Atom, Relation, Typed, is_whole, items, members};
use crate::fields::Element;

impl<'t> Typed<'t> {
    /// What `live` is when `config` is brought into it. The items of a list stand as in `config`, the live ones among
    /// them where they stood.
    ///
    /// # Errors
    /// Why an item of a list cannot be told from others.
    pub(crate) fn merge(&self, live: &Value, config: &Value) -> Result<Value, String> {
        Ok(self.merged(self.root, Some(live), Some(config))?.unwrap_or(Value::Null))
    }

    fn merged(
        &self,
        atom: Atom<'t>,
        live: Option<&Value>,
        config: Option<&Value>,
    ) -> Result<Option<Value>, String> {
        let leaf = || Ok(config.or(live).cloned());
        if is_whole(atom) {
            return leaf();
        }
        // Nothing is merged into a part that only one of them has.
        let (Some(before), Some(change)) = (live, config) else { return leaf() };
        match atom {
            Atom::List { item, relation } => {
                let (before, change) = (items(live), items(config));
                match (before, change) {
                    ([], []) => leaf(),
                    (_, []) => Ok(live.cloned()),
                    _ => self.merged_items(item, relation, before, change).map(some_items),
                }
            }
            Atom::Deduced if !change.is_object() && !change.is_null() => leaf(),
            Atom::Deduced if !before.is_object() => leaf(),
            _ => match (members(live), members(config)) {
                (Some(before), Some(change)) => self.merged_members(atom, before, change).map(Some),
                (Some(before), None) if !before.is_empty() => Ok(live.cloned()),
                _ => leaf(),
            },
        }
    }

    fn merged_members(
        &self,
        atom: Atom<'t>,
        before: &Map<String, Value>,
        change: &Map<String, Value>,
    ) -> Result<Value, String> {
        let mut out = Map::new();
        for (name, live) in before {
            let value = self.merged(self.member(atom, name).0, Some(live), change.get(name))?;
            out.extend(value.map(|value| (name.clone(), value)));
        }
        for (name, config) in change.iter().filter(|(name, _)| !before.contains_key(*name)) {
            out.insert(name.clone(), config.clone());
        }
        Ok(Value::Object(out))
    }

    fn merged_items(
        &self,
        item: &'t Shape,
        relation: Relation<'t>,
        before: &[Value],
        change: &[Value],
    ) -> Result<Vec<Value>, String> {
        let item = self.item(item);
        let elements = |values: &[Value]| -> Result<Vec<Element>, String> {
            let element = |(at, value)| {
                self.element(relation, item, value).map_err(|why| format!("element {at}: {why}"))
            };
            values.iter().enumerate().map(element).collect()
        };
        let (left, right) = (elements(before)?, elements(change)?);
        // Of live items that cannot be told apart none is merged; the one of the configuration replaces them.
        let mut live: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
        for (element, value) in left.iter().zip(before) {
            live.entry(element).and_modify(|other| *other = None).or_insert(Some(value));
        }
        let wanted: BTreeSet<&Element> = right.iter().collect();
        if wanted.len() < right.len() {
            return Err(format!("duplicate entries for key {}", first_twice(&right)));
        }
        let mut out = Vec::with_capacity(left.len().max(right.len()));
        for place in interleave(&left, &right, &live, &wanted) {
            let value = match place {
                Place::Live(at) => Some(before[at].clone()),
                Place::Config(at) => {
                    let live = live.get(&right[at]).copied().flatten();
                    self.merged(item, live, Some(&change[at]))?
                }
            };
            out.extend(value);
        }
        Ok(out)
    }
}

fn some_items(items: Vec<Value>) -> Option<Value> {
    (!items.is_empty()).then_some(Value::Array(items))
}

fn first_twice(elements: &[Element]) -> String {
    let mut seen = BTreeSet::new();
    elements.iter().find(|element| !seen.insert(*element)).map(ToString::to_string).unwrap_or_default()
}

/// Where an item of a merged list comes from.
enum Place {
    Live(usize),
    Config(usize),
}

/// The order of a merged list. Live items keep their places before the next item that both lists have in the order of
/// the configuration; the items of the configuration follow theirs.
fn interleave(
    left: &[Element],
    right: &[Element],
    live: &BTreeMap<&Element, Option<&Value>>,
    wanted: &BTreeSet<&Element>,
) -> Vec<Place> {
    let mut shared = right.iter().filter(|element| live.contains_key(element));
    let mut next = shared.next();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some(old), Some(new)) = (left.get(l), right.get(r)) {
            if old == new {
                done.insert(new);
                out.push(Place::Config(r));
                (l, r) = (l + 1, r + 1);
                next = shared.next();
                continue;
            }
            if wanted.contains(old) && next.is_some_and(|next| next != old) {
                // Both have it, and another one comes first.
                l += 1;
                continue;
            }
        }
        if let Some(old) = left.get(l) {
            if !wanted.contains(old) {
                out.push(Place::Live(l));
                l += 1;
                continue;
            }
            if done.contains(old) {
                l += 1;
            }
        }
        if let Some(new) = right.get(r) {
            done.insert(new);
            out.push(Place::Config(r));
            r += 1;
            if next == Some(new) {
                next = shared.next();
            }
        }
    }
    out
}
