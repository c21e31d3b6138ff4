//! What a process sees of the cluster: each resource by a watch of its own, each as far behind as its luck is bad.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::Value;

use crate::server::{Change, Of, Server, key, served};

/// A watch of a resource.
struct Watch {
    of: Of,
    /// Where the server keeps its log.
    log: usize,
    /// How far it has come.
    cursor: usize,
    /// It hangs until then.
    hangs: Duration,
    /// By namespace and name.
    objects: BTreeMap<String, BTreeMap<String, Arc<Value>>>,
}

/// A view that lags.
#[derive(Default)]
pub(crate) struct Cache {
    watches: Vec<Watch>,
    places: BTreeMap<Of, usize>,
    /// Of the pods, and of the nodes, only those of this node.
    node: Option<String>,
}

impl Cache {
    /// Will watch these resources; each is to be listed first ([`Cache::relist`]).
    pub(crate) fn new(reads: &[Of], node: Option<&str>, server: &mut Server) -> Self {
        let watch = |of: &Of| Watch {
            of: *of,
            log: server.place(*of),
            cursor: 0,
            hangs: Duration::ZERO,
            objects: BTreeMap::new(),
        };
        let watches = reads.iter().map(watch).collect();
        let places = reads.iter().enumerate().map(|(at, of)| (*of, at)).collect();
        Self { watches, places, node: node.map(str::to_owned) }
    }

    /// Lists everything.
    pub(crate) fn list_all(&mut self, server: &Server) -> Vec<Change> {
        (0..self.watches.len()).flat_map(|at| self.relist(at, server)).collect()
    }

    /// The watches for which there is news.
    pub(crate) fn behind(&self, server: &Server, now: Duration) -> impl Iterator<Item = usize> {
        let is = move |watch: &Watch| server.log(watch.log).len() > watch.cursor && watch.hangs <= now;
        self.watches.iter().enumerate().filter(move |(_, watch)| is(watch)).map(|(at, _)| at)
    }

    /// When a watch that hangs and has news goes on.
    pub(crate) fn wake_at(&self, server: &Server) -> Option<Duration> {
        let hanging = |watch: &&Watch| server.log(watch.log).len() > watch.cursor;
        self.watches.iter().filter(hanging).map(|watch| watch.hangs).min()
    }

    /// How many watches there are.
    pub(crate) fn len(&self) -> usize {
        self.watches.len()
    }

    /// What a watch is of.
    pub(crate) fn of(&self, at: usize) -> &'static str {
        self.watches[at].of.1
    }

    /// A watch hangs.
    pub(crate) fn hang(&mut self, at: usize, until: Duration) {
        self.watches[at].hangs = until;
    }

    /// A watch takes at most so much news.
    pub(crate) fn see(&mut self, at: usize, server: &Server, most: usize) -> Vec<Change> {
        let watch = &mut self.watches[at];
        let log = &server.log(watch.log)[watch.cursor..];
        let news: Vec<Change> = log.iter().take(most).cloned().collect();
        watch.cursor += news.len();
        news.into_iter().filter_map(|change| self.take(at, change)).collect()
    }

    /// A watch broke and is too far behind to go on: everything is listed, and told again what is as it was.
    pub(crate) fn relist(&mut self, at: usize, server: &Server) -> Vec<Change> {
        let watch = &mut self.watches[at];
        watch.cursor = server.log(watch.log).len();
        let (resource, known) = (served(watch.of.0, watch.of.1), watch.objects.clone());
        let there = server.list(watch.of);
        let is_gone =
            |old: &&Arc<Value>| server.get(watch.of, object::namespace(old), object::name(old)).is_none();
        let gone = known.values().flat_map(BTreeMap::values).filter(is_gone);
        let gone = gone.map(|old| Change { resource, old: Some(old.clone()), new: None });
        let mut news: Vec<Change> = gone.collect();
        for new in there {
            let old = known.get(object::namespace(&new)).and_then(|names| names.get(object::name(&new)));
            news.push(Change { resource, old: old.cloned(), new: Some(new) });
        }
        news.into_iter().filter_map(|change| self.take(at, change)).collect()
    }

    fn take(&mut self, at: usize, change: Change) -> Option<Change> {
        let watch = &mut self.watches[at];
        let node = self.node.as_deref();
        let ours = |object: &Arc<Value>| match (node, watch.of.1) {
            (Some(node), "pods") => object::text(object, &["spec", "nodeName"]) == node,
            (Some(node), "nodes") => object::name(object) == node,
            _ => true,
        };
        let (old, new) = (change.old.filter(ours), change.new.filter(ours));
        let (namespace, name) = key(new.as_ref().or(old.as_ref())?);
        let names = watch.objects.entry(namespace).or_default();
        match &new {
            Some(new) => drop(names.insert(name, new.clone())),
            None => drop(names.remove(&name)),
        }
        Some(Change { resource: change.resource, old, new })
    }

    fn watch(&self, of: GroupResource<'_>) -> Option<&Watch> {
        Some(&self.watches[*self.places.get(&(of.group, of.resource))?])
    }
}

impl View for Cache {
    fn get(&self, of: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.watch(of)?.objects.get(namespace)?.get(name).cloned()
    }

    fn list(&self, of: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let Some(watch) = self.watch(of) else { return Vec::new() };
        match namespace {
            "" => watch.objects.values().flat_map(BTreeMap::values).cloned().collect(),
            _ => watch.objects.get(namespace).into_iter().flat_map(BTreeMap::values).cloned().collect(),
        }
    }
}
