//! JSON patch (RFC 6902) and JSON merge patch (RFC 7396), with upstream's limits and its leniencies.

use json_patch::jsonptr::Pointer;
use json_patch::{AddOperation, CopyOperation, PatchOperation, ReplaceOperation};
use serde_json::{Map, Value};

use crate::{Error, go};

/// How many operations a JSON patch may have.
const MOST_OPERATIONS: usize = 10_000;
/// How many bytes of JSON the `copy` operations of a patch may copy altogether.
const MOST_COPIED: usize = 3 << 20;
/// How deep a patched object may nest: as deep as one that can be parsed.
const DEEPEST: usize = 127;

/// Applies a JSON patch.
///
/// # Errors
/// `Malformed` when the patch is no list of objects, `TooLong`, and `Rejected` when an operation has a part missing,
/// when a path does not exist, or when a test fails.
pub fn json(object: &Value, patch: &[u8]) -> Result<Value, Error> {
    let patch: Value =
        serde_json::from_slice(patch).map_err(|_| Error::Malformed("invalid JSON patch".into()))?;
    let Value::Array(operations) = patch else {
        return Err(malformed(&patch, "[]handlers.jsonPatchOp"));
    };
    if let Some(other) = operations.iter().find(|o| !o.is_object()) {
        return Err(malformed(other, "handlers.jsonPatchOp"));
    }
    if operations.len() > MOST_OPERATIONS {
        return Err(Error::TooLong { found: operations.len(), most: MOST_OPERATIONS });
    }
    let mut object = object.clone();
    let mut copied = 0;
    for operation in operations {
        let operation = serde_json::from_value(operation).map_err(|e| Error::Rejected(e.to_string()))?;
        operate(&mut object, operation, &mut copied)?;
    }
    Ok(object)
}

fn malformed(found: &Value, wanted: &str) -> Error {
    let found = go::json_kind(found);
    Error::Malformed(format!(
        "error decoding patch: json: cannot unmarshal {found} into Go value of type {wanted}"
    ))
}

fn operate(object: &mut Value, operation: PatchOperation, copied: &mut usize) -> Result<(), Error> {
    let rejected =
        |why: &str, operation: &PatchOperation| Err(Error::Rejected(format!("{why}: {operation}")));
    let operation = match leniently(object, operation) {
        PatchOperation::Test(test) if test.value.is_null() && is_absent(object, &test.path) => return Ok(()),
        PatchOperation::Replace(replace) if replace.path.is_root() => match replace.value {
            Value::Object(_) | Value::Array(_) => {
                *object = replace.value;
                return Ok(());
            }
            _ => {
                return rejected(
                    "replace operation value must be object or array",
                    &PatchOperation::Replace(replace),
                );
            }
        },
        operation => operation,
    };
    let of_root = match &operation {
        PatchOperation::Test(_) => false,
        PatchOperation::Copy(copy) => copy.from.is_root() || copy.path.is_root(),
        other => other.path().is_root(),
    };
    if of_root {
        return rejected("doc is missing path", &operation);
    }
    let brought = match &operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Move(from) => from.from.resolve(object).ok(),
        PatchOperation::Copy(from) => from.from.resolve(object).ok(),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    };
    if let Some(brought) = brought {
        if operation.path().count() + depth(brought) > DEEPEST {
            return rejected("the object would nest too deep", &operation);
        }
        if matches!(operation, PatchOperation::Copy(_)) {
            *copied += brought.to_string().len();
        }
        if *copied > MOST_COPIED {
            return rejected("copied more than the accumulated copy size limit", &operation);
        }
    }
    json_patch::patch_unsafe(object, std::slice::from_ref(&operation))
        .map_err(|e| Error::Rejected(e.to_string()))
}

/// Upstream reads a member that an object does not have as null, so that it can be replaced, and copied from.
fn leniently(object: &Value, operation: PatchOperation) -> PatchOperation {
    match operation {
        PatchOperation::Replace(ReplaceOperation { path, value }) if is_absent(object, &path) => {
            PatchOperation::Add(AddOperation { path, value })
        }
        PatchOperation::Copy(CopyOperation { from, path }) if is_absent(object, &from) => {
            PatchOperation::Add(AddOperation { path, value: Value::Null })
        }
        other => other,
    }
}

/// Whether the path leads to a member that its object does not have.
fn is_absent(object: &Value, path: &Pointer) -> bool {
    let parent = path.parent().and_then(|parent| parent.resolve(object).ok());
    parent.is_some_and(Value::is_object) && path.resolve(object).is_err()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Applies a JSON merge patch: a null deletes a member, objects are merged, everything else is replaced.
///
/// # Errors
/// `Malformed` when the patch is no object.
pub fn merge(object: Value, patch: &Value) -> Result<Value, Error> {
    let Value::Object(patch) = patch else { return Err(malformed(patch, "map[string]interface {}")) };
    let mut members = into_members(object);
    merge_members(&mut members, patch);
    Ok(Value::Object(members))
}

fn into_members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn merge_members(object: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, patch) in patch {
        match (patch, object.get_mut(key)) {
            (Value::Null, _) => {
                object.remove(key);
            }
            (Value::Object(patch), Some(Value::Object(members))) => merge_members(members, patch),
            _ => {
                let mut value = patch.clone();
                drop_nulls(&mut value);
                object.insert(key.clone(), value);
            }
        }
    }
}

/// Drops the null members of all objects: they mean nothing where a patch brings something new.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Object(members) => members.retain(|_, member| {
            drop_nulls(member);
            !member.is_null()
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
