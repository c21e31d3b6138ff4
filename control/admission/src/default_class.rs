//! DefaultStorageClass and DefaultIngressClass: what names no class gets the default one.

use proto_kube::status::Result;
use proto_kube::{GroupResource, object};
use serde_json::Value;

use crate::Effects;
use crate::scene::Scene;

pub(crate) fn admit_claim(scene: &Scene<'_>, claim: &mut Value, _: &mut Effects) -> Result<()> {
    let named = has_annotation(claim, "volume.beta.kubernetes.io/storage-class")
        || object::at(claim, &["spec", "storageClassName"]).is_some();
    if !scene.is("", "persistentvolumeclaims", "") || named {
        return Ok(());
    }
    let marks =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let classes = GroupResource { group: "storage.k8s.io", resource: "storageclasses" };
    if let Some(name) = default(scene, classes, &marks) {
        object::member(claim, "spec").insert("storageClassName".to_owned(), name.into());
    }
    Ok(())
}

pub(crate) fn admit_ingress(scene: &Scene<'_>, ingress: &mut Value, _: &mut Effects) -> Result<()> {
    let named = has_annotation(ingress, "kubernetes.io/ingress.class")
        || object::at(ingress, &["spec", "ingressClassName"]).is_some();
    if !scene.is("networking.k8s.io", "ingresses", "") || named {
        return Ok(());
    }
    let classes = GroupResource { group: "networking.k8s.io", resource: "ingressclasses" };
    if let Some(name) = default(scene, classes, &["ingressclass.kubernetes.io/is-default-class"]) {
        object::member(ingress, "spec").insert("ingressClassName".to_owned(), name.into());
    }
    Ok(())
}

fn has_annotation(object: &Value, key: &str) -> bool {
    object::annotations(object).any(|(k, _)| k == key)
}

/// The newest class with one of the marks; of several of one age the first by name.
fn default(scene: &Scene<'_>, classes: GroupResource<'_>, marks: &[&str]) -> Option<String> {
    let marked = |class: &Value| object::annotations(class).any(|(k, v)| marks.contains(&k) && v == "true");
    let mut classes = scene.view.list(classes, "");
    classes.retain(|class| marked(class));
    classes.sort_by(|a, b| {
        let age = |class| object::text(class, &["metadata", "creationTimestamp"]);
        age(b).cmp(age(a)).then_with(|| object::name(a).cmp(object::name(b)))
    });
    classes.first().map(|class| object::name(class).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::{Ask, Cluster};

    fn class(name: &str, mark: &str, made: &str) -> Value {
        json!({"metadata": {"name": name, "annotations": {mark: "true"}, "creationTimestamp": made}})
    }

    #[test]
    fn the_newest_default_is_taken() {
        let mark = "storageclass.kubernetes.io/is-default-class";
        let none = Cluster::usual().and(
            "storage.k8s.io",
            "storageclasses",
            class("slow", "other", "2026-01-09T00:00:00Z"),
        );
        let ask = Ask::create("", "persistentvolumeclaims");
        let claim = json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": {}});
        let mut left = claim.clone();
        ask.admit(&mut left, &none).unwrap();
        assert!(left["spec"].get("storageClassName").is_none());
        let cluster = none
            .and("storage.k8s.io", "storageclasses", class("old", mark, "2026-01-01T00:00:00Z"))
            .and("storage.k8s.io", "storageclasses", class("b", mark, "2026-01-02T00:00:00Z"))
            .and("storage.k8s.io", "storageclasses", class("a", mark, "2026-01-02T00:00:00Z"));
        let mut given = claim.clone();
        ask.admit(&mut given, &cluster).unwrap();
        assert_eq!(given["spec"]["storageClassName"], "a");
        for asked in [json!(""), json!("mine")] {
            let mut own = claim.clone();
            own["spec"]["storageClassName"] = asked.clone();
            ask.admit(&mut own, &cluster).unwrap();
            assert_eq!(own["spec"]["storageClassName"], asked);
        }
    }

    #[test]
    fn an_ingress_gets_the_default_class() {
        let class = class("nginx", "ingressclass.kubernetes.io/is-default-class", "");
        let cluster = Cluster::usual().and("networking.k8s.io", "ingressclasses", class);
        let ask = Ask::create("networking.k8s.io", "ingresses");
        let mut ingress = json!({"metadata": {"name": "c", "namespace": "ns"}});
        ask.admit(&mut ingress, &cluster).unwrap();
        assert_eq!(ingress["spec"]["ingressClassName"], "nginx");
        let mut own = json!({"metadata": {"name": "c", "namespace": "ns", "annotations": {"kubernetes.io/ingress.class": "x"}}});
        ask.admit(&mut own, &cluster).unwrap();
        assert!(own.get("spec").is_none());
    }
}
