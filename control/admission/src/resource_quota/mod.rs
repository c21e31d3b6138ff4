//! ResourceQuota: what is written in a namespace is charged to its quotas, in the same transaction.

mod usage;

use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::quantity::{Amount, Quantity};
use proto_kube::status::Result;
use proto_kube::view::View;
use proto_kube::{GroupResource, Resource, object};
use serde_json::{Value, json};

use crate::resources::{self, List, is_positive};
use crate::scene::{Scene, core};
use crate::{Charge, Effects, Operation};

const QUOTAS: GroupResource<'static> = core("resourcequotas");

/// A quota with what it limits and what of that is used.
struct Quota {
    object: Arc<Value>,
    hard: List,
    used: List,
}

/// What nobody keeps, or never was limited.
const IGNORED: [(&str, &str); 8] = [
    ("", "bindings"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
];

pub(crate) fn validate(scene: &Scene<'_>, object: &Value, effects: &mut Effects) -> Result<()> {
    let request = scene.request;
    let Resource { group, plural, .. } = *request.resource;
    let kept = !request.namespace.is_empty() && !IGNORED.contains(&(group, plural));
    if !kept || !usage::is_counted(scene, object) {
        return Ok(());
    }
    let resource = request.resource.group_resource();
    let old = request.old.filter(|_| request.operation == Operation::Update);
    for quota in pertinent(resource, request.namespace, scene.view) {
        let is_in = usage::in_scope(&quota, resource, object);
        // What a status says is so already: it is charged but not refused.
        let refuses = is_in && request.subresource != "status";
        if refuses && let Some(why) = usage::unspecified(resource, &limited(resource, &quota), object) {
            return Err(scene.forbidden(format!("failed quota: {}: {why}", object::name(&quota))));
        }
        if refuses {
            check_signs(scene, &usage::of(resource, object, scene.now))?;
        }
        let change = change(&quota, resource, old, Some(object), scene.now);
        if change.is_empty() {
            continue;
        }
        let quota = Quota::of(quota, scene.view, scene.now);
        if refuses {
            quota.allow(scene, &change)?;
        }
        if !request.dry_run {
            effects.charges.push(quota.charge(&change));
        }
    }
    Ok(())
}

/// What is given back when an object is removed, to be written in the same transaction. Upstream leaves that to a
/// controller, which counts everything anew some time later.
#[must_use]
pub fn release(resource: &Resource, object: &Value, view: &dyn View, now: Timestamp) -> Vec<Charge> {
    let namespace = object::namespace(object);
    if namespace.is_empty() || IGNORED.contains(&(resource.group, resource.plural)) {
        return Vec::new();
    }
    let resource = resource.group_resource();
    let mut charges = Vec::new();
    for quota in pertinent(resource, namespace, view) {
        let change = change(&quota, resource, Some(object), None, now);
        // A quota cannot give back to itself what it is no more.
        let itself = resource == QUOTAS && object::name(&quota) == object::name(object);
        if !change.is_empty() && !itself {
            charges.push(Quota::of(quota, view, now).charge(&change));
        }
    }
    charges
}

/// The quotas of a namespace that limit something about a resource.
fn pertinent(resource: GroupResource<'_>, namespace: &str, view: &dyn View) -> Vec<Arc<Value>> {
    let mut quotas = view.list(QUOTAS, namespace);
    quotas.retain(|quota| !limited(resource, quota).is_empty());
    quotas
}

fn limited(resource: GroupResource<'_>, quota: &Value) -> Vec<String> {
    usage::limited(resource, &resources::of(object::at(quota, &["spec", "hard"])))
}

/// By how much the use of what a quota limits differs between two forms of an object.
fn change(
    quota: &Value,
    resource: GroupResource<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    now: Timestamp,
) -> List {
    let of = |object: Option<&Value>| {
        let object = object.filter(|object| usage::in_scope(quota, resource, object));
        object.map(|object| usage::of(resource, object, now)).unwrap_or_default()
    };
    let (before, mut change) = (of(old), of(new));
    for (name, quantity) in before {
        let own = change.get(&name).copied().unwrap_or_default();
        change.insert(name, own - quantity);
    }
    let names = limited(resource, quota);
    change.retain(|name, quantity| quantity.amount != Amount::default() && names.contains(name));
    change
}

fn check_signs(scene: &Scene<'_>, used: &List) -> Result<()> {
    let negative = used.iter().filter(|(_, quantity)| quantity.amount < Amount::default());
    let names: Vec<&str> = negative.map(|(name, _)| name.as_str()).collect();
    match names.is_empty() {
        true => Ok(()),
        false => {
            Err(scene.forbidden(format!("quota usage is negative for resource(s): {}", names.join(","))))
        }
    }
}

impl Quota {
    /// With its status as it should be: one whose limits changed, or that is new, is counted on the spot.
    fn of(object: Arc<Value>, view: &dyn View, now: Timestamp) -> Self {
        let list = |path: &[&str]| resources::of(object::at(&object, path));
        let (hard, used) = (list(&["spec", "hard"]), list(&["status", "used"]));
        if list(&["status", "hard"]) == hard && hard.keys().all(|name| used.contains_key(name)) {
            return Self { hard, used, object };
        }
        let used = usage::count(&object, &hard, view, now);
        Self { hard, used, object }
    }

    fn allow(&self, scene: &Scene<'_>, change: &List) -> Result<()> {
        let sum = self.with(change);
        let beyond = |name: &str| {
            let amount = |list: &List| list.get(name).map(|quantity| quantity.amount);
            change.get(name).copied().is_some_and(is_positive) && amount(&sum) > amount(&self.hard)
        };
        if !change.keys().any(|name| beyond(name)) {
            return Ok(());
        }
        let show = |list: &List| {
            let shown = list.iter().filter(|(name, _)| beyond(name)).map(|(name, q)| format!("{name}={q}"));
            shown.collect::<Vec<_>>().join(",")
        };
        let name = object::name(&self.object);
        let (asked, used, hard) = (show(change), show(&self.used), show(&self.hard));
        let why = format!("exceeded quota: {name}, requested: {asked}, used: {used}, limited: {hard}");
        Err(scene.forbidden(why))
    }

    /// What is used after a change; never less than nothing, whatever the status said before.
    fn with(&self, change: &List) -> List {
        let mut sum = self.used.clone();
        resources::add(&mut sum, change);
        for quantity in sum.values_mut() {
            if quantity.amount < Amount::default() {
                *quantity = Quantity::default();
            }
        }
        sum
    }

    fn charge(&self, change: &List) -> Charge {
        Charge {
            resource: QUOTAS,
            namespace: object::namespace(&self.object).to_owned(),
            name: object::name(&self.object).to_owned(),
            expect: object::text(&self.object, &["metadata", "resourceVersion"]).to_owned(),
            object: with_status(&self.object, &self.hard, &self.with(change)),
        }
    }
}

fn with_status(quota: &Value, hard: &List, used: &List) -> Value {
    let mut quota = quota.clone();
    quota["status"] = json!({"hard": resources::to_json(hard), "used": resources::to_json(used)});
    quota
}

/// The quota with its status counted anew from what is in its namespace; `None` when it says so already.
#[must_use]
pub fn recount(quota: &Value, view: &dyn View, now: Timestamp) -> Option<Value> {
    let list = |path: &[&str]| resources::of(object::at(quota, path));
    let hard = list(&["spec", "hard"]);
    let used = usage::count(quota, &hard, view, now);
    let same = list(&["status", "hard"]) == hard && list(&["status", "used"]) == used;
    (!same).then(|| with_status(quota, &hard, &used))
}

#[cfg(test)]
mod tests;
