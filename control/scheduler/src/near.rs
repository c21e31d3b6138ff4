//! Pods that want to be near other pods, or away from them.

use std::collections::HashMap;
use std::sync::Arc;

use proto_kube::GroupResource;
use proto_kube::view::View;

use crate::pod::Pod;
use crate::select::{Labels, Term, labels_of};
use crate::snapshot::{Node, Snapshot};

/// How many pods speak of a value of a label: by label and value.
type Counts = HashMap<(String, String), i64>;

/// What a required term counts for when it is another pod's wish.
const REQUIRED_WEIGHT: i64 = 1;

/// The labels of namespaces.
pub(crate) fn namespaces(view: &dyn View) -> impl Fn(&str) -> Labels {
    |name| {
        let found = view.get(GroupResource { group: "", resource: "namespaces" }, "", name);
        found.map(|namespace| labels_of(&namespace)).unwrap_or_default()
    }
}

fn count(counts: &mut Counts, node: &Node, key: &str, by: i64) {
    let Some(value) = node.labels.get(key) else { return };
    let entry = counts.entry((key.to_owned(), value.clone())).or_default();
    *entry += by;
    if *entry == 0 {
        counts.remove(&(key.to_owned(), value.clone()));
    }
}

/// Required terms, and what they are judged by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Required {
    /// Pods that do not want this one near.
    unwelcome: Counts,
    /// Pods that this one wants near: those of which all terms speak.
    wanted: Counts,
    /// Pods that this one does not want near.
    avoided: Counts,
}

/// Why a node is not near enough, or too near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// No wanted pod is near.
    Wanted,
    /// An avoided one is.
    Avoided,
    /// One that avoids this one is.
    Unwelcome,
}

impl Required {
    pub(crate) fn of(pod: &Pod, snapshot: &Snapshot, labels: &dyn Fn(&str) -> Labels) -> Self {
        let mut all = Self::default();
        if pod.near.is_empty() && pod.away.is_empty() && !snapshot.has_affinity() {
            return all;
        }
        for node in snapshot.nodes() {
            for other in node.pods() {
                all.change(pod, other, node, 1, labels);
            }
        }
        all
    }

    /// Another pod comes to a node (1) or leaves it (-1).
    pub(crate) fn change(
        &mut self,
        pod: &Pod,
        other: &Pod,
        node: &Node,
        by: i64,
        labels: &dyn Fn(&str) -> Labels,
    ) {
        for term in other.away.iter().filter(|t| t.admits(&pod.namespace, &pod.labels, labels)) {
            count(&mut self.unwelcome, node, &term.topology_key, by);
        }
        if all_admit(&pod.near, other, labels) {
            for term in &pod.near {
                count(&mut self.wanted, node, &term.topology_key, by);
            }
        }
        for term in pod.away.iter().filter(|t| t.admits(&other.namespace, &other.labels, labels)) {
            count(&mut self.avoided, node, &term.topology_key, by);
        }
    }

    pub(crate) fn check(&self, pod: &Pod, node: &Node, labels: &dyn Fn(&str) -> Labels) -> Option<Broken> {
        if !self.has_wanted(pod, node, labels) {
            return Some(Broken::Wanted);
        }
        let at = |counts: &Counts, key: &String| {
            let value = node.labels.get(key);
            value.is_some_and(|value| counts.get(&(key.clone(), value.clone())).is_some_and(|n| *n > 0))
        };
        if pod.away.iter().any(|term| at(&self.avoided, &term.topology_key)) {
            return Some(Broken::Avoided);
        }
        let unwelcome = !self.unwelcome.is_empty() && node.labels.keys().any(|key| at(&self.unwelcome, key));
        unwelcome.then_some(Broken::Unwelcome)
    }

    fn has_wanted(&self, pod: &Pod, node: &Node, labels: &dyn Fn(&str) -> Labels) -> bool {
        let mut all = true;
        for term in &pod.near {
            let Some(value) = node.labels.get(&term.topology_key) else { return false };
            all &= self.wanted.get(&(term.topology_key.clone(), value.clone())).is_some_and(|n| *n > 0);
        }
        // The first of pods that want each other.
        all || (self.wanted.is_empty() && all_admit(&pod.near, pod, labels))
    }
}

fn all_admit(terms: &[Term], pod: &Pod, labels: &dyn Fn(&str) -> Labels) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.admits(&pod.namespace, &pod.labels, labels))
}

/// How good each value of each label is by the wishes of all; nothing where nobody wishes anything.
pub(crate) fn wishes(
    pod: &Pod,
    snapshot: &Snapshot,
    labels: &dyn Fn(&str) -> Labels,
) -> Option<HashMap<(String, String), i64>> {
    let has_wishes = !(pod.near_preferred.is_empty() && pod.away_preferred.is_empty());
    if !has_wishes && !snapshot.has_affinity() {
        return None;
    }
    let mut good = Counts::new();
    let about = |other: &Arc<Pod>, term: &Term| term.admits(&other.namespace, &other.labels, labels);
    let about_pod = |term: &Term| term.admits(&pod.namespace, &pod.labels, labels);
    for node in snapshot.nodes() {
        for other in node.pods().filter(|other| has_wishes || other.has_affinity()) {
            let mut add = |term: &Term, weight| count(&mut good, node, &term.topology_key, weight);
            for (weight, term) in pod.near_preferred.iter().filter(|(_, t)| about(other, t)) {
                add(term, *weight);
            }
            for (weight, term) in pod.away_preferred.iter().filter(|(_, t)| about(other, t)) {
                add(term, -weight);
            }
            for term in other.near.iter().filter(|t| about_pod(t)) {
                add(term, REQUIRED_WEIGHT);
            }
            for (weight, term) in other.near_preferred.iter().filter(|(_, t)| about_pod(t)) {
                add(term, *weight);
            }
            for (weight, term) in other.away_preferred.iter().filter(|(_, t)| about_pod(t)) {
                add(term, -weight);
            }
        }
    }
    (!good.is_empty()).then_some(good)
}

/// What the wishes make of a node.
pub(crate) fn score(good: &HashMap<(String, String), i64>, node: &Node) -> i64 {
    node.labels.iter().filter_map(|(key, value)| good.get(&(key.clone(), value.clone()))).sum()
}
