//! What an object uses of what quotas limit.

use jiff::{SignedDuration, Timestamp};
use proto_kube::quantity::Quantity;
use proto_kube::selector::Labels;
use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::{Value, json};

use crate::Operation;
use crate::resources::{self, List, Side, is_positive};
use crate::scene::{Scene, core};
use crate::storage::class;

const PODS: GroupResource<'static> = core("pods");
const SERVICES: GroupResource<'static> = core("services");
const CLAIMS: GroupResource<'static> = core("persistentvolumeclaims");

/// Resources that may also be counted by their bare names.
const BARE: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

const OF_PODS: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// If one of these is limited, each container must say how much it wants.
const REQUIRED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// Whether a request can change what is used.
pub(super) fn is_counted(scene: &Scene<'_>, new: &Value) -> bool {
    let request = scene.request;
    let changed = |of: fn(&Value) -> Value| request.old.is_some_and(|old| of(old) != of(new));
    let (creates, updates) = (scene.creates(), request.operation == Operation::Update);
    match (request.resource.group_resource(), request.subresource) {
        (PODS, "") => creates || (updates && changed(|pod| is_terminating(pod).into())),
        (PODS, "resize") => updates,
        (PODS, "status") => {
            request.old.is_some_and(|old| has_ended(old, scene.now) != has_ended(new, scene.now))
        }
        (SERVICES | CLAIMS, "") => true,
        (CLAIMS, "status") => {
            updates
                && (changed(|c| c["status"]["allocatedResources"].clone()) || changed(|c| json!(classes(c))))
        }
        (_, subresource) => creates && subresource.is_empty(),
    }
}

/// The names, among those limited, that a resource has to do with.
pub(super) fn limited(resource: GroupResource<'_>, hard: &List) -> Vec<String> {
    let counted = format!("count/{resource}");
    let is = |name: &str| match resource {
        _ if name == counted => true,
        PODS => {
            let prefixed = ["hugepages-", "requests.hugepages-"].iter().any(|p| name.starts_with(p));
            OF_PODS.contains(&name) || prefixed || is_extended(name)
        }
        SERVICES => ["services", "services.nodeports", "services.loadbalancers"].contains(&name),
        CLAIMS => {
            let bare = name.split_once(OF_CLASS).map_or(name, |(_, bare)| bare);
            ["persistentvolumeclaims", "requests.storage"].contains(&bare)
        }
        _ => resource.group.is_empty() && name == resource.resource && BARE.contains(&name),
    };
    hard.keys().filter(|name| is(name)).cloned().collect()
}

/// The resource that a limited name counts.
fn counted(name: &str) -> Option<GroupResource<'_>> {
    if let Some(name) = name.strip_prefix("count/") {
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        return Some(GroupResource { group, resource });
    }
    let hard = List::from([(name.to_owned(), Quantity::default())]);
    [PODS, SERVICES, CLAIMS].into_iter().chain(BARE.map(core)).find(|r| !limited(*r, &hard).is_empty())
}

/// Whether a limit on a resource of a device vendor.
fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    name.starts_with("requests.")
        && (!native || name.starts_with("requests.deviceclass.resource.kubernetes.io/"))
}

/// All that is used in the namespace of a quota of what it limits.
pub(super) fn count(quota: &Value, hard: &List, view: &dyn View, now: Timestamp) -> List {
    let mut used: List = hard.keys().map(|name| (name.clone(), Quantity::default())).collect();
    let mut resources: Vec<GroupResource<'_>> = hard.keys().filter_map(|name| counted(name)).collect();
    resources.sort_unstable();
    resources.dedup();
    for resource in resources {
        for object in view.list(resource, object::namespace(quota)) {
            if in_scope(quota, resource, &object) {
                resources::add(&mut used, &of(resource, &object, now));
            }
        }
    }
    used.retain(|name, _| hard.contains_key(name));
    used
}

