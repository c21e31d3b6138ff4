//! Tokens whose time is over are deleted.

use proto_kube::GroupResource;
use proto_kube::view::View;
use serde_json::Value;

use super::{end, is_token};
use crate::resources::SECRETS;
use crate::{Controller, Key, Outcome, World, owner};

/// Deletes tokens.
pub(super) struct Cleaner;

impl Controller for Cleaner {
    fn name(&self) -> &'static str {
        "token-cleaner"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "secrets")]
    }

    fn needs(&self, _of: GroupResource<'_>, object: &Value) -> bool {
        is_token(object)
    }

    fn keys(
        &self,
        _view: &dyn View,
        _of: GroupResource<'_>,
        _old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        new.filter(|secret| is_token(secret)).map(owner::key).into_iter().collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(secret) = world.view.get(SECRETS, &key.0, &key.1).filter(|s| is_token(s)) else {
            return out;
        };
        match end(&secret) {
            Some(end) if end <= world.now => out.mutations.push(owner::delete(SECRETS, &secret)),
            Some(end) => out.wake(end),
            None => {}
        }
        out
    }
}
