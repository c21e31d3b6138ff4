//! `EndpointSlice`s from services and their pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto_kube::{GroupResource, object, pod, view::View};
use serde_json::{Map, Value, json};

use super::pack::{self, Packed};
use super::{HEADLESS, MANAGED_BY, SERVICE_NAME, TRIGGER, pods};
use crate::owner::{self, delete, key};
use crate::resources::{ENDPOINT_SLICES, NODES, PODS, SERVICES, served};
use crate::write::{ends_with_namespace, update, warn};
use crate::{Controller, Key, Mutation, Outcome, World};

const MANAGER: &str = "endpointslice-controller.k8s.io";
/// So many endpoints stand in a slice.
const MOST: usize = 100;
const ZONE: &str = "topology.kubernetes.io/zone";
const RESERVED: [&str; 3] = [SERVICE_NAME, MANAGED_BY, HEADLESS];

/// Keeps the slices of services with selectors.
pub(crate) struct EndpointSlices;

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "services"), ("", "pods"), ("", "nodes"), ("discovery.k8s.io", "endpointslices")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        match of {
            SERVICES => new.or(old).map(key).into_iter().collect(),
            PODS => pods::services(view, old, new),
            NODES => on_node(view, old, new),
            _ => [old, new].into_iter().flatten().filter_map(|s| super::service_of(s, MANAGER)).collect(),
        }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let Some(service) = world.view.get(SERVICES, &key.0, &key.1) else { return Outcome::default() };
        let mutations = match world.refused {
            Some(refused) => refusal(&service, refused).into_iter().collect(),
            None => plan(world, &service),
        };
        Outcome { mutations, again: None }
    }
}

/// What people are told of a refusal; nothing when the namespace goes anyway.
fn refusal(service: &Arc<Value>, refused: &crate::Refused) -> Option<Mutation> {
    let (what, name) = match &refused.mutation {
        Mutation::Create(..) => ("create", String::new()),
        Mutation::Update(_, _, slice) => ("update", format!("{} ", object::name(slice))),
        Mutation::Delete(_, (_, name), _) => ("delete", format!("{name} ")),
        _ => return None,
    };
    let (namespace, of) = (object::namespace(service), object::name(service));
    let why = &refused.status.message;
    let message = format!(
        "Error updating Endpoint Slices for Service {namespace}/{of}: failed to {what} {name}EndpointSlice for Service {namespace}/{of}: {why}"
    );
    (!ends_with_namespace(&refused.status)).then(|| warn(service, "FailedToUpdateEndpointSlices", message))
}

/// The services with pods on a node that came, went or moved to another zone.
fn on_node(view: &dyn View, old: Option<&Value>, new: Option<&Value>) -> Vec<Key> {
    let zone = |node: Option<&Value>| node.map(|node| super::note(node, "labels", ZONE).to_owned());
    if zone(old) == zone(new) {
        return Vec::new();
    }
    let Some(node) = new.or(old) else { return Vec::new() };
    let here = view.list(PODS, "");
    let here = here.iter().filter(|pod| object::text(pod, &["spec", "nodeName"]) == object::name(node));
    let mut keys: Vec<Key> = here.flat_map(|pod| pods::services(view, None, Some(pod))).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// The changes that make the slices of a service as they should be.
fn plan(world: &World<'_>, service: &Arc<Value>) -> Vec<Mutation> {
    let Some(selector) = pods::selector(service) else { return Vec::new() };
    let namespace = object::namespace(service);
    let mut chosen = world.view.list(PODS, namespace);
    chosen.retain(|pod| selector.selects(pod) && pods::counts(pod, true));
    let slices = super::slices_of(world.view, namespace, object::name(service), MANAGER);
    let families = families(service);
    let mut plan =
        Plan { world, service, first: slices.is_empty(), taken: Vec::new(), mutations: Vec::new() };
    let mut obsolete: Vec<&Arc<Value>> = Vec::new();
    for family in &families {
        let of_family = |slice: &&Arc<Value>| slice["addressType"] == *family;
        let existing: Vec<Arc<Value>> = slices.iter().filter(of_family).cloned().collect();
        plan.family(family, &chosen, &existing);
    }
    obsolete.extend(slices.iter().filter(|s| !families.iter().any(|family| s["addressType"] == *family)));
    plan.mutations.extend(obsolete.into_iter().map(|slice| delete(ENDPOINT_SLICES, slice)));
    plan.mutations
}

/// The address families of a service.
fn families(service: &Value) -> Vec<&str> {
    let told: Vec<&str> = object::items(service, &["spec", "ipFamilies"]).filter_map(Value::as_str).collect();
    match object::text(service, &["spec", "clusterIP"]) {
        _ if !told.is_empty() => told,
        "" | "None" => vec!["IPv4", "IPv6"],
        ip if ip.contains(':') => vec!["IPv6"],
        _ => vec!["IPv4"],
    }
}

struct Plan<'a> {
    world: &'a World<'a>,
    service: &'a Arc<Value>,
    /// Whether nothing is there yet.
    first: bool,
    /// Names that were given away.
    taken: Vec<String>,
    mutations: Vec<Mutation>,
}

