//! One watch cache for all that run in a process: each resource is listed and watched once, however many read it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use proto_kube::{GroupResource, Resource, resource, view::View};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::kept::Kept;
use crate::reflector::Reflector;
use crate::request::{Client, Query};

/// Which objects somebody needs whole; of the others their `apiVersion`, `kind` and `metadata` are enough for him.
pub type Need = Arc<dyn Fn(&Value) -> bool + Send + Sync>;

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

/// A resource that is watched.
struct Followed {
    kept: RwLock<Kept>,
    /// It is to be listed anew.
    anew: Notify,
}

struct Inner {
    client: Client,
    /// By plural and group: what to ask for instead of everything.
    scopes: Vec<(&'static Resource, Query)>,
    followed: RwLock<HashMap<GroupResource<'static>, Arc<Followed>>>,
    tasks: Mutex<JoinSet<()>>,
    synced: watch::Sender<()>,
}

/// The objects of a server that somebody in this process has asked for, kept up to date. `managedFields` are left out, and
/// of objects that nobody needs whole all but their metadata. Clones share everything; with the last of them the watches
/// end.
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
            followed: RwLock::default(),
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
        self.listen(resource, None)
    }

    /// [`Cache::subscribe`] for one who needs only some of the objects whole. `by` tells him from others: asked again by
    /// the same name, the need is taken for the same.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn subscribe_some(
        &self,
        resource: &'static Resource,
        by: &'static str,
        need: Need,
    ) -> mpsc::UnboundedReceiver<Event> {
        self.listen(resource, Some((by, need)))
    }

    /// Waits until all that was there at the start is known, of each of these resources, whole; starts their watches.
    pub async fn synced(&self, resources: &[&'static Resource]) {
        for resource in resources {
            self.follow(resource, None);
        }
        self.settled(resources).await;
    }

    /// Waits until of each of these resources all is known that those who have subscribed to it need.
    pub async fn settled(&self, resources: &[&'static Resource]) {
        let mut changes = self.inner.synced.subscribe();
        let done = |resource: &&Resource| {
            let followed = self.inner.followed(resource.group_resource());
            followed.is_some_and(|followed| followed.read(Kept::is_synced))
        };
        while !resources.iter().all(done) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn listen(
        &self,
        resource: &'static Resource,
        need: Option<(&'static str, Need)>,
    ) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.follow(resource, need).write(|kept| kept.listen(sender));
        receiver
    }

    /// Follows a resource for one who needs it whole, or some of it.
    fn follow(&self, resource: &'static Resource, need: Option<(&'static str, Need)>) -> Arc<Followed> {
        let mut all = self.inner.followed.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Followed { kept: RwLock::new(Kept::new(resource)), anew: Notify::new() });
        let known = all.contains_key(&resource.group_resource());
        let followed = all.entry(resource.group_resource()).or_insert_with(fresh).clone();
        drop(all);
        if followed.write(|kept| kept.need(need)) {
            followed.anew.notify_one();
        }
        if !known {
            self.watch(resource, followed.clone());
        }
        followed
    }

    fn watch(&self, resource: &'static Resource, followed: Arc<Followed>) {
        let scope = self.inner.scopes.iter().find(|(r, _)| r.group_resource() == resource.group_resource());
        let query = scope.map(|(_, query)| query.clone()).unwrap_or_default();
        let mut reflector = Reflector::new(self.inner.client.clone(), resource, "", query);
        let inner = Arc::downgrade(&self.inner);
        tasks(&self.inner).spawn(async move {
            loop {
                let change = tokio::select! {
                    change = reflector.next() => change,
                    () = followed.anew.notified() => {
                        if followed.write(Kept::take_anew) {
                            reflector.list_anew();
                        }
                        continue;
                    }
                };
                let Some(inner) = inner.upgrade() else { return };
                if followed.write(|kept| kept.take(change)) {
                    inner.synced.send_replace(());
                }
            }
        });
    }
}

fn tasks(inner: &Inner) -> MutexGuard<'_, JoinSet<()>> {
    inner.tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Followed {
    fn read<T>(&self, of: impl FnOnce(&Kept) -> T) -> T {
        of(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, of: impl FnOnce(&mut Kept) -> T) -> T {
        of(&mut self.kept.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn followed(&self, resource: GroupResource<'_>) -> Option<Arc<Followed>> {
        let all = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&preferred(resource)?).cloned()
    }
}

impl View for Cache {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.inner.followed(resource)?.read(|kept| kept.get(namespace, name))
    }

    fn list(&self, resource: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let followed = self.inner.followed(resource);
        followed.map(|followed| followed.read(|kept| kept.list(namespace))).unwrap_or_default()
    }

    fn controlled(&self, resource: GroupResource<'_>, namespace: &str, by: &str) -> Vec<Arc<Value>> {
        let Some(followed) = self.inner.followed(resource) else { return Vec::new() };
        let found = followed.read(|kept| kept.controlled(namespace, by));
        let indexed = || {
            followed.write(Kept::index);
            followed.read(|kept| kept.controlled(namespace, by))
        };
        found.or_else(indexed).unwrap_or_default()
    }
}

/// The catalogue's own name of a resource, which lives as long as the program.
fn preferred(wanted: GroupResource<'_>) -> Option<GroupResource<'static>> {
    resource::preferred(wanted).map(Resource::group_resource)
}
