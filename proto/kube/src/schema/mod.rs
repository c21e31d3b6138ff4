//! The schema table: one row a field, from which JSON and protobuf decoding, strict validation, both merges and OpenAPI
//! are driven.

use std::collections::HashMap;

use serde_json::Value;

use crate::Gvk;

/// An index into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeId(pub u16);

/// All types of the served kinds.
#[derive(Debug, Default)]
pub struct Table {
    pub(crate) types: Vec<Type>,
    pub(crate) by_name: HashMap<String, TypeId>,
    pub(crate) by_kind: HashMap<Gvk, TypeId>,
}

/// An object type.
#[derive(Debug)]
pub struct Type {
    /// As `io.k8s.api.core.v1.Pod`.
    pub name: String,
    /// By their JSON names, in order.
    pub fields: Vec<Field>,
    /// Whether a change of one field owns the whole object (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
}

/// A field of an object type.
#[derive(Debug)]
pub struct Field {
    /// The JSON name.
    pub name: String,
    /// The protobuf tags that lead to it: more than one where JSON inlines an embedded message.
    pub tags: Vec<u32>,
    /// What stands there.
    pub shape: Shape,
    /// How its list or map is merged.
    pub topology: Topology,
    /// How a strategic merge patch treats it; `None` replaces lists and merges objects.
    pub strategy: Option<Strategy>,
    /// Whether an object without it is not valid.
    pub required: bool,
    /// The values of a string that has a closed set of them.
    pub one_of: Vec<String>,
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
    /// A list whose items are its values.
    Set,
    /// A list whose items are found by these fields.
    Keyed(Vec<String>),
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strategy {
    /// Items or members are merged rather than replaced.
    pub merge: bool,
    /// Members that the patch does not name in `$retainKeys` are dropped.
    pub retain_keys: bool,
    /// The field by which items of a list are found; `None` for a list of plain values.
    pub key: Option<String>,
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
        self.by_name.get(name).copied()
    }

    /// The type of a kind.
    #[must_use]
    pub fn kind(&self, kind: &Gvk) -> Option<TypeId> {
        self.by_kind.get(kind).copied()
    }
}

impl Type {
    /// A field by its JSON name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| f.name.as_str().cmp(name)).ok().map(|at| &self.fields[at])
    }
}
