//! In which order the items of a merged list stand: first as `$setElementOrder` says, then as in the patch, then as
//! they stood before.

use std::collections::HashMap;

use serde_json::Value;

use super::lookup::Scope;
use super::{Members, PATCH, SET_ORDER, as_members, key_of, list, strip, wrong_type};
use crate::{Error, go};

/// Carries out the `$setElementOrder` directives of a patch, together with the lists they are about.
pub(super) fn apply(original: &mut Members, patch: &mut Members, scope: Scope<'_>) -> Result<(), Error> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let Some(wanted) = patch.remove(&directive) else { continue };
        let Value::Array(wanted) = wanted else { return Err(wrong_type("[]interface {}", &wanted)) };
        let field = directive[SET_ORDER.len()..].strip_prefix('/').ok_or_else(malformed)?;
        let before = take_list(original, field)?;
        let change = take_list(patch, field)?;
        if let Some(list) = reorder(before, change, &wanted, field, scope)? {
            original.insert(field.to_owned(), Value::Array(list));
        }
    }
    Ok(())
}

fn take_list(members: &mut Members, field: &str) -> Result<Option<Vec<Value>>, Error> {
    match members.remove(field) {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(wrong_type("[]interface {}", &other)),
    }
}

fn malformed() -> Error {
    Error::Malformed("invalid patch format of setElementOrder list".into())
}

fn reorder(
    before: Option<Vec<Value>>,
    change: Option<Vec<Value>>,
    wanted: &[Value],
    field: &str,
    scope: Scope<'_>,
) -> Result<Option<Vec<Value>>, Error> {
    let (scope, strategy) = scope.list(field)?;
    let key = strategy.and_then(|s| s.key);
    check(change.as_deref().unwrap_or_default(), wanted, key)?;
    if before.is_none() && change.is_none() {
        return Ok(None);
    }
    let objects =
        list::are_objects(&[before.as_deref().unwrap_or_default(), change.as_deref().unwrap_or_default()])?;
    let (server, merged) = match (before, change) {
        (Some(before), None) => (before.clone(), before),
        (None, change) => (Vec::new(), change.into_iter().flatten().filter_map(strip).collect()),
        (Some(before), Some(change)) => {
            (before.clone(), list::replace_or_merge(before, change, strategy, scope)?)
        }
    };
    // Objects without a merge key cannot be told apart, which is an error as soon as there are any.
    arrange(merged, wanted, &server, key.or(objects.then_some(""))).map(Some)
}

/// The items that the patch sets must stand in the order list, in the same order.
fn check(patch: &[Value], wanted: &[Value], key: Option<&str>) -> Result<(), Error> {
    if patch.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let mut items = Vec::with_capacity(patch.len());
    for item in patch {
        let deleted = key.is_some() && as_members(item)?.get(PATCH).is_some_and(|d| d == "delete");
        if !deleted {
            items.push(item);
        }
    }
    let (mut items, mut rest) = (items.into_iter().peekable(), wanted.iter().peekable());
    while let (Some(item), Some(next)) = (items.peek(), rest.peek()) {
        if item.get(PATCH).is_some() {
            items.next();
            continue;
        }
        let equal = match key {
            None => *item == *next,
            Some(key) => key_of(item, key)? == key_of(next, key)?,
        };
        rest.next();
        if equal {
            items.next();
        }
    }
    match items.next() {
        Some(_) => Err(mismatch(patch, wanted)),
        None => Ok(()),
    }
}

fn mismatch(patch: &[Value], wanted: &[Value]) -> Error {
    Error::Failed(format!(
        "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
        go::list(patch),
        go::list(wanted)
    ))
}

/// Puts a merged list in order. The items that `first` has stand as they stand there, the others as in `server`; where
/// the two meet, the server's order decides.
pub(super) fn arrange(
    merged: Vec<Value>,
    first: &[Value],
    server: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, Error> {
    let (in_first, in_server) = (places(first, key), places(server, key));
    if let Some(key) = key {
        let plain = first.iter().position(|other| !other.is_object());
        for item in &merged {
            let place = in_first.get(key_of(item, key)?);
            if let Some(plain) = plain.filter(|plain| place.is_none_or(|at| plain < at)) {
                return Err(Error::Failed(format!("value for key {plain} is not a map")));
            }
        }
        for item in first.iter().chain(server) {
            key_of(item, key)?;
        }
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for item in merged {
        let (at, before) = match id(&item, key) {
            Some(id) => (in_first.get(id).copied(), in_server.get(id).copied()),
            None => (None, None),
        };
        match at {
            Some(at) => right.push((at, before, item)),
            None => left.push((before, item)),
        }
    }
    right.sort_by_key(|(at, ..)| *at);
    left.sort_by_key(|(at, _)| at.unwrap_or(usize::MAX));

    let mut out = Vec::with_capacity(left.len() + right.len());
    let mut left = left.into_iter().peekable();
    for (_, before, item) in right {
        while let Some((_, other)) = left.next_if(|(at, _)| at.is_some() && *at < before) {
            out.push(other);
        }
        out.push(item);
    }
    out.extend(left.map(|(_, item)| item));
    Ok(out)
}

/// What tells an item from others: its merge key, or all of it.
fn id<'v>(item: &'v Value, key: Option<&str>) -> Option<&'v Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

/// Where the items of a list stand; of those that are the same, the first.
fn places<'v>(list: &'v [Value], key: Option<&str>) -> HashMap<&'v Value, usize> {
    let mut places = HashMap::with_capacity(list.len());
    for (at, item) in list.iter().enumerate() {
        if let Some(id) = id(item, key) {
            places.entry(id).or_insert(at);
        }
    }
    places
}
