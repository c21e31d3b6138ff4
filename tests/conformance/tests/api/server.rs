//! What the server tells of itself, and in which forms it answers.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use client::Query;
use conformance::{Bed, of};
use futures_util::future::try_join_all;
use http::Method;
use proto_kube::object::{items, name, number, text};
use proto_kube::resource;
use serde_json::{Value, json};

async fn read(bed: &Bed, path: &str) -> Result<Value> {
    bed.client.call(Method::GET, path, None).await.with_context(|| path.to_owned())
}

/// A document in the form that is asked for.
async fn read_as(bed: &Bed, path: &str, accept: &str) -> Result<Value> {
    let bytes = bed.client.bytes(Method::GET, path, None, accept).await?;
    serde_json::from_slice(&bytes).with_context(|| format!("{path} as {accept}"))
}

pub(crate) async fn version(bed: Bed) -> Result<()> {
    let version = read(&bed, "/version").await?;
    for part in ["major", "minor"] {
        ensure!(text(&version, &[part]).parse::<u32>().is_ok(), "{version}");
    }
    Ok(())
}

pub(crate) async fn groups(bed: Bed) -> Result<()> {
    for group in items(&read(&bed, "/apis").await?, &["groups"]) {
        for version in items(group, &["versions"]) {
            let at = text(version, &["groupVersion"]);
            let list = read(&bed, &format!("/apis/{at}")).await?;
            ensure!(list["groupVersion"] == at, "{at} says it is {}", list["groupVersion"]);
            let valid = |r: &Value| !text(r, &["name"]).is_empty() && !text(r, &["kind"]).is_empty();
            ensure!(items(&list, &["resources"]).any(valid), "{at} has no resources");
        }
    }
    Ok(())
}

pub(crate) async fn preferred_versions(bed: Bed) -> Result<()> {
    let groups = read(&bed, "/apis").await?;
    ensure!(items(&groups, &["groups"]).count() > 10, "{groups:#}");
    for group in items(&groups, &["groups"]) {
        let document = read(&bed, &format!("/apis/{}", text(group, &["name"]))).await?;
        let preferred = text(&document, &["preferredVersion", "groupVersion"]);
        let served = items(&document, &["versions"]).any(|v| v["groupVersion"] == preferred);
        ensure!(served && group["preferredVersion"] == document["preferredVersion"], "{document:#}");
    }
    Ok(())
}

/// The aggregated form of discovery has every built-in resource.
fn complete(documents: &[Value]) -> Result<()> {
    for resource in resource::all().iter().filter(|r| r.storage != resource::Storage::Answered) {
        let found = documents.iter().flat_map(|d| items(d, &["items"])).any(|group| {
            text(group, &["metadata", "name"]) == resource.group
                && items(group, &["versions"]).filter(|v| v["version"] == resource.version).any(|version| {
                    items(version, &["resources"]).any(|r| {
                        r["resource"] == resource.plural
                            && text(r, &["responseKind", "kind"]) == resource.kind
                    })
                })
        });
        ensure!(found, "{} {} is missing", resource.api_version(), resource.plural);
    }
    Ok(())
}

pub(crate) async fn aggregated(bed: Bed) -> Result<()> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
        application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let mut documents = Vec::new();
    for path in ["/api", "/apis"] {
        let document = read_as(&bed, path, accept).await?;
        ensure!(document["kind"] == "APIGroupDiscoveryList", "{path} is a {}", document["kind"]);
        ensure!(
            document["apiVersion"] == "apidiscovery.k8s.io/v2",
            "{path} is of {}",
            document["apiVersion"]
        );
        documents.push(document);
    }
    complete(&documents)
}

pub(crate) async fn aggregated_raw(bed: Bed) -> Result<()> {
    let mut documents = Vec::new();
    for path in ["/api", "/apis"] {
        // A version of the form that is not served gives the form that has none; the beta is gone since 1.35.
        for (accept, kind) in [
            ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "APIGroupDiscoveryList"),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                "",
            ),
            ("application/json", ""),
        ] {
            let document = read_as(&bed, path, accept).await?;
            let plain = ["APIVersions", "APIGroupList"].contains(&text(&document, &["kind"]));
            ensure!(document["kind"] == kind || kind.is_empty() && plain, "{path} as {accept}: {document:#}");
            if !plain {
                documents.push(document);
            }
        }
    }
    complete(&documents)
}

