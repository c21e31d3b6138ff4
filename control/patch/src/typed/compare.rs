//! Which fields differ between two objects.

use std::collections::BTreeMap;

use proto_kube::schema::{Field, Presence, Shape};
use serde_json::{Map, Value};

use super::{Atom, Relation, Typed, is_whole, items, members};
use crate::fields::{Element, Set};
use crate::value::equal;

/// What became of the fields of an object.
#[derive(Debug, Default)]
pub(crate) struct Diff {
    pub(crate) added: Set,
    pub(crate) modified: Set,
    pub(crate) removed: Set,
}

/// What became of a value as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Added,
    Modified,
    Removed,
}

impl Diff {
    fn put(&mut self, element: impl Fn() -> Element, (change, below): (Change, Self)) {
        let put = |set: &mut Set, member: bool, below: Set| {
            if member || !below.is_empty() {
                set.put(element(), member, below);
            }
        };
        put(&mut self.added, change == Change::Added, below.added);
        put(&mut self.modified, change == Change::Modified, below.modified);
        put(&mut self.removed, change == Change::Removed, below.removed);
    }

    /// The same without what a filter hides.
    pub(crate) fn map(self, filter: impl Fn(Set) -> Set) -> Self {
        Self { added: filter(self.added), modified: filter(self.modified), removed: filter(self.removed) }
    }
}

impl<'t> Typed<'t> {
    /// What the fields of `old` became in `new`.
    pub(crate) fn compare(&self, old: &Value, new: &Value) -> Diff {
        self.diff(self.root, Some(old), Some(new)).1
    }

    fn diff(&self, atom: Atom<'t>, old: Option<&Value>, new: Option<&Value>) -> (Change, Diff) {
        let leaf = || (leaf(old, new), Diff::default());
        if is_whole(atom) {
            return leaf();
        }
        let mut diff = Diff::default();
        match atom {
            Atom::List { item, relation } => {
                let (before, after) = (items(old), items(new));
                if before.is_empty() && after.is_empty() {
                    return leaf();
                }
                self.diff_items(item, relation, before, after, &mut diff);
            }
            _ => {
                let is_map = |value: Option<&Value>| value.is_none_or(|v| v.is_object() || v.is_null());
                let (before, after) = (members(old), members(new));
                if before.is_none_or(Map::is_empty) && after.is_none_or(Map::is_empty) {
                    return leaf();
                }
                self.diff_members(atom, before, after, &mut diff);
                if !is_map(old) || !is_map(new) {
                    return (Change::Modified, diff);
                }
            }
        }
        let change = match (old, new) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::None,
        };
        (change, diff)
    }

    fn diff_members(
        &self,
        atom: Atom<'t>,
        before: Option<&Map<String, Value>>,
        after: Option<&Map<String, Value>>,
        diff: &mut Diff,
    ) {
        let mut put = |name: &str, old: Option<&Value>, new: Option<&Value>| {
            let child = self.diff(self.member(atom, name).0, old, new);
            diff.put(|| Element::Field(name.to_owned()), child);
        };
        for (name, old) in before.into_iter().flatten() {
            put(name, Some(old), value_of(atom, after, name));
        }
        for (name, new) in after.into_iter().flatten() {
            if !before.is_some_and(|before| before.contains_key(name)) {
                put(name, value_of(atom, before, name), Some(new));
            }
        }
        // An object that comes or goes brings or takes its nulls.
        if let (Atom::Object { of, .. }, (None, Some(members)) | (Some(members), None)) =
            (atom, (before, after))
        {
            let nulls = of.fields.iter().filter(|field| is_null_when_missing(field));
            for field in nulls.filter(|field| !members.contains_key(field.name)) {
                put(field.name, value_of(atom, before, field.name), value_of(atom, after, field.name));
            }
        }
    }

    fn diff_items(
        &self,
        item: &'t Shape,
        relation: Relation<'t>,
        before: &[Value],
        after: &[Value],
        diff: &mut Diff,
    ) {
        if before == after {
            return;
        }
        let item = self.item(item);
        let mut found: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (values, is_new) in [(before, false), (after, true)] {
            for value in values {
                let Ok(element) = self.element(relation, item, value) else { continue };
                let (old, new) = found.entry(element).or_default();
                if is_new { new.push(value) } else { old.push(value) }
            }
        }
        for (element, (old, new)) in found {
            match (old.as_slice(), new.as_slice()) {
                ([_] | [], [_] | []) => {
                    let child = self.diff(item, old.first().copied(), new.first().copied());
                    diff.put(|| element.clone(), child);
                }
                // Items that cannot be told apart are one.
                ([_, _, ..], [_, _, ..]) => {
                    let same =
                        old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| equal(old, new));
                    let change = if same { Change::None } else { Change::Modified };
                    diff.put(|| element.clone(), (change, Diff::default()));
                }
                ([_, _, ..], alone) => {
                    for new in alone {
                        diff.put(|| element.clone(), self.diff(item, None, Some(new)));
                    }
                    diff.put(|| element.clone(), (Change::Removed, Diff::default()));
                }
                (alone, _) => {
                    for old in alone {
                        diff.put(|| element.clone(), self.diff(item, Some(old), None));
                    }
                    diff.put(|| element.clone(), (Change::Added, Diff::default()));
                }
            }
        }
    }
}

/// A member of an object, as upstream has it: null where it has a field that holds nothing.
fn value_of<'v>(atom: Atom<'_>, members: Option<&'v Map<String, Value>>, name: &str) -> Option<&'v Value> {
    members?.get(name).or_else(|| match atom {
        Atom::Object { of, .. } if of.field(name).is_some_and(is_null_when_missing) => Some(&Value::Null),
        _ => None,
    })
}

/// Whether upstream writes null for a field that is not set, and so has it owned.
fn is_null_when_missing(field: &Field) -> bool {
    match (field.presence, &field.shape) {
        (Presence::Pointer, _) => false,
        (_, Shape::Time | Shape::MicroTime) => field.name != "creationTimestamp",
        (presence, Shape::List(_) | Shape::Map(_) | Shape::Bytes | Shape::Raw) => {
            presence == Presence::Always
        }
        _ => false,
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Change {
    match (old, new) {
        (None, None) => Change::None,
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        (Some(old), Some(new)) if equal(old, new) => Change::None,
        _ => Change::Modified,
    }
}
