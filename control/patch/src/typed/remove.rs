//! An object without some of its fields.

use proto_kube::schema::Shape;
use serde_json::{Map, Value};

use super::{Atom, Relation, Typed, is_whole};
use crate::fields::{Element, Set};

impl<'t> Typed<'t> {
    /// The object without the parts at these paths. What is left empty is null.
    pub(crate) fn remove(&self, object: Value, gone: &Set) -> Value {
        self.without(self.root, object, gone)
    }

    fn without(&self, atom: Atom<'t>, value: Value, gone: &Set) -> Value {
        match (atom, value) {
            (Atom::Scalar(_), value) => value,
            (atom, Value::Array(_) | Value::Object(_)) if is_whole(atom) => Value::Null,
            (Atom::List { item, relation }, Value::Array(items)) => {
                self.without_items(item, relation, items, gone)
            }
            (Atom::Object { .. } | Atom::Map { .. } | Atom::Deduced, Value::Object(members)) => {
                self.without_members(atom, members, gone)
            }
            (_, value) => value,
        }
    }

    fn without_members(&self, atom: Atom<'t>, members: Map<String, Value>, gone: &Set) -> Value {
        let mut out = Map::new();
        for (name, value) in members {
            let element = Element::Field(name);
            if gone.has(&element) {
                continue;
            }
            let below = gone.below(&element);
            let Element::Field(name) = element else { continue };
            let value = match below {
                Some(below) => self.without(self.member(atom, &name).0, value, below),
                None => value,
            };
            out.insert(name, value);
        }
        if out.is_empty() { Value::Null } else { Value::Object(out) }
    }

    fn without_items(&self, item: &'t Shape, relation: Relation<'t>, items: Vec<Value>, gone: &Set) -> Value {
        let item = self.item(item);
        let keep = |value: Value| {
            let Ok(element) = self.element(relation, item, &value) else { return Some(value) };
            if gone.has(&element) {
                return None;
            }
            Some(match gone.below(&element) {
                Some(below) => self.without(item, value, below),
                None => value,
            })
        };
        let out: Vec<Value> = items.into_iter().filter_map(keep).collect();
        if out.is_empty() { Value::Null } else { Value::Array(out) }
    }

    /// The object without its null members, which mean nothing once it is merged.
    pub(crate) fn tidy(&self, object: Value) -> Value {
        self.tidied(self.root, object)
    }

    fn tidied(&self, atom: Atom<'t>, value: Value) -> Value {
        match (atom, value) {
            (Atom::Whole, value) => value,
            (Atom::List { item, .. }, Value::Array(items)) => {
                let item = self.item(item);
                items.into_iter().map(|value| self.tidied(item, value)).collect()
            }
            (atom, Value::Object(members)) => {
                let present = members.into_iter().filter(|(_, value)| !value.is_null());
                let tidied = present.map(|(name, value)| {
                    let value = self.tidied(self.member(atom, &name).0, value);
                    (name, value)
                });
                Value::Object(tidied.collect())
            }
            (_, value) => value,
        }
    }
}
