//! Whom to send away so that a more important pod has room.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::object::{self, at, items, text};
use proto_kube::{GroupResource, selector};

use crate::filter::{Attempt, Reason, histogram};
use crate::pod::Pod;
use crate::snapshot::Snapshot;

/// Room made for a pod.
#[derive(Debug, Clone)]
pub struct Preemption {
    /// Where.
    pub node: String,
    /// Who must go, the most important first.
    pub victims: Vec<Arc<Pod>>,
    /// Less important pods that wait for room on the same node, and must look elsewhere.
    pub displaced: Vec<Arc<Pod>>,
}

impl PartialEq for Preemption {
    fn eq(&self, other: &Self) -> bool {
        let uids = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>();
        self.node == other.node && uids(&self.victims) == uids(&other.victims)
    }
}

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// Why no room is made.
pub(crate) struct Helpless {
    /// In upstream's words.
    pub(crate) words: String,
    /// Whether the pod goes on waiting where it was promised room.
    pub(crate) waits: bool,
}

/// Finds the node where sending away the least important pods helps.
///
/// # Errors
/// Why it does not help.
pub(crate) fn preempt(
    snapshot: &Snapshot,
    pod: &Pod,
    by_node: &BTreeMap<String, Reason>,
    attempt: Option<&Attempt<'_>>,
) -> Result<Preemption, Helpless> {
    may_preempt(snapshot, pod, by_node).map_err(|words| Helpless { words: words.to_owned(), waits: true })?;
    let count = snapshot.nodes().len();
    let (mut candidates, mut why) = (Vec::new(), Vec::new());
    for node in by_node.iter().filter(|(_, reason)| reason.by_pods).map(|(node, _)| node) {
        let Some(attempt) = attempt else { break };
        match victims(attempt, node) {
            Ok(candidate) => candidates.push(candidate),
            Err(words) => why.extend(words),
        }
    }
    let Some(best) = candidates.into_iter().min_by_key(Candidate::cost) else {
        let tried = by_node.values().filter(|reason| reason.by_pods).count();
        let rest = std::iter::repeat_n(NOT_HELPFUL, count - tried);
        let why = histogram(why.iter().map(String::as_str).chain(rest));
        let words = format!("0/{count} nodes are available:{why}");
        return Err(Helpless { words, waits: false });
    };
    let displaced =
        snapshot.nominated_to(&best.node).filter(|p| p.priority < pod.priority && p.uid != pod.uid);
    Ok(Preemption { displaced: displaced.cloned().collect(), node: best.node, victims: best.victims })
}

fn may_preempt(
    snapshot: &Snapshot,
    pod: &Pod,
    by_node: &BTreeMap<String, Reason>,
) -> Result<(), &'static str> {
    if text(&pod.object, &["spec", "preemptionPolicy"]) == "Never" {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = snapshot.nomination_of(&pod.uid).unwrap_or(&pod.nominated);
    let is_hopeless = by_node.get(nominated).is_some_and(|reason| !reason.by_pods);
    let leaves = |other: &Arc<Pod>| {
        let condition =
            items(&other.object, &["status", "conditions"]).find(|c| c["type"] == "DisruptionTarget");
        let preempted =
            condition.is_some_and(|c| c["status"] == "True" && c["reason"] == "PreemptionByScheduler");
        other.is_terminating && preempted && other.priority < pod.priority
    };
    if !is_hopeless && snapshot.node(nominated).is_some_and(|node| node.pods().any(leaves)) {
        return Err("not eligible due to a terminating pod on the nominated node.");
    }
    Ok(())
}

/// A node, and who would have to leave it.
struct Candidate {
    node: String,
    victims: Vec<Arc<Pod>>,
    violations: usize,
}

impl Candidate {
    /// The less the better: budgets broken, the most important victim, the sum of their importance, how many, and how long
    /// the first has run.
    fn cost(&self) -> (usize, i64, i128, usize, Reverse<Timestamp>) {
        let priorities = || self.victims.iter().map(|pod| pod.priority);
        let most = priorities().max().unwrap_or(i64::MIN);
        let sum = priorities().map(|p| i128::from(p) + i128::from(i32::MAX) + 1).sum();
        let first = self.victims.iter().filter(|pod| pod.priority == most).map(since).min();
        (self.violations, most, sum, self.victims.len(), Reverse(first.unwrap_or_default()))
    }
}

/// The more important pods first, then those that run longer.
fn importance(pod: &Arc<Pod>) -> (Reverse<i64>, Timestamp) {
    (Reverse(pod.priority), since(pod))
}

/// Since when a pod runs; one that does not run yet is the youngest.
fn since(pod: &Arc<Pod>) -> Timestamp {
    pod.started.unwrap_or(Timestamp::MAX)
}

/// Takes all less important pods from a node, and gives back whom there is room for, the most important first.
fn victims(attempt: &Attempt<'_>, name: &str) -> Result<Candidate, Vec<String>> {
    let pod = attempt.pod;
    let Some(known) = attempt.snapshot.node(name) else { return Err(Vec::new()) };
    let (mut then, mut node) = (attempt.clone(), known.clone());
    let mut lesser: Vec<Arc<Pod>> = node.pods().filter(|p| p.priority < pod.priority).cloned().collect();
    if lesser.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    lesser.sort_by_key(importance);
    for other in &lesser {
        node.remove(&other.uid);
        then.change(other, known, -1);
    }
    then.check(&node).map_err(|reason| reason.words)?;
    let (guarded, free) = by_budget(attempt, lesser);
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (other, is_guarded) in
        guarded.into_iter().map(|p| (p, true)).chain(free.into_iter().map(|p| (p, false)))
    {
        node.add(other.clone());
        then.change(&other, known, 1);
        if then.check(&node).is_err() {
            node.remove(&other.uid);
            then.change(&other, known, -1);
            violations += usize::from(is_guarded);
            victims.push(other);
        }
    }
    victims.sort_by_key(importance);
    if victims.is_empty() {
        return Err(vec![format!("expected at least one victim pod on node {name:?}")]);
    }
    Ok(Candidate { node: name.to_owned(), victims, violations })
}

/// Parts those whose going would break a disruption budget from the others.
fn by_budget(attempt: &Attempt<'_>, pods: Vec<Arc<Pod>>) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let budgets = attempt.view.list(GroupResource { group: "policy", resource: "poddisruptionbudgets" }, "");
    let allowed =
        |budget: &serde_json::Value| budget["status"]["disruptionsAllowed"].as_i64().unwrap_or_default();
    let mut left: Vec<i64> = budgets.iter().map(|budget| allowed(budget)).collect();
    pods.into_iter().partition(|pod| {
        let mut breaks = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            let of = at(budget, &["spec", "selector"]).cloned().unwrap_or_default();
            let of = selector::Labels::of(&of).ok().flatten().filter(|selector| !selector.is_empty());
            let concerns = object::namespace(budget) == pod.namespace
                && !pod.labels.is_empty()
                && of.is_some_and(|s| s.selects(&pod.object))
                && at(budget, &["status", "disruptedPods", &pod.name]).is_none();
            if concerns {
                *left -= 1;
                breaks |= *left < 0;
            }
        }
        breaks
    })
}
