//! `Endpoints`, which slices have replaced, for clients that still read them.

use std::sync::Arc;

use proto_kube::{GroupResource, object, pod, view::View};
use serde_json::{Value, json};

use super::subsets::{self, Pair};
use super::{HEADLESS, LEADER, TRIGGER, pods};
use crate::owner::{delete, key};
use crate::resources::{ENDPOINTS, PODS, SERVICES, served};
use crate::write::{ends_with_namespace, update, warn};
use crate::{Controller, Key, Mutation, Outcome, World};

const NAME: &str = "endpoint-controller";
/// By which those that are kept here are told from those that somebody wrote by hand.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Says that addresses were left out.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// So many addresses stand in an object.
const MOST: usize = 1000;

/// Keeps the `Endpoints` of services with selectors.
pub(crate) struct Endpoints;

impl Controller for Endpoints {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "services"), ("", "pods"), ("", "endpoints")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        match of {
            PODS => pods::services(view, old, new),
            // Nobody's concern when somebody wrote them by hand, with or without a service.
            ENDPOINTS if !old.into_iter().chain(new).any(is_ours) => Vec::new(),
            _ => new.or(old).map(key).into_iter().collect(),
        }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let there = world.view.get(ENDPOINTS, &key.0, &key.1);
        let mutation = match (world.view.get(SERVICES, &key.0, &key.1), world.refused) {
            (Some(service), Some(refused)) => refusal(&service, refused),
            (Some(service), None) => plan(world, &service, there.as_deref()),
            (None, _) => {
                there.filter(|endpoints| !is_others(endpoints)).map(|endpoints| delete(ENDPOINTS, &endpoints))
            }
        };
        Outcome { mutations: mutation.into_iter().collect(), again: None }
    }
}

fn is_ours(endpoints: &Value) -> bool {
    object::label(endpoints, MANAGED_BY) == Some(NAME)
}

/// Whether endpoints without a service are somebody's all the same.
fn is_others(endpoints: &Value) -> bool {
    object::annotations(endpoints).any(|(key, _)| key == LEADER)
}

fn refusal(service: &Arc<Value>, refused: &crate::Refused) -> Option<Mutation> {
    let (reason, what) = match &refused.mutation {
        Mutation::Create(..) => ("FailedToCreateEndpoint", "create endpoint for service"),
        Mutation::Update(..) => ("FailedToUpdateEndpoint", "update endpoint"),
        _ => return None,
    };
    let (namespace, name, why) = (object::namespace(service), object::name(service), &refused.status.message);
    (!ends_with_namespace(&refused.status))
        .then(|| warn(service, reason, format!("Failed to {what} {namespace}/{name}: {why}")))
}

fn plan(world: &World<'_>, service: &Value, there: Option<&Value>) -> Option<Mutation> {
    let selector = pods::selector(service)?;
    let publish = service["spec"]["publishNotReadyAddresses"] == true;
    let mut chosen = world.view.list(PODS, object::namespace(service));
    chosen.retain(|pod| selector.selects(pod) && pods::counts(pod, publish));
    let pairs = chosen.iter().flat_map(|pod| of_pod(service, pod, publish)).collect();
    let mut subsets = subsets::repack(pairs);
    let over = subsets::truncate(&mut subsets, MOST);
    let labels = labels(service);
    let Some(there) = there else {
        let mut new = json!({
            "metadata": {"name": object::name(service), "namespace": object::namespace(service), "labels": labels},
            "subsets": subsets,
        });
        let born = object::text(service, &["metadata", "creationTimestamp"]);
        annotate(&mut new, (!born.is_empty()).then_some(born), over);
        return Some(Mutation::Create(served(ENDPOINTS), new));
    };
    let same =
        |a: &Value| subsets::repack(subsets::pairs(a)) == subsets::repack(subsets::pairs(&json!(subsets)));
    let told_over = super::note(there, "annotations", OVER_CAPACITY) == "truncated";
    if same(&there["subsets"]) && there["metadata"]["labels"] == labels && told_over == over {
        return None;
    }
    let mut new = there.clone();
    let trigger = trigger(&there["subsets"], &subsets, &chosen);
    new["subsets"] = subsets.into();
    new["metadata"]["labels"] = labels;
    annotate(&mut new, trigger.as_deref(), over);
    Some(update(ENDPOINTS, new))
}

/// A pod's address with each of its ports.
fn of_pod(service: &Value, pod: &Value, publish: bool) -> Vec<Pair> {
    let family = match object::items(service, &["spec", "ipFamilies"]).next().and_then(Value::as_str) {
        Some(family) => family,
        None if object::text(service, &["spec", "clusterIP"]).contains(':') => "IPv6",
        None => "IPv4",
    };
    let Some(ip) = pods::addresses(pod, family).into_iter().next() else { return Vec::new() };
    let mut address = json!({"ip": ip, "targetRef": {"kind": "Pod", "namespace": object::namespace(pod),
        "name": object::name(pod), "uid": object::uid(pod)}});
    let node = object::text(pod, &["spec", "nodeName"]);
    for (member, text) in [("nodeName", node), ("hostname", pods::hostname(pod, service).unwrap_or(""))] {
        if !text.is_empty() {
            address[member] = text.into();
        }
    }
    let pair = |port| Pair { address: address.clone(), port, ready: publish || pod::is_ready(pod) };
    if object::items(service, &["spec", "ports"]).next().is_none() {
        let headless = object::text(service, &["spec", "clusterIP"]) == "None";
        return headless.then(|| pair(None)).into_iter().collect();
    }
    // A port without a name has none here, other than in a slice.
    let named = |mut port: Value| {
        if port["name"] == "" {
            port.as_object_mut().map(|port| port.remove("name"));
        }
        pair(Some(port))
    };
    pods::ports(pod, service).into_iter().map(named).collect()
}

fn labels(service: &Value) -> Value {
    let mut labels = super::notes(service, "labels");
    labels.remove(HEADLESS);
    if !super::has_address(service) {
        labels.insert(HEADLESS.to_owned(), "".into());
    }
    labels.insert(MANAGED_BY.to_owned(), NAME.into());
    labels.into()
}

fn annotate(endpoints: &mut Value, trigger: Option<&str>, over: bool) {
    let mut annotations = super::notes(endpoints, "annotations");
    for (key, value) in [(TRIGGER, trigger), (OVER_CAPACITY, over.then_some("truncated"))] {
        match value {
            Some(value) => drop(annotations.insert(key.to_owned(), value.into())),
            None => drop(annotations.remove(key)),
        }
    }
    if annotations.is_empty() {
        object::metadata(endpoints).remove("annotations");
    } else {
        endpoints["metadata"]["annotations"] = annotations.into();
    }
}

/// When the earliest of the changes happened that now show.
fn trigger(was: &Value, is: &[Value], pods: &[Arc<Value>]) -> Option<String> {
    let places = |subsets: &Value| -> Vec<(String, bool)> {
        let pairs = subsets::pairs(subsets).into_iter();
        pairs.map(|p| (object::text(&p.address, &["targetRef", "uid"]).to_owned(), p.ready)).collect()
    };
    let was = places(was);
    let changed = places(&json!(is)).into_iter().filter(|place| !was.contains(place));
    let time = |(uid, _): (String, bool)| {
        let pod = pods.iter().find(|pod| object::uid(pod) == uid)?;
        Some(object::text(pod::condition(pod, "Ready")?, &["lastTransitionTime"]).to_owned())
    };
    changed.filter_map(time).filter(|time| !time.is_empty()).min()
}
