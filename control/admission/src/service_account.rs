//! ServiceAccount: each pod has an account, and the account's token is mounted into it.

use std::sync::Arc;

use proto_kube::status::Result;
use proto_kube::{object, pod};
use serde_json::{Value, json};

use crate::scene::Scene;
use crate::{Effects, Operation};

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
/// An hour, and so few seconds more that a server can tell a token of a pod from one that was asked for an hour.
const TOKEN_SECONDS: i64 = 3607;
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

pub(crate) fn admit(scene: &Scene<'_>, pod: &mut Value, effects: &mut Effects) -> Result<()> {
    // A node deletes its mirror pod when it finds it changed.
    if !scene.is_pod() || !scene.creates() || pod::is_mirror(pod) {
        return Ok(());
    }
    let named = ["serviceAccountName", "serviceAccount"].map(|key| object::text(pod, &["spec", key]));
    let name = named.into_iter().find(|name| !name.is_empty()).unwrap_or("default").to_owned();
    let spec = object::member(pod, "spec");
    for key in ["serviceAccountName", "serviceAccount"] {
        spec.insert(key.to_owned(), name.as_str().into());
    }
    let account = account(scene, pod)?;
    let wish = |object: Option<&Value>| object.and_then(Value::as_bool);
    let own = wish(object::at(pod, &["spec", "automountServiceAccountToken"]));
    if own.or(wish(object::at(&account, &["automountServiceAccountToken"]))).unwrap_or(true) {
        mount(pod, scene.request.suffix);
    }
    if object::items(pod, &["spec", "imagePullSecrets"]).next().is_none() {
        let secrets = object::items(&account, &["imagePullSecrets"]);
        let secrets: Vec<Value> = secrets.map(|s| json!({"name": object::text(s, &["name"])})).collect();
        if !secrets.is_empty() {
            pod["spec"]["imagePullSecrets"] = secrets.into();
        }
    }
    validate(scene, pod, effects)
}

pub(crate) fn validate(scene: &Scene<'_>, pod: &Value, _: &mut Effects) -> Result<()> {
    let ephemeral =
        scene.is("", "pods", "ephemeralcontainers") && scene.request.operation == Operation::Update;
    let new = scene.is_pod() && scene.creates();
    if !ephemeral && !new {
        return Ok(());
    }
    if !ephemeral && pod::is_mirror(pod) {
        return mirror(scene, pod);
    }
    let account = account(scene, pod)?;
    let enforced = object::annotations(&account)
        .any(|(key, value)| key == ENFORCE && ["1", "t", "T", "true", "True", "TRUE"].contains(&value));
    match if enforced { beyond(&account, pod, ephemeral) } else { None } {
        Some(why) => Err(scene.forbidden(why)),
        None => Ok(()),
    }
}

/// The account that a pod names.
fn account(scene: &Scene<'_>, pod: &Value) -> Result<Arc<Value>> {
    let namespace = scene.request.namespace;
    let name = object::text(pod, &["spec", "serviceAccountName"]);
    if name.is_empty() {
        let pod = object::name(pod);
        return Err(scene.forbidden(format!("no service account specified for pod {namespace}/{pod}")));
    }
    scene.get("serviceaccounts", name).ok_or_else(|| {
        scene.forbidden(format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ))
    })
}

fn mirror(scene: &Scene<'_>, pod: &Value) -> Result<()> {
    let Some(spec) = pod.get("spec") else { return Ok(()) };
    let sources = object::items(spec, &["volumes"]).flat_map(|v| object::items(v, &["projected", "sources"]));
    let why = if !object::text(spec, &["serviceAccountName"]).is_empty() {
        "a mirror pod may not reference service accounts"
    } else if !pod::secrets(spec).is_empty() {
        "a mirror pod may not reference secrets"
    } else if sources.into_iter().any(|source| object::at(source, &["serviceAccountToken"]).is_some()) {
        "a mirror pod may not use ServiceAccountToken volume projections"
    } else {
        return Ok(());
    };
    Err(scene.forbidden(why))
}

/// Mounts the token, the cluster's CA and the namespace into each container that has nothing mounted there.
fn mount(pod: &mut Value, suffix: &str) {
    let names = object::items(pod, &["spec", "volumes"]).map(|volume| object::text(volume, &["name"]));
    let own = names.into_iter().find(|name| name.starts_with(VOLUME)).map(str::to_owned);
    let name = own.clone().unwrap_or_else(|| format!("{VOLUME}{suffix}"));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let there = |mount: &Value| object::text(mount, &["mountPath"]) == MOUNT;
            let mut mounts: Vec<Value> = object::items(container, &["volumeMounts"]).cloned().collect();
            if !mounts.iter().any(there) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT}));
                container["volumeMounts"] = mounts.into();
                needed = true;
            }
        }
    }
    if needed && own.is_none() {
        let mut volumes: Vec<Value> = object::items(pod, &["spec", "volumes"]).cloned().collect();
        volumes.push(json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{
                "path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
            }]}},
        ]}}));
        pod["spec"]["volumes"] = volumes.into();
    }
}

/// The first secret that a pod refers to beyond those that its account lists, as a refusal.
fn beyond(account: &Value, pod: &Value, ephemeral: bool) -> Option<String> {
    let who = object::name(account);
    let listed =
        |list, name: &str| object::items(account, &[list]).any(|s| object::text(s, &["name"]) == name);
    let end = format!("is not allowed because service account {who} does not reference that secret");
    if !ephemeral {
        let volumes =
            object::items(pod, &["spec", "volumes"]).filter(|v| object::at(v, &["secret"]).is_some());
        let mut names = volumes.map(|volume| object::text(volume, &["secret", "secretName"]));
        if let Some(name) = names.find(|name| !listed("secrets", name)) {
            return Some(format!("volume with secret.secretName=\"{name}\" {end}"));
        }
    }
    let lists: &[(&str, &str)] = match ephemeral {
        true => &[("ephemeralContainers", "ephemeral container")],
        false => &[("initContainers", "init container"), ("containers", "container")],
    };
    for (list, word) in lists {
        for container in object::items(pod, &["spec", list]) {
            let name = object::text(container, &["name"]);
            for variable in object::items(container, &["env"]) {
                let secret = object::text(variable, &["valueFrom", "secretKeyRef", "name"]);
                if !secret.is_empty() && !listed("secrets", secret) {
                    let variable = object::text(variable, &["name"]);
                    return Some(format!(
                        "{word} {name} with envVar {variable} referencing secret.secretName=\"{secret}\" {end}"
                    ));
                }
            }
            for source in object::items(container, &["envFrom"]) {
                let secret = object::text(source, &["secretRef", "name"]);
                if !secret.is_empty() && !listed("secrets", secret) {
                    return Some(format!(
                        "{word} {name} with envFrom referencing secret.secretName=\"{secret}\" {end}"
                    ));
                }
            }
        }
    }
    if ephemeral {
        return None;
    }
    let mut pulls =
        object::items(pod, &["spec", "imagePullSecrets"]).map(|s| object::text(s, &["name"])).enumerate();
    pulls.find(|(_, name)| !listed("imagePullSecrets", name)).map(|(at, name)| {
        format!(
            "imagePullSecrets[{at}].name=\"{name}\" is not allowed because service account {who} does not reference that imagePullSecret"
        )
    })
}

#[cfg(test)]
mod tests;
