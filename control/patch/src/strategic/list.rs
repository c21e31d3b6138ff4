//! Lists: replaced whole, merged by a key, or merged as plain values.

use std::collections::{BTreeSet, HashMap, HashSet};

use proto_kube::schema::Strategy;
use serde_json::Value;

use super::lookup::Scope;
use super::{PATCH, as_members, key_of, merge, order, unknown_directive};
use crate::{Error, go};

/// Brings the patch of a list into the list, in the way that the schema names.
pub(super) fn replace_or_merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    strategy: Option<&Strategy>,
    scope: Scope<'_>,
) -> Result<Vec<Value>, Error> {
    match strategy {
        Some(strategy) if strategy.merge => merge_items(original, patch, strategy.key, scope),
        _ => Ok(patch),
    }
}

/// Deletes plain values from a list, whatever its strategy. Objects are merged, as upstream does.
pub(super) fn delete(
    original: Vec<Value>,
    gone: Vec<Value>,
    strategy: Option<&Strategy>,
    scope: Scope<'_>,
) -> Result<Vec<Value>, Error> {
    if original.is_empty() && gone.is_empty() {
        return Ok(original);
    }
    if are_objects(&[&original, &gone])? {
        return merge_items(original, gone, strategy.and_then(|s| s.key), scope);
    }
    let gone: HashSet<&Value> = gone.iter().collect();
    Ok(original.into_iter().filter(|item| !gone.contains(item)).collect())
}

fn merge_items(
    original: Vec<Value>,
    patch: Vec<Value>,
    key: Option<&str>,
    scope: Scope<'_>,
) -> Result<Vec<Value>, Error> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let (original, patch, merged) = if are_objects(&[&original, &patch])? {
        let key = key.ok_or_else(|| {
            Error::Failed(format!("cannot merge lists without merge key for {}", scope.name()))
        })?;
        let (original, patch) = directives(original, patch, key)?;
        let merged = merge_objects(original.clone(), &patch, key, scope)?;
        (original, patch, merged)
    } else {
        let mut seen = HashSet::with_capacity(original.len() + patch.len());
        let merged = original.iter().chain(&patch).filter(|item| seen.insert(*item)).cloned().collect();
        (original, patch, merged)
    };
    order::arrange(merged, &patch, &original, key)
}

/// Whether the items of the lists are objects; all must be of one type and none a list.
pub(super) fn are_objects(lists: &[&[Value]]) -> Result<bool, Error> {
    let mut items = lists.iter().copied().flatten();
    let Some(first) = items.next() else {
        return Err(Error::Failed("no elements in any of the given slices".into()));
    };
    if first.is_array() {
        return Err(Error::Rejected("lists of lists are not supported".into()));
    }
    let kind = go::type_of(first);
    if items.any(|item| go::type_of(item) != kind) {
        let lists: Vec<_> = lists.iter().map(|list| go::list(list)).collect();
        return Err(Error::Failed(format!("list element types are not identical: [{}]", lists.join(" "))));
    }
    Ok(first.is_object())
}

/// Carries out the `$patch` items of a patch; what comes back is without them. With `$patch: replace` the patch takes
/// the place of the list.
fn directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut gone = HashSet::new();
    let mut replace = false;
    for item in patch {
        let members = as_members(&item)?;
        let Some(directive) = members.get(PATCH) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                gone.insert(key_of(&item, key)?.clone());
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(Error::Failed("merging lists cannot yet be specified in the patch".into()));
            }
            _ => return Err(unknown_directive(directive, members)),
        }
    }
    original.retain(|o| o.get(key).is_none_or(|key| !gone.contains(key)));
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

fn merge_objects(
    mut list: Vec<Value>,
    patch: &[Value],
    key: &str,
    scope: Scope<'_>,
) -> Result<Vec<Value>, Error> {
    let mut places = Places::new(&list, patch, key);
    for item in patch {
        let wanted = key_of(item, key)?;
        let Some(at) = places.first(wanted) else {
            // Its nulls go when the object is decoded; its merge key may be one.
            if let Some(new) = super::strip(item.clone()) {
                places.put(new.get(key), list.len());
                list.push(new);
            }
            continue;
        };
        let original = list[at].as_object_mut().map(std::mem::take).unwrap_or_default();
        list[at] = Value::Object(merge(original, as_members(item)?.clone(), scope)?);
        // A merge may change the key: one that is null goes.
        if list[at].get(key) != Some(wanted) {
            places.take(wanted, at);
            places.put(list[at].get(key), at);
        }
    }
    Ok(list)
}

/// Where the items of a list stand whose merge keys a patch names.
struct Places<'p>(HashMap<&'p Value, BTreeSet<usize>>);

impl<'p> Places<'p> {
    fn new(list: &[Value], patch: &'p [Value], key: &str) -> Self {
        let named = patch.iter().filter_map(|item| item.get(key));
        let mut places = Self(named.map(|key| (key, BTreeSet::new())).collect());
        for (at, item) in list.iter().enumerate() {
            places.put(item.get(key), at);
        }
        places
    }

    fn first(&self, key: &Value) -> Option<usize> {
        self.0.get(key)?.first().copied()
    }

    /// Notes an item, unless the patch does not name its key.
    fn put(&mut self, key: Option<&Value>, at: usize) {
        if let Some(places) = key.and_then(|key| self.0.get_mut(key)) {
            places.insert(at);
        }
    }

    fn take(&mut self, key: &Value, at: usize) {
        if let Some(places) = self.0.get_mut(key) {
            places.remove(&at);
        }
    }
}
