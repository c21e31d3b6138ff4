//! Which endpoint stands in which slice: as before where it can, so that a change of one endpoint changes one slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto_kube::object;
use serde_json::{Map, Value};

/// What tells an endpoint from others: its addresses, host name, and the object behind it.
pub(super) type Id = (Vec<String>, String, String);

/// Of an endpoint in a slice.
pub(super) fn id(endpoint: &Value) -> Id {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut addresses: Vec<String> = object::items(endpoint, &["addresses"]).map(text).collect();
    addresses.sort();
    let target = |member| object::text(endpoint, &["targetRef", member]);
    (addresses, text(&endpoint["hostname"]), format!("{}/{}", target("namespace"), target("name")))
}

/// What becomes of slices that have the same ports and family.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// The endpoints of each new slice.
    pub(super) create: Vec<Vec<Value>>,
    /// Slices with their new endpoints and labels.
    pub(super) update: Vec<Value>,
    /// Slices in which nothing is left.
    pub(super) delete: Vec<Arc<Value>>,
    /// The endpoints that are new or changed.
    pub(super) touched: Vec<Value>,
}

/// A slice on the way to its new form.
struct Open {
    slice: Arc<Value>,
    endpoints: Vec<Value>,
    changed: bool,
}

/// Packs the desired endpoints into slices of at most `most`, of which `existing` are there. First what is there is
/// brought up to date; then slices that change anyway are filled, the fullest first; then, if the rest fits into one of
/// the others, that; then new ones. `labels` are those that each slice should have.
pub(super) fn pack(
    existing: &[Arc<Value>],
    mut desired: BTreeMap<Id, Value>,
    labels: &Map<String, Value>,
    most: usize,
) -> Packed {
    let mut packed = Packed::default();
    let mut open = Vec::new();
    for slice in existing {
        let old: Vec<&Value> = object::items(slice, &["endpoints"]).collect();
        let kept: Vec<(&Value, Value)> =
            old.iter().filter_map(|was| Some((*was, desired.remove(&id(was))?))).collect();
        let moved = kept.iter().filter(|(was, is)| !same(was, is)).map(|(_, is)| is.clone());
        let before = packed.touched.len();
        packed.touched.extend(moved);
        let changed = packed.touched.len() > before || kept.len() != old.len();
        if kept.is_empty() && changed {
            packed.delete.push(slice.clone());
            continue;
        }
        let relabelled =
            object::at(slice, &["metadata", "labels"]).and_then(Value::as_object) != Some(labels);
        let endpoints = kept.into_iter().map(|(_, is)| is).collect();
        open.push(Open { slice: slice.clone(), endpoints, changed: changed || relabelled });
    }
    packed.touched.extend(desired.values().cloned());
    let mut left: Vec<Value> = desired.into_values().collect();
    left.reverse();
    let put = |open: &mut Open, left: &mut Vec<Value>| {
        let room = most.saturating_sub(open.endpoints.len()).min(left.len());
        open.endpoints.extend(left.drain(left.len() - room..).rev());
        open.changed |= room > 0;
    };
    let mut changing: Vec<&mut Open> = open.iter_mut().filter(|o| o.changed).collect();
    changing.sort_by_key(|o| std::cmp::Reverse(o.endpoints.len()));
    changing.into_iter().for_each(|slice| put(slice, &mut left));
    while left.len() >= most {
        let endpoints = left.split_off(left.len() - most);
        packed.create.push(endpoints);
    }
    let fits = open.iter_mut().filter(|o| !o.changed && o.endpoints.len() + left.len() <= most);
    match fits.max_by_key(|o| o.endpoints.len()) {
        _ if left.is_empty() => {}
        Some(slice) => put(slice, &mut left),
        None => packed.create.push(left),
    }
    let changed = open.into_iter().filter(|open| open.changed);
    packed.update.extend(changed.map(|open| {
        let mut slice = (*open.slice).clone();
        slice["endpoints"] = open.endpoints.into();
        slice["metadata"]["labels"] = labels.clone().into();
        slice
    }));
    packed
}

/// Whether an endpoint is as it should be; which state of the pod it was made from does not matter.
fn same(was: &Value, should: &Value) -> bool {
    if was == should {
        return true;
    }
    let mut was = was.clone();
    if let Some(target) = was.get_mut("targetRef").and_then(Value::as_object_mut) {
        target.remove("resourceVersion");
    }
    was == *should
}
