//! Slices for `Endpoints` that somebody wrote by hand for a service without a selector.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use proto_kube::{GroupResource, object, view::View};
use serde_json::{Map, Value, json};

use super::{LEADER, MANAGED_BY, SERVICE_NAME, TRIGGER, pack, pods, subsets};
use crate::owner::{self, delete, key};
use crate::resources::{ENDPOINT_SLICES, ENDPOINTS, SERVICES, served};
use crate::write::{update, warn};
use crate::{Controller, Key, Mutation, Outcome, World};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// So many addresses of a subset are mirrored.
const MOST: usize = 1000;

/// Keeps slices that say the same as `Endpoints`.
pub(crate) struct Mirror;

impl Controller for Mirror {
    fn name(&self) -> &'static str {
        "endpointslicemirroring-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "services"), ("", "endpoints"), ("discovery.k8s.io", "endpointslices")]
    }

    fn keys(
        &self,
        _view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        match of {
            ENDPOINT_SLICES => {
                [old, new].into_iter().flatten().filter_map(|s| super::service_of(s, MANAGER)).collect()
            }
            _ => new.or(old).map(key).into_iter().collect(),
        }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let slices = super::slices_of(world.view, &key.0, &key.1, MANAGER);
        let service = world.view.get(SERVICES, &key.0, &key.1);
        let by_hand = service.is_some_and(|s| object::at(&s, &["spec", "selector"]).is_none());
        let endpoints = world.view.get(ENDPOINTS, &key.0, &key.1).filter(|e| by_hand && is_mirrored(e));
        let mutations = match endpoints {
            Some(endpoints) => mirror(world, &endpoints, slices),
            None => slices.iter().map(|slice| delete(ENDPOINT_SLICES, slice)).collect(),
        };
        Outcome { mutations, again: None }
    }
}

fn is_mirrored(endpoints: &Value) -> bool {
    let leads = object::annotations(endpoints).any(|(key, _)| key == LEADER);
    super::note(endpoints, "labels", SKIP) != "true" && !leads
}

/// What has the same family and ports.
#[derive(Default)]
struct Group {
    ports: Vec<Value>,
    endpoints: BTreeMap<pack::Id, Value>,
    existing: Vec<Arc<Value>>,
}

