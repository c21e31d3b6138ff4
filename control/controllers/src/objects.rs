//! A cluster in memory that takes mutations as an API server would, as far as controllers can tell the difference: what
//! tests and the simulation run them against.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::{GroupResource, Resource, Status, object, view::View};
use serde_json::{Map, Value, json};

use crate::{Condition, Mutation};

/// What people were told: (kind and name of the object, type, reason, message).
pub type Told = (String, &'static str, &'static str, String);

/// Group and plural of an object, it as it was, and as it is.
pub type Changed = (String, String, [Option<Arc<Value>>; 2]);

/// The objects of a resource, by namespace and name.
type Of = BTreeMap<String, BTreeMap<String, Arc<Value>>>;

/// Objects by group, plural, namespace and name.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    objects: BTreeMap<String, BTreeMap<String, Of>>,
    revision: u64,
    /// The events so far.
    pub told: Vec<Told>,
}

impl Objects {
    /// Puts an object in place as it is, but with a new `resourceVersion`; a uid and a time of creation are given to one
    /// that has none.
    ///
    /// # Panics
    /// When the value is no object.
    pub fn put(&mut self, of: GroupResource<'_>, mut new: Value) {
        self.revision += 1;
        let revision = self.revision;
        object::default(&mut new, "metadata", json!({}));
        let meta = object::metadata(&mut new);
        meta.insert("resourceVersion".to_owned(), revision.to_string().into());
        meta.entry("uid").or_insert_with(|| format!("uid-{revision}").into());
        meta.entry("creationTimestamp").or_insert_with(|| "2026-01-01T00:00:00Z".into());
        meta.entry("generation").or_insert_with(|| 1.into());
        self.show(of, Arc::new(new));
    }

    /// Puts an object in place exactly as it is.
    pub fn show(&mut self, of: GroupResource<'_>, object: Arc<Value>) {
        let plurals = self.objects.entry(of.group.to_owned()).or_default();
        let namespaces = plurals.entry(of.resource.to_owned()).or_default();
        let names = namespaces.entry(object::namespace(&object).to_owned()).or_default();
        names.insert(object::name(&object).to_owned(), object);
    }

    fn of(&self, of: GroupResource<'_>) -> Option<&Of> {
        self.objects.get(of.group)?.get(of.resource)
    }

    /// Each object with its group and plural.
    fn all(&self) -> impl Iterator<Item = (&str, &str, &Arc<Value>)> {
        self.objects.iter().flat_map(|(group, plurals)| {
            plurals.iter().flat_map(move |(plural, namespaces)| {
                namespaces
                    .values()
                    .flatten()
                    .map(move |(_, object)| (group.as_str(), plural.as_str(), object))
            })
        })
    }

