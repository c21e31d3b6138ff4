//! What a process sees of the cluster: each resource by a watch of its own, each as far behind as its luck is bad.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controllers::Key;
use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::Value;

use crate::server::{Change, Of, Server, key, served};

/// A view that lags.
#[derive(Default)]
pub(crate) struct Cache {
    objects: BTreeMap<Of, BTreeMap<Key, Arc<Value>>>,
    /// How far each watch has come.
    cursors: BTreeMap<Of, usize>,
    /// Watches that hang, until when.
    pub(crate) hangs: BTreeMap<Of, Duration>,
    /// Of the pods, and of the nodes, only those of this node.
    node: Option<String>,
}

impl Cache {
    /// Lists these resources.
    pub(crate) fn new(reads: &[Of], node: Option<&str>, server: &Server) -> (Self, Vec<Change>) {
        let cursors = reads.iter().map(|of| (*of, 0)).collect();
        let mut cache = Self { cursors, node: node.map(str::to_owned), ..Self::default() };
        let events = reads.iter().flat_map(|of| cache.relist(*of, server)).collect();
        (cache, events)
    }

    /// The resources of which there is news.
    pub(crate) fn behind(&self, server: &Server, now: Duration) -> Vec<Of> {
        let is = |(of, at): &(&Of, &usize)| {
            server.log(**of).len() > **at && self.hangs.get(*of).is_none_or(|until| *until <= now)
        };
        self.cursors.iter().filter(is).map(|(of, _)| *of).collect()
    }

    /// When a watch that hangs and has news goes on.
    pub(crate) fn wake_at(&self, server: &Server) -> Option<Duration> {
        let hanging = |of: &Of| self.cursors.get(of).is_some_and(|at| server.log(*of).len() > *at);
        self.hangs.iter().filter(|(of, _)| hanging(of)).map(|(_, until)| *until).min()
    }

    /// What is read.
    pub(crate) fn reads(&self) -> Vec<Of> {
        self.cursors.keys().copied().collect()
    }

    /// Takes at most so much news of a resource.
    pub(crate) fn see(&mut self, of: Of, server: &Server, most: usize) -> Vec<Change> {
        let Some(cursor) = self.cursors.get_mut(&of) else { return Vec::new() };
        let news: Vec<Change> = server.log(of).iter().skip(*cursor).take(most).cloned().collect();
        *cursor += news.len();
        news.into_iter().filter_map(|change| self.take(of, change)).collect()
    }

    /// The watch broke and is too far behind to go on: everything is listed, and told again what is as it was.
    pub(crate) fn relist(&mut self, of: Of, server: &Server) -> Vec<Change> {
        let known = self.objects.get(&of).cloned().unwrap_or_default();
        self.cursors.insert(of, server.log(of).len());
        let resource = served(of.0, of.1);
        let there: BTreeMap<Key, Arc<Value>> = server.list(of).into_iter().map(|o| (key(&o), o)).collect();
        let gone = known.keys().filter(|key| !there.contains_key(*key)).map(|key| (key.clone(), None));
        let there = there.iter().map(|(key, object)| (key.clone(), Some(object.clone())));
        let news: Vec<_> = gone.chain(there).collect();
        let change = |(key, new)| Change { resource, old: known.get(&key).cloned(), new };
        news.into_iter().map(change).filter_map(|change| self.take(of, change)).collect()
    }

    fn take(&mut self, of: Of, change: Change) -> Option<Change> {
        let node = self.node.clone();
        let ours = |object: &Arc<Value>| match (&node, of.1) {
            (Some(node), "pods") => object::text(object, &["spec", "nodeName"]) == node,
            (Some(node), "nodes") => object::name(object) == node,
            _ => true,
        };
        let (old, new) = (change.old.filter(ours), change.new.filter(ours));
        let objects = self.objects.entry(of).or_default();
        match (&old, &new) {
            (_, Some(new)) => drop(objects.insert(key(new), new.clone())),
            (Some(old), None) => drop(objects.remove(&key(old))),
            (None, None) => return None,
        }
        Some(Change { resource: change.resource, old, new })
    }
}

impl View for Cache {
    fn get(&self, of: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let objects = self.objects.iter().find(|((g, p), _)| *g == of.group && *p == of.resource)?.1;
        objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, of: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let found = self.objects.iter().find(|((g, p), _)| *g == of.group && *p == of.resource);
        let all = found.into_iter().flat_map(|(_, objects)| objects);
        let wanted = all.filter(|((within, _), _)| namespace.is_empty() || within == namespace);
        wanted.map(|(_, object)| object.clone()).collect()
    }
}
