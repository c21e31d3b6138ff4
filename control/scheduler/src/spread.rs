//! Even spreading over the values of a label of the nodes.

use std::collections::BTreeMap;

use proto_kube::object::{self, at};
use proto_kube::view::View;
use proto_kube::{GroupResource, selector};

use crate::pod::{Pod, Spread};
use crate::select::Selector;
use crate::snapshot::{Node, Snapshot};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// How many like pods are at each value of the label.
type Counts = BTreeMap<String, i64>;

/// The constraints that a place must hold, with the counts they are judged by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hard(Vec<(Spread, Counts)>);

/// Why a node breaks a constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It has not the label.
    Label,
    /// There are too many like pods.
    Skew,
}

impl Hard {
    pub(crate) fn of(pod: &Pod, snapshot: &Snapshot) -> Self {
        let spreads: Vec<Spread> = pod.spreads.iter().filter(|s| s.is_hard).cloned().collect();
        let mut counts = vec![Counts::new(); spreads.len()];
        for node in snapshot.nodes() {
            if !has_labels(node, &spreads) {
                continue;
            }
            for (spread, counts) in spreads.iter().zip(&mut counts) {
                if let Some(value) = node.labels.get(&spread.topology_key)
                    && counts_node(spread, pod, node)
                {
                    *counts.entry(value.clone()).or_default() += like(node, spread, &pod.namespace);
                }
            }
        }
        Self(spreads.into_iter().zip(counts).collect())
    }

    /// Another pod comes to a node (1) or leaves it (-1).
    pub(crate) fn change(&mut self, pod: &Pod, other: &Pod, node: &Node, by: i64) {
        let all = self.0.iter().all(|(spread, _)| node.labels.contains_key(&spread.topology_key));
        if other.namespace != pod.namespace || !all {
            return;
        }
        for (spread, counts) in &mut self.0 {
            if spread.selector.admits(&other.labels) && counts_node(spread, pod, node) {
                *counts.entry(node.labels[&spread.topology_key].clone()).or_default() += by;
            }
        }
    }

    pub(crate) fn check(&self, pod: &Pod, node: &Node) -> Option<Broken> {
        self.0.iter().find_map(|(spread, counts)| {
            let Some(value) = node.labels.get(&spread.topology_key) else { return Some(Broken::Label) };
            let domains = i64::try_from(counts.len()).unwrap_or(i64::MAX);
            let least = counts.values().min().copied().unwrap_or(i64::from(i32::MAX));
            let least = if domains < spread.min_domains { 0 } else { least };
            let itself = i64::from(spread.selector.admits(&pod.labels));
            let here = counts.get(value).copied().unwrap_or_default();
            (here + itself - least > spread.max_skew).then_some(Broken::Skew)
        })
    }
}

/// The wishes of a pod, or those of everybody where it has none of its own, with what its nodes are judged by.
pub(crate) struct Soft {
    spreads: Vec<Spread>,
    counts: Vec<Counts>,
    weights: Vec<f64>,
    /// Whether a node without one of the labels is left out.
    by_all_labels: bool,
}

impl Soft {
    /// For the choice among `nodes`; nothing where there is nothing to wish.
    pub(crate) fn of(pod: &Pod, snapshot: &Snapshot, view: &dyn View, nodes: &[&Node]) -> Option<Self> {
        let by_all_labels = !pod.spreads.is_empty();
        let spreads: Vec<Spread> = match by_all_labels {
            true => pod.spreads.iter().filter(|s| !s.is_hard).cloned().collect(),
            false => usual(pod, view),
        };
        if spreads.is_empty() {
            return None;
        }
        let mut counts = vec![Counts::new(); spreads.len()];
        let counted: Vec<&&Node> =
            nodes.iter().filter(|node| !by_all_labels || has_labels(node, &spreads)).collect();
        for node in &counted {
            for (spread, counts) in
                spreads.iter().zip(&mut counts).filter(|(s, _)| s.topology_key != HOSTNAME)
            {
                counts.entry(node.labels.get(&spread.topology_key).cloned().unwrap_or_default()).or_default();
            }
        }
        let size = |(spread, counts): (&Spread, &Counts)| {
            if spread.topology_key == HOSTNAME { counted.len() } else { counts.len() }
        };
        let weights = spreads.iter().zip(&counts).map(size).map(|size| ((size + 2) as f64).ln()).collect();
        for node in snapshot.nodes() {
            if by_all_labels && !has_labels(node, &spreads) {
                continue;
            }
            for (spread, counts) in spreads.iter().zip(&mut counts) {
                let value = node.labels.get(&spread.topology_key).map_or("", String::as_str);
                if let Some(count) = counts.get_mut(value)
                    && counts_node(spread, pod, node)
                {
                    *count += like(node, spread, &pod.namespace);
                }
            }
        }
        Some(Self { spreads, counts, weights, by_all_labels })
    }

