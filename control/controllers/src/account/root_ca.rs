//! Each namespace has the certificates by which its pods trust the API server.

use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::{Value, json};

use crate::resources::{CONFIG_MAPS, NAMESPACES, served};
use crate::write::update;
use crate::{Controller, Key, Mutation, Outcome, World};

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
/// Here the API server publishes the authorities that it has renewed.
const FIRST: &str = "kube-system";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);
const END: &str = "-----END CERTIFICATE-----";

/// Keeps the config map `kube-root-ca.crt`.
pub(super) struct RootCa;

impl Controller for RootCa {
    fn name(&self) -> &'static str {
        "root-ca-cert-publisher"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "namespaces"), ("", "configmaps")]
    }

    fn needs(&self, of: GroupResource<'_>, object: &Value) -> bool {
        of != CONFIG_MAPS || object::name(object) == NAME
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let Some(object) = new.or(old) else { return Vec::new() };
        let key = |namespace: &str| (String::new(), namespace.to_owned());
        match of {
            NAMESPACES if old.is_none() => vec![key(object::name(object))],
            CONFIG_MAPS if object::name(object) == NAME && object::namespace(object) == FIRST => {
                view.list(NAMESPACES, "").iter().map(|namespace| key(object::name(namespace))).collect()
            }
            CONFIG_MAPS if object::name(object) == NAME => vec![key(object::namespace(object))],
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, world: &World<'_>, (_, namespace): &Key) -> Outcome {
        let mut out = Outcome::default();
        let lives = world.view.get(NAMESPACES, "", namespace).is_some_and(|n| !object::is_terminating(&n));
        if !lives || world.facts.root_ca.is_empty() {
            return out;
        }
        let data = json!({FILE: wanted(world)});
        match world.view.get(CONFIG_MAPS, namespace, NAME) {
            Some(map) if map["data"] == data => {}
            Some(map) => {
                let mut map = (*map).clone();
                map["data"] = data;
                map["metadata"]["annotations"][DESCRIPTION.0] = DESCRIPTION.1.into();
                out.mutations.push(update(CONFIG_MAPS, map));
            }
            None => {
                let meta = json!({"name": NAME, "namespace": namespace,
                    "annotations": {DESCRIPTION.0: DESCRIPTION.1}});
                let map = json!({"metadata": meta, "data": data});
                out.mutations.push(Mutation::Create(served(CONFIG_MAPS), map));
            }
        }
        out
    }
}

/// The certificates that all should have: those that this process was started with, and those that an API server has
/// published since. None is taken away: another server may still be known by it.
pub(super) fn wanted(world: &World<'_>) -> String {
    let ours = &world.facts.root_ca;
    let Some(published) = world.view.get(CONFIG_MAPS, FIRST, NAME) else { return ours.clone() };
    let published = object::text(&published, &["data", FILE]);
    let bodies = |text: &str| -> Vec<String> {
        let parts = text.split_inclusive(END).filter(|part| part.contains(END));
        parts.map(|part| part.trim().to_owned()).collect()
    };
    let (mine, theirs) = (bodies(ours), bodies(published));
    if mine.iter().all(|certificate| theirs.contains(certificate)) && !mine.is_empty() {
        return published.to_owned();
    }
    let others = theirs.iter().filter(|certificate| !mine.contains(certificate));
    others.fold(ours.clone(), |text, certificate| format!("{}\n{certificate}\n", text.trim_end()))
}
