//! The use of quotas. Our API server counts it in the same transaction as each change; what is done here is the first
//! count of a quota, and that of an API server which leaves deletions to a controller.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use proto_kube::view::View;
use proto_kube::{GroupResource, object, pod};
use serde_json::Value;

use crate::clock::after;
use crate::resources::{CONFIG_MAPS, PODS, QUOTAS, REPLICATION_CONTROLLERS, SECRETS};
use crate::write::update_status;
use crate::{Controller, Key, Outcome, World, owner};

/// A count that differs must differ for so long: the server may have counted what the view does not show yet.
const SETTLED: Duration = Duration::from_secs(1);
/// All is counted anew so often.
const EVERY: Duration = Duration::from_mins(5);

/// Counts. What it remembers is which state of a quota seemed wrong, and since when.
#[derive(Default)]
pub(crate) struct Quotas(Mutex<BTreeMap<Key, (String, Timestamp)>>);

impl Controller for Quotas {
    fn name(&self) -> &'static str {
        "resourcequota-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("", "resourcequotas"),
            ("", "pods"),
            ("", "services"),
            ("", "persistentvolumeclaims"),
            ("", "configmaps"),
            ("", "secrets"),
            ("", "replicationcontrollers"),
        ]
    }

    /// Of those that it only counts it needs no more than that they are there; pods are as everywhere.
    fn needs(&self, of: GroupResource<'_>, _object: &Value) -> bool {
        !matches!(of, CONFIG_MAPS | PODS | SECRETS | REPLICATION_CONTROLLERS)
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        match (of, old, new) {
            (QUOTAS, _, Some(quota)) => vec![owner::key(quota)],
            (_, Some(gone), None) => all(view, gone),
            (PODS, Some(old), Some(new)) if pod::has_ended(old) != pod::has_ended(new) => all(view, new),
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = world.view.get(QUOTAS, &key.0, &key.1);
        let (Some(quota), Some(recount)) = (quota, world.facts.recount) else {
            doubts.remove(key);
            return out;
        };
        out.wake(after(world.now, EVERY));
        let Some(counted) = recount(&quota, world.view, world.now) else {
            doubts.remove(key);
            return out;
        };
        let state = object::text(&quota, &["metadata", "resourceVersion"]);
        let is_counted = object::at(&quota, &["status", "hard"]) == object::at(&quota, &["spec", "hard"]);
        let since = doubts.get(key).filter(|(of, _)| of == state).map(|(_, since)| *since);
        let ripe = since.is_some_and(|since| world.now >= after(since, SETTLED));
        if !is_counted || ripe {
            doubts.remove(key);
            out.mutations.push(update_status(QUOTAS, counted));
        } else {
            doubts.insert(key.clone(), (state.to_owned(), since.unwrap_or(world.now)));
            out.wake(after(world.now, SETTLED));
        }
        out
    }
}

/// The quotas that may count an object.
fn all(view: &dyn View, object: &Value) -> Vec<Key> {
    view.list(QUOTAS, object::namespace(object)).iter().map(|quota| owner::key(quota)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::driven::Driven;

    /// One of the pods that are there.
    fn count(quota: &Value, view: &dyn View, _now: Timestamp) -> Option<Value> {
        let mut counted = quota.clone();
        let pods = view.list(PODS, object::namespace(quota)).len().to_string();
        counted["status"] = json!({"hard": quota["spec"]["hard"], "used": {"pods": pods}});
        (counted != *quota).then_some(counted)
    }

    #[test]
    fn the_first_count_is_at_once_and_later_ones_when_they_last() {
        let mut driven = Driven::new(vec![Box::new(Quotas::default())]);
        driven.facts.recount = Some(count);
        driven.objects.put(
            QUOTAS,
            json!({"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": {"pods": "5"}}}),
        );
        let pod = |name: &str| json!({"metadata": {"name": name, "namespace": "ns"}});
        driven.objects.put(PODS, pod("a"));
        driven.objects.put(PODS, pod("b"));
        driven.settle();
        let used = |driven: &Driven| driven.get(QUOTAS, "ns", "q").unwrap()["status"]["used"]["pods"].clone();
        assert_eq!(used(&driven), "2");
        driven.objects.remove(PODS, "ns", "a");
        driven.settle();
        assert_eq!(used(&driven), "2", "the server may have counted already");
        driven.pass(2);
        driven.settle();
        assert_eq!(used(&driven), "1");
    }
}