    /// The more the worse; nothing for a node that is left out.
    pub(crate) fn score(&self, pod: &Pod, node: &Node) -> Option<i64> {
        if self.by_all_labels && !has_labels(node, &self.spreads) {
            return None;
        }
        let mut score = 0.0;
        for ((spread, counts), weight) in self.spreads.iter().zip(&self.counts).zip(&self.weights) {
            let Some(value) = node.labels.get(&spread.topology_key) else { continue };
            let count = match spread.topology_key.as_str() {
                HOSTNAME => like(node, spread, &pod.namespace),
                _ => counts.get(value).copied().unwrap_or_default(),
            };
            score += count as f64 * weight + (spread.max_skew - 1) as f64;
        }
        Some(whole(score))
    }

    /// From the more the worse to the more the better, of a hundred.
    pub(crate) fn normalize(scores: &[Option<i64>]) -> Vec<i64> {
        let (least, most) = (scores.iter().flatten().min(), scores.iter().flatten().max());
        let of = |score: &Option<i64>| match (score, least, most) {
            (Some(_), _, Some(0)) => 100,
            (Some(score), Some(least), Some(most)) => 100 * (most + least - score) / most,
            _ => 0,
        };
        scores.iter().map(of).collect()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a score is some thousands at most")]
fn whole(score: f64) -> i64 {
    score.round() as i64
}

fn has_labels(node: &Node, spreads: &[Spread]) -> bool {
    spreads.iter().all(|spread| node.labels.contains_key(&spread.topology_key))
}

/// Whether the pods on a node count.
fn counts_node(spread: &Spread, pod: &Pod, node: &Node) -> bool {
    let tolerated = |taint| pod.tolerations.iter().any(|t| t.admits(taint));
    (!spread.by_affinity || pod.node_affinity.admits(&node.name, &node.labels))
        && (!spread.by_taints || node.taints.iter().filter(|t| t.is_hard()).all(tolerated))
}

/// How many pods on a node are selected.
fn like(node: &Node, spread: &Spread, namespace: &str) -> i64 {
    if spread.selector.is_empty() {
        return 0;
    }
    let counts = |pod: &&std::sync::Arc<Pod>| {
        !pod.is_terminating && pod.namespace == namespace && spread.selector.admits(&pod.labels)
    };
    i64::try_from(node.pods().filter(counts).count()).unwrap_or(i64::MAX)
}

/// What is wished for pods that wish nothing: that those of a workload or a service are on many nodes and zones.
fn usual(pod: &Pod, view: &dyn View) -> Vec<Spread> {
    let selector = siblings(pod, view);
    if selector.is_empty() {
        return Vec::new();
    }
    let spread = |key: &str, max_skew| Spread {
        max_skew,
        topology_key: key.to_owned(),
        selector: selector.clone(),
        min_domains: 1,
        by_affinity: true,
        by_taints: false,
        is_hard: false,
    };
    vec![spread(HOSTNAME, 3), spread(ZONE, 5)]
}

/// Selects the pods of the same services and the same controller.
fn siblings(pod: &Pod, view: &dyn View) -> Selector {
    let of = |group: &'static str, resource: &'static str| GroupResource { group, resource };
    let mut labels = serde_json::Map::new();
    for service in view.list(of("", "services"), &pod.namespace) {
        let Some(wanted) = at(&service, &["spec", "selector"]) else { continue };
        let admits = selector::Labels::of_map(wanted).admits(|key| pod.labels.get(key).map(String::as_str));
        if let (true, Some(wanted)) = (admits, wanted.as_object()) {
            labels.extend(wanted.clone());
        }
    }
    let owner = object::controller(&pod.object);
    let found = |group, resource| {
        let name = owner.map(|owner| owner.name).unwrap_or_default();
        view.get(of(group, resource), &pod.namespace, name)
    };
    let mut selector = Selector::default();
    match owner.map(|owner| (owner.api_version, owner.kind)) {
        Some(("v1", "ReplicationController")) => {
            if let Some(owner) = found("", "replicationcontrollers")
                && let Some(wanted) = owner["spec"]["selector"].as_object()
            {
                labels.extend(wanted.clone());
            }
        }
        Some(("apps/v1", kind @ ("ReplicaSet" | "StatefulSet"))) => {
            let plural = if kind == "ReplicaSet" { "replicasets" } else { "statefulsets" };
            if let Some(owner) = found("apps", plural) {
                selector.and(at(&owner, &["spec", "selector"]));
            }
        }
        _ => {}
    }
    selector.and_map(&labels.into());
    selector
}
