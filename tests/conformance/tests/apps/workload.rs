//! What the texts about all kinds of workloads share.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use client::Query;
use conformance::{Bed, FOREVER, condition, container, holds, of, seen};
use http::Method;
use proto_kube::object::{controller, is_terminating, items, labels, name, number, text, uid};
use serde_json::{Value, json};

/// A pod template with one container `c` that runs a script; the label `app` says to whom the pods belong.
pub(crate) fn template(app: &str, script: &str) -> Value {
    let spec = json!({"containers": [container("c", script)], "terminationGracePeriodSeconds": 1});
    json!({"metadata": {"labels": {"app": app}}, "spec": spec})
}

/// A workload of some pods that run until they are told to end.
pub(crate) fn workload(plural: &str, name: &str, replicas: usize) -> Value {
    of_template(plural, name, replicas, template(name, FOREVER))
}

/// A workload of a template whose label `app` is its own name.
pub(crate) fn of_template(plural: &str, name: &str, replicas: usize, template: Value) -> Value {
    let labels = json!({"app": name});
    let selector = match plural {
        "replicationcontrollers" => labels.clone(),
        _ => json!({"matchLabels": labels}),
    };
    let mut spec = json!({"selector": selector, "template": template});
    match plural {
        "daemonsets" => {}
        _ => spec["replicas"] = replicas.into(),
    }
    json!({"metadata": {"name": name, "labels": labels}, "spec": spec})
}

/// Whether a pod is Ready and will stay.
pub(crate) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready") == "True" && !is_terminating(pod)
}

/// Whether the workload has so many pods, and all are ready.
pub(crate) fn has_ready(workload: &Value, replicas: i64) -> bool {
    let status = |field: &str| number(workload, &["status", field]).unwrap_or(0);
    status("replicas") == replicas && status("readyReplicas") == replicas && is_observed(workload)
}

/// Whether the status tells of the newest spec.
pub(crate) fn is_observed(workload: &Value) -> bool {
    number(workload, &["status", "observedGeneration"]) == number(workload, &["metadata", "generation"])
}

/// Creates a workload of some replicas and waits until they are ready.
pub(crate) async fn running(bed: &Bed, plural: &str, workload: Value) -> Result<Value> {
    let replicas = number(&workload, &["spec", "replicas"]).unwrap_or(1);
    let made = bed.create(plural, workload).await?;
    bed.until(plural, name(&made), |workload| has_ready(workload, replicas)).await
}

/// Waits until so many pods of the app are ready and no others are there; gives them.
pub(crate) async fn ready_pods(bed: &Bed, app: &str, count: usize) -> Result<Vec<Value>> {
    let selector = format!("app={app}");
    bed.until_all("pods", &selector, |pods| pods.len() == count && pods.iter().all(is_ready)).await
}

/// The uid of an object's controller; empty without one.
pub(crate) fn owner(object: &Value) -> &str {
    controller(object).map_or("", |owner| owner.uid)
}

/// The image of the first container of a pod.
pub(crate) fn image(pod: &Value) -> &str {
    text(&pod["spec"]["containers"][0], &["image"])
}

/// `<plural> <name>: the scale subresource is read, updated and patched; the pods follow.
pub(crate) async fn scale(bed: Bed, plural: &str) -> Result<()> {
    running(&bed, plural, workload(plural, "scaled", 1)).await?;
    let path = of(plural).path(&bed.namespace, "scaled") + "/scale";
    let mut scale = bed.client.call(Method::GET, &path, None).await?;
    ensure!(text(&scale, &["kind"]) == "Scale", "{scale}");
    ensure!(scale["spec"]["replicas"] == 1 && scale["status"]["replicas"] == 1, "{scale}");
    scale["spec"]["replicas"] = 2.into();
    let body = ("application/json", Bytes::from(scale.to_string()));
    let scale = bed.client.call(Method::PUT, &path, Some(body)).await?;
    ensure!(scale["spec"]["replicas"] == 2, "{scale}");
    bed.until(plural, "scaled", |workload| workload["spec"]["replicas"] == 2 && has_ready(workload, 2))
        .await?;
    let scale = bed.patch(plural, "scaled/scale", json!({"spec": {"replicas": 3}})).await?;
    ensure!(scale["spec"]["replicas"] == 3, "{scale}");
    bed.until(plural, "scaled", |workload| workload["spec"]["replicas"] == 3 && has_ready(workload, 3))
        .await?;
    Ok(())
}

/// The status subresource is read, updated and patched; readers and watchers see what was written.
pub(crate) async fn status(bed: Bed, plural: &str) -> Result<()> {
    let made = running(&bed, plural, workload(plural, "told", 1)).await?;
    status_of(&bed, plural, &made).await
}

