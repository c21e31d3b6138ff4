//! List and watch without an end: a resource as it is now, kept up to date whatever happens to the connection.

use std::collections::HashMap;
use std::time::Duration;

use proto_kube::{Resource, object};
use serde_json::{Value, json};

use crate::request::{Client, ClientError, Query};
use crate::watch::{Watch, WatchEvent};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// A change of the resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An object is there or has changed.
    Applied(Value),
    /// An object is gone; its last state, or only its name where it went while nobody watched.
    Deleted(Value),
    /// All objects that were there at the start have been told.
    Synced,
}

/// Tells every change of a resource, once. After a gap that the server cannot fill it lists anew and tells the
/// differences, deletions among them.
pub struct Reflector {
    client: Client,
    resource: &'static Resource,
    namespace: String,
    query: Query,
    /// By `NAMESPACE/NAME`, the `resourceVersion` that has been told, where it is a number.
    known: HashMap<Box<str>, Option<u64>>,
    /// Told next, last first.
    waiting: Vec<Change>,
    revision: String,
    watch: Option<Watch>,
    backoff: Duration,
    synced: bool,
    /// What has been told is to be told again.
    again: bool,
}

impl Reflector {
    /// Of the objects in a namespace, or in all for an empty one; `query` may carry selectors.
    #[must_use]
    pub fn new(client: Client, resource: &'static Resource, namespace: &str, query: Query) -> Self {
        Self {
            client,
            resource,
            namespace: namespace.to_owned(),
            query,
            known: HashMap::new(),
            waiting: Vec::new(),
            revision: String::new(),
            watch: None,
            backoff: BACKOFF_MIN,
            synced: false,
            again: false,
        }
    }

    /// The next change. It may be dropped and called again at any time: nothing is lost.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.waiting.pop() {
                return change;
            }
            if let Err(error) = self.advance().await {
                self.watch = None;
                if error.code() == Some(410) {
                    self.revision.clear();
                } else {
                    tracing::debug!(resource = self.resource.plural, %error, "watch broke; trying again");
                    tokio::time::sleep(self.backoff).await;
                    self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Lists everything anew and tells all of it, and that it is all, as at the start.
    pub(crate) fn list_anew(&mut self) {
        self.waiting.retain(|change| *change != Change::Synced);
        self.revision.clear();
        self.watch = None;
        (self.synced, self.again) = (false, true);
    }

    async fn advance(&mut self) -> Result<(), ClientError> {
        if self.revision.is_empty() {
            return self.list().await;
        }
        let watch = match &mut self.watch {
            Some(watch) => watch,
            none => {
                let query = self.query.clone().with("resourceVersion", &self.revision);
                let query = query.with("allowWatchBookmarks", "true");
                none.insert(self.client.watch(self.resource, &self.namespace, query).await?)
            }
        };
        let Some(event) = watch.next().await? else {
            self.watch = None;
            return Ok(());
        };
        self.backoff = BACKOFF_MIN;
        self.take(event);
        Ok(())
    }

    fn take(&mut self, event: WatchEvent) {
        let (revision, change) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.known.insert(key(&object), number(&object));
                (version(&object).to_owned(), Some(Change::Applied(object)))
            }
            WatchEvent::Deleted(object) => {
                self.known.remove(&key(&object));
                (version(&object).to_owned(), Some(Change::Deleted(object)))
            }
            WatchEvent::Bookmark(object) => (version(&object).to_owned(), None),
        };
        self.revision = revision;
        self.waiting.extend(change);
    }

    async fn list(&mut self) -> Result<(), ClientError> {
        let mut list = self.client.list(self.resource, &self.namespace, self.query.clone()).await?;
        version(&list).clone_into(&mut self.revision);
        let items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        let (api_version, kind) = (self.resource.api_version(), self.resource.kind);
        let before = std::mem::take(&mut self.known);
        let mut changes = Vec::new();
        for mut item in items {
            // Items of a list do not say what they are.
            object::default(&mut item, "apiVersion", api_version.clone());
            object::default(&mut item, "kind", kind);
            let key = key(&item);
            let number = number(&item);
            let told = number.is_some() && before.get(&key) == Some(&number);
            if self.again || !told {
                changes.push(Change::Applied(item));
            }
            self.known.insert(key, number);
        }
        let gone = before.into_keys().filter(|key| !self.known.contains_key(key));
        changes.extend(gone.map(|key| {
            let (namespace, name) = key.split_once('/').unwrap_or_default();
            Change::Deleted(json!({ "metadata": { "namespace": namespace, "name": name } }))
        }));
        self.again = false;
        if !self.synced {
            self.synced = true;
            changes.push(Change::Synced);
        }
        changes.reverse();
        self.waiting = changes;
        self.backoff = BACKOFF_MIN;
        Ok(())
    }
}

fn version(object: &Value) -> &str {
    object::text(object, &["metadata", "resourceVersion"])
}

/// The same of any two states that have it in common; none of a server that does not count.
fn number(object: &Value) -> Option<u64> {
    version(object).parse().ok()
}

fn key(object: &Value) -> Box<str> {
    format!("{}/{}", object::namespace(object), object::name(object)).into()
}
