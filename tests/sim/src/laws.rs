//! What must hold after every step, each law by its name. Beside each stands what was broken to see it caught, within the
//! seeds that CI runs.
//!
//! | law | what holds | seen to fail when |
//! |---|---|---|
//! | `stays` | a bound pod never changes its node | (the server refuses a second binding) |
//! | `stays_ended` | no status brings back a container that never starts again | (the laws of `agent-core` see it: here nothing is told between two steps) |
//! | `runs_once` | no container runs twice, no pod on two nodes | what an action is about is not `in_flight` |
//! | `looked_after` | what a runtime has its agent knows | an agent starts without its disk; what nobody wants is not adopted |
//! | `none_too_many` | a `ReplicaSet`, a `DaemonSet` have no pod too many | `Pending` does not wait for own writes |
//! | `fits` | a node's pods do not ask for more than it has | `filter::fits` is always yes; a pod does not count from the decision on |
//! | `placed` | no pod waits where there is room, or less important ones | the queue's `heed` wakes nobody, or not for a node, or not for a pod that leaves; a failed binding is kept, or not tried again; `Placing` forgets what it has assumed; nominated pods are not counted; nobody who may send others away is woken when one leaves |
//! | `lesser` | nobody makes room for the equally important | victims of the same priority |
//! | `rolls` | what `maxUnavailable` and `maxSurge` promise | `shrink_old` or `room_for_new` is off by one |
//! | `slices` | a pod that is gone is soon listed no more | a key that was changed while busy is not looked at again |
//! | `lists_ready` | nobody is listed as ready who never was | an endpoint is always ready |
//! | `own_ranges` | no two nodes have one range of addresses | ranges in use count as free; `PodCidrs` forgets what it has promised, and a write comes late |
//! | `no_living_owner` | nothing is collected whose owner lives | |
//! | `away` | a control plane that is away for an hour costs no pod its node, and no container its restarts | |
//! | `comes_to_rest` | in the end wishes are met as far as there is room, nothing is left over or wanted, slices and the proxy's rules name who is ready | overdue writes are not asked for; every answer is taken for yes; a taint is never taken away; pods that went while the agent was away are kept; a pod of a job counts as failed and as succeeded |

mod ended;
mod rest;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controllers::Mutation;
use proto_kube::{object, pod};
use scheduler::{Pod, Refusal};
use serde_json::Value;

use crate::node::Node;
use crate::server::{Change, Of, Server};
use crate::time::seconds;

pub(crate) use ended::comes_back;
pub(crate) use rest::unmet;

/// The controller whose deletions are looked at.
pub(crate) const COLLECTOR: &str = "generic-garbage-collector";
pub(crate) const PODS: Of = ("", "pods");
const NODES: Of = ("", "nodes");
/// How long a slice may list a pod that is gone, and a pod may wait though there is room, when nothing goes wrong.
const SETTLE: Duration = seconds(90);

/// What the laws remember.
#[derive(Default)]
pub(crate) struct Laws {
    /// Where each pod was bound, by uid.
    places: BTreeMap<String, String>,
    /// How many pods each `ReplicaSet` was to have since when, by uid.
    wanted: BTreeMap<String, Vec<(Duration, i64)>>,
    /// When each pod went, by uid.
    gone: BTreeMap<String, Duration>,
    /// The pods that were ready once, by uid.
    ready: BTreeSet<String>,
    /// Since when pods wait that could run, by uid.
    waiting: BTreeMap<String, Duration>,
    /// The Deployments that were once complete, in a cluster without faults: name, and how many pods must be ready.
    complete: BTreeSet<String>,
    /// Whether faults and people other than rolling updates leave the cluster alone.
    pub(crate) calm: bool,
    /// When something last went wrong.
    pub(crate) troubled: Duration,
}

impl Laws {
    /// Nothing has happened yet.
    pub(crate) fn new(calm: bool) -> Self {
        Self { calm, ..Self::default() }
    }

