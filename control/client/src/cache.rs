//! One watch cache for all that run in a process: each resource is listed and watched once, however many read it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use proto_kube::{GroupResource, Resource, object, resource, view::View};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::reflector::{Change, Reflector};
use crate::request::{Client, Query};

/// What happened to an object. Neither is set when all that was there at the start has been told.
#[derive(Debug, Clone)]
pub struct Event {
    /// The object's resource.
    pub resource: &'static Resource,
    /// As it was; `None` when it is new.
    pub old: Option<Arc<Value>>,
    /// As it is; `None` when it is gone.
    pub new: Option<Arc<Value>>,
}

impl Event {
    /// The object, in its last known state.
    #[must_use]
    pub fn object(&self) -> Option<&Arc<Value>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

type Key = (String, String);

/// A resource as it is now.
#[derive(Default)]
struct Kept {
    /// By namespace and name.
    objects: BTreeMap<Key, Arc<Value>>,
    /// Namespace, the uid of the controller (empty for none), name: of each object.
    controlled: BTreeSet<(String, String, String)>,
    listeners: Vec<mpsc::UnboundedSender<Event>>,
    synced: bool,
}

struct Inner {
    client: Client,
    /// By plural and group: what to ask for instead of everything.
    scopes: Vec<(&'static Resource, Query)>,
    kept: RwLock<HashMap<GroupResource<'static>, Kept>>,
    tasks: Mutex<JoinSet<()>>,
    synced: watch::Sender<()>,
}

/// The objects of a server that somebody in this process has asked for, kept up to date. `managedFields` are left out.
/// Clones share everything; with the last of them the watches end.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
    client: Client,
}

impl Cache {
    /// An empty cache: nothing is asked of the server yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::scoped(client, Vec::new())
    }

    /// A cache that asks for less than everything: a node's agent may see the pods of `spec.nodeName=NODE` alone.
    #[must_use]
    pub fn scoped(client: Client, scopes: Vec<(&'static Resource, Query)>) -> Self {
        let inner = Inner {
            client: client.clone(),
            scopes,
            kept: RwLock::default(),
            tasks: Mutex::default(),
            synced: watch::Sender::new(()),
        };
        Self { inner: Arc::new(inner), client }
    }

    /// The same objects for somebody who asks and writes in another name; what is watched is still watched in the
    /// cache's own.
    #[must_use]
    pub fn with_client(&self, client: Client) -> Self {
        Self { inner: self.inner.clone(), client }
    }

    /// In whose name its holder asks and writes.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Every change of a resource from now on, after an event for each object that is already there. The watch is
    /// started when nobody has asked for the resource before.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn subscribe(&self, resource: &'static Resource) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.keep(resource, Some(sender));
        receiver
    }

    /// Waits until all that was there at the start is known, of each of these resources; starts their watches.
    pub async fn synced(&self, resources: &[&'static Resource]) {
        for resource in resources {
            self.keep(resource, None);
        }
        let mut changes = self.inner.synced.subscribe();
        let done = |inner: &Inner| {
            let kept = inner.kept.read().unwrap_or_else(PoisonError::into_inner);
            resources.iter().all(|r| kept.get(&r.group_resource()).is_some_and(|kept| kept.synced))
        };
        while !done(&self.inner) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn keep(&self, resource: &'static Resource, listener: Option<mpsc::UnboundedSender<Event>>) {
        let mut all = self.inner.kept.write().unwrap_or_else(PoisonError::into_inner);
        let known = all.contains_key(&resource.group_resource());
        let kept = all.entry(resource.group_resource()).or_default();
        if let Some(listener) = listener {
            for object in kept.objects.values() {
                let _ = listener.send(Event { resource, old: None, new: Some(object.clone()) });
            }
            if kept.synced {
                let _ = listener.send(Event { resource, old: None, new: None });
            }
            kept.listeners.push(listener);
        }
        drop(all);
        if !known {
            self.follow(resource);
        }
    }

    fn follow(&self, resource: &'static Resource) {
        let scope = self.inner.scopes.iter().find(|(r, _)| r.group_resource() == resource.group_resource());
        let query = scope.map(|(_, query)| query.clone()).unwrap_or_default();
        let mut reflector = Reflector::new(self.inner.client.clone(), resource, "", query);
        let inner = Arc::downgrade(&self.inner);
        tasks(&self.inner).spawn(async move {
            loop {
                let change = reflector.next().await;
                let Some(inner) = inner.upgrade() else { return };
                inner.take(resource, change);
            }
        });
    }
}

fn tasks(inner: &Inner) -> MutexGuard<'_, JoinSet<()>> {
    inner.tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn take(&self, resource: &'static Resource, change: Change) {
        let mut all = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let kept = all.entry(resource.group_resource()).or_default();
        let event = match change {
            Change::Applied(mut object) => {
                object::metadata(&mut object).remove("managedFields");
                let new = Arc::new(object);
                let old = kept.objects.insert(key(&new), new.clone());
                let before = old.as_deref().map(place);
                let now = place(&new);
                if before.as_ref() != Some(&now) {
                    before.map(|place| kept.controlled.remove(&place));
                    kept.controlled.insert(now);
                }
                Event { resource, old, new: Some(new) }
            }
            Change::Deleted(object) => {
                let old = kept.objects.remove(&key(&object)).unwrap_or_else(|| Arc::new(object));
                kept.controlled.remove(&place(&old));
                Event { resource, old: Some(old), new: None }
            }
            Change::Synced => {
                kept.synced = true;
                Event { resource, old: None, new: None }
            }
        };
        kept.listeners.retain(|listener| listener.send(event.clone()).is_ok());
        drop(all);
        if event.object().is_none() {
            self.synced.send_replace(());
        }
    }
}

fn key(object: &Value) -> Key {
    (object::namespace(object).to_owned(), object::name(object).to_owned())
}

/// Where an object stands in [`Kept::controlled`].
fn place(object: &Value) -> (String, String, String) {
    let controller = object::controller(object).map_or("", |c| c.uid);
    (object::namespace(object).to_owned(), controller.to_owned(), object::name(object).to_owned())
}

impl View for Cache {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let all = self.inner.kept.read().unwrap_or_else(PoisonError::into_inner);
        let kept = all.get(&preferred(resource)?)?;
        kept.objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, resource: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let all = self.inner.kept.read().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = preferred(resource).and_then(|resource| all.get(&resource)) else {
            return Vec::new();
        };
        if namespace.is_empty() {
            return kept.objects.values().cloned().collect();
        }
        let first = (namespace.to_owned(), String::new());
        let rest = kept.objects.range(first..).take_while(|((of, _), _)| of == namespace);
        rest.map(|(_, object)| object.clone()).collect()
    }

    fn controlled(&self, resource: GroupResource<'_>, namespace: &str, by: &str) -> Vec<Arc<Value>> {
        let all = self.inner.kept.read().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = preferred(resource).and_then(|resource| all.get(&resource)) else {
            return Vec::new();
        };
        let first = (namespace.to_owned(), by.to_owned(), String::new());
        let rest = kept.controlled.range(first..).take_while(|(of, uid, _)| of == namespace && uid == by);
        rest.filter_map(|(of, _, name)| kept.objects.get(&(of.clone(), name.clone())).cloned()).collect()
    }
}

/// The catalogue's own name of a resource, which lives as long as the program.
fn preferred(wanted: GroupResource<'_>) -> Option<GroupResource<'static>> {
    resource::preferred(wanted).map(Resource::group_resource)
}
