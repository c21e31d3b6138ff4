//! Whether a configuration fits the schema, in upstream's words.

use proto_kube::schema::Shape;
use serde_json::{Map, Value};

use super::{Atom, Element, Relation, Typed};
use crate::go;

impl<'t> Typed<'t> {
    /// Whether an object that a client applies fits its type: all fields are known, all values of the right kind, and
    /// all items of lists can be told apart.
    ///
    /// # Errors
    /// What is wrong, each with its path.
    pub(crate) fn check(&self, object: &Value) -> Result<(), String> {
        let mut wrong = Vec::new();
        self.check_value(self.root, object, &mut String::new(), &mut wrong);
        match wrong.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            many => Err(format!("errors:\n  {}", many.join("\n  "))),
        }
    }

    fn check_value(&self, atom: Atom<'t>, value: &Value, path: &mut String, wrong: &mut Vec<String>) {
        let what = match (atom, value) {
            (_, Value::Null) | (Atom::Deduced | Atom::Whole, _) => return,
            (Atom::Object { .. } | Atom::Map { .. }, Value::Object(members)) => {
                return self.check_members(atom, members, path, wrong);
            }
            (Atom::List { item, relation }, Value::Array(items)) => {
                return self.check_items(item, relation, items, path, wrong);
            }
            (Atom::Object { .. } | Atom::Map { .. }, other) => {
                format!("expected map, got &{{{}}}", go::text(other))
            }
            (Atom::List { .. }, other) => format!("expected list, got &{{{}}}", go::text(other)),
            (Atom::Scalar(shape), value) => match scalar(shape, value) {
                Some(what) => what,
                None => return,
            },
        };
        wrong.push(if path.is_empty() { what } else { format!("{path}: {what}") });
    }

    fn check_members(
        &self,
        atom: Atom<'t>,
        members: &Map<String, Value>,
        path: &mut String,
        wrong: &mut Vec<String>,
    ) {
        let end = path.len();
        for (name, value) in members {
            path.push('.');
            path.push_str(name);
            match atom {
                Atom::Object { of, .. } if of.field(name).is_none() => {
                    wrong.push(format!("{path}: field not declared in schema"));
                }
                _ => self.check_value(self.member(atom, name).0, value, path, wrong),
            }
            path.truncate(end);
        }
    }

    fn check_items(
        &self,
        item: &'t Shape,
        relation: Relation<'t>,
        items: &[Value],
        path: &mut String,
        wrong: &mut Vec<String>,
    ) {
        let item = self.item(item);
        let mut seen = std::collections::BTreeSet::new();
        let end = path.len();
        for (at, value) in items.iter().enumerate() {
            let element = match relation {
                Relation::Atomic => Element::Index(i64::try_from(at).unwrap_or(i64::MAX)),
                _ => match self.element(relation, item, value) {
                    Ok(element) => element,
                    Err(why) => return wrong.push(format!("{path}: element {at}: {why}")),
                },
            };
            path.push_str(&element.to_string());
            self.check_value(item, value, path, wrong);
            path.truncate(end);
            if let Some(twice) = seen.replace(element) {
                wrong.push(format!("{path}: duplicate entries for key {twice}"));
            }
        }
    }
}

fn scalar(shape: &Shape, value: &Value) -> Option<String> {
    let plain = !value.is_array() && !value.is_object();
    let fits = match shape {
        Shape::Bool => value.is_boolean(),
        Shape::Int32 | Shape::Int64 | Shape::Double => value.is_number(),
        Shape::String | Shape::Bytes => value.is_string(),
        _ => plain,
    };
    (!fits).then(|| match shape {
        Shape::Bool => format!("expected boolean, got &{{{}}}", go::text(value)),
        Shape::Int32 | Shape::Int64 | Shape::Double => {
            format!("expected numeric (int or float), got {}", go::type_of(value))
        }
        Shape::String | Shape::Bytes => {
            format!("expected string, got &value.valueUnstructured{{Value:{}}}", go::literal(value))
        }
        _ => format!("expected any scalar, got &{{{}}}", go::text(value)),
    })
}
