//! Quotas count what is there, and refuse what is too much.

use anyhow::{Result, bail, ensure};
use client::Query;
use conformance::{Bed, FOREVER, Found, holds, of, pod};
use http::Method;
use proto_kube::object::{items, name};
use serde_json::{Value, json};

async fn quota(bed: &Bed, name: &str, spec: Value) -> Result<Value> {
    let hard = spec["hard"].clone();
    bed.create("resourcequotas", json!({"metadata": {"name": name}, "spec": spec})).await?;
    let counted = |q: &Value| {
        let members = hard.as_object().into_iter().flatten();
        q["status"]["hard"] == hard
            && members.into_iter().all(|(key, _)| q["status"]["used"][key].is_string())
    };
    bed.until("resourcequotas", name, counted).await
}

/// Waits until a quota counts this.
async fn used(bed: &Bed, quota: &str, used: Value) -> Result<()> {
    bed.until("resourcequotas", quota, |q| holds(&q["status"]["used"], &used)).await.map(drop)
}

pub(crate) async fn prompt(bed: Bed) -> Result<()> {
    let hard = json!({"pods": "5", "services": "10", "secrets": "10", "configmaps": "10", "replicationcontrollers": "10",
        "resourcequotas": "1", "requests.cpu": "1", "requests.memory": "500Mi", "count/replicasets.apps": "5"});
    quota(&bed, "q", json!({"hard": hard})).await?;
    used(
        &bed,
        "q",
        json!({"pods": "0", "services": "0", "replicationcontrollers": "0", "resourcequotas": "1",
        "requests.cpu": "0", "requests.memory": "0", "count/replicasets.apps": "0"}),
    )
    .await
}

/// What is created is counted one more under each of the keys, and one less when it is gone.
async fn life(bed: Bed, plural: &str, object: Value, keys: &[&str]) -> Result<()> {
    let hard: serde_json::Map<String, Value> =
        keys.iter().map(|key| ((*key).to_owned(), "10".into())).collect();
    let before = quota(&bed, "q", json!({"hard": hard})).await?["status"]["used"].clone();
    let mut after = before.clone();
    for count in after.as_object_mut().into_iter().flatten().map(|(_, count)| count) {
        *count = (count.as_str().unwrap_or_default().parse::<u32>()? + 1).to_string().into();
    }
    bed.create(plural, object.clone()).await?;
    used(&bed, "q", after).await?;
    bed.delete(plural, name(&object)).await?;
    used(&bed, "q", before).await
}

pub(crate) async fn config_map(bed: Bed) -> Result<()> {
    life(bed, "configmaps", json!({"metadata": {"name": "c"}, "data": {"a": "b"}}), &["configmaps"]).await
}

pub(crate) async fn secret(bed: Bed) -> Result<()> {
    life(bed, "secrets", json!({"metadata": {"name": "s"}, "data": {}}), &["secrets"]).await
}

pub(crate) async fn service(bed: Bed) -> Result<()> {
    let spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
    let keys = ["services", "services.nodeports"];
    life(bed, "services", json!({"metadata": {"name": "s"}, "spec": spec}), &keys).await
}

pub(crate) async fn replica_set(bed: Bed) -> Result<()> {
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template()});
    life(bed, "replicasets", json!({"metadata": {"name": "r"}, "spec": spec}), &["count/replicasets.apps"])
        .await
}

pub(crate) async fn replication_controller(bed: Bed) -> Result<()> {
    let spec = json!({"replicas": 0, "selector": {"a": "b"}, "template": template()});
    let object = json!({"metadata": {"name": "r"}, "spec": spec});
    life(bed, "replicationcontrollers", object, &["replicationcontrollers"]).await
}

fn template() -> Value {
    let container = json!({"name": "c", "image": "busybox:1.35"});
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}})
}

/// A pod that waits for a node, with requests, which are its limits too.
fn asking(name: &str, requests: &Value) -> Value {
    let mut pod = pod(name, FOREVER);
    pod["spec"]["nodeSelector"] = json!({"no": "node"});
    if !requests.is_null() {
        pod["spec"]["containers"][0]["resources"] = json!({"requests": requests, "limits": requests});
    }
    pod
}

fn refused<T: std::fmt::Debug>(
    result: Result<T, client::ClientError>,
    codes: &[u16],
    what: &str,
) -> Result<()> {
    match result {
        Err(error) if error.code().is_some_and(|code| codes.contains(&code)) => Ok(()),
        other => bail!("{what}: {other:?}"),
    }
}

pub(crate) async fn of_pod(bed: Bed) -> Result<()> {
    let hard = json!({"pods": "5", "cpu": "1", "memory": "500Mi", "ephemeral-storage": "50Gi",
        "requests.example.com/dongle": "3"});
    let none = json!({"pods": "0", "cpu": "0", "memory": "0", "ephemeral-storage": "0",
        "requests.example.com/dongle": "0"});
    quota(&bed, "q", json!({"hard": hard})).await?;
    used(&bed, "q", none.clone()).await?;
    let requests = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory, "ephemeral-storage": "30Gi", "example.com/dongle": "2"});
    bed.create("pods", asking("fits", &requests("500m", "252Mi"))).await?;
    let counted = json!({"pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi",
        "requests.example.com/dongle": "2"});
    used(&bed, "q", counted.clone()).await?;
    for (name, object) in [
        ("too-much-cpu", json!({"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi"})),
        ("too-many-dongles", requests("100m", "100Mi")),
    ] {
        refused(bed.try_create("pods", asking(name, &object)).await, &[403], name)?;
    }
    let more: Found = {
        let mut pod = bed.get("pods", "fits").await?;
        pod["spec"]["containers"][0]["resources"]["requests"] = json!({"cpu": "100m", "memory": "100Mi"});
        bed.client.update(of("pods"), None, &pod, Query::default()).await
    };
    refused(more, &[403, 422], "a running pod's requests are changed")?;
    used(&bed, "q", counted).await?;
    bed.delete("pods", "fits").await?;
    used(&bed, "q", none).await
}

