//! Entry points for a fuzzer: any bytes are either refused or applied, and what is applied twice stays.
//!
//! # Panics
//! All functions here, when a law does not hold.

use jiff::Timestamp;
use proto_kube::{Gvk, schema};
use serde_json::Value;

use crate::apply::{Filter, Write, keep_times, one_version};
use crate::fields::Set;

/// Two documents: what stands before the first line feed, and the rest.
fn two(data: &[u8]) -> Option<(Value, &[u8])> {
    let at = data.iter().position(|b| *b == b'\n')?;
    Some((serde_json::from_slice(&data[..at]).ok()?, &data[at + 1..]))
}

/// An object, a line feed, and a JSON patch.
pub fn json(data: &[u8]) {
    if let Some((object, patch)) = two(data) {
        let _ = crate::json(&object, patch);
    }
}

/// An object, a line feed, and a merge patch.
pub fn merge(data: &[u8]) {
    let Some((object, patch)) = two(data) else { return };
    let Ok(patch) = serde_json::from_slice(patch) else { return };
    if let Ok(once) = crate::merge(object, &patch) {
        assert_eq!(crate::merge(once.clone(), &patch), Ok(once));
    }
}

/// A pod, a line feed, and a strategic merge patch.
pub fn strategic(data: &[u8]) {
    let table = schema::table();
    let (Some((object, patch)), Some(pod)) = (two(data), table.kind(&Gvk::new("v1", "Pod"))) else { return };
    let Ok(patch) = serde_json::from_slice(patch) else { return };
    let _ = crate::strategic(table, pod, object, patch);
}

/// A live deployment, a line feed, and a configuration; or the configuration alone.
pub fn apply(data: &[u8]) {
    let (live, config) = match two(data) {
        Some((live, config)) => (Some(live), config),
        None => (None, data),
    };
    let Ok(config) = serde_json::from_slice(config) else { return };
    let kind = Gvk::new("apps/v1", "Deployment");
    let write = |manager, second| Write {
        table: schema::table(),
        kind: &kind,
        manager,
        subresource: "",
        filter: &Filter::All,
        convert: &one_version,
        now: Timestamp::from_second(second).unwrap_or_default(),
    };
    let Ok(once) = write("fuzz", 1).apply(live.as_ref(), &config, true) else { return };
    if let Ok(mut twice) = write("fuzz", 2).apply(Some(&once), &config, false) {
        keep_times(&mut twice, &once);
        let _ = write("other", 3).update(Some(&once), twice);
    }
}

/// `FieldsV1`: what is read is written so that it is read as the same.
pub fn fields(data: &[u8]) {
    let Ok(set) = Set::parse(data) else { return };
    assert_eq!(Set::parse(set.print().as_bytes()).as_ref(), Ok(&set));
    assert_eq!(Set::from_value(&set.to_value()).as_ref(), Ok(&set));
}
