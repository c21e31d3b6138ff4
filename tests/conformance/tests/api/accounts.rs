//! Service accounts, their tokens, and what they may do.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use client::{Client, Config};
use conformance::{Bed, of, pod, seen, with_container, with_spec};
use http::Method;
use proto_kube::object::{items, name, text};
use serde_json::{Value, json};

/// Where a pod has what its account is.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Creates what answers only, as a review.
async fn ask(bed: &Bed, path: &str, object: Value) -> Result<Value> {
    let body = Some(("application/json", Bytes::from(object.to_string())));
    bed.client.call(Method::POST, path, body).await.with_context(|| path.to_owned())
}

/// Who the server takes the bearer of a token for.
async fn reviewed(bed: &Bed, token: &str, audiences: &[&str]) -> Result<Value> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    let review = ask(bed, "/apis/authentication.k8s.io/v1/tokenreviews", review).await?;
    ensure!(review["status"]["error"].is_null() && review["status"]["authenticated"] == true, "{review:#}");
    Ok(review["status"]["user"].clone())
}

fn user(bed: &Bed, account: &str) -> String {
    format!("system:serviceaccount:{}:{account}", bed.namespace)
}

pub(crate) async fn mounted(bed: Bed) -> Result<()> {
    let mut pod = pod("p", "");
    pod["spec"]["containers"] = ["token", "ca.crt", "namespace"]
        .iter()
        .map(|file| {
            let name = file.replace('.', "-");
            json!({"name": name, "image": "busybox:1.35", "command": ["cat", format!("{MOUNT}/{file}")]})
        })
        .collect();
    let (phase, token) = bed.ends(pod).await?;
    ensure!(phase == "Succeeded", "{phase}");
    let who = reviewed(&bed, token.trim(), &[]).await?;
    ensure!(who["username"] == user(&bed, "default").as_str(), "{who:#}");
    let root = bed.get("configmaps", "kube-root-ca.crt").await?;
    ensure!(bed.logs("p", "ca-crt").await? == text(&root["data"], &["ca.crt"]), "another authority");
    ensure!(bed.logs("p", "namespace").await? == bed.namespace, "another namespace");
    Ok(())
}

pub(crate) async fn opted_out(bed: Bed) -> Result<()> {
    let choices = [Value::Null, true.into(), false.into()];
    let mut pods = Vec::new();
    for account in &choices {
        let object =
            json!({"metadata": {"name": format!("a-{account}")}, "automountServiceAccountToken": account});
        bed.create("serviceaccounts", object).await?;
        for choice in &choices {
            let mounts = choice.as_bool().or(account.as_bool()).unwrap_or(true);
            let script = if mounts { format!("test -s {MOUNT}/token") } else { format!("test ! -e {MOUNT}") };
            let own =
                json!({"serviceAccountName": format!("a-{account}"), "automountServiceAccountToken": choice});
            pods.push(with_spec(pod(&format!("p-{account}-{choice}"), &script), own));
        }
    }
    for ended in futures_util::future::try_join_all(pods.into_iter().map(|pod| bed.ends(pod))).await? {
        ensure!(ended.0 == "Succeeded", "{ended:?}");
    }
    Ok(())
}

/// A pod that prints a token of its own, for an audience.
fn printing(audience: &str) -> Value {
    let source =
        json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3600, "audience": audience}});
    let volume = json!({"name": "t", "projected": {"sources": [source]}});
    let pod = with_spec(pod("p", "cat /t/token"), json!({"volumes": [volume]}));
    with_container(pod, json!({"volumeMounts": [{"name": "t", "mountPath": "/t"}]}))
}

pub(crate) async fn projected(bed: Bed) -> Result<()> {
    let (phase, token) = bed.ends(printing("vault")).await?;
    ensure!(phase == "Succeeded", "{phase}");
    let who = reviewed(&bed, token.trim(), &["vault"]).await?;
    ensure!(who["username"] == user(&bed, "default").as_str(), "{who:#}");
    ensure!(who["extra"]["authentication.kubernetes.io/pod-name"][0] == "p", "{who:#}");
    Ok(())
}

pub(crate) async fn token_review(bed: Bed) -> Result<()> {
    bed.create("serviceaccounts", json!({"metadata": {"name": "a"}})).await?;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = ask(&bed, &(of("serviceaccounts").path(&bed.namespace, "a") + "/token"), request).await?;
    let token = text(&answer, &["status", "token"]);
    ensure!(!token.is_empty(), "{answer:#}");
    let who = reviewed(&bed, token, &[]).await?;
    ensure!(who["username"] == user(&bed, "a").as_str(), "{who:#}");
    Ok(())
}

/// A part of a token.
fn part(token: &str, number: usize) -> Result<Vec<u8>> {
    let part = token.split('.').nth(number).context("a token has three parts")?;
    Ok(BASE64.decode(part)?)
}

