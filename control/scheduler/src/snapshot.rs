//! The nodes with the pods on them, kept up as they change, so that a decision counts nothing anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proto_kube::GroupResource;
use proto_kube::object::{self, at, items, text};
use proto_kube::view::View;
use serde_json::Value;

use crate::amounts::Amounts;
use crate::pod::Pod;
use crate::select::{Labels, Taint, labels_of};

/// A node, and what is on it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: String,
    pub(crate) labels: Labels,
    pub(crate) taints: Vec<Taint>,
    pub(crate) is_unschedulable: bool,
    /// What it has for pods.
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub pods_max: i64,
    /// Its images' sizes in bytes, by each of their names.
    pub(crate) images: HashMap<String, i64>,
    /// What its pods hold.
    pub requested: Amounts,
    pub(crate) estimated: Amounts,
    /// By uid.
    pub(crate) pods: BTreeMap<String, Arc<Pod>>,
}

impl Node {
    fn new(node: &Value) -> Self {
        let allocatable = &node["status"]["allocatable"];
        let image = |image: &Value| {
            let size = image["sizeBytes"].as_i64().unwrap_or_default();
            let names = items(image, &["names"]).filter_map(Value::as_str);
            names.map(|name| (name.to_owned(), size)).collect::<Vec<_>>()
        };
        Self {
            name: object::name(node).to_owned(),
            labels: labels_of(node),
            taints: items(node, &["spec", "taints"]).map(Taint::of).collect(),
            is_unschedulable: node["spec"]["unschedulable"] == true,
            allocatable: Amounts::of(allocatable),
            pods_max: proto_kube::quantity::Quantity::of(&allocatable["pods"]).amount.units(),
            images: items(node, &["status", "images"]).flat_map(image).collect(),
            requested: Amounts::default(),
            estimated: Amounts::default(),
            pods: BTreeMap::new(),
        }
    }

    /// The pods on it, those that are only on their way among them.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    pub(crate) fn add(&mut self, pod: Arc<Pod>) {
        self.remove(&pod.uid);
        self.requested.add(&pod.held);
        self.estimated.add(&pod.estimated);
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub(crate) fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let pod = self.pods.remove(uid)?;
        self.requested.subtract(&pod.held);
        self.estimated.subtract(&pod.estimated);
        Some(pod)
    }
}

/// All nodes and the pods that are, or are about to be, on them.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, Node>,
    /// Pods whose node is not known, by its name.
    strays: BTreeMap<String, BTreeMap<String, Arc<Pod>>>,
    /// Where each pod is, by uid.
    places: HashMap<String, String>,
    /// How many nodes have an image, by its name.
    images: HashMap<String, i64>,
    /// How many pods of a node or an attempt have terms about other pods.
    with_affinity: usize,
    /// Pods that wait for room on a node, by its name and their uid.
    nominated: BTreeMap<String, BTreeMap<String, Arc<Pod>>>,
    /// How many pods use a claim, by its namespace and name.
    claims: HashMap<(String, String), usize>,
}

impl Snapshot {
    /// The cluster as a view shows it.
    #[must_use]
    pub fn of(view: &dyn View) -> Self {
        let all = |resource| view.list(GroupResource { group: "", resource }, "");
        let mut snapshot = Self::default();
        all("nodes").iter().for_each(|node| snapshot.set_node(node));
        for pod in all("pods").into_iter().map(|pod| Arc::new(Pod::new(pod))).filter(|pod| !pod.is_over()) {
            match (pod.node.clone(), pod.nominated.clone()) {
                (node, _) if !node.is_empty() => snapshot.set_pod(pod, &node),
                (_, nominated) => snapshot.nominate(&pod, &nominated),
            }
        }
        snapshot
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }

    /// A node by its name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Where a pod is, or is about to be; by its uid.
    #[must_use]
    pub fn place_of(&self, uid: &str) -> Option<&str> {
        self.places.get(uid).map(String::as_str)
    }

