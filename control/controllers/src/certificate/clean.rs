//! Requests are not kept for ever.

use jiff::{SignedDuration, Timestamp};
use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::Value;

use super::{condition, is_decided, is_issued};
use crate::resources::SIGNING_REQUESTS;
use crate::{Controller, Key, Outcome, World, owner};

/// How long one stays that was granted and signed, or refused; and one that waits.
const DONE: SignedDuration = SignedDuration::from_hours(1);
const WAITING: SignedDuration = SignedDuration::from_hours(24);

/// Deletes old requests.
pub(super) struct Cleaner;

impl Controller for Cleaner {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("certificates.k8s.io", "certificatesigningrequests")]
    }

    fn keys(
        &self,
        _view: &dyn View,
        _of: GroupResource<'_>,
        _old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        new.map(owner::key).into_iter().collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(request) = world.view.get(SIGNING_REQUESTS, &key.0, &key.1) else { return out };
        match end(&request) {
            Some(end) if end <= world.now => out.mutations.push(owner::delete(SIGNING_REQUESTS, &request)),
            Some(end) => out.wake(end),
            None => {}
        }
        out
    }
}

/// When a request is to go; `None` where no time is told.
fn end(request: &Value) -> Option<Timestamp> {
    let told = |kind: &str, stays: SignedDuration| {
        let time = object::text(condition(request, kind)?, &["lastUpdateTime"]);
        time.parse::<Timestamp>().ok()?.checked_add(stays).ok()
    };
    if !is_decided(request) {
        let born = object::text(request, &["metadata", "creationTimestamp"]);
        return born.parse::<Timestamp>().ok()?.checked_add(WAITING).ok();
    }
    let granted = told("Approved", if is_issued(request) { DONE } else { WAITING });
    [told("Denied", DONE), told("Failed", DONE), granted].into_iter().flatten().min()
}
