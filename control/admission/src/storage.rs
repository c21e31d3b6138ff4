//! StorageObjectInUseProtection and PersistentVolumeClaimResize.

use proto_kube::quantity::Quantity;
use proto_kube::status::Result;
use proto_kube::{GroupResource, object};
use serde_json::{Value, json};

use crate::Effects;
use crate::scene::Scene;

/// Adds the finalizer that keeps an object as long as something uses it.
pub(crate) fn protect(scene: &Scene<'_>, object: &mut Value, _: &mut Effects) -> Result<()> {
    let resource = scene.request.resource;
    let finalizer = match (resource.group, resource.plural, scene.request.subresource) {
        ("", "persistentvolumes", "") => "kubernetes.io/pv-protection",
        ("", "persistentvolumeclaims", "") => "kubernetes.io/pvc-protection",
        ("storage.k8s.io", "volumeattributesclasses", "") => "kubernetes.io/vac-protection",
        _ => return Ok(()),
    };
    let finalizers = object::metadata(object).entry("finalizers").or_insert_with(|| json!([]));
    if finalizers.is_null() {
        *finalizers = json!([]);
    }
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|f| f == finalizer)
    {
        finalizers.push(finalizer.into());
    }
    Ok(())
}

/// Lets a claim grow only where its class can make it.
pub(crate) fn validate_resize(scene: &Scene<'_>, claim: &Value, _: &mut Effects) -> Result<()> {
    let (true, Some(old)) = (scene.is("", "persistentvolumeclaims", ""), scene.request.old) else {
        return Ok(());
    };
    let size = |claim| {
        let size = object::at(claim, &["spec", "resources", "requests", "storage"]);
        size.map(Quantity::of).unwrap_or_default().amount
    };
    if size(claim) <= size(old) {
        return Ok(());
    }
    if object::text(old, &["status", "phase"]) != "Bound" {
        return Err(scene.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let name = class(claim);
    let classes = GroupResource { group: "storage.k8s.io", resource: "storageclasses" };
    let grows = |class: &Value| class["allowVolumeExpansion"] == true;
    if name.is_empty() || name != class(old) || !scene.view.get(classes, "", name).is_some_and(|c| grows(&c))
    {
        return Err(scene.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ));
    }
    Ok(())
}

/// The class that a claim names; the annotation of old wins.
pub(crate) fn class(claim: &Value) -> &str {
    let annotation =
        object::annotations(claim).find(|(k, _)| *k == "volume.beta.kubernetes.io/storage-class");
    annotation.map_or_else(|| object::text(claim, &["spec", "storageClassName"]), |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Ask, Cluster};

    fn claim(class: &str, size: &str, phase: &str) -> Value {
        json!({"metadata": {"name": "c", "namespace": "ns"}, "status": {"phase": phase}, "spec": {
            "storageClassName": class, "resources": {"requests": {"storage": size}},
        }})
    }

    #[test]
    fn what_is_used_is_kept() {
        for (group, resource, finalizer) in [
            ("", "persistentvolumes", "kubernetes.io/pv-protection"),
            ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
            ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
        ] {
            let mut object = json!({"metadata": {"name": "a", "finalizers": ["x"]}});
            for _ in 0..2 {
                Ask::create(group, resource).admit(&mut object, &Cluster::usual()).unwrap();
                assert_eq!(object["metadata"]["finalizers"], json!(["x", finalizer]));
            }
        }
    }

    #[test]
    fn a_claim_grows_where_its_class_can() {
        let class =
            |name: &str, grows: bool| json!({"metadata": {"name": name}, "allowVolumeExpansion": grows});
        let cluster = Cluster::usual().and("storage.k8s.io", "storageclasses", class("fast", true)).and(
            "storage.k8s.io",
            "storageclasses",
            class("fixed", false),
        );
        let no = "persistentvolumeclaims \"c\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        let unbound =
            "persistentvolumeclaims \"c\" is forbidden: Only bound persistent volume claims can be expanded";
        for (name, to, phase, refusal) in [
            ("fast", "2Gi", "Bound", ""),
            ("fixed", "2Gi", "Bound", no),
            ("", "2Gi", "Bound", no),
            ("gone", "2Gi", "Bound", no),
            ("fast", "2Gi", "Pending", unbound),
            ("fixed", "1024Mi", "Pending", ""),
            ("fixed", "1", "Bound", ""),
        ] {
            let ask = Ask::update("", "persistentvolumeclaims", claim(name, "1Gi", phase));
            assert_eq!(ask.refusal(&claim(name, to, phase), &cluster), refusal, "{name} {to} {phase}");
        }
    }
}
