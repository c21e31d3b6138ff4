//! Which fields an object sets.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Atom, Relation, Typed, is_whole};
use crate::fields::{Element, Set};

impl<'t> Typed<'t> {
    /// The paths of everything an object sets: its plain values, its items, and what is owned as a whole.
    pub(crate) fn extract(&self, object: &Value) -> Set {
        self.set_of(self.root, object).1
    }

    /// Whether the value is itself owned, and the paths below it.
    fn set_of(&self, atom: Atom<'t>, value: &Value) -> (bool, Set) {
        match (atom, value) {
            _ if is_whole(atom) => (true, Set::default()),
            (Atom::List { item, relation }, Value::Array(items)) => {
                (false, self.set_of_items(item, relation, items))
            }
            (Atom::Object { .. } | Atom::Map { .. } | Atom::Deduced, Value::Object(members)) => {
                let mut set = Set::default();
                for (name, value) in members {
                    let (member, named) = self.member(atom, name);
                    let (owned, below) = self.set_of(member, value);
                    let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                    set.put(Element::Field(name.clone()), owned || empty || !named, below);
                }
                (false, set)
            }
            (Atom::Deduced, value) => (!value.is_null(), Set::default()),
            _ => (false, Set::default()),
        }
    }

    fn set_of_items(
        &self,
        item: &'t proto_kube::schema::Shape,
        relation: Relation<'t>,
        items: &[Value],
    ) -> Set {
        let item = self.item(item);
        let mut found: BTreeMap<Element, Option<&Value>> = BTreeMap::new();
        for value in items {
            let Ok(element) = self.element(relation, item, value) else { continue };
            // Items that cannot be told apart are owned together, and nothing below them.
            found.entry(element).and_modify(|other| *other = None).or_insert(Some(value));
        }
        let mut set = Set::default();
        for (element, value) in found {
            let below = match relation {
                Relation::Keyed(_) => value.map(|value| self.set_of(item, value).1).unwrap_or_default(),
                _ => Set::default(),
            };
            set.put(element, true, below);
        }
        set
    }
}