/// Whether a quota is about an object.
pub(super) fn in_scope(quota: &Value, resource: GroupResource<'_>, object: &Value) -> bool {
    let scopes = object::items(quota, &["spec", "scopes"])
        .map(|scope| json!({"scopeName": scope, "operator": "Exists"}));
    let selectors = object::items(quota, &["spec", "scopeSelector", "matchExpressions"]).cloned();
    scopes.chain(selectors).all(|scope| matches(&scope, resource, object))
}

fn matches(scope: &Value, resource: GroupResource<'_>, object: &Value) -> bool {
    let name = object::text(scope, &["scopeName"]);
    let selects = |value: Option<&str>| {
        let selector = json!({"matchExpressions": [{
            "key": name, "operator": scope["operator"], "values": scope["values"],
        }]});
        Labels::of(&selector).ok().flatten().is_some_and(|labels| labels.admits(|_| value))
    };
    match (resource, name) {
        (PODS, "Terminating") => is_terminating(object),
        (PODS, "NotTerminating") => !is_terminating(object),
        (PODS, "BestEffort") => is_best_effort(object),
        (PODS, "NotBestEffort") => !is_best_effort(object),
        (PODS, "PriorityClass") => selects(
            Some(object::text(object, &["spec", "priorityClassName"])).filter(|name| !name.is_empty()),
        ),
        (PODS, "CrossNamespacePodAffinity") => looks_across(object),
        (CLAIMS, "VolumeAttributesClass") => match classes(object).as_slice() {
            [] => selects(None),
            names => names.iter().any(|name| selects(Some(name))),
        },
        _ => false,
    }
}

/// Whether a pod's time is limited.
fn is_terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Value) -> bool {
    match object::text(pod, &["status", "qosClass"]) {
        "" => {
            let holders = ["containers", "initContainers"]
                .into_iter()
                .flat_map(|list| object::items(pod, &["spec", list]));
            let asks = |holder: &Value| {
                let lists = [Side::Requests.of(holder), Side::Limits.of(holder)];
                lists
                    .iter()
                    .any(|l| ["cpu", "memory"].iter().any(|r| l.get(*r).copied().is_some_and(is_positive)))
            };
            !holders.chain(pod.get("spec")).any(asks)
        }
        class => class == "BestEffort",
    }
}

/// Whether a pod looks at pods of other namespaces to find its place.
fn looks_across(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms = |when| object::items(pod, &["spec", "affinity", kind, when]);
        let preferred = terms("preferredDuringSchedulingIgnoredDuringExecution");
        terms("requiredDuringSchedulingIgnoredDuringExecution")
            .chain(preferred.filter_map(|term| term.get("podAffinityTerm")))
            .any(|term| {
                object::items(term, &["namespaces"]).next().is_some()
                    || object::at(term, &["namespaceSelector"]).is_some()
            })
    })
}

/// The attributes classes that a claim has or goes for.
fn classes(claim: &Value) -> Vec<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    let mut names: Vec<&str> = paths.into_iter().map(|path| object::text(claim, path)).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
}

/// What a pod's containers leave open although it is limited.
pub(super) fn unspecified(resource: GroupResource<'_>, limited: &[String], pod: &Value) -> Option<String> {
    let whole = ["requests", "limits"].into_iter().any(|side| {
        let list = resources::of(object::at(pod, &["spec", "resources", side]));
        list.keys().any(|name| resources::is_of_pod(name))
    });
    if resource != PODS || whole {
        return None;
    }
    let mut faults = Vec::new();
    for name in limited.iter().filter(|name| REQUIRED.contains(&name.as_str())) {
        let containers =
            ["containers", "initContainers"].into_iter().flat_map(|l| object::items(pod, &["spec", l]));
        let lacks = |c: &&Value| !compute(&Side::Requests.of(c), &Side::Limits.of(c)).contains_key(name);
        let mut names: Vec<&str> = containers.filter(lacks).map(|c| object::text(c, &["name"])).collect();
        names.sort_unstable();
        names.dedup();
        if !names.is_empty() {
            faults.push(format!("{name} for: {}", names.join(",")));
        }
    }
    (!faults.is_empty()).then(|| format!("must specify {}", faults.join("; ")))
}

