//! NamespaceLifecycle: nothing is made in a namespace that is missing or going, and some namespaces stay.

use proto_kube::status::Result;
use proto_kube::{Status, object};
use serde_json::{Value, json};

use crate::scene::{Scene, core};
use crate::{Effects, Operation};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(crate) fn admit(scene: &Scene<'_>, _: &mut Value, _: &mut Effects) -> Result<()> {
    let request = scene.request;
    let (group, resource) = (request.resource.group, request.resource.plural);
    let deletes = request.operation == Operation::Delete;
    if (group, resource) == ("", "namespaces") {
        return match deletes && IMMORTAL.contains(&request.name) {
            true => Err(scene.forbidden("this namespace may not be deleted")),
            false => Ok(()),
        };
    }
    // An access review must not tell which namespaces there are.
    let review = (group, resource) == ("authorization.k8s.io", "localsubjectaccessreviews");
    if request.namespace.is_empty() || deletes || review {
        return Ok(());
    }
    let Some(namespace) = scene.view.get(core("namespaces"), "", request.namespace) else {
        return Err(Status::not_found(core("namespaces"), request.namespace));
    };
    let going = object::text(&namespace, &["status", "phase"]) == "Terminating";
    if going && scene.creates() {
        let name = request.namespace;
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let cause = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {name} is being terminated"),
            "field": "metadata.namespace",
        }]);
        return Err(scene.forbidden(why).with_detail("causes", cause));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Ask, Cluster, pod};

    #[test]
    fn a_namespace_must_be_there_and_stay() {
        let namespace =
            |name: &str, phase: &str| json!({"metadata": {"name": name}, "status": {"phase": phase}});
        let cluster = Cluster::usual().and("", "namespaces", namespace("going", "Terminating")).and(
            "",
            "namespaces",
            namespace("default", "Active"),
        );
        let secret = |namespace: &str| json!({"metadata": {"name": "a", "namespace": namespace}});
        let create = Ask::create("", "secrets");
        assert_eq!(create.refusal(&secret("ns"), &cluster), "");
        let missing = create.admit(&mut secret("no"), &cluster).unwrap_err();
        assert_eq!((missing.code, missing.message.as_str()), (404, "namespaces \"no\" not found"));
        let going = create.admit(&mut secret("going"), &cluster).unwrap_err();
        assert_eq!(
            going.message,
            "secrets \"a\" is forbidden: unable to create new content in namespace going because it is being terminated"
        );
        assert_eq!(going.details["causes"][0]["reason"], "NamespaceTerminating");
        let old = secret("going");
        assert_eq!(Ask::update("", "secrets", old.clone()).refusal(&old, &cluster), "");
        assert_eq!(Ask::delete("", "secrets", old).refusal(&Value::Null, &cluster), "");
        assert_eq!(
            Ask::delete("", "namespaces", namespace("default", "Active")).refusal(&Value::Null, &cluster),
            "namespaces \"default\" is forbidden: this namespace may not be deleted"
        );
        assert_eq!(Ask::delete("", "namespaces", namespace("ns", "")).refusal(&Value::Null, &cluster), "");
        let review = Ask::create("authorization.k8s.io", "localsubjectaccessreviews");
        assert_eq!(review.refusal(&secret("no"), &cluster), "");
        assert_eq!(
            Ask::create("", "nodes").refusal(&json!({"metadata": {"name": "n"}, "spec": {}}), &cluster),
            ""
        );
        assert_ne!(
            Ask::create("", "pods")
                .sub("eviction")
                .refusal(&json!({"metadata": {"name": "p", "namespace": "going"}}), &cluster),
            ""
        );
        assert_eq!(create.refusal(&pod("p"), &cluster), "");
    }
}
