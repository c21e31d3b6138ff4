//! What a node must know that joins stands in `kube-public/cluster-info`, signed with each token.

use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::{Map, Value};

use super::{end, is_token, signing};
use crate::resources::{CONFIG_MAPS, SECRETS};
use crate::write::update;
use crate::{Controller, Key, Outcome, World};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const SIGNATURE: &str = "jws-kubeconfig-";

/// Signs.
pub(super) struct Signer;

impl Controller for Signer {
    fn name(&self) -> &'static str {
        "bootstrap-signer"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "configmaps"), ("", "secrets")]
    }

    fn needs(&self, of: GroupResource<'_>, object: &Value) -> bool {
        match of {
            CONFIG_MAPS => object::namespace(object) == NAMESPACE && object::name(object) == NAME,
            _ => is_token(object),
        }
    }

    fn keys(
        &self,
        _view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let concerns = |object: &Value| match of {
            CONFIG_MAPS => object::namespace(object) == NAMESPACE && object::name(object) == NAME,
            _ => is_token(object),
        };
        let any = [old, new].into_iter().flatten().any(concerns);
        if any { vec![(NAMESPACE.to_owned(), NAME.to_owned())] } else { Vec::new() }
    }

    fn reconcile(&self, world: &World<'_>, _key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(map) = world.view.get(CONFIG_MAPS, NAMESPACE, NAME) else { return out };
        let Some(sign) = world.facts.sign else { return out };
        let Some(text) = object::at(&map, &["data", "kubeconfig"]).and_then(Value::as_str) else {
            return out;
        };
        let secrets = world.view.list(SECRETS, super::NAMESPACE);
        let mut data = map["data"].as_object().cloned().unwrap_or_else(Map::new);
        data.retain(|key, _| !key.starts_with(SIGNATURE));
        for (id, secret) in signing(&secrets, world.now) {
            data.insert(format!("{SIGNATURE}{id}"), sign(text, &id, &secret).into());
        }
        let next =
            secrets.iter().filter(|s| is_token(s)).filter_map(|s| end(s)).filter(|end| *end > world.now);
        if let Some(next) = next.min() {
            out.wake(next);
        }
        if map["data"].as_object() != Some(&data) {
            let mut map = (*map).clone();
            map["data"] = data.into();
            out.mutations.push(update(CONFIG_MAPS, map));
        }
        out
    }
}
