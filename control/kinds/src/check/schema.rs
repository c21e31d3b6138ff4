//! What the schema alone says of an object: required fields and closed sets of texts.

use proto_kube::field::Errors;
use proto_kube::schema::{Shape, Table, Type};
use proto_kube::{Gvk, object};
use serde_json::Value;

use super::Field;

/// What is wrong with an object by its schema; nothing for a kind that the table does not know.
#[must_use]
pub fn schema(object: &Value) -> Errors {
    let gvk = Gvk::new(object::text(object, &["apiVersion"]), object::text(object, &["kind"]));
    let table = proto_kube::schema::table();
    let Some(id) = table.kind(&gvk) else { return Errors::new() };
    super::object(object, |root| {
        for field in table.of(id).fields.iter().filter(|f| !["metadata", "status"].contains(&f.name)) {
            member(table, field, &root);
        }
    })
}

fn members(table: &Table, kind: &Type, at: &Field<'_>) {
    for field in &kind.fields {
        member(table, field, at);
    }
}

fn member(table: &Table, field: &proto_kube::schema::Field, parent: &Field<'_>) {
    let at = parent.at(field.name);
    // The decoder writes a missing text that upstream always writes as an empty one.
    let empty = field.required && field.shape == Shape::String && at.is_empty();
    if at.is_set() && !empty {
        if !field.one_of.is_empty() && !at.is_empty() {
            let list = matches!(field.shape, Shape::List(_));
            at.items().filter(|_| list).for_each(|item| item.maybe_one_of(&field.one_of));
            if !list {
                at.maybe_one_of(&field.one_of);
            }
        }
        shape(table, &field.shape, &at);
    } else if field.required {
        at.required("");
    }
}

fn shape(table: &Table, shape_of: &Shape, at: &Field<'_>) {
    match shape_of {
        Shape::Object(id) => members(table, table.of(*id), at),
        Shape::List(item) => at.items().for_each(|at| shape(table, item, &at)),
        Shape::Map(value) => at.entries().for_each(|(_, at)| shape(table, value, &at)),
        _ => {}
    }
}
