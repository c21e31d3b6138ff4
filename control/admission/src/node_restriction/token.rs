//! The tokens that a node may ask for: those of its pods, for whom its pods use them.

use proto_kube::status::Result;
use proto_kube::{GroupResource, Status, object, pod};
use serde_json::Value;

use crate::scene::{Scene, core};

pub(super) fn admit(scene: &Scene<'_>, node: &str, token: &Value) -> Result<()> {
    let text = |key| object::text(token, &["spec", "boundObjectRef", key]);
    if (text("apiVersion"), text("kind")) != ("v1", "Pod") || text("name").is_empty() {
        return Err(scene.forbidden("node requested token not bound to a pod"));
    }
    if text("uid").is_empty() {
        return Err(scene.forbidden("node requested token with a pod binding without a uid"));
    }
    let Some(pod) = scene.get("pods", text("name")) else {
        return Err(Status::not_found(core("pods"), text("name")));
    };
    if text("uid") != object::uid(&pod) {
        return Err(scene.forbidden(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        )));
    }
    if object::text(&pod, &["spec", "nodeName"]) != node {
        return Err(scene.forbidden("node requested token bound to a pod scheduled on a different node"));
    }
    let audiences: Vec<&str> =
        object::items(token, &["spec", "audiences"]).filter_map(Value::as_str).collect();
    let audience = match audiences.as_slice() {
        [] => "",
        [one] => one,
        _ => return Err(scene.forbidden("node may only request 0 or 1 audiences")),
    };
    let request = scene.request;
    let may = || {
        let resource = GroupResource { group: "", resource: audience };
        (request.may)("request-serviceaccounts-token-audience", resource, request.namespace, request.name)
    };
    if uses(scene, &pod, audience) || may() {
        return Ok(());
    }
    Err(scene.forbidden(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        request.user.name
    )))
}

/// Whether a volume of the pod, or the driver of one, uses a token for an audience.
fn uses(scene: &Scene<'_>, pod: &Value, audience: &str) -> bool {
    object::items(pod, &["spec", "volumes"]).any(|volume| {
        let token = |source: &Value| {
            let token = object::at(source, &["serviceAccountToken"]);
            token.is_some_and(|token| object::text(token, &["audience"]) == audience)
        };
        object::items(volume, &["projected", "sources"]).any(token)
            || driver(scene, pod, volume).is_some_and(|name| takes(scene, &name, audience))
    })
}

/// The CSI driver of a volume.
fn driver(scene: &Scene<'_>, pod: &Value, volume: &Value) -> Option<String> {
    let inline = object::text(volume, &["csi", "driver"]);
    if !inline.is_empty() {
        return Some(inline.to_owned());
    }
    let claim = scene.get("persistentvolumeclaims", &pod::claim(pod, volume)?)?;
    let name = object::text(&claim, &["spec", "volumeName"]);
    let volume = scene.view.get(core("persistentvolumes"), "", name)?;
    Some(object::text(&volume, &["spec", "csi", "driver"]).to_owned())
}

fn takes(scene: &Scene<'_>, driver: &str, audience: &str) -> bool {
    let drivers = GroupResource { group: "storage.k8s.io", resource: "csidrivers" };
    let driver = scene.view.get(drivers, "", driver);
    driver.is_some_and(|driver| {
        object::items(&driver, &["spec", "tokenRequests"]).any(|r| object::text(r, &["audience"]) == audience)
    })
}
