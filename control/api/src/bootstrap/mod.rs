//! What a cluster begins with, and what only the API server knows of itself: where it is reached, and whom it trusts.
//! Controllers keep the rest.

mod leases;
mod objects;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use proto_kube::{Resource, object};
use serde_json::Value;
use store::{CommitError, Txn, Write};

pub use leases::renew;

use crate::random;
use crate::server::Server;
use crate::stored;

/// So many writes go into one transaction: etcd takes no more than 128.
const CHUNK: usize = 100;
/// How often a write is tried again that another server's has crossed.
const TRIES: usize = 5;

/// An object that is to be there.
pub(crate) struct Wanted {
    pub(crate) resource: &'static Resource,
    pub(crate) object: Value,
    pub(crate) rule: Rule,
}

/// What is done when the object is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing: it is the users' from now on.
    Once,
    /// What `authz` says of bootstrap roles and bindings.
    Policy,
    /// Its content is set again.
    Always,
    /// The entries of its `data` are set again; others beside them stay.
    Entries,
    /// The ports of its `spec` are set again: it is a Service whose server may have moved.
    Ports,
    /// Its texts are certificates: what it lacks of ours is added. Of several servers on one etcd each may have renewed
    /// its authority at another time, and none takes away what the others need.
    Trust,
}

/// The first address of a range that a Service can have.
#[must_use]
pub fn first_address(range: &IpNet) -> Option<IpAddr> {
    Some(match range.network() {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip).checked_add(1)?).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip).checked_add(1)?).into()),
    })
}

/// Writes what is missing of what a cluster begins with.
///
/// # Errors
/// Why it could not be written.
pub async fn write(server: &Arc<Server>) -> Result<(), String> {
    if server.config.etcd.is_some() && is_foreign(server) {
        return Err("the store is of a cluster with another authority: copy control/pki/pki.json from a server of that \
             cluster into this one's data directory"
            .to_owned());
    }
    ensure(server, &objects::all(server)).await
}

/// Lets the `kubernetes` Service lead to where this server really listens.
///
/// # Errors
/// Why it could not be written.
pub async fn publish_address(server: &Arc<Server>) -> Result<(), String> {
    ensure(server, &objects::address(server)).await
}

/// Publishes new authorities; a controller takes those of `kube-system` to the other namespaces.
///
/// # Errors
/// Why it could not be written.
pub async fn publish_authorities(server: &Server) -> Result<(), String> {
    let mut wanted: Vec<Wanted> = objects::authorities(server).into_iter().collect();
    wanted.extend(objects::of_namespace(server, "kube-system"));
    ensure(server, &wanted).await
}

/// Writes what is missing or not as wanted; nothing when all is there.
pub(crate) async fn ensure(server: &Server, wanted: &[Wanted]) -> Result<(), String> {
    for chunk in wanted.chunks(CHUNK) {
        let mut tries = 0;
        loop {
            let writes: Vec<Write> = chunk.iter().filter_map(|w| change(server, w, server.now())).collect();
            if writes.is_empty() {
                break;
            }
            match server.store.commit(Txn { writes }).await {
                Ok(_) => break,
                Err(CommitError::Conflict { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    Ok(())
}

/// The write that makes an object as wanted, if one is needed.
fn change(server: &Server, wanted: &Wanted, now: Timestamp) -> Option<Write> {
    let Wanted { resource, object, rule } = wanted;
    let key = resource.key(object::namespace(object), object::name(object))?;
    let Some(entry) = server.store.get(&key) else {
        return Some(Write::create(key, stored::encode(&new(object, now))));
    };
    let existing: Value = serde_json::from_slice(&entry.value).ok()?;
    let changed = match rule {
        Rule::Once => None,
        Rule::Policy => authz::bootstrap::reconcile(Some(&existing), object),
        Rule::Always => overlay(&existing, object),
        Rule::Entries => {
            let mut changed = existing.clone();
            let data = object::member(&mut changed, "data");
            data.extend(
                object["data"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())),
            );
            (changed != existing).then_some(changed)
        }
        Rule::Ports => {
            let mut moved = existing.clone();
            moved["spec"]["ports"] = object["spec"]["ports"].clone();
            (moved != existing).then_some(moved)
        }
        Rule::Trust => overlay(&existing, &trust(&existing, object)),
    }?;
    Some(Write::update(key, stored::encode(&changed), entry.mod_revision))
}

/// A new object, with what every object gets at its birth.
fn new(object: &Value, now: Timestamp) -> Value {
    let mut object = object.clone();
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let metadata = object::metadata(&mut object);
    metadata.insert("uid".to_owned(), random::uid().into());
    metadata.insert("creationTimestamp".to_owned(), now.to_string().into());
    object
}

/// `existing` with every member that `wanted` has outside of its metadata; `None` when they are so already.
fn overlay(existing: &Value, wanted: &Value) -> Option<Value> {
    let mut changed = existing.clone();
    for (key, value) in wanted.as_object()?.iter().filter(|(key, _)| *key != "metadata") {
        changed[key] = value.clone();
    }
    if changed == *existing {
        return None;
    }
    if let Some(generation) = existing["metadata"]["generation"].as_i64() {
        changed["metadata"]["generation"] = (generation + 1).into();
    }
    Some(changed)
}

/// `wanted` with the certificates that `existing` has beside those that are wanted.
fn trust(existing: &Value, wanted: &Value) -> Value {
    let mut merged = wanted.clone();
    for (key, text) in merged["data"].as_object_mut().into_iter().flatten() {
        let (Some(ours), Some(theirs)) = (text.as_str(), existing["data"][key].as_str()) else { continue };
        let read = |text: &str| pki::key::certificates(text).unwrap_or_default();
        let (mine, found) = (read(ours), read(theirs));
        *text = if mine.iter().all(|c| found.contains(c)) {
            theirs.into()
        } else {
            let others = found.iter().filter(|c| !mine.contains(c));
            others.fold(ours.to_owned(), |text, c| text + &pki::key::pem("CERTIFICATE", c)).into()
        };
    }
    merged
}

/// Whether the store is of a cluster with other authorities than ours: then our clients and its would not trust each
/// other.
fn is_foreign(server: &Server) -> bool {
    let entry = server.store.get("/registry/configmaps/kube-system/extension-apiserver-authentication");
    let map: Value = entry.and_then(|e| serde_json::from_slice(&e.value).ok()).unwrap_or_default();
    let read = |text: &str| pki::key::certificates(text).unwrap_or_default();
    let theirs = read(object::text(&map, &["data", "client-ca-file"]));
    let ours = read(&server.pki.bundle());
    !theirs.is_empty() && !theirs.iter().any(|c| ours.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_grows_and_never_swings_back() {
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let authority = || pki::Pki::open(None, pki::Names::default(), now).unwrap().bundle();
        let (a, b) = (authority(), authority());
        let map = |text: &str| serde_json::json!({"data": {"ca.crt": text}});
        let both = trust(&map(&a), &map(&b));
        assert_eq!(both["data"]["ca.crt"], format!("{b}{a}"));
        assert_eq!(
            (overlay(&both, &trust(&both, &map(&a))), overlay(&both, &trust(&both, &map(&b)))),
            (None, None)
        );
        assert_eq!(trust(&map("nonsense"), &map(&a)), map(&a));
    }

    #[test]
    fn the_first_address_is_behind_the_network() {
        let first = |text: &str| first_address(&text.parse().unwrap()).unwrap().to_string();
        assert_eq!(
            (first("10.96.0.0/12").as_str(), first("fd00:1::/112").as_str()),
            ("10.96.0.1", "fd00:1::1")
        );
    }
}
