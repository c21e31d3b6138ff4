//! The schema table: one row a field, from which JSON and protobuf decoding, strict validation, both merges and OpenAPI
//! are driven. The table is a checked-in text, made by `cargo xtask schema`, and read once.

mod read;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::Gvk;

/// The table of the stable groups of Kubernetes 1.37.
#[must_use]
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| read::table(include_str!("v1_37.txt")))
}

/// An index into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeId(pub u16);

/// All types of the served kinds.
#[derive(Debug, Default)]
pub struct Table {
    /// By their names, in order.
    types: Vec<Type>,
    by_kind: HashMap<Gvk, TypeId>,
}

/// An object type.
#[derive(Debug)]
pub struct Type {
    /// As `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    /// By their JSON names, in order.
    pub fields: Box<[Field]>,
    /// Whether a change of one field owns the whole object (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// The kinds that have this type.
    pub kinds: Box<[Gvk]>,
}

/// A field of an object type.
#[derive(Debug)]
pub struct Field {
    /// The JSON name.
    pub name: &'static str,
    /// The protobuf tags that lead to it: more than one where JSON inlines an embedded message, none where the wire form
    /// does not carry it.
    pub tags: Box<[u32]>,
    /// What stands there.
    pub shape: Shape,
    /// What becomes of it when it is zero, empty or missing.
    pub presence: Presence,
    /// How its list or map is merged.
    pub topology: Topology,
    /// How a strategic merge patch treats it; `None` replaces lists and merges objects.
    pub strategy: Option<Strategy>,
    /// Whether an object without it is not valid.
    pub required: bool,
    /// The values of a string that has a closed set of them.
    pub one_of: Box<[&'static str]>,
    /// What it is when missing, where the key of a list map needs to know.
    pub default: Option<Value>,
}

/// What stands in a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `true`
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number.
    Double,
    /// A text.
    String,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with six digits of a second.
    MicroTime,
    /// As `1h5m`.
    Duration,
    /// As `100m`, or a number.
    Quantity,
    /// A number or a text.
    IntOrString,
    /// Any JSON (`RawExtension`, `FieldsV1`): what a `raw` field of the wire form holds.
    Raw,
    /// An object of the table.
    Object(TypeId),
    /// A list.
    List(Box<Shape>),
    /// A map with texts for keys.
    Map(Box<Shape>),
}

/// How parts of a list or map are owned and merged (`x-kubernetes-list-type`, `x-kubernetes-map-type`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Topology {
    /// Lists are replaced whole, maps and objects are merged: what a field without marks has.
    #[default]
    Plain,
    /// Replaced whole.
    Atomic,
    /// An object whose members are owned one by one although its type is atomic.
    Granular,
    /// A list whose items are its values.
    Set,
    /// A list whose items are found by these fields.
    Keyed(Box<[&'static str]>),
}

/// How upstream holds a field, which decides what is left of a zero, and what stands for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Zero differs from missing: each stays what it is.
    Pointer,
    /// A zero scalar, an empty list and an empty map vanish; an object is always there, at least as `{}`.
    Value,
    /// A scalar is written even as zero, and an object as `{}`.
    Always,
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`. With neither flag, an object is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strategy {
    /// Items or members are merged rather than replaced.
    pub merge: bool,
    /// Members that the patch does not name in `$retainKeys` are dropped.
    pub retain_keys: bool,
    /// The field by which items of a list are found; `None` for a list of plain values.
    pub key: Option<&'static str>,
}

impl Table {
    /// A type by its place.
    ///
    /// # Panics
    /// When the id is of another table.
    #[must_use]
    pub fn of(&self, id: TypeId) -> &Type {
        &self.types[usize::from(id.0)]
    }

    /// A type by its full name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<TypeId> {
        let at = self.types.binary_search_by(|t| t.name.cmp(name)).ok()?;
        u16::try_from(at).ok().map(TypeId)
    }

    /// All types, in the order of their names.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        (0_u16..).map(TypeId).zip(&self.types)
    }

    /// An object of a type in which nothing was set, as upstream writes it.
    #[must_use]
    pub fn empty(&self, id: TypeId) -> Map<String, Value> {
        let mut members = Map::new();
        self.fill(self.of(id), &mut members);
        members
    }

    /// What upstream writes for a field that is not set; `None` where it writes nothing (or null).
    #[must_use]
    pub fn unset(&self, field: &Field) -> Option<Value> {
        match (field.presence, &field.shape) {
            (Presence::Pointer, _) => None,
            (_, shape @ (Shape::Object(_) | Shape::Quantity | Shape::IntOrString | Shape::Duration)) => {
                Some(self.zero(shape))
            }
            (Presence::Value, _) => None,
            (Presence::Always, Shape::Bytes) => None,
            (Presence::Always, shape) => Some(self.zero(shape)).filter(|zero| !zero.is_null()),
        }
    }

    /// Adds what upstream writes for fields that are not set; tells how many it added.
    pub fn fill(&self, owner: &Type, members: &mut Map<String, Value>) -> usize {
        let before = members.len();
        for field in &owner.fields {
            if field.presence != Presence::Pointer
                && !members.contains_key(field.name)
                && let Some(unset) = self.unset(field)
            {
                members.insert(field.name.to_owned(), unset);
            }
        }
        members.len() - before
    }

    /// What stands for nothing in a list or a map.
    #[must_use]
    pub fn zero(&self, shape: &Shape) -> Value {
        match shape {
            Shape::Bool => false.into(),
            Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => 0.into(),
            Shape::String | Shape::Bytes => "".into(),
            Shape::Quantity => "0".into(),
            Shape::Duration => "0s".into(),
            Shape::Object(id) => Value::Object(self.empty(*id)),
            Shape::Time | Shape::MicroTime | Shape::Raw | Shape::List(_) | Shape::Map(_) => Value::Null,
        }
    }

    /// The type of a kind.
    #[must_use]
    pub fn kind(&self, kind: &Gvk) -> Option<TypeId> {
        self.by_kind.get(kind).copied()
    }
}

impl Field {
    /// Whether upstream writes the field when it has this value.
    #[must_use]
    pub fn keeps(&self, value: &Value) -> bool {
        match (self.presence, &self.shape, value) {
            (_, _, Value::Null) => false,
            (Presence::Pointer | Presence::Always, ..) => true,
            (_, Shape::Object(_) | Shape::IntOrString | Shape::Quantity | Shape::Raw, _) => true,
            (_, _, Value::Bool(on)) => *on,
            (_, _, Value::Number(number)) => number.as_f64() != Some(0.0),
            (_, _, Value::String(text)) => !text.is_empty(),
            (_, _, Value::Array(items)) => !items.is_empty(),
            (_, _, Value::Object(entries)) => !entries.is_empty(),
        }
    }
}

impl Type {
    /// A field by its JSON name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.place(name).map(|(_, field)| field)
    }

    /// A field by its JSON name, and its place among the fields.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| (at, &self.fields[at]))
    }

    /// The last part of its name, as `PodSpec`.
    #[must_use]
    pub fn short(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}
