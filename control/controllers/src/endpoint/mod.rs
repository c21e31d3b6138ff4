//! Where services lead: `EndpointSlice`s, the older `Endpoints`, and slices that mirror `Endpoints` made by hand.

mod classic;
mod mirror;
mod pack;
mod pods;
mod slices;
mod subsets;

use std::sync::Arc;

use proto_kube::{object, view::View};
use serde_json::{Map, Value};

use crate::names::{self, Hash};
use crate::resources::ENDPOINT_SLICES;
use crate::{Controller, Key};

/// Those who write them.
pub(crate) fn all() -> Vec<Box<dyn Controller>> {
    vec![Box::new(slices::EndpointSlices), Box::new(classic::Endpoints), Box::new(mirror::Mirror)]
}

/// When what the endpoints follow from has changed.
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const HEADLESS: &str = "service.kubernetes.io/headless";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who has leases in the annotations of `Endpoints`, as was usual once, is no service.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// Whether a service has an address of its own.
fn has_address(service: &Value) -> bool {
    !matches!(object::text(service, &["spec", "clusterIP"]), "" | "None")
}

/// A label or annotation.
fn note<'a>(object: &'a Value, map: &str, key: &str) -> &'a str {
    object::text(object, &["metadata", map, key])
}

/// Labels or annotations; empty where there are none.
fn notes(object: &Value, map: &str) -> Map<String, Value> {
    object::at(object, &["metadata", map]).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The slices of a service that a controller looks after.
fn slices_of(view: &dyn View, namespace: &str, service: &str, manager: &str) -> Vec<Arc<Value>> {
    let mut slices = view.list(ENDPOINT_SLICES, namespace);
    slices.retain(|s| note(s, "labels", SERVICE_NAME) == service && note(s, "labels", MANAGED_BY) == manager);
    slices
}

/// The service of a slice that a controller looks after.
fn service_of(slice: &Value, manager: &str) -> Option<Key> {
    let service = note(slice, "labels", SERVICE_NAME);
    let ours = note(slice, "labels", MANAGED_BY) == manager && !service.is_empty();
    ours.then(|| (object::namespace(slice).to_owned(), service.to_owned()))
}

/// A name of a slice that nobody has yet, for endpoints that have these `ports` and family.
fn fresh_name(view: &dyn View, owner: &Value, ports: &Value, given: &mut Vec<String>) -> String {
    let seed = Hash::new().text(object::uid(owner)).value(ports);
    let namespace = object::namespace(owner);
    let taken =
        |name: &str| given.iter().any(|n| n == name) || view.get(ENDPOINT_SLICES, namespace, name).is_some();
    let prefix = format!("{}-", object::name(owner));
    let name = names::fresh(&prefix, seed, taken).next().expect("there is always another");
    given.push(name.clone());
    name
}

#[cfg(test)]
mod tests;