    /// Looks at what a step has done.
    ///
    /// # Errors
    /// The law that does not hold.
    pub(crate) fn check(
        &mut self,
        server: &mut Server,
        nodes: &mut [Node],
        now: Duration,
    ) -> Result<(), String> {
        if let Some(broken) = server.broken.take() {
            return Err(broken);
        }
        for node in nodes.iter() {
            if let Some(uid) = node.forgotten() {
                return Err(format!("looked_after: nobody on {} looks after {uid}", node.name));
            }
        }
        if nodes.iter_mut().fold(false, |any, node| std::mem::take(&mut node.runtime.changed) | any) {
            runs_once(nodes)?;
        }
        for change in std::mem::take(&mut server.fresh) {
            match change.resource.plural {
                "replicasets" => self.set(server, &change, now)?,
                "pods" => self.pod(server, &change, now)?,
                "nodes" => own_ranges(server)?,
                "endpointslices" => self.lists_ready(&change)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn set(&mut self, server: &Server, change: &Change, now: Duration) -> Result<(), String> {
        if let Some(set) = &change.new {
            let wanted = object::number(set, &["spec", "replicas"]).unwrap_or(1);
            self.wanted.entry(object::uid(set).to_owned()).or_default().push((now, wanted));
        }
        if self.calm { self.rolls(server) } else { Ok(()) }
    }

    fn pod(&mut self, server: &Server, change: &Change, now: Duration) -> Result<(), String> {
        self.stays(change)?;
        let node = |pod: &Value| object::text(pod, &["spec", "nodeName"]).to_owned();
        match (&change.old, &change.new) {
            (None, Some(_)) => self.none_too_many(server, now)?,
            (Some(old), Some(new)) if node(old) != node(new) => {
                room::fits(server)?;
                // Its room is no longer for others.
                self.waiting.clear();
            }
            (Some(old), Some(new)) => {
                if let Some(container) = comes_back(old, &new["status"]) {
                    return Err(format!("stays_ended: {container} of {} comes back", object::name(new)));
                }
            }
            (Some(old), None) => drop(self.gone.insert(object::uid(old).to_owned(), now)),
            _ => {}
        }
        if let Some(pod) = change.new.as_ref().filter(|pod| pod::is_ready(pod)) {
            self.ready.insert(object::uid(pod).to_owned());
        }
        if self.calm { self.rolls(server) } else { Ok(()) }
    }

    /// Nothing happens for a while.
    ///
    /// # Errors
    /// The law that does not hold.
    pub(crate) fn wait(&mut self, server: &Server, now: Duration) -> Result<(), String> {
        self.slices(server, now)?;
        self.placed(server, now)
    }

    /// A pod is not left waiting where there is room for it, or others are less important.
    fn placed(&mut self, server: &Server, now: Duration) -> Result<(), String> {
        let could: BTreeMap<String, String> = room::could_run(server);
        self.waiting.retain(|uid, _| could.contains_key(uid));
        for (uid, why) in could {
            let since = *self.waiting.entry(uid).or_insert(now);
            if now > since.max(self.troubled) + SETTLE {
                return Err(format!("placed: {why}, since {since:?}"));
            }
        }
        Ok(())
    }

    /// Slices call no pod ready that never was.
    fn lists_ready(&self, change: &Change) -> Result<(), String> {
        let Some(slice) = &change.new else { return Ok(()) };
        for endpoint in object::items(slice, &["endpoints"]).filter(|e| e["conditions"]["ready"] == true) {
            if !self.ready.contains(object::text(endpoint, &["targetRef", "uid"])) {
                let name = object::text(endpoint, &["targetRef", "name"]);
                return Err(format!(
                    "lists_ready: {} lists {name}, which never was ready",
                    object::name(slice)
                ));
            }
        }
        Ok(())
    }

    /// A bound pod never changes its node.
    fn stays(&mut self, change: &Change) -> Result<(), String> {
        let Some(pod) = &change.new else { return Ok(()) };
        let node = object::text(pod, &["spec", "nodeName"]);
        let was = self.places.get(object::uid(pod)).cloned();
        if let Some(was) = was.filter(|was| was != node) {
            return Err(format!("stays: pod {} moves from {was} to {node:?}", object::name(pod)));
        }
        if !node.is_empty() {
            self.places.insert(object::uid(pod).to_owned(), node.to_owned());
        }
        Ok(())
    }

    /// Nothing is made twice: a `ReplicaSet` never has more pods than it was to have a while ago or since, a `DaemonSet`
    /// never two on a node.
    fn none_too_many(&self, server: &Server, now: Duration) -> Result<(), String> {
        let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
        for pod in server.list(PODS) {
            let Some(owner) = object::controller(&pod) else { continue };
            let node = object::text(&pod, &["spec", "nodeName"]);
            let made_late = server.made_late.contains(object::uid(&pod));
            if object::is_terminating(&pod) || pod::has_ended(&pod) || made_late {
                continue;
            }
            match owner.kind {
                "ReplicaSet" => *counts.entry((owner.uid.to_owned(), String::new())).or_default() += 1,
                "DaemonSet" if !node.is_empty() => {
                    *counts.entry((owner.uid.to_owned(), node.to_owned())).or_default() += 1;
                }
                _ => {}
            }
        }
        for ((uid, node), count) in counts {
            // A decision may be as old as a watch hangs.
            let most = match self.wanted.get(&uid) {
                Some(wanted) => {
                    let old = wanted.iter().rposition(|(since, _)| *since + SETTLE <= now).unwrap_or(0);
                    wanted[old..].iter().map(|(_, wanted)| *wanted).max().unwrap_or(0)
                }
                None => 1,
            };
            if count > most {
                return Err(format!("none_too_many: {count} pods of {uid} {node}, at most {most} wanted"));
            }
        }
        Ok(())
    }

    /// A rolling update without faults is never below what must be available, nor do its `ReplicaSet`s together want more
    /// than the surge allows: what upstream decides by (`NewRSNewReplicas`: the sum of `spec.replicas`) and holds its own
    /// tests to. Their pods may be more for a moment: a new one is made while its elder is still to be deleted.
    fn rolls(&mut self, server: &Server) -> Result<(), String> {
        for deployment in server.list(("apps", "deployments")) {
            let name = object::name(&deployment).to_owned();
            let number = |path: &[&str]| object::number(&deployment, path).unwrap_or(0);
            let wanted = number(&["spec", "replicas"]);
            let of = |object: &Value| object::label(object, "app") == Some(&name);
            let pods = server.list(PODS).into_iter().filter(|pod| of(pod) && !object::is_terminating(pod));
            let ready = i64::try_from(pods.filter(|pod| pod::is_ready(pod)).count()).unwrap_or(i64::MAX);
            let sets = server.list(("apps", "replicasets")).into_iter().filter(|set| of(set));
            let asked: i64 = sets.filter_map(|set| object::number(&set, &["spec", "replicas"])).sum();
            let rolling = |key| number(&["spec", "strategy", "rollingUpdate", key]);
            if ready >= wanted {
                self.complete.insert(name.clone());
            }
            if self.complete.contains(&name) && ready < wanted - rolling("maxUnavailable") {
                return Err(format!("rolls: {ready} of {wanted} pods of {name} are ready"));
            }
            if asked > wanted + rolling("maxSurge") {
                return Err(format!("rolls: {asked} pods of {name} are asked for, {wanted} wanted"));
            }
        }
        Ok(())
    }

    /// Slices list no pod that is gone for long.
    fn slices(&self, server: &Server, now: Duration) -> Result<(), String> {
        for slice in server.list(("discovery.k8s.io", "endpointslices")) {
            for endpoint in object::items(&slice, &["endpoints"]) {
                let uid = object::text(endpoint, &["targetRef", "uid"]);
                let Some(gone) = self.gone.get(uid) else { continue };
                if now > (*gone).max(self.troubled) + SETTLE {
                    let pod = object::text(endpoint, &["targetRef", "name"]);
                    return Err(format!("slices: {} lists {pod}, gone since {gone:?}", object::name(&slice)));
                }
            }
        }
        Ok(())
    }
}

/// No pod runs on two nodes, and no container of one twice.
fn runs_once(nodes: &[Node]) -> Result<(), String> {
    let mut running: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut places: BTreeMap<&str, &str> = BTreeMap::new();
    for node in nodes {
        if let Some(broken) = &node.broken {
            return Err(format!("runs_once: {broken}"));
        }
        for (uid, container) in node.runtime.alive() {
            if running.insert((uid, &container.name), &container.id).is_some() {
                return Err(format!("runs_once: {} of {uid} runs twice on {}", container.name, node.name));
            }
            if let Some(other) = places.insert(uid, &node.name).filter(|other| *other != node.name) {
                return Err(format!("runs_once: {uid} runs on {other} and {}", node.name));
            }
        }
    }
    Ok(())
}

/// No two nodes have one range of addresses.
fn own_ranges(server: &Server) -> Result<(), String> {
    let mut known = BTreeMap::new();
    for node in server.list(NODES) {
        for range in object::items(&node, &["spec", "podCIDRs"]).filter_map(Value::as_str) {
            if let Some(other) = known.insert(range.to_owned(), object::name(&node).to_owned()) {
                return Err(format!("own_ranges: {other} and {} have {range}", object::name(&node)));
            }
        }
    }
    Ok(())
}

/// Nothing is collected that has a living owner.
pub(crate) fn no_living_owner(server: &Server, mutation: &Mutation) -> Result<(), String> {
    let Mutation::Delete(resource, (namespace, name), options) = mutation else { return Ok(()) };
    let Some(victim) = server.get((resource.group, resource.plural), namespace, name) else { return Ok(()) };
    let uid = object::text(options, &["preconditions", "uid"]);
    let version = object::text(options, &["preconditions", "resourceVersion"]);
    let another = |wanted: &str, found: &str| !wanted.is_empty() && wanted != found;
    let found = object::text(&victim, &["metadata", "resourceVersion"]);
    if another(uid, object::uid(&victim)) || another(version, found) || object::is_terminating(&victim) {
        return Ok(());
    }
    for owner in object::items(&victim, &["metadata", "ownerReferences"]) {
        let kind = object::text(owner, &["kind"]);
        let known = proto_kube::resource::all()
            .iter()
            .find(|r| r.kind == kind && r.api_version() == owner["apiVersion"]);
        let Some(of) = known else { continue };
        let within = if of.namespaced { namespace } else { "" };
        let found = server.get((of.group, of.plural), within, object::text(owner, &["name"]));
        let lives = found.is_some_and(|f| object::uid(&f) == owner["uid"] && !object::is_terminating(&f));
        if lives {
            return Err(format!(
                "no_living_owner: {} {name} is collected, but {kind} {} lives",
                resource.singular, owner["name"]
            ));
        }
    }
    Ok(())
}

/// Who is sent away is less important than who comes, and less important ones only are to wait longer for that.
pub(crate) fn lesser(pod: &Pod, refusal: &Refusal) -> Result<(), String> {
    let preemption = refusal.preemption.iter();
    let others = preemption.flat_map(|preemption| preemption.victims.iter().chain(&preemption.displaced));
    for other in others {
        if other.priority >= pod.priority {
            return Err(format!(
                "lesser: {} is to make room for {}, no more important",
                other.name, pod.name
            ));
        }
    }
    Ok(())
}