    /// A node is there or has changed.
    pub fn set_node(&mut self, object: &Value) {
        let mut node = Node::new(object);
        let pods = match self.nodes.remove(&node.name) {
            Some(old) => {
                self.count_images(&old, -1);
                old.pods
            }
            None => self.strays.remove(&node.name).unwrap_or_default(),
        };
        pods.into_values().for_each(|pod| node.add(pod));
        self.count_images(&node, 1);
        self.nodes.insert(node.name.clone(), node);
    }

    /// A node is gone; its pods are known until they are gone too.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(old) = self.nodes.remove(name) {
            self.count_images(&old, -1);
            if !old.pods.is_empty() {
                self.strays.insert(name.to_owned(), old.pods);
            }
        }
    }

    fn count_images(&mut self, node: &Node, sign: i64) {
        for name in node.images.keys() {
            let count = self.images.entry(name.clone()).or_default();
            *count += sign;
            if *count == 0 {
                self.images.remove(name);
            }
        }
    }

    /// A pod is on the node, or about to be there.
    pub fn set_pod(&mut self, pod: Arc<Pod>, node: &str) {
        self.remove_pod(&pod.uid);
        self.places.insert(pod.uid.clone(), node.to_owned());
        self.with_affinity += usize::from(pod.has_affinity());
        for (claim, _) in &pod.claims {
            *self.claims.entry((pod.namespace.clone(), claim.clone())).or_default() += 1;
        }
        match self.nodes.get_mut(node) {
            Some(node) => node.add(pod),
            None => {
                self.strays.entry(node.to_owned()).or_default().insert(pod.uid.clone(), pod);
            }
        }
    }

    /// A pod is gone, or over, or goes elsewhere.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let place = self.places.remove(uid)?;
        let pod = match self.nodes.get_mut(&place) {
            Some(node) => node.remove(uid),
            None => self.strays.get_mut(&place).and_then(|pods| pods.remove(uid)),
        }?;
        self.strays.retain(|_, pods| !pods.is_empty());
        self.with_affinity -= usize::from(pod.has_affinity());
        for (claim, _) in &pod.claims {
            let key = (pod.namespace.clone(), claim.clone());
            if let Some(count) = self.claims.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.claims.remove(&key);
                }
            }
        }
        Some(pod)
    }

    /// A pod waits for room on a node; for none, when it is empty.
    pub fn nominate(&mut self, pod: &Arc<Pod>, node: &str) {
        self.forget_nomination(&pod.uid);
        if !node.is_empty() {
            self.nominated.entry(node.to_owned()).or_default().insert(pod.uid.clone(), pod.clone());
        }
    }

    /// A pod waits for no node any more.
    pub fn forget_nomination(&mut self, uid: &str) {
        self.nominated.retain(|_, pods| {
            pods.remove(uid);
            !pods.is_empty()
        });
    }

    /// The node that a pod waits for room on.
    #[must_use]
    pub fn nomination_of(&self, uid: &str) -> Option<&str> {
        self.nominated.iter().find(|(_, pods)| pods.contains_key(uid)).map(|(node, _)| node.as_str())
    }

    /// The pods that wait for room on a node.
    pub fn nominated_to(&self, node: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.nominated.get(node).into_iter().flat_map(BTreeMap::values)
    }

    pub(crate) fn has_affinity(&self) -> bool {
        self.with_affinity > 0
    }

    /// On how many nodes an image is.
    pub(crate) fn spread_of(&self, image: &str) -> i64 {
        self.images.get(image).copied().unwrap_or_default()
    }

    /// Whether any pod that has a node uses a claim.
    pub(crate) fn is_claimed(&self, namespace: &str, claim: &str) -> bool {
        self.claims.contains_key(&(namespace.to_owned(), claim.to_owned()))
    }

    /// Whether what matters for placing pods differs between two states of a node.
    #[must_use]
    pub fn differs(old: &Value, new: &Value) -> bool {
        let same = |path: &[&str]| at(old, path) == at(new, path);
        let ready = |node: &Value| {
            let ready = items(node, &["status", "conditions"]).find(|c| c["type"] == "Ready");
            ready.map(|c| text(c, &["status"]).to_owned())
        };
        !(same(&["metadata", "labels"])
            && same(&["spec"])
            && same(&["status", "allocatable"])
            && same(&["status", "images"])
            && ready(old) == ready(new))
    }
}