    /// What is different here from an earlier state.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<Changed> {
        let both = |(group, resource, object): (&str, &str, &Arc<Value>)| {
            let of = GroupResource { group, resource };
            let pair = [before, self].map(|o| o.get(of, object::namespace(object), object::name(object)));
            (group.to_owned(), resource.to_owned(), pair)
        };
        let gone = before.all().map(both).filter(|(.., [_, new])| new.is_none());
        gone.chain(self.all().map(both)).filter(|(.., [old, new])| old != new).collect()
    }

    /// Takes an object away, whatever its finalizers say.
    pub fn remove(&mut self, of: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.revision += 1;
        self.objects.get_mut(of.group)?.get_mut(of.resource)?.get_mut(namespace)?.remove(name)
    }

    /// Changes an object in place; whether there is one.
    pub fn change(
        &mut self,
        of: GroupResource<'_>,
        namespace: &str,
        name: &str,
        how: impl FnOnce(&mut Value),
    ) -> bool {
        let Some(old) = self.get(of, namespace, name) else { return false };
        let mut new = (*old).clone();
        how(&mut new);
        self.put(of, new);
        true
    }

    /// Does what a mutation asks for.
    ///
    /// # Errors
    /// As an API server answers: the object is there already, is not there, has changed, is another one.
    pub fn apply(&mut self, mutation: &Mutation, now: Timestamp) -> Result<(), Status> {
        match mutation {
            Mutation::Create(resource, new) => self.create(resource, new.clone(), now),
            Mutation::Update(resource, sub, new) => {
                let old = self.found(resource, object::namespace(new), object::name(new))?;
                self.replace(resource, *sub, &old, new.clone())
            }
            Mutation::Merge(resource, (namespace, name), sub, patch) => {
                let old = self.found(resource, namespace, name)?;
                let mut new = (*old).clone();
                merge(&mut new, patch);
                if object::at(patch, &["metadata", "uid"]).is_some_and(|uid| *uid != old["metadata"]["uid"]) {
                    return Err(Status::conflict(resource.group_resource(), name, "the UID differs"));
                }
                self.replace(resource, *sub, &old, new)
            }
            Mutation::Delete(resource, (namespace, name), options) => {
                let old = self.found(resource, namespace, name)?;
                for member in ["uid", "resourceVersion"] {
                    let wanted = object::text(options, &["preconditions", member]);
                    if !wanted.is_empty() && wanted != object::text(&old, &["metadata", member]) {
                        return Err(Status::conflict(resource.group_resource(), name, "it is another one"));
                    }
                }
                self.delete(resource, &old, options, now);
                Ok(())
            }
            Mutation::Post(resource, (namespace, name), sub, body) => {
                let old = self.found(resource, namespace, name)?;
                match *sub {
                    "binding" => {
                        let mut new = (*old).clone();
                        new["spec"]["nodeName"] = body["target"]["name"].clone();
                        self.put(resource.group_resource(), new);
                    }
                    "eviction" => self.delete(resource, &old, &body["deleteOptions"], now),
                    _ => return Err(Status::no_route()),
                }
                Ok(())
            }
            Mutation::Clear(resource, namespace) => {
                for old in self.list(resource.group_resource(), namespace) {
                    self.delete(resource, &old, &Value::Null, now);
                }
                Ok(())
            }
            Mutation::If(condition) if self.holds(condition) => Ok(()),
            Mutation::If(_) => {
                Err(Status::conflict(GroupResource { group: "", resource: "" }, "", "it is not so"))
            }
            Mutation::Sign(_) | Mutation::Token(_) => Ok(()),
            Mutation::Event(of, kind, reason, message) => {
                let of = format!("{}/{}", object::text(of, &["kind"]), object::name(of));
                self.told.push((of, kind, reason, message.clone()));
                Ok(())
            }
        }
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Absent(resource, (namespace, name), _) if name.is_empty() => {
                self.list(resource.group_resource(), namespace).is_empty()
            }
            Condition::Absent(resource, (namespace, name), uid) => {
                let found = self.get(resource.group_resource(), namespace, name);
                found.is_none_or(|found| uid.as_ref().is_some_and(|uid| uid != object::uid(&found)))
            }
            Condition::Allowed(_) => true,
        }
    }

    fn found(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<Value>, Status> {
        let of = resource.group_resource();
        self.get(of, namespace, name).ok_or_else(|| Status::not_found(of, name))
    }

    fn create(&mut self, resource: &Resource, mut new: Value, now: Timestamp) -> Result<(), Status> {
        let of = resource.group_resource();
        let (namespace, name) = (object::namespace(&new), object::name(&new));
        if self.get(of, namespace, name).is_some() {
            return Err(Status::already_exists(of, name));
        }
        new["apiVersion"] = resource.api_version().into();
        new["kind"] = resource.kind.into();
        let meta = object::metadata(&mut new);
        for (key, value) in [("creationTimestamp", Value::from(seconds(now))), ("generation", 1.into())] {
            meta.insert(key.to_owned(), value);
        }
        meta.remove("uid");
        if of.resource == "pods" {
            object::default(&mut new, "status", json!({"phase": "Pending"}));
        }
        self.put(of, new);
        Ok(())
    }

    fn replace(
        &mut self,
        resource: &Resource,
        sub: Option<&str>,
        old: &Value,
        mut new: Value,
    ) -> Result<(), Status> {
        let of = resource.group_resource();
        let revision = object::text(&new, &["metadata", "resourceVersion"]);
        if !revision.is_empty() && revision != object::text(old, &["metadata", "resourceVersion"]) {
            return Err(Status::conflict(of, object::name(old), "the object has been modified"));
        }
        let has_status = resource.subresource("status").is_some();
        match sub {
            Some("status") => copy(old, &mut new, "spec"),
            Some(part) => {
                let part = match part {
                    "finalize" | "scale" => "spec",
                    "approval" => "status",
                    part => part,
                };
                let value = new[part].take();
                new = old.clone();
                new[part] = value;
            }
            None if has_status => copy(old, &mut new, "status"),
            None => {}
        }
        for member in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            copy(&old["metadata"], &mut new["metadata"], member);
        }
        new["metadata"]["generation"] = old["metadata"]["generation"].clone();
        if of.resource != "pods" && new.get("spec") != old.get("spec") {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
            new["metadata"]["generation"] = (generation + 1).into();
        }
        if new == *old {
            return Ok(());
        }
        let kept = object::items(&new, &["metadata", "finalizers"]).next().is_some()
            || of.resource == "namespaces" && object::items(&new, &["spec", "finalizers"]).next().is_some();
        let waits = object::at(&new, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
        if object::is_terminating(&new) && !kept && waits.is_none_or(|seconds| seconds == 0) {
            self.remove(of, object::namespace(old), object::name(old));
        } else {
            self.put(of, new);
        }
        Ok(())
    }

    fn delete(&mut self, resource: &Resource, old: &Value, options: &Value, now: Timestamp) {
        let of = resource.group_resource();
        let asked = object::at(options, &["gracePeriodSeconds"]).and_then(Value::as_i64);
        let grace = match of.resource {
            "pods" if object::text(old, &["spec", "nodeName"]).is_empty() => 0,
            "pods" if matches!(object::text(old, &["status", "phase"]), "Succeeded" | "Failed") => 0,
            "pods" => asked.unwrap_or(30),
            _ => 0,
        };
        let policy = match object::text(options, &["propagationPolicy"]) {
            "Foreground" => Some("foregroundDeletion"),
            "Orphan" => Some("orphan"),
            _ => None,
        };
        let mut finalizers: Vec<&str> =
            object::items(old, &["metadata", "finalizers"]).filter_map(Value::as_str).collect();
        finalizers.extend(policy.filter(|policy| !finalizers.contains(policy)));
        if grace == 0 && finalizers.is_empty() {
            self.remove(of, object::namespace(old), object::name(old));
        } else if !object::is_terminating(old) || grace == 0 {
            let mut new = old.clone();
            if !finalizers.is_empty() {
                new["metadata"]["finalizers"] = json!(finalizers);
            }
            let meta = object::metadata(&mut new);
            meta.entry("deletionTimestamp").or_insert_with(|| seconds(now).into());
            meta.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
            self.put(of, new);
        }
    }
}

impl View for Objects {
    fn get(&self, of: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.of(of)?.get(namespace)?.get(name).cloned()
    }

    fn list(&self, of: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let Some(namespaces) = self.of(of) else { return Vec::new() };
        match namespace {
            "" => namespaces.values().flat_map(BTreeMap::values).cloned().collect(),
            _ => namespaces.get(namespace).into_iter().flat_map(BTreeMap::values).cloned().collect(),
        }
    }
}

/// As the API writes a time: whole seconds.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn copy(from: &Value, to: &mut Value, member: &str) {
    match object::at(from, &[member]) {
        Some(value) => to[member] = value.clone(),
        None => drop(to.as_object_mut().and_then(|to| to.remove(member))),
    }
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, value) in members {
        if value.is_null() {
            into.as_object_mut().expect("made above").remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}
