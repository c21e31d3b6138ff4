//! The node authorizer: a node may read what the pods on it need, and nothing else of the kind.

mod authorize;
mod references;

use std::collections::{BTreeSet, HashMap};

use proto_kube::{GroupResource, object};
use serde_json::Value;

use crate::rbac::Rule;
use references::{Kind, Reference};

const STORAGE: &str = "storage.k8s.io";

/// Which objects belong to which nodes, through the pods that run there. Taking in one object costs what it refers to.
#[derive(Debug)]
pub struct Graph {
    /// What each pod that has a node needs.
    pods: HashMap<Key, Pod>,
    /// How many pods of a node need an object.
    needed: HashMap<Reference, HashMap<String, usize>>,
    /// What each volume leads to.
    volumes: HashMap<String, Volume>,
    /// The volumes that need a secret.
    volumes_of: HashMap<Key, BTreeSet<String>>,
    /// The node of each attachment.
    attachments: HashMap<String, String>,
    rules: Vec<Rule>,
}

/// Namespace and name.
type Key = (String, String);

#[derive(Debug)]
struct Pod {
    node: String,
    needs: BTreeSet<Reference>,
}

#[derive(Debug)]
struct Volume {
    claim: Key,
    secrets: BTreeSet<Key>,
}

impl Default for Graph {
    fn default() -> Self {
        Self {
            pods: HashMap::new(),
            needed: HashMap::new(),
            volumes: HashMap::new(),
            volumes_of: HashMap::new(),
            attachments: HashMap::new(),
            rules: crate::bootstrap::node_rules(),
        }
    }
}

impl Graph {
    /// Takes in an object as it now is. Pods, PersistentVolumes and VolumeAttachments count; others are ignored.
    pub fn put(&mut self, resource: GroupResource<'_>, object: &Value) {
        let (namespace, name) = (object::namespace(object), object::name(object));
        let text = |path: &[&str]| object::text(object, path).to_owned();
        match (resource.group, resource.resource) {
            ("", "pods") => {
                let node = text(&["spec", "nodeName"]);
                self.remove(resource, namespace, name);
                if node.is_empty() {
                    return;
                }
                let needs = references::of_pod(object);
                for need in &needs {
                    *self.needed.entry(need.clone()).or_default().entry(node.clone()).or_default() += 1;
                }
                self.pods.insert((namespace.to_owned(), name.to_owned()), Pod { node, needs });
            }
            ("", "persistentvolumes") => {
                self.remove(resource, "", name);
                let claim = (text(&["spec", "claimRef", "namespace"]), text(&["spec", "claimRef", "name"]));
                if claim.1.is_empty() {
                    return;
                }
                let secrets = references::secrets_of_volume(object);
                for secret in &secrets {
                    self.volumes_of.entry(secret.clone()).or_default().insert(name.to_owned());
                }
                self.volumes.insert(name.to_owned(), Volume { claim, secrets });
            }
            (STORAGE, "volumeattachments") => {
                self.attachments.insert(name.to_owned(), text(&["spec", "nodeName"]));
            }
            _ => {}
        }
    }

    /// Forgets an object; the namespace is empty for a cluster-scoped one.
    pub fn remove(&mut self, resource: GroupResource<'_>, namespace: &str, name: &str) {
        match (resource.group, resource.resource) {
            ("", "pods") => {
                let Some(pod) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) else { return };
                for need in pod.needs {
                    let Some(nodes) = self.needed.get_mut(&need) else { continue };
                    if let Some(count) = nodes.get_mut(&pod.node) {
                        *count -= 1;
                        if *count == 0 {
                            nodes.remove(&pod.node);
                        }
                    }
                    if nodes.is_empty() {
                        self.needed.remove(&need);
                    }
                }
            }
            ("", "persistentvolumes") => {
                for secret in self.volumes.remove(name).into_iter().flat_map(|volume| volume.secrets) {
                    let Some(volumes) = self.volumes_of.get_mut(&secret) else { continue };
                    volumes.remove(name);
                    if volumes.is_empty() {
                        self.volumes_of.remove(&secret);
                    }
                }
            }
            (STORAGE, "volumeattachments") => drop(self.attachments.remove(name)),
            _ => {}
        }
    }

    /// Whether something on the node needs the object.
    fn leads(&self, kind: Kind, namespace: &str, name: &str, node: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let claimed = |volume: &str| {
            let claim = self.volumes.get(volume).map(|volume| &volume.claim);
            claim.is_some_and(|(namespace, name)| self.leads(Kind::Claim, namespace, name, node))
        };
        match kind {
            Kind::Pod => self.pods.get(&key).is_some_and(|pod| pod.node == node),
            Kind::Volume => claimed(name),
            Kind::Attachment => self.attachments.get(name).is_some_and(|at| at == node),
            Kind::Secret if self.volumes_of.get(&key).is_some_and(|v| v.iter().any(|v| claimed(v))) => true,
            kind => self.needed.get(&(kind, key.0, key.1)).is_some_and(|nodes| nodes.contains_key(node)),
        }
    }
}

#[cfg(test)]
mod tests;
