//! Who depends on whom.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use proto_kube::view::View;
use proto_kube::{GroupResource, Resource, object, resource};
use serde_json::Value;

use super::references;
use crate::Key;

/// Where an object is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) resource: &'static Resource,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(resource: &'static Resource, object: &Value) -> Self {
        let (namespace, name) = (object::namespace(object).to_owned(), object::name(object).to_owned());
        Self { resource, namespace, name }
    }

    /// As a key of a controller, which has no room for the resource of its own: `GROUP/PLURAL/NAMESPACE` and the name.
    pub(super) fn key(&self) -> Key {
        let Resource { group, plural, .. } = self.resource;
        (format!("{group}/{plural}/{}", self.namespace), self.name.clone())
    }

    pub(super) fn read((first, name): &Key) -> Option<Self> {
        let mut parts = first.splitn(3, '/');
        let (group, resource, namespace) = (parts.next()?, parts.next()?, parts.next()?);
        let resource = resource::preferred(GroupResource { group, resource })?;
        Some(Self { resource, namespace: namespace.to_owned(), name: name.clone() })
    }

    pub(super) fn name_key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }

    pub(super) fn get(&self, view: &dyn View) -> Option<Arc<Value>> {
        view.get(self.resource.group_resource(), &self.namespace, &self.name)
    }

    fn sort_key(&self) -> (&str, &str, &str, &str) {
        (self.resource.group, self.resource.plural, &self.namespace, &self.name)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.sort_key() == other.sort_key()
    }
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.sort_key().cmp(&other.sort_key())
    }
}

/// The places of what depends on a uid.
#[derive(Debug, Default)]
pub(super) struct Graph(HashMap<String, BTreeSet<Place>>);

impl Graph {
    /// Takes in that an object has changed, come or gone.
    pub(super) fn replace(&mut self, place: &Place, old: Option<&Value>, new: Option<&Value>) {
        for uid in uids(old) {
            if let Some(places) = self.0.get_mut(uid) {
                places.remove(place);
                if places.is_empty() {
                    self.0.remove(uid);
                }
            }
        }
        for uid in uids(new) {
            self.0.entry(uid.to_owned()).or_default().insert(place.clone());
        }
    }

    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = Place> + use<'_> {
        self.0.get(uid).into_iter().flatten().cloned()
    }
}

fn uids(object: Option<&Value>) -> impl Iterator<Item = &str> {
    object.into_iter().flat_map(references).map(|reference| object::text(reference, &["uid"]))
}
