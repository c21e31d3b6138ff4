//! Each namespace has an account for pods that name none.

use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::{Value, json};

use crate::resources::{NAMESPACES, SERVICE_ACCOUNTS, served};
use crate::{Controller, Key, Mutation, Outcome, World};

const NAME: &str = "default";

/// Makes the account `default`.
pub(super) struct Default;

impl Controller for Default {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "namespaces"), ("", "serviceaccounts")]
    }

    fn keys(
        &self,
        _view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let name = match (of, old, new) {
            (NAMESPACES, None, Some(namespace)) => object::name(namespace),
            (SERVICE_ACCOUNTS, Some(gone), None) if object::name(gone) == NAME => object::namespace(gone),
            _ => return Vec::new(),
        };
        vec![(String::new(), name.to_owned())]
    }

    fn reconcile(&self, world: &World<'_>, (_, namespace): &Key) -> Outcome {
        let mut out = Outcome::default();
        let lives = world.view.get(NAMESPACES, "", namespace).is_some_and(|n| !object::is_terminating(&n));
        if lives && world.view.get(SERVICE_ACCOUNTS, namespace, NAME).is_none() {
            let account = json!({"metadata": {"name": NAME, "namespace": namespace}});
            out.mutations.push(Mutation::Create(served(SERVICE_ACCOUNTS), account));
        }
        out
    }
}
