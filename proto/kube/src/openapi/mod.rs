//! The OpenAPI documents that clients ask for: version 3 for each group version, version 2 for all of them, as JSON and
//! as protobuf. They are made from the schema table and the resource catalogue when they are asked for, item by item,
//! and kept by nobody: a client keeps what it has by its hash.

mod gnostic;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::GroupVersion;
use crate::resource::{self, Resource};

pub use gnostic::MEDIA_TYPES as V2_MEDIA_TYPES;

/// Which of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V2,
    V3,
}

/// The version that documents tell of the API.
const LEVEL: &str = "v1.37.0";

/// `/openapi/v3`: where the document of each group version is.
#[must_use]
pub fn index() -> Vec<u8> {
    let place = |(path, hash): (&String, &String)| {
        (path.clone(), json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}") }))
    };
    let places: serde_json::Map<_, _> = hashes().iter().map(place).collect();
    json!({ "paths": places }).to_string().into_bytes()
}

/// The hash of the document at a path below `/openapi/v3/`, as `apis/apps/v1`; for its URL and its `ETag`.
#[must_use]
pub fn v3_hash(path: &str) -> Option<&'static str> {
    hashes().get(path).map(String::as_str)
}

/// The document at a path below `/openapi/v3/`.
#[must_use]
pub fn v3(path: &str) -> Option<Vec<u8>> {
    let resources = || resource::all().iter().filter(|r| place(r) == path);
    resources().next()?;
    let mut text =
        format!(r#"{{"openapi":"3.0.0","info":{{"title":"Kubernetes","version":"{LEVEL}"}},"paths":{{"#);
    write_members(&mut text, paths::items(Version::V3, resources()));
    text += r#"},"components":{"schemas":{"#;
    write_members(&mut text, schemas::items(Version::V3, resources()));
    text += r#"},"securitySchemes":{"BearerToken":{"type":"apiKey","name":"authorization","in":"header"}}}}"#;
    Some(text.into_bytes())
}

/// `/openapi/v2` as JSON.
#[must_use]
pub fn v2() -> Vec<u8> {
    let mut text =
        format!(r#"{{"swagger":"2.0","info":{{"title":"Kubernetes","version":"{LEVEL}"}},"paths":{{"#);
    write_members(&mut text, paths::items(Version::V2, resource::all().iter()));
    text += r#"},"definitions":{"#;
    write_members(&mut text, schemas::items(Version::V2, resource::all().iter()));
    text +=
        r#"},"securityDefinitions":{"BearerToken":{"type":"apiKey","name":"authorization","in":"header"}}}"#;
    text.into_bytes()
}

/// `/openapi/v2` as protobuf: gnostic's `Document`.
#[must_use]
pub fn v2_protobuf() -> Vec<u8> {
    gnostic::document(
        paths::items(Version::V2, resource::all().iter()),
        schemas::items(Version::V2, resource::all().iter()),
    )
}

/// The hash of both forms of version 2.
#[must_use]
pub fn v2_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| hash(&v2()))
}

/// The hashes of all documents of version 3 by their paths; each is made once to tell it.
fn hashes() -> &'static BTreeMap<String, String> {
    static HASHES: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    HASHES.get_or_init(|| {
        let mut hashes = BTreeMap::new();
        for resource in resource::all() {
            hashes.entry(place(resource)).or_insert_with_key(|path| hash(&v3(path).unwrap_or_default()));
        }
        hashes
    })
}

fn hash(document: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    document.hash(&mut hasher);
    format!("{:016X}", hasher.finish())
}

/// Where the group version of a resource is, as `api/v1`.
fn place(resource: &Resource) -> String {
    match resource.group {
        "" => format!("api/{}", resource.version),
        group => format!("apis/{group}/{}", resource.version),
    }
}

fn group_version(resource: &Resource) -> GroupVersion {
    GroupVersion { group: resource.group.to_owned(), version: resource.version.to_owned() }
}

/// Members of a JSON object, one after the other.
fn write_members(text: &mut String, members: impl Iterator<Item = (String, Value)>) {
    for (at, (name, value)) in members.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        *text += &format!("{comma}{}:{value}", Value::String(name));
    }
}