/// [`status`] of an object that is there.
pub(crate) async fn status_of(bed: &Bed, plural: &str, object: &Value) -> Result<()> {
    let since = text(object, &["metadata", "resourceVersion"]);
    let mut watch = bed.watch(plural, "", since).await?;
    let path = of(plural).path(&bed.namespace, name(object)) + "/status";
    let read = bed.client.call(Method::GET, &path, None).await?;
    ensure!(uid(&read) == uid(object), "{read}");
    let with =
        |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True", "reason": "Case"}]}});
    let change =
        |object: &mut Value| object["status"]["conditions"] = with("Updated")["status"]["conditions"].clone();
    let updated = bed.update_status(plural, name(object), change).await?;
    ensure!(holds(&updated, &with("Updated")), "{updated:#}");
    seen(&mut watch, "MODIFIED", |object| holds(object, &with("Updated"))).await?;
    let patched = bed.patch(plural, &format!("{}/status", name(object)), with("Patched")).await?;
    ensure!(holds(&patched, &with("Patched")), "{patched:#}");
    seen(&mut watch, "MODIFIED", |object| holds(object, &with("Patched"))).await?;
    Ok(())
}

/// Three are created, listed by a label, patched, and deleted together with their pods.
pub(crate) async fn collection(bed: Bed, plural: &str) -> Result<()> {
    for number in 0..3 {
        let mut object = workload(plural, &format!("one-{number}"), 1);
        object["metadata"]["labels"]["set"] = "case".into();
        bed.create(plural, object).await?;
    }
    let everywhere =
        bed.client.list(of(plural), "", Query::default().with("labelSelector", "set=case")).await?;
    let here =
        items(&everywhere, &["items"]).filter(|o| text(o, &["metadata", "namespace"]) == bed.namespace);
    ensure!(here.count() == 3 && bed.list(plural, "set=case").await?.len() == 3, "{everywhere:#}");
    let patched = bed.patch(plural, "one-1", json!({"metadata": {"labels": {"patched": "yes"}}})).await?;
    ensure!(labels(&patched).any(|label| label == ("patched", "yes")), "{patched:#}");
    bed.delete_all(plural, "set=case").await?;
    bed.until_all(plural, "set=case", <[Value]>::is_empty).await?;
    bed.until_all("pods", "", <[Value]>::is_empty).await?;
    Ok(())
}

/// Each replica of a template serves its own name by HTTP; gives their pods.
pub(crate) async fn serves(bed: &Bed, plural: &str, template: Value) -> Result<Vec<Value>> {
    bed.create(plural, of_template(plural, "web", 2, template)).await?;
    let pods = ready_pods(bed, "web", 2).await?;
    for pod in &pods {
        let path = of("pods").path(&bed.namespace, name(pod)) + "/proxy/";
        let get = || async { Ok(bed.client.bytes(Method::GET, &path, None, "*/*").await?) };
        let answer = bed.eventually("an answer", get).await?;
        ensure!(answer.trim_ascii() == name(pod).as_bytes(), "{}: {answer:?}", name(pod));
    }
    Ok(pods)
}

/// A pod without an owner becomes one of a workload that chooses it.
pub(crate) async fn adopts(bed: &Bed, plural: &str) -> Result<Value> {
    let mut orphan = template("adopter", FOREVER);
    orphan["metadata"]["name"] = "orphan".into();
    bed.ready(orphan).await?;
    let adopter = bed.create(plural, workload(plural, "adopter", 1)).await?;
    let orphan = bed.until("pods", "orphan", |pod| owner(pod) == uid(&adopter)).await?;
    bed.until(plural, "adopter", |adopter| has_ready(adopter, 1)).await?;
    Ok(orphan)
}

/// A pod that its workload no longer chooses is let go, and replaced.
pub(crate) async fn releases(bed: &Bed, plural: &str, workload: &str) -> Result<()> {
    let selector = format!("app={workload}");
    let all = bed.until_all("pods", &selector, |pods| pods.iter().any(|pod| !owner(pod).is_empty())).await?;
    let released = all.first().context("no pod")?;
    bed.patch("pods", name(released), json!({"metadata": {"labels": {"app": "another"}}})).await?;
    bed.until("pods", name(released), |pod| owner(pod).is_empty()).await?;
    let owner_uid = uid(&bed.get(plural, workload).await?).to_owned();
    bed.until_all("pods", &selector, |pods| {
        pods.iter().any(|pod| owner(pod) == owner_uid && uid(pod) != uid(released))
    })
    .await?;
    Ok(())
}
