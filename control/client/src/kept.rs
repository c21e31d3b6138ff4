//! A resource as a cache knows it: what somebody needs whole is whole, of the rest there is what
//! [`object::narrow`] leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use proto_kube::{Resource, object, pod};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::cache::{Event, Need};
use crate::reflector::Change;

/// An object that is there.
enum Object {
    Whole(Arc<Value>),
    /// The outline of a pod, of which there are many lists.
    Outline(Arc<Value>),
    /// Its `apiVersion`, `kind` and `metadata` as JSON: as a [`Value`] it would take six times the room.
    Metadata(Box<[u8]>),
}

impl Object {
    fn value(&self) -> Arc<Value> {
        match self {
            Self::Whole(object) | Self::Outline(object) => object.clone(),
            Self::Metadata(json) => Arc::new(serde_json::from_slice(json).expect("it was written as JSON")),
        }
    }
}

struct Listener {
    sender: mpsc::UnboundedSender<Event>,
    /// Has been told that all is known.
    synced: bool,
}

/// A resource as it is now.
pub(crate) struct Kept {
    resource: &'static Resource,
    /// By `NAMESPACE/NAME`.
    objects: BTreeMap<Box<str>, Object>,
    /// `NAMESPACE/UID/NAME` of each object, the uid that of its controller or empty; made when somebody asks.
    controlled: Option<BTreeSet<Box<str>>>,
    /// By whose they are; none when all objects are needed.
    needs: Option<BTreeMap<&'static str, Need>>,
    listeners: Vec<Listener>,
    synced: bool,
    /// Of some objects there is less than came.
    narrowed: bool,
    /// More is needed than there is: everything must be listed again.
    anew: bool,
}

impl Kept {
    pub(crate) fn new(resource: &'static Resource) -> Self {
        Self {
            resource,
            objects: BTreeMap::new(),
            controlled: None,
            needs: Some(BTreeMap::new()),
            listeners: Vec::new(),
            synced: false,
            narrowed: false,
            anew: false,
        }
    }

    /// Whether all that was there at the start is known, as far as it is needed.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Somebody needs objects whole: all, or those that his need says yes to. Gives whether what is known is not enough.
    pub(crate) fn need(&mut self, need: Option<(&'static str, Need)>) -> bool {
        let is_new = match (&mut self.needs, need) {
            (Some(needs), Some((by, need))) => needs.insert(by, need).is_none(),
            (needs, None) => needs.take().is_some(),
            (None, Some(_)) => false,
        };
        let lacking = is_new && self.narrowed;
        if lacking {
            (self.synced, self.narrowed, self.anew) = (false, false, true);
        }
        lacking
    }

    /// Whether everything must be listed again; asked by who does it then.
    pub(crate) fn take_anew(&mut self) -> bool {
        std::mem::take(&mut self.anew)
    }

    /// Tells somebody what is there, and from now on each change.
    pub(crate) fn listen(&mut self, sender: mpsc::UnboundedSender<Event>) {
        let resource = self.resource;
        for object in self.objects.values() {
            let _ = sender.send(Event { resource, old: None, new: Some(object.value()) });
        }
        if self.synced {
            let _ = sender.send(Event { resource, old: None, new: None });
        }
        self.listeners.push(Listener { sender, synced: self.synced });
    }

    /// Takes a change in and tells it. Gives whether now all is known.
    pub(crate) fn take(&mut self, change: Change) -> bool {
        let (old, new) = match change {
            Change::Applied(object) => match self.apply(object) {
                Some((old, new)) => (old, Some(new)),
                None => return false,
            },
            Change::Deleted(object) => {
                let old = self.objects.remove(&*key(&object)).map_or_else(|| Arc::new(object), |o| o.value());
                if let Some(controlled) = &mut self.controlled {
                    controlled.remove(&place(&old));
                }
                (Some(old), None)
            }
            // The list that is known to lack something: another follows.
            Change::Synced if self.anew => return false,
            Change::Synced => {
                self.synced = true;
                (None, None)
            }
        };
        let is_object = old.is_some() || new.is_some();
        let event = Event { resource: self.resource, old, new };
        self.listeners.retain_mut(|listener| {
            let told = !is_object && std::mem::replace(&mut listener.synced, true);
            told || listener.sender.send(event.clone()).is_ok()
        });
        !is_object
    }

    /// Keeps what is needed of an object. Gives what was known of it and what is; nothing where that is the same.
    fn apply(&mut self, mut object: Value) -> Option<(Option<Arc<Value>>, Arc<Value>)> {
        let whole = self.needs.as_ref().is_none_or(|needs| needs.values().any(|need| need(&object)));
        object::metadata(&mut object).remove("managedFields");
        if !whole {
            object::narrow(self.resource.group_resource(), &mut object);
        }
        let new = Arc::new(object);
        let kept = if whole {
            Object::Whole(new.clone())
        } else {
            self.narrowed = true;
            match self.resource.group_resource() == pod::PODS {
                true => Object::Outline(new.clone()),
                false => Object::Metadata(new.to_string().into_bytes().into()),
            }
        };
        let was_whole = |old: &Object| matches!(old, Object::Whole(_));
        let old = self.objects.insert(key(&new), kept).map(|old| (was_whole(&old), old.value()));
        if old.as_ref().is_some_and(|(was, old)| *was == whole && version(old) == version(&new)) {
            return None;
        }
        let old = old.map(|(_, old)| old);
        if let Some(controlled) = &mut self.controlled {
            let (before, now) = (old.as_deref().map(place), place(&new));
            if before.as_ref() != Some(&now) {
                before.map(|place| controlled.remove(&place));
                controlled.insert(now);
            }
        }
        Some((old, new))
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.objects.get(&*format!("{namespace}/{name}")).map(Object::value)
    }

    pub(crate) fn list(&self, namespace: &str) -> Vec<Arc<Value>> {
        if namespace.is_empty() {
            return self.objects.values().map(Object::value).collect();
        }
        let first = format!("{namespace}/");
        let rest = self.objects.range::<str, _>((Bound::Included(&*first), Bound::Unbounded));
        rest.take_while(|(key, _)| key.starts_with(&first)).map(|(_, object)| object.value()).collect()
    }

    /// Makes the index that [`Kept::controlled`] needs.
    pub(crate) fn index(&mut self) {
        let all = &self.objects;
        self.controlled.get_or_insert_with(|| all.values().map(|object| place(&object.value())).collect());
    }

    /// As [`proto_kube::view::View::controlled`]; none where the index is still to be made.
    pub(crate) fn controlled(&self, namespace: &str, by: &str) -> Option<Vec<Arc<Value>>> {
        let first = format!("{namespace}/{by}/");
        let rest = self.controlled.as_ref()?.range::<str, _>((Bound::Included(&*first), Bound::Unbounded));
        let names = rest.map_while(|place| place.strip_prefix(&*first));
        Some(names.filter_map(|name| self.get(namespace, name)).collect())
    }
}

fn key(object: &Value) -> Box<str> {
    format!("{}/{}", object::namespace(object), object::name(object)).into()
}

/// Where an object stands in [`Kept::controlled`].
fn place(object: &Value) -> Box<str> {
    let controller = object::controller(object).map_or("", |c| c.uid);
    format!("{}/{controller}/{}", object::namespace(object), object::name(object)).into()
}

fn version(object: &Value) -> &str {
    object::text(object, &["metadata", "resourceVersion"])
}

#[cfg(test)]
mod tests;