pub(crate) async fn no_table(bed: Bed) -> Result<()> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": bed.namespace, "verb": "get", "resource": "pods"}}});
    let body = Some(("application/json", Bytes::from(review.to_string())));
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    match bed.client.bytes(Method::POST, path, body, accept).await {
        Err(error) if error.code() == Some(406) => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// So many objects are listed in pieces.
const TEMPLATES: usize = 400;
/// So many in one piece.
const PIECE: usize = 150;

/// So many are created at once: one fsync of the server for all.
const AT_ONCE: usize = 50;

async fn templates(bed: &Bed) -> Result<()> {
    let container = json!({"name": "c", "image": "busybox:1.35"});
    let template = json!({"metadata": {"labels": {"l": "1"}}, "spec": {"containers": [container]}});
    let create = |number: usize| {
        let metadata = json!({"name": format!("template-{number:04}")});
        bed.create("podtemplates", json!({"metadata": metadata, "template": template}))
    };
    for first in (0..TEMPLATES).step_by(AT_ONCE) {
        try_join_all((first..first + AT_ONCE).map(create)).await?;
    }
    Ok(())
}

async fn piece(bed: &Bed, token: &str) -> Result<Value> {
    let query = Query::default().with("limit", &PIECE.to_string()).with("continue", token);
    Ok(bed.client.list(of("podtemplates"), &bed.namespace, query).await?)
}

/// Reads what is left, from a piece on, and checks each against those before.
async fn rest(bed: &Bed, mut list: Value, mut seen: usize) -> Result<()> {
    let revision = text(&list, &["metadata", "resourceVersion"]).to_owned();
    loop {
        for (at, object) in items(&list, &["items"]).enumerate() {
            ensure!(name(object) == format!("template-{:04}", seen + at), "{} after {seen}", name(object));
        }
        let count = items(&list, &["items"]).count();
        ensure!(count <= PIECE && count > 0, "a piece of {count}");
        ensure!(text(&list, &["metadata", "resourceVersion"]) == revision, "another revision");
        seen += count;
        let left = number(&list, &["metadata", "remainingItemCount"]).unwrap_or(0);
        ensure!(usize::try_from(left)? == TEMPLATES - seen, "{left} are said to remain after {seen}");
        let token = text(&list, &["metadata", "continue"]).to_owned();
        if token.is_empty() {
            ensure!(seen == TEMPLATES, "only {seen} came");
            return Ok(());
        }
        list = piece(bed, &token).await?;
    }
}

pub(crate) async fn pieces(bed: Bed) -> Result<()> {
    templates(&bed).await?;
    rest(&bed, piece(&bed, "").await?, 0).await?;
    let whole = bed.list("podtemplates", "").await?;
    ensure!(whole.len() == TEMPLATES, "{} come at once", whole.len());
    Ok(())
}

/// The store keeps at most this much of the past.
const HISTORY: usize = 64 << 20;
/// Nearly the most that a ConfigMap holds.
const LARGE: usize = 1 << 20;

pub(crate) async fn pieces_of_a_forgotten_past(bed: Bed) -> Result<()> {
    templates(&bed).await?;
    let first = piece(&bed, "").await?;
    let token = text(&first, &["metadata", "continue"]);
    let mut large = bed.create("configmaps", json!({"metadata": {"name": "large"}})).await?;
    large["metadata"]["resourceVersion"] = Value::Null;
    for round in 0..=HISTORY / LARGE {
        large["data"] = json!({"d": format!("{round:08}").repeat(LARGE / 8 - 1)});
        bed.client.update(of("configmaps"), None, &large, Query::default()).await?;
    }
    let query = Query::default().with("limit", &PIECE.to_string()).with("continue", token);
    let late = bed.client.list(of("podtemplates"), &bed.namespace, query).await;
    let Err(client::ClientError::Refused { code: 410, status, .. }) = late else {
        bail!("the token does not expire: {:?}", late.map(|list| list["metadata"].clone()));
    };
    let token = text(&status, &["metadata", "continue"]);
    ensure!(!token.is_empty(), "no token to go on with: {status:#}");
    rest(&bed, piece(&bed, token).await?, PIECE).await
}

/// What the server says to an object with `fieldValidation=Strict`, written as text.
async fn refusal(bed: &Bed, object: &str) -> Result<String> {
    let path = of("deployments").path(&bed.namespace, "") + "?fieldValidation=Strict";
    let body = Some(("application/json", Bytes::from(object.to_owned())));
    match bed.client.call(Method::POST, &path, body).await {
        Err(error) if error.code() == Some(400) => Ok(error.to_string()),
        other => bail!("{other:?}"),
    }
}

/// A Deployment as text, with something more in its metadata, its spec and its template's spec.
fn deployment(metadata: &str, spec: &str, pod: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "d"{metadata}}}, "spec": {{
        "selector": {{"matchLabels": {{"a": "b"}}}}{spec}, "template": {{"metadata": {{"labels": {{"a": "b"}}}},
        "spec": {{"containers": [{{"name": "c", "image": "busybox:1.35"{pod}}}]}}}}}}}}"#
    )
}

pub(crate) async fn unknown_and_double(bed: Bed) -> Result<()> {
    let spec = r#", "replicas": 1, "replicas": 2, "unknownNested": 1, "paused": true, "paused": false"#;
    let pod = r#", "imagePullPolicy": "Always", "imagePullPolicy": "Never""#;
    let said = refusal(&bed, &deployment("", spec, pod)).await?;
    for part in [
        r#"unknown field "spec.unknownNested""#,
        r#"duplicate field "spec.replicas""#,
        r#"duplicate field "spec.paused""#,
        r#"duplicate field "spec.template.spec.containers[0].imagePullPolicy""#,
    ] {
        ensure!(said.contains(part), "{part} is not in: {said}");
    }
    Ok(())
}

pub(crate) async fn unknown_metadata(bed: Bed) -> Result<()> {
    let said = refusal(&bed, &deployment(r#", "unknownMeta": "a""#, "", "")).await?;
    ensure!(said.contains(r#"unknown field "metadata.unknownMeta""#), "{said}");
    let embedded =
        deployment("", "", "").replace(r#""labels": {"a": "b"}"#, r#""labels": {"a": "b"}, "foo": 1"#);
    let said = refusal(&bed, &embedded).await?;
    ensure!(said.contains(r#"unknown field "spec.template.metadata.foo""#), "{said}");
    Ok(())
}
