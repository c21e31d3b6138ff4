//! The decision about one pod.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use proto_kube::view::View;

use crate::filter::{Attempt, Filter, Reason, histogram};
use crate::pod::Pod;
use crate::preempt::{self, Preemption};
use crate::score::scores;
use crate::snapshot::{Node, Snapshot};

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// To this node.
    Bind(String),
    /// Nowhere yet.
    Unschedulable(Refusal),
}

/// Why a pod goes nowhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// For people, in upstream's words: `0/3 nodes are available: 3 Insufficient cpu. preemption: …`
    pub message: String,
    /// What each node has against it; a node that is not named was left out by the pod's own affinity.
    pub by_node: BTreeMap<String, Reason>,
    /// By what it was refused anywhere: only a change of these can help.
    pub filters: BTreeSet<Filter>,
    /// Whom to send away to make room, and where; none where that would not help.
    pub preemption: Option<Preemption>,
    /// Whether it goes on waiting on the node where it was promised room before.
    pub waits: bool,
}

/// Decides where a pod goes. The pods that are placed already are in the snapshot; everything else is looked up in the
/// view: namespaces, services, the owners of pods, claims and volumes, disruption budgets.
#[must_use]
pub fn schedule(snapshot: &Snapshot, view: &dyn View, pod: &Pod) -> Decision {
    let count = snapshot.nodes().len();
    if count == 0 {
        let message = "no nodes available to schedule pods".to_owned();
        return Decision::Unschedulable(Refusal {
            message,
            by_node: BTreeMap::new(),
            filters: BTreeSet::new(),
            preemption: None,
            waits: true,
        });
    }
    let attempt = match Attempt::new(pod, snapshot, view) {
        Ok(attempt) => attempt,
        Err(nowhere) => {
            let message = format!("0/{count} nodes are available: {}.", nowhere.words);
            return refuse(snapshot, pod, message, BTreeMap::new(), BTreeSet::from([nowhere.filter]), None);
        }
    };
    let nominated =
        snapshot.nomination_of(&pod.uid).or(Some(pod.nominated.as_str())).and_then(|n| snapshot.node(n));
    if let Some(node) = nominated.filter(|node| attempt.check(node).is_ok()) {
        return Decision::Bind(node.name.clone());
    }
    let names = pod.node_affinity.names();
    let candidates =
        || snapshot.nodes().filter(|node| names.as_ref().is_none_or(|n| n.contains(node.name.as_str())));
    let (mut fit, mut by_node) = (Vec::new(), BTreeMap::new());
    for node in candidates() {
        match attempt.check(node) {
            Ok(()) => fit.push(node),
            Err(reason) => {
                by_node.insert(node.name.clone(), reason);
            }
        }
    }
    if let Some((best, _)) = ranked(pod, snapshot, view, fit).first() {
        return Decision::Bind(best.name.clone());
    }
    let left_out = count - by_node.len();
    let mut filters: BTreeSet<Filter> = by_node.values().map(|reason| reason.filter).collect();
    if names.is_some() {
        filters.insert(Filter::NodeAffinity);
    }
    let words = by_node.values().flat_map(|reason| reason.words.iter().map(String::as_str));
    let others = std::iter::repeat_n("node(s) didn't satisfy plugin(s) [NodeAffinity]", left_out);
    let message = format!("0/{count} nodes are available:{}", histogram(words.chain(others)));
    refuse(snapshot, pod, message, by_node, filters, Some(&attempt))
}

/// The refusal, with the way out where there is one.
fn refuse(
    snapshot: &Snapshot,
    pod: &Pod,
    mut message: String,
    by_node: BTreeMap<String, Reason>,
    filters: BTreeSet<Filter>,
    attempt: Option<&Attempt<'_>>,
) -> Decision {
    let (preemption, waits) = match preempt::preempt(snapshot, pod, &by_node, attempt) {
        Ok(preemption) => (Some(preemption), false),
        Err(helpless) => {
            message += &format!(" preemption: {}", helpless.words);
            (None, helpless.waits)
        }
    };
    Decision::Unschedulable(Refusal { message, by_node, filters, preemption, waits })
}

/// The nodes that can take a pod with their scores, the best first. Among equals the order depends on the pod, so that pods
/// share them.
#[must_use]
pub fn rank<'a>(snapshot: &'a Snapshot, view: &dyn View, pod: &Pod) -> Vec<(&'a Node, i64)> {
    let Ok(attempt) = Attempt::new(pod, snapshot, view) else { return Vec::new() };
    let fit = snapshot.nodes().filter(|node| attempt.check(node).is_ok()).collect();
    ranked(pod, snapshot, view, fit)
}

fn ranked<'a>(pod: &Pod, snapshot: &Snapshot, view: &dyn View, fit: Vec<&'a Node>) -> Vec<(&'a Node, i64)> {
    let lot = |node: &Node| {
        let mut hasher = DefaultHasher::new();
        (&pod.uid, &node.name).hash(&mut hasher);
        hasher.finish()
    };
    // Who is alone need not be measured.
    let scores = if fit.len() > 1 { scores(pod, snapshot, view, &fit) } else { vec![0; fit.len()] };
    let mut ranked: Vec<_> = fit.into_iter().zip(scores).collect();
    ranked.sort_by_cached_key(|(node, score)| Reverse((*score, lot(node))));
    ranked
}

#[cfg(test)]
mod tests;