type Groups = BTreeMap<(&'static str, String), Group>;

fn mirror(world: &World<'_>, endpoints: &Arc<Value>, slices: Vec<Arc<Value>>) -> Vec<Mutation> {
    let mut groups: Groups = BTreeMap::new();
    let (mut invalid, mut skipped) = (0, 0);
    for subset in subsets::repack(subsets::pairs(&endpoints["subsets"])) {
        let (bad, left) = spread(&subset, &mut groups);
        invalid += bad;
        skipped += left;
    }
    for slice in slices {
        let family = if slice["addressType"] == "IPv6" { "IPv6" } else { "IPv4" };
        let mut ports: Vec<Value> = object::items(&slice, &["ports"])
            .map(|port| pods::canonical(&port["name"], port["port"].clone(), port))
            .collect();
        pods::sort(&mut ports);
        groups.entry((family, json!(ports).to_string())).or_default().existing.push(slice);
    }
    let mutations = plan(world, endpoints, groups);
    if mutations.is_empty() {
        return mutations;
    }
    // People are told when something changes, not each time somebody looks.
    let mut told = Vec::new();
    if invalid > 0 {
        let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        told.push(warn(endpoints, "InvalidIPAddress", message));
    }
    if skipped > 0 {
        let message = format!(
            "A max of {MOST} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
            skipped + invalid
        );
        told.push(warn(endpoints, "TooManyAddressesToMirror", message));
    }
    told.into_iter().chain(mutations).collect()
}

/// Sorts the addresses of a subset into groups; gives how many are no addresses, and how many were too many.
fn spread(subset: &Value, groups: &mut Groups) -> (usize, usize) {
    let mut ports: Vec<Value> = object::items(subset, &["ports"])
        .map(|port| pods::canonical(&port["name"], port["port"].clone(), port))
        .collect();
    pods::sort(&mut ports);
    let key = json!(ports).to_string();
    let lists = [("addresses", true), ("notReadyAddresses", false)];
    let all = lists.iter().flat_map(|(list, ready)| object::items(subset, &[list]).map(|a| (a, *ready)));
    let (mut added, mut invalid, mut skipped) = (0, 0, 0);
    for (address, ready) in all {
        let Ok(ip) = object::text(address, &["ip"]).parse::<IpAddr>() else {
            invalid += 1;
            continue;
        };
        if added == MOST {
            skipped += 1;
            continue;
        }
        added += 1;
        let mut endpoint = json!({"addresses": [ip.to_string()], "conditions": {"ready": ready}});
        for member in ["nodeName", "hostname", "targetRef"] {
            if let Some(value) = object::at(address, &[member]) {
                endpoint[member] = value.clone();
            }
        }
        let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
        let group = groups.entry((family, key.clone())).or_default();
        group.ports.clone_from(&ports);
        group.endpoints.insert(pack::id(&endpoint), endpoint);
    }
    (invalid, skipped)
}

/// One slice for each group; what is there already and is no longer needed becomes what is needed.
fn plan(world: &World<'_>, endpoints: &Value, groups: Groups) -> Vec<Mutation> {
    let (labels, annotations) = (labels(endpoints), annotations(endpoints));
    let (namespace, name) = (object::namespace(endpoints), object::name(endpoints));
    let (mut spare, mut wanted) = (Vec::new(), Vec::new());
    for ((family, _), mut group) in groups {
        if group.endpoints.is_empty() {
            spare.append(&mut group.existing);
            continue;
        }
        let mut existing = group.existing.into_iter();
        let first = existing.next();
        spare.extend(existing);
        let list: Vec<Value> = group.endpoints.into_values().collect();
        wanted.push((family, group.ports, list, first));
    }
    let (mut mutations, mut taken) = (Vec::new(), Vec::new());
    for (family, ports, list, first) in wanted {
        let recycled = || {
            let at = spare.iter().position(|slice: &Arc<Value>| slice["addressType"] == family)?;
            Some(spare.remove(at))
        };
        let content = |mut slice: Value| {
            slice["metadata"]["labels"] = labels.clone().into();
            slice["metadata"]["ownerReferences"] = json!([owner::reference(ENDPOINTS, endpoints)]);
            match annotations.is_empty() {
                true => drop(object::metadata(&mut slice).remove("annotations")),
                false => slice["metadata"]["annotations"] = annotations.clone().into(),
            }
            slice["ports"] = ports.clone().into();
            slice["endpoints"] = list.clone().into();
            slice
        };
        match first.or_else(recycled) {
            Some(slice) if same(&slice, &content((*slice).clone())) => {}
            Some(slice) => mutations.push(update(ENDPOINT_SLICES, content((*slice).clone()))),
            None if object::is_terminating(endpoints) => {}
            None => {
                let own = super::fresh_name(world.view, endpoints, &json!([family, ports]), &mut taken);
                let slice = json!({"metadata": {"name": own, "generateName": format!("{name}-"),
                    "namespace": namespace}, "addressType": family});
                mutations.push(Mutation::Create(served(ENDPOINT_SLICES), content(slice)));
            }
        }
    }
    mutations.extend(spare.iter().map(|slice| delete(ENDPOINT_SLICES, slice)));
    mutations
}

/// Whether a slice says all that it should, in whatever order.
fn same(slice: &Value, wanted: &Value) -> bool {
    let sorted = |slice: &Value| {
        let mut all: Vec<String> = object::items(slice, &["endpoints"]).map(ToString::to_string).collect();
        all.sort();
        let mut ports: Vec<String> = object::items(slice, &["ports"])
            .map(|port| pods::canonical(&port["name"], port["port"].clone(), port).to_string())
            .collect();
        ports.sort();
        (all, ports)
    };
    slice["metadata"] == wanted["metadata"] && sorted(slice) == sorted(wanted)
}

fn labels(endpoints: &Value) -> Map<String, Value> {
    let mut labels = super::notes(endpoints, "labels");
    labels.insert(SERVICE_NAME.to_owned(), object::name(endpoints).into());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.into());
    labels
}

fn annotations(endpoints: &Value) -> Map<String, Value> {
    let mut annotations = super::notes(endpoints, "annotations");
    annotations.retain(|key, _| key != TRIGGER && key != object::LAST_APPLIED);
    annotations
}
