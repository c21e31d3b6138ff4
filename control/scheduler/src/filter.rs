//! Which nodes can take a pod, and why the others cannot: in upstream's order and words.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto_kube::view::View;

use crate::near;
use crate::pod::Pod;
use crate::select::Taint;
use crate::snapshot::{Node, Snapshot};
use crate::spread;
use crate::volume::Volumes;

/// What a node is judged by, under upstream's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// The node takes no new pods.
    NodeUnschedulable,
    /// The pod wants a node of a name.
    NodeName,
    /// Its taints.
    TaintToleration,
    /// Its labels.
    NodeAffinity,
    /// Its ports.
    NodePorts,
    /// What is left of its resources.
    NodeResourcesFit,
    /// Claims that one pod uses alone.
    VolumeRestrictions,
    /// Where the pod's volumes are.
    VolumeBinding,
    /// The zones of the pod's volumes.
    VolumeZone,
    /// Even spreading.
    PodTopologySpread,
    /// The pods near it.
    InterPodAffinity,
}

/// Why a node cannot take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// By what.
    pub filter: Filter,
    /// In upstream's words; several where several resources are missing.
    pub words: Vec<String>,
    /// Whether it could, if other pods went away.
    pub by_pods: bool,
}

impl Reason {
    fn new(filter: Filter, words: &str, by_pods: bool) -> Self {
        Self { filter, words: vec![words.to_owned()], by_pods }
    }
}

/// What is known of an attempt to place a pod, before any node is looked at.
#[derive(Clone)]
pub(crate) struct Attempt<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) view: &'a dyn View,
    volumes: Arc<Volumes>,
    spread: spread::Hard,
    near: near::Required,
}

/// A pod that can go nowhere, whatever the nodes are like.
pub(crate) struct Nowhere {
    pub(crate) filter: Filter,
    pub(crate) words: String,
}

impl<'a> Attempt<'a> {
    /// # Errors
    /// When the pod can go nowhere.
    pub(crate) fn new(pod: &'a Pod, snapshot: &'a Snapshot, view: &'a dyn View) -> Result<Self, Nowhere> {
        if pod.node_affinity.names().is_some_and(|names| names.is_empty()) {
            let words = "pod affinity terms conflict".to_owned();
            return Err(Nowhere { filter: Filter::NodeAffinity, words });
        }
        let volumes = Volumes::of(pod, snapshot, view)
            .map_err(|words| Nowhere { filter: Filter::VolumeBinding, words })?;
        let near = near::Required::of(pod, snapshot, &near::namespaces(view));
        let spread = spread::Hard::of(pod, snapshot);
        Ok(Self { pod, snapshot, view, volumes: Arc::new(volumes), spread, near })
    }

    /// Another pod comes to a node (1) or leaves it (-1).
    pub(crate) fn change(&mut self, other: &Pod, node: &Node, by: i64) {
        self.spread.change(self.pod, other, node, by);
        self.near.change(self.pod, other, node, by, &near::namespaces(self.view));
    }

    /// Whether a node can take the pod, even when those as important that wait for room on it have come; and now.
    pub(crate) fn check(&self, node: &Node) -> Result<(), Reason> {
        let first = self.snapshot.nominated_to(&node.name);
        let first: Vec<_> =
            first.filter(|p| p.priority >= self.pod.priority && p.uid != self.pod.uid).collect();
        if !first.is_empty() {
            let (mut then, mut full) = (self.clone(), node.clone());
            for other in first {
                full.add(other.clone());
                then.change(other, node, 1);
            }
            then.check_now(&full)?;
        }
        self.check_now(node)
    }

    fn check_now(&self, node: &Node) -> Result<(), Reason> {
        let pod = self.pod;
        on_labels(pod, node)?;
        let taken = |port| node.pods().any(|other| other.ports.iter().any(|p| p.conflicts(port)));
        if pod.ports.iter().any(taken) {
            let words = "node(s) didn't have free ports for the requested pod ports";
            return Err(Reason::new(Filter::NodePorts, words, true));
        }
        fits(pod, node)?;
        if let Some(words) = self.volumes.in_use() {
            return Err(Reason::new(Filter::VolumeRestrictions, words, true));
        }
        let unavailable = self.volumes.unavailable(node);
        if !unavailable.is_empty() {
            let words = unavailable.into_iter().map(str::to_owned).collect();
            return Err(Reason { filter: Filter::VolumeBinding, words, by_pods: false });
        }
        if let Some(words) = self.volumes.out_of_zone(node) {
            return Err(Reason::new(Filter::VolumeZone, words, false));
        }
        self.spread(node)?;
        self.near(node)
    }

