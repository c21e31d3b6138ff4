//! What must hold after every step, each law by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controllers::Mutation;
use proto_kube::quantity::Quantity;
use proto_kube::{object, pod};
use serde_json::Value;

use crate::node::Node;
use crate::server::{Change, Of, Server};
use crate::time::seconds;

/// The controller whose deletions are looked at.
pub(crate) const COLLECTOR: &str = "generic-garbage-collector";
const PODS: Of = ("", "pods");
const NODES: Of = ("", "nodes");
/// How long a slice may list a pod that is gone, when nothing goes wrong.
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
    pub(crate) fn check(&mut self, server: &mut Server, nodes: &[Node], now: Duration) -> Result<(), String> {
        if let Some(broken) = server.broken.take() {
            return Err(broken);
        }
        runs_once(nodes)?;
        let changes = std::mem::take(&mut server.fresh);
        for change in changes.iter().filter(|c| c.resource.plural == "replicasets") {
            if let Some(set) = &change.new {
                let wanted = object::number(set, &["spec", "replicas"]).unwrap_or(1);
                self.wanted.entry(object::uid(set).to_owned()).or_default().push((now, wanted));
            }
        }
        let pods: Vec<&Change> = changes.iter().filter(|c| c.resource.plural == "pods").collect();
        if !pods.is_empty() {
            for change in pods {
                self.stays(change)?;
                if let (Some(old), None) = (&change.old, &change.new) {
                    self.gone.insert(object::uid(old).to_owned(), now);
                }
            }
            fits(server)?;
            self.none_too_many(server, now)?;
            if self.calm {
                self.rolls(server)?;
            }
        }
        if changes.iter().any(|c| c.resource.plural == "nodes") {
            own_ranges(server)?;
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
            if object::is_terminating(&pod) || pod::has_ended(&pod) {
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
    /// than the surge allows. Their pods may be more for a moment: a new one is made while its elder is still to be deleted,
    /// as upstream has it.
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
    ///
    /// # Errors
    /// The one that does.
    pub(crate) fn slices(&self, server: &Server, now: Duration) -> Result<(), String> {
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

/// The bound pods of a node do not ask for more than it has.
fn fits(server: &Server) -> Result<(), String> {
    let mut taken: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for pod in server.list(PODS) {
        let node = object::text(&pod, &["spec", "nodeName"]);
        if node.is_empty() || pod::has_ended(&pod) {
            continue;
        }
        let taken = taken.entry(node.to_owned()).or_default();
        for container in object::items(&pod, &["spec", "containers"]) {
            taken.0 += Quantity::of(&container["resources"]["requests"]["cpu"]).amount.millis();
        }
        taken.1 += 1;
    }
    for (name, (cpu, pods)) in taken {
        let Some(node) = server.get(NODES, "", &name) else { continue };
        let has = |key: &str| Quantity::of(&node["status"]["allocatable"][key]).amount;
        if cpu > has("cpu").millis() || pods > has("pods").units() {
            return Err(format!("fits: {name} has {pods} pods that want {cpu}m"));
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

/// What a cluster still lacks that has had its time: every wish of people is met, nothing is left over, and nobody wants
/// to change anything.
pub(crate) fn unmet(server: &Server, nodes: &[Node]) -> Vec<String> {
    let mut unmet = Vec::new();
    for (of, wanted, found) in [
        (("apps", "deployments"), &["spec", "replicas"][..], &["status", "availableReplicas"][..]),
        (("apps", "deployments"), &["spec", "replicas"], &["status", "updatedReplicas"]),
        (("apps", "deployments"), &["spec", "replicas"], &["status", "replicas"]),
        (("apps", "statefulsets"), &["spec", "replicas"], &["status", "readyReplicas"]),
        (("apps", "daemonsets"), &["status", "desiredNumberScheduled"], &["status", "numberReady"]),
        (("batch", "jobs"), &["spec", "completions"], &["status", "succeeded"]),
    ] {
        for object in server.list(of) {
            let [wanted, found] = [wanted, found].map(|path| object::number(&object, path).unwrap_or(0));
            if wanted != found {
                unmet.push(format!("{} {}: {found} of {wanted}", of.1, object::name(&object)));
            }
        }
    }
    let mut uids = BTreeSet::new();
    for pod in server.list(PODS) {
        let (name, node) = (object::name(&pod), object::text(&pod, &["spec", "nodeName"]));
        uids.insert(object::uid(&pod).to_owned());
        if object::is_terminating(&pod) {
            unmet.push(format!("pod {name} on {node} is still to go"));
        }
        if let Some(owner) = object::controller(&pod) {
            let of = proto_kube::resource::all().iter().find(|r| r.kind == owner.kind);
            let found =
                of.and_then(|of| server.get((of.group, of.plural), object::namespace(&pod), owner.name));
            if found.is_none_or(|found| object::uid(&found) != owner.uid) {
                unmet.push(format!("pod {name} has lost its {} {}", owner.kind, owner.name));
            }
        }
    }
    for node in nodes {
        unmet.extend(
            node.has()
                .into_iter()
                .filter(|uid| !uids.contains(*uid))
                .map(|uid| format!("{} has {uid}", node.name)),
        );
    }
    unmet
}
