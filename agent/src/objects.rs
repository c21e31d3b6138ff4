//! The config maps and secrets that the node's pods use. Each is watched by itself, which is all that a node may do,
//! once however many pods use it, and as long as one does. One that is immutable is read once.
//!
//! While the API server is away, what was known last counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_core::data::{self, Data, Kind, Reference, Unread};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Cache, Change, Client, Query, Reflector};
use proto_kube::object;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::config::known;
use crate::sync::Happening;

/// How long an answer is waited for when nothing is known yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of an object; `None`: nothing yet.
type State = Option<Result<Arc<Data>, Unread>>;

/// An object by its namespace.
type Key = (String, Reference);

/// An object that some pod uses.
struct Item {
    state: watch::Receiver<State>,
    /// The pods that use it, by uid.
    users: BTreeSet<String>,
    task: AbortHandle,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Kept {
    items: HashMap<Key, Item>,
    /// By the uid of the pod that uses them.
    held: HashMap<String, BTreeSet<Key>>,
}

/// The objects.
pub(crate) struct Objects {
    client: Option<Client>,
    happenings: UnboundedSender<Happening>,
    kept: Arc<Mutex<Kept>>,
}

impl Objects {
    /// The objects of a cluster; without one nothing is known.
    pub(crate) fn new(cache: Option<&Cache>, happenings: UnboundedSender<Happening>) -> Self {
        Self { client: cache.map(|c| c.client().clone()), happenings, kept: Arc::default() }
    }

    /// Says what a pod uses, all of it, now. The loop hears when one of these changes.
    pub(crate) fn hold(&self, uid: &str, namespace: &str, references: BTreeSet<Reference>) {
        let Some(client) = &self.client else { return };
        let keys: BTreeSet<Key> = references.into_iter().map(|r| (namespace.to_owned(), r)).collect();
        let mut kept = lock(&self.kept);
        let before = kept.held.insert(uid.to_owned(), keys.clone()).unwrap_or_default();
        for key in before.difference(&keys) {
            kept.leave(key, uid);
        }
        for key in keys {
            let item = kept.items.entry(key).or_insert_with_key(|key| self.follow(client, key));
            item.users.insert(uid.to_owned());
        }
    }

    /// A pod uses nothing any more.
    pub(crate) fn release(&self, uid: &str) {
        let mut kept = lock(&self.kept);
        for key in kept.held.remove(uid).unwrap_or_default() {
            kept.leave(&key, uid);
        }
    }

    /// What is known of objects that are held; one of which nothing is known yet is waited for a moment.
    pub(crate) async fn read(&self, namespace: &str, references: &BTreeSet<Reference>) -> data::Objects {
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut all = BTreeMap::new();
        for reference in references {
            let key = (namespace.to_owned(), reference.clone());
            let state = lock(&self.kept).items.get(&key).map(|item| item.state.clone());
            let known = match state {
                Some(mut state) => {
                    let known = tokio::time::timeout_at(until, state.wait_for(Option::is_some)).await;
                    known.ok().and_then(Result::ok).and_then(|state| state.clone())
                }
                None => None,
            };
            all.insert(reference.clone(), known.unwrap_or_else(|| Err(self.unknown(namespace, reference))));
        }
        data::Objects(all)
    }

    fn unknown(&self, namespace: &str, reference: &Reference) -> Unread {
        let Reference { kind, name } = reference;
        Unread::Unknown(match self.client {
            Some(_) => format!("failed to sync {kind} cache: timed out waiting for the condition"),
            None => format!("couldn't get {kind} {namespace}/{name}: this node has no API server"),
        })
    }

    /// Starts to follow an object.
    fn follow(&self, client: &Client, key: &Key) -> Item {
        let (namespace, Reference { kind, name }) = key;
        let resource = match kind {
            Kind::ConfigMap => known("", "v1", "configmaps"),
            Kind::Secret => known("", "v1", "secrets"),
        };
        let query = Query::default().with("fieldSelector", &format!("metadata.name={name}"));
        let mut reflector = Reflector::new(client.clone(), resource, namespace, query);
        let (sender, state) = watch::channel(None);
        let (kept, happenings, key) = (self.kept.clone(), self.happenings.clone(), key.clone());
        let task = async move {
            loop {
                let new = match reflector.next().await {
                    Change::Applied(object) => Ok(Arc::new(decode(key.1.kind, &object))),
                    Change::Deleted(_) => Err(Unread::NotFound),
                    Change::Synced if sender.borrow().is_some() => continue,
                    Change::Synced => Err(Unread::NotFound),
                };
                let last = new.as_ref().is_ok_and(|data| data.immutable);
                if sender.borrow().as_ref() != Some(&new) {
                    sender.send_replace(Some(new));
                    let users = lock(&kept).items.get(&key).map(|item| item.users.clone());
                    let _ = happenings.send(Happening::Objects(users.unwrap_or_default()));
                }
                if last {
                    // Whoever reads it later still finds it.
                    drop(reflector);
                    return sender.closed().await;
                }
            }
        };
        Item { state, users: BTreeSet::new(), task: tokio::spawn(task).abort_handle() }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // The tasks share the map: without this they would keep each other alive.
        lock(&self.kept).items.clear();
    }
}

impl Kept {
    fn leave(&mut self, key: &Key, uid: &str) {
        if let Some(item) = self.items.get_mut(key) {
            item.users.remove(uid);
            if item.users.is_empty() {
                self.items.remove(key);
            }
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an object holds. Bytes that are not what the API promises are left out.
fn decode(kind: Kind, value: &Value) -> Data {
    let entries = |member: &str, plain: bool| {
        let all = value.get(member).and_then(Value::as_object).into_iter().flatten();
        let bytes = |text: &str| match plain {
            true => Some(text.as_bytes().to_vec()),
            false => STANDARD.decode(text).ok(),
        };
        all.filter_map(|(key, value)| Some((key.clone(), bytes(value.as_str()?)?))).collect()
    };
    Data {
        data: entries("data", kind == Kind::ConfigMap),
        binary: entries("binaryData", false),
        kind: object::text(value, &["type"]).to_owned(),
        immutable: value["immutable"] == true,
    }
}

#[cfg(test)]
mod tests;
