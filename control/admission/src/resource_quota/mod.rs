//! ResourceQuota: what is written in a namespace is charged to its quotas, in the same transaction.

mod usage;

use std::sync::Arc;

use jiff::Timestamp;
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
    for quota in scene.view.list(QUOTAS, request.namespace) {
        let quota = Quota::of(quota, scene.view, scene.now);
        let limited = usage::limited(resource, &quota.hard);
        if limited.is_empty() || !usage::in_scope(&quota.object, resource, object) {
            continue;
        }
        if let Some(why) = usage::unspecified(resource, &limited, object) {
            return Err(scene.forbidden(format!("failed quota: {}: {why}", object::name(&quota.object))));
        }
        let asked = asked(scene, resource, &quota, object)?;
        if asked.is_empty() {
            continue;
        }
        // What a status says is so already: it is charged but not refused.
        if request.subresource != "status" {
            quota.allow(scene, &asked)?;
        }
        if !request.dry_run {
            effects.charges.push(quota.charge(&asked));
        }
    }
    Ok(())
}

/// What an object takes of a quota beyond what its old form took already.
fn asked(scene: &Scene<'_>, resource: GroupResource<'_>, quota: &Quota, object: &Value) -> Result<List> {
    let mut asked = usage::of(resource, object, scene.now);
    let negative: Vec<&str> = asked
        .iter()
        .filter(|(_, quantity)| quantity.amount < proto_kube::quantity::Amount::default())
        .map(|(name, _)| name.as_str())
        .collect();
    if !negative.is_empty() {
        let list = negative.join(",");
        return Err(scene.forbidden(format!("quota usage is negative for resource(s): {list}")));
    }
    let old = scene.request.old.filter(|_| scene.request.operation == Operation::Update);
    if let Some(old) = old.filter(|old| usage::in_scope(&quota.object, resource, old)) {
        let before = usage::of(resource, old, scene.now);
        for (name, quantity) in &mut asked {
            if let Some(before) = before.get(name) {
                *quantity = *quantity - *before;
            }
        }
    }
    asked.retain(|name, quantity| is_positive(*quantity) && quota.hard.contains_key(name));
    Ok(asked)
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

    fn allow(&self, scene: &Scene<'_>, asked: &List) -> Result<()> {
        let sum = self.with(asked);
        let beyond = |name: &str| {
            let bound = |list: &List| list.get(name).map(|quantity| quantity.amount);
            asked.contains_key(name) && bound(&sum) > bound(&self.hard)
        };
        if !asked.keys().any(|name| beyond(name)) {
            return Ok(());
        }
        let show = |list: &List| {
            let shown = list.iter().filter(|(name, _)| beyond(name)).map(|(name, q)| format!("{name}={q}"));
            shown.collect::<Vec<_>>().join(",")
        };
        let name = object::name(&self.object);
        let (asked, used, hard) = (show(asked), show(&self.used), show(&self.hard));
        let why = format!("exceeded quota: {name}, requested: {asked}, used: {used}, limited: {hard}");
        Err(scene.forbidden(why))
    }

    fn with(&self, asked: &List) -> List {
        let mut sum = self.used.clone();
        resources::add(&mut sum, asked);
        sum
    }

    fn charge(&self, asked: &List) -> Charge {
        Charge {
            resource: QUOTAS,
            namespace: object::namespace(&self.object).to_owned(),
            name: object::name(&self.object).to_owned(),
            expect: object::text(&self.object, &["metadata", "resourceVersion"]).to_owned(),
            object: with_status(&self.object, &self.hard, &self.with(asked)),
        }
    }
}

fn with_status(quota: &Value, hard: &List, used: &List) -> Value {
    let mut quota = quota.clone();
    quota["status"] = json!({"hard": resources::to_json(hard), "used": resources::to_json(used)});
    quota
}

/// The quota with its status counted anew from what is in its namespace; `None` when it says so already. What is deleted
/// or has ended is given back by this alone, so somebody must ask after each deletion in a namespace with quotas.
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
