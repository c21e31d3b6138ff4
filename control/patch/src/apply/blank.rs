//! An object before it is created, as upstream's decoder leaves it: parts that are never absent there are owned
//! through their members only.

use proto_kube::schema::{Presence, Shape, Table, TypeId};
use serde_json::{Map, Value};

/// The empty object of a type, with nulls where upstream has a field that holds nothing.
pub(super) fn object(table: &Table, type_id: TypeId) -> Map<String, Value> {
    let mut members = Map::new();
    for field in &table.of(type_id).fields {
        let value = match (field.presence, &field.shape) {
            (Presence::Pointer, _) if field.required => Value::Null,
            (Presence::Pointer, _) => continue,
            (_, Shape::Object(id)) => Value::Object(object(table, *id)),
            (Presence::Value, _) => continue,
            (Presence::Always, shape) => table.zero(shape),
        };
        members.insert(field.name.to_owned(), value);
    }
    members
}