pub(crate) async fn best_effort(bed: Bed) -> Result<()> {
    for scope in ["BestEffort", "NotBestEffort"] {
        quota(&bed, &scope.to_lowercase(), json!({"hard": {"pods": "5"}, "scopes": [scope]})).await?;
    }
    let requests = json!({"cpu": "100m", "memory": "100Mi"});
    for (requests, counts, other) in
        [(Value::Null, "besteffort", "notbesteffort"), (requests, "notbesteffort", "besteffort")]
    {
        one_counts(
            &bed,
            asking("p", &requests),
            (counts, json!({"pods": "1"})),
            (other, json!({"pods": "0"})),
        )
        .await?;
    }
    Ok(())
}

/// A pod is counted by one quota alone, as long as it is there.
async fn one_counts(bed: &Bed, pod: Value, counts: (&str, Value), other: (&str, Value)) -> Result<()> {
    bed.create("pods", pod.clone()).await?;
    used(bed, counts.0, counts.1).await?;
    let not = bed.get("resourcequotas", other.0).await?;
    ensure!(holds(&not["status"]["used"], &other.1), "{} counts it: {not:#}", other.0);
    bed.delete("pods", name(&pod)).await?;
    used(bed, counts.0, other.1).await
}

pub(crate) async fn terminating(bed: Bed) -> Result<()> {
    let hard = json!({"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2",
        "limits.memory": "1Gi"});
    let none = json!({"pods": "0", "requests.cpu": "0", "requests.memory": "0", "limits.cpu": "0", "limits.memory": "0"});
    let one = json!({"pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1",
        "limits.memory": "400Mi"});
    for scope in ["Terminating", "NotTerminating"] {
        quota(&bed, &scope.to_lowercase(), json!({"hard": hard, "scopes": [scope]})).await?;
    }
    for (deadline, counts, other) in
        [(Value::Null, "notterminating", "terminating"), (json!(3600), "terminating", "notterminating")]
    {
        let mut pod = asking("p", &Value::Null);
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "400Mi"}});
        pod["spec"]["activeDeadlineSeconds"] = deadline;
        one_counts(&bed, pod, (counts, one.clone()), (other, none.clone())).await?;
    }
    Ok(())
}

fn hard(cpu: &str, memory: &str) -> Value {
    json!({"cpu": cpu, "memory": memory})
}

pub(crate) async fn changed(bed: Bed) -> Result<()> {
    quota(&bed, "q", json!({"hard": hard("1", "500Mi")})).await?;
    bed.update("resourcequotas", "q", |q| q["spec"]["hard"] = hard("2", "1Gi")).await?;
    let read = bed.get("resourcequotas", "q").await?;
    ensure!(read["spec"]["hard"] == hard("2", "1Gi"), "{read:#}");
    bed.until("resourcequotas", "q", |q| q["status"]["hard"] == hard("2", "1Gi")).await?;
    bed.delete("resourcequotas", "q").await?;
    bed.gone("resourcequotas", "q").await
}

pub(crate) async fn lifecycle(bed: Bed) -> Result<()> {
    let selector = format!("case={}", bed.namespace);
    let metadata = json!({"name": "q", "labels": {"case": bed.namespace}});
    bed.create("resourcequotas", json!({"metadata": metadata, "spec": {"hard": hard("1", "500Mi")}})).await?;
    let query = Query::default().with("labelSelector", &selector);
    let list = bed.client.list(of("resourcequotas"), "", query).await?;
    ensure!(items(&list, &["items"]).count() == 1, "{list:#}");
    let patch = json!({"metadata": {"labels": {"patched": "true"}}, "spec": {"hard": hard("750m", "1Gi")}});
    let patched = bed.patch("resourcequotas", "q", patch.clone()).await?;
    ensure!(holds(&patched, &patch), "{patched:#}");
    bed.delete_all("resourcequotas", &selector).await?;
    bed.gone("resourcequotas", "q").await
}

pub(crate) async fn status(bed: Bed) -> Result<()> {
    let spec = hard("500m", "500Mi");
    quota(&bed, "q", json!({"hard": spec})).await?;
    let as_spec = |hard: Value| move |q: &Value| q["spec"]["hard"] == hard && q["status"]["hard"] == hard;
    let updated =
        bed.update_status("resourcequotas", "q", |q| q["status"]["hard"] = hard("1", "1Gi")).await?;
    ensure!(updated["status"]["hard"] == hard("1", "1Gi"), "{updated:#}");
    bed.until("resourcequotas", "q", as_spec(spec)).await?;

    let spec = hard("1", "1Gi");
    let patched = bed.patch("resourcequotas", "q", json!({"spec": {"hard": spec}})).await?;
    ensure!(patched["spec"]["hard"] == spec, "{patched:#}");
    bed.until("resourcequotas", "q", as_spec(spec.clone())).await?;
    for other in [hard("2", "2Gi"), hard("3", "3Gi")] {
        let patched = bed.patch("resourcequotas", "q/status", json!({"status": {"hard": other}})).await?;
        ensure!(patched["status"]["hard"] == other && patched["spec"]["hard"] == spec, "{patched:#}");
        bed.until("resourcequotas", "q", as_spec(spec.clone())).await?;
    }
    let path = of("resourcequotas").path(&bed.namespace, "q") + "/status";
    let read = bed.client.call(Method::GET, &path, None).await?;
    ensure!(read["status"]["hard"] == spec, "{read:#}");
    Ok(())
}