/// Endpoints of pods that have the same ports.
#[derive(Default)]
struct Group {
    ports: Vec<Value>,
    existing: Vec<Arc<Value>>,
    desired: BTreeMap<pack::Id, Value>,
    wanted: bool,
}

impl Plan<'_> {
    fn family(&mut self, family: &str, pods: &[Arc<Value>], existing: &[Arc<Value>]) {
        let (ours, foreign): (Vec<_>, Vec<_>) = existing.iter().partition(|s| self.owns(s));
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for slice in &ours {
            let ports = ports(slice);
            let group = groups.entry(json!(ports).to_string()).or_default();
            group.existing.push((*slice).clone());
            group.ports = ports;
        }
        let mut times: BTreeMap<pack::Id, &str> = BTreeMap::new();
        for pod in pods {
            let ports = pods::ports(pod, self.service);
            let group = groups.entry(json!(ports).to_string()).or_default();
            group.ports = ports;
            group.wanted = true;
            if let Some(endpoint) = self.endpoint(pod, family) {
                let id = pack::id(&endpoint);
                times.insert(
                    id.clone(),
                    object::text(
                        pod::condition(pod, "Ready").unwrap_or(&Value::Null),
                        &["lastTransitionTime"],
                    ),
                );
                group.desired.insert(id, endpoint);
            }
        }
        let labels = self.labels();
        let (mut create, mut update_, mut delete_) = (Vec::new(), Vec::new(), Vec::new());
        let mut touched = Vec::new();
        for group in groups.into_values() {
            if !group.wanted {
                delete_.extend(group.existing);
                continue;
            }
            let packed: Packed = pack::pack(&group.existing, group.desired, &labels, MOST);
            create.extend(packed.create.into_iter().map(|endpoints| (group.ports.clone(), endpoints)));
            update_.extend(packed.update);
            delete_.extend(packed.delete);
            touched.extend(packed.touched);
        }
        if delete_.len() == ours.len() && create.is_empty() {
            let right = |slice: &Arc<Value>| {
                object::items(slice, &["endpoints"]).next().is_none()
                    && object::items(slice, &["ports"]).next().is_none()
                    && slice["metadata"]["labels"].as_object() == Some(&labels)
            };
            match delete_.iter().position(right) {
                Some(at) => drop(delete_.remove(at)),
                None => create.push((Vec::new(), Vec::new())),
            }
        }
        // What would be deleted can as well become what would be created.
        let recycled = create.len().min(delete_.len());
        for (ports, endpoints) in create.drain(create.len() - recycled..) {
            let old = delete_.pop().expect("there are as many");
            update_.push(filled(&old, &labels, &ports, &endpoints));
        }
        let trigger = self.trigger(&touched, &times);
        self.finish(family, &labels, trigger.as_deref(), create, update_);
        let gone = delete_.iter().chain(foreign);
        self.mutations.extend(gone.map(|slice| delete(ENDPOINT_SLICES, slice)));
    }

    fn owns(&self, slice: &Value) -> bool {
        object::items(slice, &["metadata", "ownerReferences"])
            .any(|owner| owner["uid"] == object::uid(self.service) && owner["kind"] == "Service")
    }

    fn finish(
        &mut self,
        family: &str,
        labels: &Map<String, Value>,
        trigger: Option<&str>,
        create: Vec<(Vec<Value>, Vec<Value>)>,
        updates: Vec<Value>,
    ) {
        let (namespace, name) = (object::namespace(self.service), object::name(self.service));
        let going = object::is_terminating(self.service);
        for (ports, endpoints) in create.into_iter().filter(|_| !going) {
            let kind = json!([family, ports]);
            let own = super::fresh_name(self.world.view, self.service, &kind, &mut self.taken);
            let mut slice = json!({
                "metadata": {"name": own, "generateName": format!("{name}-"), "namespace": namespace, "labels": labels,
                    "ownerReferences": [owner::reference(SERVICES, self.service)]},
                "addressType": family, "ports": some(&ports), "endpoints": endpoints,
            });
            mark(&mut slice, trigger);
            self.mutations.push(Mutation::Create(served(ENDPOINT_SLICES), slice));
        }
        for mut slice in updates {
            mark(&mut slice, trigger);
            self.mutations.push(update(ENDPOINT_SLICES, slice));
        }
    }

    /// When the earliest of the changes happened that the endpoints follow now.
    fn trigger(&self, touched: &[Value], times: &BTreeMap<pack::Id, &str>) -> Option<String> {
        if self.first {
            return Some(object::text(self.service, &["metadata", "creationTimestamp"]).to_owned());
        }
        let times = touched.iter().filter_map(|endpoint| times.get(&pack::id(endpoint)).copied());
        times.filter(|time| !time.is_empty()).min().map(str::to_owned)
    }

    /// The labels of the service's slices: its own, and those that say whose they are.
    fn labels(&self) -> Map<String, Value> {
        let mut labels = super::notes(self.service, "labels");
        labels.retain(|key, _| !RESERVED.contains(&key.as_str()));
        if !super::has_address(self.service) {
            labels.insert(HEADLESS.to_owned(), "".into());
        }
        labels.insert(SERVICE_NAME.to_owned(), object::name(self.service).into());
        labels.insert(MANAGED_BY.to_owned(), MANAGER.into());
        labels
    }

    /// A pod as an endpoint; `None` for one without an address of the family, or whose node is not known.
    fn endpoint(&self, pod: &Value, family: &str) -> Option<Value> {
        let publish = self.service["spec"]["publishNotReadyAddresses"] == true;
        let node_name = object::text(pod, &["spec", "nodeName"]);
        let node = self.world.view.get(NODES, "", node_name);
        let addresses = pods::addresses(pod, family);
        if addresses.is_empty() || (node.is_none() && !publish) {
            return None;
        }
        let (serving, terminating) = (pod::is_ready(pod), object::is_terminating(pod));
        let ready = publish || (serving && !terminating);
        let mut endpoint = json!({
            "addresses": addresses,
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            "targetRef": {"kind": "Pod", "namespace": object::namespace(pod), "name": object::name(pod), "uid": object::uid(pod)},
        });
        let zone = node.as_ref().map_or("", |node| super::note(node, "labels", ZONE));
        for (member, text) in [
            ("nodeName", node_name),
            ("zone", zone),
            ("hostname", pods::hostname(pod, self.service).unwrap_or("")),
        ] {
            if !text.is_empty() {
                endpoint[member] = text.into();
            }
        }
        if ready && let Some(hints) = self.hints(node_name, zone) {
            endpoint["hints"] = hints;
        }
        Some(endpoint)
    }

    /// For whom an endpoint is best, as the service's `trafficDistribution` has it.
    fn hints(&self, node: &str, zone: &str) -> Option<Value> {
        let wish = object::text(self.service, &["spec", "trafficDistribution"]);
        if !matches!(wish, "PreferClose" | "PreferSameZone" | "PreferSameNode")
            || wants_topology(self.service)
        {
            return None;
        }
        let mut hints = Map::new();
        if !zone.is_empty() {
            hints.insert("forZones".to_owned(), json!([{"name": zone}]));
        }
        if wish == "PreferSameNode" && !node.is_empty() {
            hints.insert("forNodes".to_owned(), json!([{"name": node}]));
        }
        (!hints.is_empty()).then(|| hints.into())
    }
}