/// What an object uses.
pub(super) fn of(resource: GroupResource<'_>, object: &Value, now: Timestamp) -> List {
    let mut used = List::from([(format!("count/{resource}"), Quantity::units(1))]);
    match resource {
        PODS if !has_ended(object, now) => {
            used.insert("pods".to_owned(), Quantity::units(1));
            used.extend(compute(&Side::Requests.in_use(object), &Side::Limits.in_use(object)));
        }
        PODS => {}
        SERVICES => used.extend(service(object)),
        CLAIMS => used.extend(claim(object)),
        _ if BARE.contains(&resource.resource) => {
            used.insert(resource.resource.to_owned(), Quantity::units(1));
        }
        _ => {}
    }
    used
}

/// A pod that ran to its end, or that should be gone, holds nothing but its place in the store.
fn has_ended(pod: &Value, now: Timestamp) -> bool {
    let phase = object::text(pod, &["status", "phase"]);
    let deleted = object::text(pod, &["metadata", "deletionTimestamp"]).parse::<Timestamp>().ok();
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().map(SignedDuration::from_secs);
    let late =
        deleted.zip(grace).and_then(|(at, grace)| at.checked_add(grace).ok()).is_some_and(|end| now > end);
    ["Failed", "Succeeded"].contains(&phase) || late
}

fn compute(requests: &List, limits: &List) -> List {
    let mut used = List::new();
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            used.insert(name.to_owned(), *request);
            used.insert(format!("requests.{name}"), *request);
        }
        if let Some(limit) = limits.get(name) {
            used.insert(format!("limits.{name}"), *limit);
        }
    }
    for (name, request) in requests {
        let full = format!("requests.{name}");
        if name.starts_with("hugepages-") {
            used.insert(name.clone(), *request);
            used.insert(full, *request);
        } else if is_extended(&full) && !name.starts_with("requests.") {
            used.insert(full, *request);
        }
    }
    used
}

fn service(service: &Value) -> List {
    let ports = |counts: fn(&Value) -> bool| {
        let ports = object::items(service, &["spec", "ports"]).filter(|port| counts(port));
        i64::try_from(ports.count()).unwrap_or(i64::MAX)
    };
    let (node_ports, balancers) = match object::text(service, &["spec", "type"]) {
        "NodePort" => (ports(|_| true), 0),
        "LoadBalancer" if service["spec"]["allocateLoadBalancerNodePorts"] == false => {
            (ports(|port| port["nodePort"].as_i64().is_some_and(|p| p != 0)), 1)
        }
        "LoadBalancer" => (ports(|_| true), 1),
        _ => (0, 0),
    };
    [("services", 1), ("services.nodeports", node_ports), ("services.loadbalancers", balancers)]
        .map(|(name, count)| (name.to_owned(), Quantity::units(count)))
        .into()
}

fn claim(claim: &Value) -> List {
    let size = |path: &[&str]| object::at(claim, path).map(|q| Quantity::of(q).rounded_up());
    let asked = size(&["spec", "resources", "requests", "storage"]);
    let given = size(&["status", "allocatedResources", "storage"]);
    let size = asked.map(|asked| given.filter(|given| given.amount > asked.amount).unwrap_or(asked));
    let own = [("persistentvolumeclaims", Some(Quantity::units(1))), ("requests.storage", size)];
    let class = class(claim);
    let mut used = List::new();
    for (name, quantity) in own.into_iter().filter_map(|(name, quantity)| Some((name, quantity?))) {
        used.insert(name.to_owned(), quantity);
        if !class.is_empty() {
            used.insert(format!("{class}{OF_CLASS}{name}"), quantity);
        }
    }
    used
}