    fn spread(&self, node: &Node) -> Result<(), Reason> {
        let (words, by_pods) = match self.spread.check(self.pod, node) {
            None => return Ok(()),
            Some(spread::Broken::Label) => {
                ("node(s) didn't match pod topology spread constraints (missing required label)", false)
            }
            Some(spread::Broken::Skew) => ("node(s) didn't match pod topology spread constraints", true),
        };
        Err(Reason::new(Filter::PodTopologySpread, words, by_pods))
    }

    fn near(&self, node: &Node) -> Result<(), Reason> {
        let (words, by_pods) = match self.near.check(self.pod, node, &near::namespaces(self.view)) {
            None => return Ok(()),
            Some(near::Broken::Wanted) => ("node(s) didn't match pod affinity rules", false),
            Some(near::Broken::Avoided) => ("node(s) didn't match pod anti-affinity rules", true),
            Some(near::Broken::Unwelcome) => {
                ("node(s) didn't satisfy existing pods anti-affinity rules", true)
            }
        };
        Err(Reason::new(Filter::InterPodAffinity, words, by_pods))
    }
}

/// Whether a node can take a pod as far as only the node's own words count.
pub(crate) fn on_labels(pod: &Pod, node: &Node) -> Result<(), Reason> {
    let tolerates = |taint: &Taint| pod.tolerations.iter().any(|t| t.admits(taint));
    if node.is_unschedulable && !tolerates(&Taint::new("node.kubernetes.io/unschedulable", "", "NoSchedule"))
    {
        return Err(Reason::new(Filter::NodeUnschedulable, "node(s) were unschedulable", false));
    }
    if !pod.node.is_empty() && pod.node != node.name {
        return Err(Reason::new(Filter::NodeName, "node(s) didn't match the requested node name", false));
    }
    if node.taints.iter().any(|taint| taint.is_hard() && !tolerates(taint)) {
        return Err(Reason::new(Filter::TaintToleration, "node(s) had untolerated taint(s)", false));
    }
    if !pod.node_affinity.admits(&node.name, &node.labels) {
        let words = "node(s) didn't match Pod's node affinity/selector";
        return Err(Reason::new(Filter::NodeAffinity, words, false));
    }
    Ok(())
}

/// Whether a node has enough left for a pod.
pub(crate) fn fits(pod: &Pod, node: &Node) -> Result<(), Reason> {
    let (mut words, mut by_pods) = (Vec::new(), true);
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.pods_max {
        words.push("Too many pods".to_owned());
    }
    let (asked, has, used) = (&pod.requests, &node.allocatable, &node.requested);
    let mut check = |name: &str, asked: i64, has: i64, used: i64| {
        if asked > 0 && asked > has - used {
            words.push(format!("Insufficient {name}"));
            by_pods &= asked <= has;
        }
    };
    check("cpu", asked.cpu, has.cpu, used.cpu);
    check("memory", asked.memory, has.memory, used.memory);
    check("ephemeral-storage", asked.ephemeral_storage, has.ephemeral_storage, used.ephemeral_storage);
    for (name, amount) in &asked.scalar {
        check(name, *amount, has.scalar(name), used.scalar(name));
    }
    if words.is_empty() { Ok(()) } else { Err(Reason { filter: Filter::NodeResourcesFit, words, by_pods }) }
}

/// How often each reason was given: `1 Insufficient cpu, 2 node(s) were unschedulable.`, as upstream counts them.
pub(crate) fn histogram<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let mut parts: Vec<String> = counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    parts.sort();
    if parts.is_empty() { String::new() } else { format!(" {}.", parts.join(", ")) }
}