/// Whether a service asks by annotation for hints in proportion to the zones' sizes, which wins over
/// `trafficDistribution`. Such hints are not made: without them traffic goes everywhere, which is always right.
fn wants_topology(service: &Value) -> bool {
    let annotation = |name| object::at(service, &["metadata", "annotations", name]).and_then(Value::as_str);
    let mode = annotation("service.kubernetes.io/topology-aware-hints")
        .or_else(|| annotation("service.kubernetes.io/topology-mode"));
    matches!(mode, Some("Auto" | "auto"))
}

/// The ports of a slice, in the order that their kind has.
fn ports(slice: &Value) -> Vec<Value> {
    let mut ports: Vec<Value> = object::items(slice, &["ports"])
        .map(|port| pods::canonical(&port["name"], port["port"].clone(), port))
        .collect();
    pods::sort(&mut ports);
    ports
}

/// The ports of a slice as the API writes them: null where there are none.
fn some(ports: &[Value]) -> Value {
    if ports.is_empty() { Value::Null } else { ports.into() }
}

/// A slice with other content.
fn filled(slice: &Value, labels: &Map<String, Value>, ports: &[Value], endpoints: &[Value]) -> Value {
    let mut slice = slice.clone();
    slice["metadata"]["labels"] = labels.clone().into();
    slice["ports"] = some(ports);
    slice["endpoints"] = endpoints.into();
    slice
}

/// Says in an annotation what a change follows from; from nothing that is known, it says nothing.
fn mark(object: &mut Value, trigger: Option<&str>) {
    match trigger {
        Some(time) => object["metadata"]["annotations"][TRIGGER] = time.into(),
        None => {
            if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
                annotations.remove(TRIGGER);
            }
        }
    }
}
