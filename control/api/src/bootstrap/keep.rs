//! Keeping what must always be there, as events come.

use std::sync::Arc;
use std::time::Duration;

use pki::{Csr, Signer};
use proto_kube::{GroupResource, Resource, object, resource};
use serde_json::{Value, json};
use store::{Range, Txn, Watch, Write};
use tokio_util::sync::CancellationToken;

use super::drain::Drain;
use super::gather::gather;
use super::{ensure, objects};
use crate::rest;
use crate::server::Server;
use crate::stored;

/// After a failure, how long until all is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// Runs until `shutdown`.
pub async fn keep(server: Arc<Server>, shutdown: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = follow(&server).await {
                tracing::warn!(error, "keeping the cluster's own objects");
            }
            if server.ends.is_cancelled() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

/// Looks at everything once, then at what changes; ends when the store does, or something fails.
async fn follow(server: &Arc<Server>) -> Result<(), String> {
    let find =
        |group, plural| resource::preferred(GroupResource { group, resource: plural }).ok_or("not served");
    let namespaces = find("", "namespaces")?;
    let accounts = find("", "serviceaccounts")?;
    let maps = find("", "configmaps")?;
    let requests = find("certificates.k8s.io", "certificatesigningrequests")?;
    let roles = find("rbac.authorization.k8s.io", "clusterroles")?;
    let (present, mut of_namespaces) = open(server, namespaces)?;
    let mut of_accounts = changes(server, accounts, server.store.revision())?;
    let mut of_maps = changes(server, maps, server.store.revision())?;
    let (asked, mut of_requests) = open(server, requests)?;
    let mut of_roles = changes(server, roles, server.store.revision())?;
    gather(server, roles).await?;
    let drain = Drain::default();
    for namespace in &present {
        complete(server, &drain, namespace).await?;
    }
    for request in &asked {
        sign(server, request).await?;
    }
    loop {
        tokio::select! {
            changed = next(&mut of_namespaces) => {
                for (_, object) in changed? {
                    if let Some(namespace) = object {
                        complete(server, &drain, &namespace).await?;
                    }
                }
            }
            changed = next(&mut of_accounts) => restore(server, &drain, accounts, changed?).await?,
            changed = next(&mut of_maps) => restore(server, &drain, maps, changed?).await?,
            changed = next(&mut of_roles) => {
                changed?;
                gather(server, roles).await?;
            }
            changed = next(&mut of_requests) => {
                for (_, object) in changed? {
                    if let Some(request) = object {
                        sign(server, &request).await?;
                    }
                }
            }
        }
    }
}

/// The objects of a resource, and a watch of what comes after.
fn open(server: &Server, resource: &Resource) -> Result<(Vec<Value>, Watch<rest::Index>), String> {
    let prefix = resource.prefix().ok_or("not kept")?;
    let page = server.store.range(&prefix, Range::default()).map_err(|e| e.to_string())?;
    let objects = page.entries.iter().filter_map(|e| serde_json::from_slice(&e.value).ok()).collect();
    Ok((objects, changes(server, resource, page.revision)?))
}

/// A watch of the objects of a resource, of which there may be very many.
fn changes(server: &Server, resource: &Resource, after: i64) -> Result<Watch<rest::Index>, String> {
    let prefix = resource.prefix().ok_or("not kept")?;
    server.store.watch(&prefix, after).map_err(|e| e.to_string())
}

/// What has changed: keys, and the objects if they are still there.
async fn next(watch: &mut Watch<rest::Index>) -> Result<Vec<(String, Option<Value>)>, String> {
    let batch = watch.next().await.ok_or("the store is closed")?.map_err(|e| e.to_string())?;
    let read = |event: &store::Event<rest::Index>| {
        let object = event.entry.as_ref().and_then(|e| serde_json::from_slice(&e.value).ok());
        (event.key().to_owned(), object)
    };
    Ok(batch.events.iter().map(read).collect())
}

/// Gives a namespace what every namespace has; empties it when it is on its way out.
async fn complete(server: &Arc<Server>, drain: &Drain, namespace: &Value) -> Result<(), String> {
    if object::is_terminating(namespace) {
        drain.start(server, namespace);
        return Ok(());
    }
    ensure(server, &objects::of_namespace(server, object::name(namespace))).await
}

/// Looks at the namespaces of objects that were deleted or changed and may have to be as they were.
async fn restore(
    server: &Arc<Server>,
    drain: &Drain,
    resource: &Resource,
    changed: Vec<(String, Option<Value>)>,
) -> Result<(), String> {
    let prefix = resource.prefix().unwrap_or_default();
    for (key, _) in changed {
        let Some((namespace, name)) = key.strip_prefix(&prefix).and_then(|rest| rest.split_once('/')) else {
            continue;
        };
        if !matches!(name, "default" | "kube-root-ca.crt") {
            continue;
        }
        let entry = server.store.get(&format!("/registry/namespaces/{namespace}"));
        if let Some(namespace) = entry.and_then(|e| serde_json::from_slice::<Value>(&e.value).ok()) {
            complete(server, drain, &namespace).await?;
        }
    }
    Ok(())
}

/// Signs a request that has been approved and that our authority stands behind; says so in its status when it does
/// not.
async fn sign(server: &Server, request: &Value) -> Result<(), String> {
    let condition = |kind: &str| object::items(request, &["status", "conditions"]).any(|c| c["type"] == kind);
    let done = !object::text(request, &["status", "certificate"]).is_empty();
    if done || !condition("Approved") || condition("Denied") || condition("Failed") {
        return Ok(());
    }
    let Some(signer) = Signer::named(object::text(request, &["spec", "signerName"])) else { return Ok(()) };
    let key = format!("/registry/certificatesigningrequests/{}", object::name(request));
    let Some(entry) = server.store.get(&key) else { return Ok(()) };
    let mut changed: Value = serde_json::from_slice(&entry.value).map_err(|e| e.to_string())?;
    if object::uid(&changed) != object::uid(request)
        || object::at(&changed, &["status", "certificate"]).is_some()
    {
        return Ok(());
    }
    let now = server.now();
    match certificate(server, signer, request, now) {
        Ok(certificate) => changed["status"]["certificate"] = certificate.into(),
        Err(why) => {
            let time = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
            let failed = json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure",
                "message": why, "lastTransitionTime": time, "lastUpdateTime": time});
            if let Some(conditions) = changed["status"]["conditions"].as_array_mut() {
                conditions.push(failed);
            }
        }
    }
    let write = Write::update(key, stored::encode(&changed), entry.mod_revision);
    match server.store.commit(Txn::one(write)).await {
        // Who has changed it makes the event by which it is looked at again.
        Ok(_) | Err(store::CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The certificate that a request asks for, in base64 of PEM.
fn certificate(
    server: &Server,
    signer: Signer,
    request: &Value,
    now: jiff::Timestamp,
) -> Result<String, String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let pem = STANDARD.decode(object::text(request, &["spec", "request"])).map_err(|e| e.to_string())?;
    let csr = Csr::from_pem(&pem).map_err(|e| e.to_string())?;
    let usages: Vec<&str> = object::items(request, &["spec", "usages"]).filter_map(Value::as_str).collect();
    signer.check(&csr, &usages)?;
    let seconds = object::at(request, &["spec", "expirationSeconds"]).and_then(Value::as_u64);
    let asked = seconds.map(Duration::from_secs);
    let signed = server.pki.sign(&csr, signer, asked, now).map_err(|e| e.to_string())?;
    Ok(STANDARD.encode(signed))
}
