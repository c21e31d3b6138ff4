//! A pod that was said to be disrupted and still runs was not.

use jiff::{SignedDuration, Timestamp};
use proto_kube::view::View;
use proto_kube::{GroupResource, object, pod};
use serde_json::Value;

use crate::conditions::stamp;
use crate::resources::{PODS, served};
use crate::{Controller, Key, Mutation, Outcome, World, owner};

const KIND: &str = "DisruptionTarget";
/// How long nobody doubts it.
const DOUBTED: SignedDuration = SignedDuration::from_mins(2);

/// Takes the condition back.
pub(super) struct Stale;

impl Controller for Stale {
    fn name(&self) -> &'static str {
        "disruption-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "pods")]
    }

    fn keys(
        &self,
        _view: &dyn View,
        _of: GroupResource<'_>,
        _old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        new.filter(|pod| is_said(pod)).map(owner::key).into_iter().collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(pod) = world.view.get(PODS, &key.0, &key.1).filter(|pod| is_said(pod)) else { return out };
        let since = pod::condition(&pod, KIND).map_or("", |c| object::text(c, &["lastTransitionTime"]));
        let doubted = since.parse::<Timestamp>().ok().and_then(|since| since.checked_add(DOUBTED).ok());
        if let Some(doubted) = doubted.filter(|time| *time > world.now) {
            out.wake(doubted);
            return out;
        }
        let mut conditions: Vec<Value> = object::items(&pod, &["status", "conditions"]).cloned().collect();
        for condition in conditions.iter_mut().filter(|c| c["type"] == KIND) {
            condition["status"] = "False".into();
            condition["lastTransitionTime"] = stamp(world.now);
            for member in ["reason", "message"] {
                condition.as_object_mut().map(|condition| condition.remove(member));
            }
        }
        let mut patch = owner::guarded(&pod);
        patch["status"]["conditions"] = conditions.into();
        out.mutations.push(Mutation::Merge(served(PODS), key.clone(), Some("status"), patch));
        out
    }
}

fn is_said(pod: &Value) -> bool {
    let said = pod::condition(pod, KIND)
        .is_some_and(|c| c["status"] == "True" && c["reason"] != "TerminationByKubelet");
    said && !object::is_terminating(pod) && !pod::has_ended(pod)
}