pub(crate) async fn discovered_keys(bed: Bed) -> Result<()> {
    let (phase, token) = bed.ends(printing("")).await?;
    ensure!(phase == "Succeeded", "{phase}");
    let token = token.trim();
    let config = Config::load(&bed.cluster.node(0).data().join("control/admin.kubeconfig"), None)?;
    let config = Config { certificate: None, credentials: None, token: Some(token.to_owned()), ..config };
    let own = Client::new(&config, "conformance/1")?;

    let document = own.call(Method::GET, "/.well-known/openid-configuration", None).await?;
    let claims: Value = serde_json::from_slice(&part(token, 1)?)?;
    ensure!(document["issuer"] == claims["iss"], "{document:#} does not fit {claims:#}");
    ensure!(claims["sub"] == user(&bed, "default").as_str(), "{claims:#}");
    ensure!(text(&document, &["jwks_uri"]).ends_with("/openid/v1/jwks"), "{document:#}");
    let keys = own.call(Method::GET, "/openid/v1/jwks", None).await?;
    let header: Value = serde_json::from_slice(&part(token, 0)?)?;
    let key =
        items(&keys, &["keys"]).find(|key| key["kid"] == header["kid"]).context("no key of that name")?;
    ensure!(header["alg"] == "ES256" && key["crv"] == "P-256", "{header} {key}");
    let point = [vec![4], BASE64.decode(text(key, &["x"]))?, BASE64.decode(text(key, &["y"]))?].concat();
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point);
    let (signed, _) = token.rsplit_once('.').context("a token has a signature")?;
    let verified = key.verify(signed.as_bytes(), &part(token, 2)?);
    ensure!(verified.is_ok(), "the signature is not by that key");
    Ok(())
}

pub(crate) async fn root_authority(bed: Bed) -> Result<()> {
    let root = "kube-root-ca.crt";
    let right = bed.until("configmaps", root, |c| c["data"]["ca.crt"].is_string()).await?["data"].clone();
    bed.delete("configmaps", root).await?;
    bed.until("configmaps", root, |c| c["data"] == right).await?;
    bed.update("configmaps", root, |c| c["data"] = json!({"ca.crt": ""})).await?;
    bed.until("configmaps", root, |c| c["data"] == right).await?;
    Ok(())
}

pub(crate) async fn lifecycle(bed: Bed) -> Result<()> {
    let selector = format!("case={}", bed.namespace);
    let accounts = bed.client.list(of("serviceaccounts"), &bed.namespace, client::Query::default()).await?;
    let since = text(&accounts, &["metadata", "resourceVersion"]);
    let mut watch = bed.watch("serviceaccounts", &selector, since).await?;
    let metadata = json!({"name": "a", "labels": {"case": bed.namespace}});
    bed.create("serviceaccounts", json!({"metadata": metadata})).await?;
    seen(&mut watch, "ADDED", |a| name(a) == "a").await?;
    let patched = bed.patch("serviceaccounts", "a", json!({"automountServiceAccountToken": false})).await?;
    ensure!(patched["automountServiceAccountToken"] == false, "{patched:#}");
    let query = client::Query::default().with("labelSelector", &selector);
    let list = bed.client.list(of("serviceaccounts"), "", query).await?;
    let all: Vec<&Value> = items(&list, &["items"]).collect();
    ensure!(all.len() == 1 && all[0]["automountServiceAccountToken"] == false, "{list:#}");
    bed.delete_all("serviceaccounts", &selector).await?;
    seen(&mut watch, "DELETED", |a| name(a) == "a").await?;
    Ok(())
}

pub(crate) async fn updated(bed: Bed) -> Result<()> {
    bed.create("serviceaccounts", json!({"metadata": {"name": "a"}, "automountServiceAccountToken": false}))
        .await?;
    let updated =
        bed.update("serviceaccounts", "a", |a| a["automountServiceAccountToken"] = true.into()).await?;
    ensure!(updated["automountServiceAccountToken"] == true, "{updated:#}");
    Ok(())
}

/// Whether an account may list ConfigMaps here, by what the server says of it and by trying.
async fn may_list(bed: &Bed, wanted: bool) -> Result<()> {
    let user = user(bed, "a");
    let attributes =
        json!({"namespace": bed.namespace, "verb": "list", "resource": "configmaps", "version": "v1"});
    let path = "/apis/authorization.k8s.io/v1";
    let review = |kind: &str| {
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": {"namespace": bed.namespace},
            "spec": {"user": user, "resourceAttributes": attributes}})
    };
    let mut cluster = review("SubjectAccessReview");
    cluster["metadata"] = json!({});
    let cluster = ask(bed, &format!("{path}/subjectaccessreviews"), cluster).await?;
    let local = format!("{path}/namespaces/{}/localsubjectaccessreviews", bed.namespace);
    let local = ask(bed, &local, review("LocalSubjectAccessReview")).await?;
    let tried = bed.kubectl_output(&["get", "configmaps", "--as", &user], "").await?.status.success();
    let said = [cluster["status"]["allowed"] == true, local["status"]["allowed"] == true, tried];
    ensure!(said == [wanted; 3], "wanted {wanted}: cluster, local, tried: {said:?}");
    Ok(())
}

pub(crate) async fn reviews(bed: Bed) -> Result<()> {
    bed.create("serviceaccounts", json!({"metadata": {"name": "a"}})).await?;
    may_list(&bed, false).await?;
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]});
    bed.create("roles", json!({"metadata": {"name": "reads"}, "rules": [rule]})).await?;
    let subject = json!({"kind": "ServiceAccount", "name": "a", "namespace": bed.namespace});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads"});
    let binding = json!({"metadata": {"name": "reads"}, "subjects": [subject], "roleRef": role});
    bed.create("rolebindings", binding).await?;
    may_list(&bed, true).await
}
