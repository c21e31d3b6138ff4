//! `metadata.managedFields`: its entries, read, sorted and written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proto_kube::object::{at, text};
use serde_json::{Map, Value, json};

use crate::fields::Set;

/// How a manager wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// What tells one manager from another. Their order is that in which conflicts are reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) operation: Operation,
    /// Of an update; a manager that applies is the same in all versions.
    version: String,
    subresource: String,
}

/// What a manager owns.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Owned {
    /// The fields, in the version below.
    pub(super) set: Set,
    /// As `apps/v1`.
    pub(super) version: String,
    /// When it last changed.
    pub(super) time: Option<Timestamp>,
}

/// All managers of an object.
pub(super) type Managers = BTreeMap<Key, Owned>;

impl Key {
    pub(super) fn new(name: &str, operation: Operation, version: &str, subresource: &str) -> Self {
        let version = if operation == Operation::Apply { "" } else { version };
        let name = if name.is_empty() { "unknown" } else { name };
        Self {
            name: name.to_owned(),
            operation,
            version: version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

/// As a conflict names a manager.
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Value::from(self.name.as_str()))?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {}", Value::from(self.subresource.as_str()))?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.version),
        }
    }
}

/// Reads the entries of `managedFields`.
///
/// # Errors
/// What is wrong with an entry.
pub(super) fn decode(entries: Option<&Value>) -> Result<Managers, String> {
    let entries = entries.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    entries.iter().enumerate().map(|(index, entry)| decode_entry(index, entry)).collect()
}

fn decode_entry(index: usize, entry: &Value) -> Result<(Key, Owned), String> {
    let operation = match text(entry, &["operation"]) {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".to_owned()),
    };
    let version = text(entry, &["apiVersion"]);
    if version.is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match text(entry, &["fieldsType"]) {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
        other => {
            return Err(format!("invalid fieldsType {} in managed fields entry {index}", Value::from(other)));
        }
    }
    let key = Key {
        name: text(entry, &["manager"]).to_owned(),
        version: if operation == Operation::Apply { String::new() } else { version.to_owned() },
        operation,
        subresource: text(entry, &["subresource"]).to_owned(),
    };
    let set = at(entry, &["fieldsV1"]).map_or_else(|| Ok(Set::default()), Set::from_value);
    let set =
        set.map_err(|why| format!("error decoding versioned set from {entry}: error decoding set: {why}"))?;
    Ok((key, Owned { set, version: version.to_owned(), time: text(entry, &["time"]).parse().ok() }))
}

/// The entries of `managedFields`: those that apply first, then by time.
pub(super) fn encode(managers: &Managers) -> Vec<Value> {
    let mut entries: Vec<_> = managers.iter().collect();
    entries.sort_by_key(|(key, owned)| {
        (
            key.operation,
            owned.time.map_or(0, Timestamp::as_second),
            &key.name,
            &owned.version,
            &key.subresource,
        )
    });
    entries.into_iter().map(|(key, owned)| encode_entry(key, owned)).collect()
}

fn encode_entry(key: &Key, owned: &Owned) -> Value {
    let operation = match key.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    let mut entry = Map::new();
    let time = owned.time.map(proto_kube::decode::time);
    for (name, text) in [
        ("manager", key.name.as_str()),
        ("operation", operation),
        ("apiVersion", &owned.version),
        ("time", time.as_deref().unwrap_or_default()),
        ("fieldsType", "FieldsV1"),
        ("subresource", &key.subresource),
    ] {
        if !text.is_empty() {
            entry.insert(name.to_owned(), text.into());
        }
    }
    entry.insert("fieldsV1".to_owned(), owned.set.to_value());
    Value::Object(entry)
}

/// Takes `managedFields` out of an object.
pub(super) fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// Sets `managedFields`; without managers there is no such member.
pub(super) fn put(object: &mut Value, managers: &Managers) {
    take(object);
    if !managers.is_empty() {
        set(object, encode(managers).into());
    }
}

/// Sets `managedFields`, where there is an object to set them in.
pub(super) fn set(object: &mut Value, entries: Value) {
    let Some(members) = object.as_object_mut() else { return };
    let metadata = members.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("managedFields".to_owned(), entries);
    }
}

/// Whether a client asks for `managedFields` to be forgotten: it sends a list that is empty or has one empty entry.
pub(super) fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => *entry == json!({}),
        _ => false,
    }
}
