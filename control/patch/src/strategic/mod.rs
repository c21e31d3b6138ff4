//! Strategic merge patch: a merge patch whose lists may be merged too, by the schema's merge keys, and which carries
//! directives (`$patch`, `$retainKeys`, `$setElementOrder/f`, `$deleteFromPrimitiveList/f`).

mod list;
mod lookup;
mod order;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use proto_kube::schema::{Strategy, Table, TypeId};
use serde_json::{Map, Value};

use self::lookup::Scope;
use crate::json::drop_nulls;
use crate::{Error, go};

type Members = Map<String, Value>;

/// What is to be done with the value it stands in.
const PATCH: &str = "$patch";
/// The members to keep; all others are dropped.
const RETAIN_KEYS: &str = "$retainKeys";
/// Followed by `/` and the name of the list that it puts in order.
const SET_ORDER: &str = "$setElementOrder";
/// Followed by `/` and the name of the list whose plain values it deletes.
const DELETE_VALUES: &str = "$deleteFromPrimitiveList";

/// Applies a strategic merge patch to an object of a type of the table.
///
/// # Errors
/// `Malformed` for a patch that is no object or whose directives have the wrong form, `Rejected` for lists of lists,
/// and `Failed` when patch and object do not fit together.
pub fn strategic(table: &Table, type_id: TypeId, original: Value, patch: Value) -> Result<Value, Error> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(Error::Malformed("invalid JSON document".into()));
    };
    merge(original, patch, Scope::of(table, type_id)).map(Value::Object)
}

fn merge(mut original: Members, mut patch: Members, scope: Scope<'_>) -> Result<Members, Error> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(PATCH);
                Ok(patch)
            }
            Some("delete") => Ok(Members::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::apply(&mut original, &mut patch, scope)?;
    for (key, value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_VALUES) {
            None => (key, false),
            Some(rest) => match rest.strip_prefix('/') {
                Some(list) => (list.to_owned(), true),
                None => return Err(Error::Malformed("invalid patch format of primitive list".into())),
            },
        };
        member(&mut original, key, value, deletes, scope)?;
    }
    Ok(original)
}

/// Brings one member of a patch into an object. With `deletes` it is a list of the values to delete.
fn member(
    original: &mut Members,
    key: String,
    patch: Value,
    deletes: bool,
    scope: Scope<'_>,
) -> Result<(), Error> {
    if patch.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let Some(current) = original.get_mut(&key) else {
        if !deletes && let Some(value) = without_directives(patch) {
            original.insert(key, value);
        }
        return Ok(());
    };
    match (current, patch) {
        (Value::Object(members), Value::Object(patch)) => {
            let (scope, strategy) = scope.member(&key)?;
            *members = match strategy {
                // Marked, and with neither flag: replaced.
                Some(Strategy { merge: false, retain_keys: false, .. }) => patch,
                _ => merge(std::mem::take(members), patch, scope)?,
            };
        }
        (Value::Array(items), Value::Array(patch)) => {
            let (scope, strategy) = scope.list(&key)?;
            *items = if deletes {
                list::delete(std::mem::take(items), patch, strategy, scope)?
            } else {
                list::replace_or_merge(std::mem::take(items), patch, strategy, scope)?
            };
        }
        _ if deletes => {}
        (current, patch) => match without_directives(patch) {
            Some(value) => *current = value,
            None => drop(original.remove(&key)),
        },
    }
    Ok(())
}

/// Drops the members that `$retainKeys` does not name. All that the patch sets must be named.
fn retain_keys(original: &mut Members, patch: &mut Members) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || Error::Malformed("invalid patch format of retainKeys".into());
    let Value::Array(keys) = keys else { return Err(malformed()) };
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let kept = |key: &str| keys.contains(key);
    let beside = |key: &str| key.starts_with(DELETE_VALUES) || key.starts_with(SET_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !beside(key) && !kept(key)) {
        return Err(malformed());
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// What a patch sets where nothing was: its nulls and directives mean nothing there. `None` when the value is itself
/// a directive.
fn without_directives(mut value: Value) -> Option<Value> {
    drop_nulls(&mut value);
    strip(value)
}

fn strip(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(PATCH) => None,
        Value::Object(members) => Some(Value::Object(
            members
                .into_iter()
                .filter(|(key, _)| !is_directive(key))
                .filter_map(|(key, value)| Some((key, strip(value)?)))
                .collect(),
        )),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(strip).collect())),
        plain => Some(plain),
    }
}

fn is_directive(key: &str) -> bool {
    key == RETAIN_KEYS
        || [SET_ORDER, DELETE_VALUES].iter().any(|d| key.strip_prefix(d).is_some_and(|k| k.starts_with('/')))
}

fn unknown_directive(directive: &Value, patch: &Members) -> Error {
    let patch = go::text(&Value::Object(patch.clone()));
    Error::Failed(format!("unknown patch type: {} in map: {patch}", go::as_text(directive)))
}

fn wrong_type(wanted: &str, found: &Value) -> Error {
    Error::Failed(format!("expected a {wanted}, but received a {}", go::type_of(found)))
}

/// The items of a list as objects.
fn as_members(item: &Value) -> Result<&Members, Error> {
    item.as_object().ok_or_else(|| wrong_type("map[string]interface {}", item))
}

/// The value of an item's merge key.
fn key_of<'v>(item: &'v Value, key: &str) -> Result<&'v Value, Error> {
    as_members(item)?.get(key).ok_or_else(|| {
        Error::Failed(format!("map: {} does not contain declared merge key: {key}", go::text(item)))
    })
}
