//! Objects under their schema: which parts of them are owned one by one, and which as a whole.

mod check;
mod compare;
mod extract;
mod merge;
mod remove;

use proto_kube::schema::{Field, Shape, Strategy, Table, Topology, Type, TypeId};
use serde_json::{Map, Value};

pub(crate) use compare::Diff;

use crate::fields::{Element, Set};

/// What a part of an object is to its owners.
#[derive(Clone, Copy)]
pub(crate) enum Atom<'t> {
    /// A plain value.
    Scalar(&'t Shape),
    /// Any JSON, owned as a whole.
    Whole,
    /// Any JSON of which nothing is known: objects are owned by member, all else as a whole.
    Deduced,
    /// An object of the table.
    Object { of: &'t Type, atomic: bool },
    /// A map.
    Map { item: &'t Shape, atomic: bool },
    /// A list.
    List { item: &'t Shape, relation: Relation<'t> },
}

/// What the items of a list are to each other.
#[derive(Clone, Copy)]
pub(crate) enum Relation<'t> {
    /// They belong together.
    Atomic,
    /// Each is found by its value.
    Set,
    /// Each is found by these fields.
    Keyed(&'t [&'static str]),
}

/// A type of a table.
#[derive(Clone, Copy)]
pub(crate) struct Typed<'t> {
    table: &'t Table,
    root: Atom<'t>,
}

impl<'t> Typed<'t> {
    /// An object of the type; of any form without one.
    pub(crate) fn new(table: &'t Table, type_id: Option<TypeId>) -> Self {
        let root = type_id.map_or(Atom::Deduced, |id| Self::object(table, id, &Topology::Plain));
        Self { table, root }
    }

    fn object(table: &'t Table, id: TypeId, topology: &Topology) -> Atom<'t> {
        let of = table.of(id);
        let atomic = match topology {
            Topology::Atomic => true,
            Topology::Granular => false,
            _ => of.atomic,
        };
        Atom::Object { of, atomic }
    }

    fn atom(&self, shape: &'t Shape, topology: &'t Topology, strategy: Option<&'t Strategy>) -> Atom<'t> {
        match shape {
            Shape::Raw => Atom::Whole,
            Shape::Object(id) => Self::object(self.table, *id, topology),
            Shape::Map(item) => Atom::Map { item, atomic: *topology == Topology::Atomic },
            Shape::List(item) => {
                let relation = match (topology, strategy) {
                    (Topology::Set, _) => Relation::Set,
                    (Topology::Keyed(keys), _) => Relation::Keyed(keys),
                    // Without a mark of its own a list is owned as a strategic merge patch would merge it.
                    (Topology::Plain, Some(Strategy { merge: true, key, .. })) => match key.as_slice() {
                        [] => Relation::Set,
                        key => Relation::Keyed(key),
                    },
                    _ => Relation::Atomic,
                };
                Atom::List { item, relation }
            }
            scalar => Atom::Scalar(scalar),
        }
    }

    fn field(&self, field: &'t Field) -> Atom<'t> {
        self.atom(&field.shape, &field.topology, field.strategy.as_ref())
    }

    /// What the items of a list or the values of a map are.
    fn item(&self, shape: &'t Shape) -> Atom<'t> {
        self.atom(shape, &Topology::Plain, None)
    }

    /// What the member `name` of an object or map is, and whether the schema knows it by that name.
    fn member(&self, atom: Atom<'t>, name: &str) -> (Atom<'t>, bool) {
        match atom {
            Atom::Object { of, .. } => match of.field(name) {
                Some(field) => (self.field(field), true),
                None => (Atom::Deduced, false),
            },
            Atom::Map { item, .. } => (self.item(item), false),
            _ => (Atom::Deduced, false),
        }
    }

    /// What stands at an element.
    fn at(&self, atom: Atom<'t>, element: &Element) -> Option<(Atom<'t>, bool)> {
        match (atom, element) {
            (Atom::Object { of, .. }, Element::Field(name)) => Some((self.field(of.field(name)?), true)),
            (Atom::Map { .. }, Element::Field(name)) => Some(self.member(atom, name)),
            (Atom::List { item, .. }, _) => Some((self.item(item), false)),
            _ => None,
        }
    }

    /// The element of a list's item; the text says why it has none.
    fn element(&self, relation: Relation<'_>, item: Atom<'_>, value: &Value) -> Result<Element, String> {
        match relation {
            Relation::Atomic => Err("invalid indexing of non-associative list".to_owned()),
            Relation::Set => match value {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".to_owned())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".to_owned())
                }
                plain => Ok(Element::Value(plain.clone())),
            },
            Relation::Keyed(keys) => keyed(keys, item, value),
        }
    }

    /// Makes every named field that has paths below it a path of the set.
    pub(crate) fn with_parents(&self, set: &Set) -> Set {
        self.parents(Some(self.root), set)
    }

    fn parents(&self, atom: Option<Atom<'t>>, set: &Set) -> Set {
        let mut out = Set::default();
        for (element, member, below) in set.nodes() {
            let at = atom.and_then(|atom| self.at(atom, element));
            let named = at.is_some_and(|(_, named)| named);
            out.put(element.clone(), member || named, self.parents(at.map(|(atom, _)| atom), below));
        }
        out
    }

    /// Sets of older schemas may own parts of what is now owned as a whole: they then own the whole.
    pub(crate) fn reconcile(&self, set: Set) -> Set {
        if self.is_current(self.root, &set) { set } else { self.collapse(Some(self.root), &set) }
    }

    fn is_current(&self, atom: Atom<'t>, set: &Set) -> bool {
        set.nodes().all(|(element, _, below)| {
            below.is_empty()
                || self
                    .at(atom, element)
                    .is_none_or(|(atom, _)| !is_whole(atom) && self.is_current(atom, below))
        })
    }

    fn collapse(&self, atom: Option<Atom<'t>>, set: &Set) -> Set {
        let mut out = Set::default();
        for (element, member, below) in set.nodes() {
            let at = atom.and_then(|atom| self.at(atom, element)).map(|(atom, _)| atom);
            if !below.is_empty() && at.is_some_and(is_whole) {
                out.put(element.clone(), true, Set::default());
            } else {
                out.put(element.clone(), member, self.collapse(at, below));
            }
        }
        out
    }
}

/// Whether it is owned as a whole, whatever its value.
fn is_whole(atom: Atom<'_>) -> bool {
    match atom {
        Atom::Scalar(_) | Atom::Whole => true,
        Atom::Deduced => false,
        Atom::Object { atomic, .. } | Atom::Map { atomic, .. } => atomic,
        Atom::List { relation, .. } => matches!(relation, Relation::Atomic),
    }
}

fn keyed(keys: &[&str], item: Atom<'_>, value: &Value) -> Result<Element, String> {
    let members = match value {
        Value::Object(members) => members,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let default = |key: &str| match item {
        Atom::Object { of, .. } => of.field(key)?.default.as_ref(),
        _ => None,
    };
    let found = |key: &&str| Some(((*key).to_owned(), members.get(*key).or_else(|| default(key))?.clone()));
    let mut fields: Vec<_> = keys.iter().filter_map(found).collect();
    if fields.is_empty() {
        return Err(format!(
            "associative list with keys has an element that omits all key fields {keys:?} \
             (and doesn't have default values for any key fields)"
        ));
    }
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Element::Key(fields))
}

/// The members of an object; none when it is null or something else.
fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// The items of a list; none when it is null or something else.
fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
