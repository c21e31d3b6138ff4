//! Objects that nodes read, as the API keeps them.

use anyhow::{Context, Result, ensure};
use conformance::{Bed, Found, holds, of, operations, pod, with_spec};
use proto_kube::object::{items, label, name, text};
use serde_json::{Value, json};

fn refused(found: Found, code: u16, word: &str) -> Result<()> {
    let error = found.err().context("it was not refused")?;
    ensure!(error.code() == Some(code) && error.to_string().contains(word), "{error}");
    Ok(())
}

pub(crate) async fn empty_key(bed: Bed, plural: &str) -> Result<()> {
    let object = json!({"metadata": {"name": "o"}, "data": {"": "dmFsdWU="}});
    refused(bed.try_create(plural, object).await, 422, "data")
}

/// Created, patched, found by its label with the new value, and deleted by it.
pub(crate) async fn lifecycle(bed: Bed, plural: &str, object: Value, patch: Value) -> Result<()> {
    let object = conformance::with(object, "/metadata", json!({"name": "o", "labels": {"static": "true"}}));
    bed.create(plural, object).await?;
    let labelled = json!({"metadata": {"labels": {"patched": "true"}}});
    bed.patch(plural, "o", labelled.clone()).await?;
    bed.patch(plural, "o", patch.clone()).await?;
    let object = bed.get(plural, "o").await?;
    ensure!(holds(&object, &patch) && holds(&object, &labelled), "{object:#}");
    let everywhere = bed
        .client
        .list(of(plural), "", client::Query::default().with("labelSelector", "static=true"))
        .await?;
    let mine = |object: &&Value| object["metadata"]["namespace"] == bed.namespace.as_str();
    let found: Vec<&Value> = items(&everywhere, &["items"]).filter(mine).collect();
    ensure!(found.len() == 1 && label(found[0], "patched") == Some("true"), "{found:#?}");
    bed.delete_all(plural, "static=true").await?;
    bed.until_all(plural, "static=true", <[Value]>::is_empty).await.map(drop)
}

pub(crate) async fn config_map_updated(bed: Bed) -> Result<()> {
    bed.create("configmaps", json!({"metadata": {"name": "o"}, "data": {"key": "value"}})).await?;
    bed.update("configmaps", "o", |object| object["data"] = json!({"key": "changed", "more": "1"})).await?;
    let object = bed.get("configmaps", "o").await?;
    ensure!(object["data"] == json!({"key": "changed", "more": "1"}), "{object:#}");
    Ok(())
}

/// A template of a pod.
pub(crate) fn template() -> Value {
    json!({"metadata": {}, "template": {"spec": pod("p", "true")["spec"]}})
}

pub(crate) async fn template_replaced(bed: Bed) -> Result<()> {
    bed.create("podtemplates", conformance::with(template(), "/metadata", json!({"name": "o"}))).await?;
    let change = |object: &mut Value| object["metadata"]["annotations"] = json!({"updated": "true"});
    bed.update("podtemplates", "o", change).await?;
    let object = bed.get("podtemplates", "o").await?;
    ensure!(object["metadata"]["annotations"]["updated"] == "true", "{object:#}");
    Ok(())
}

/// Three of a kind are found by a label, and deleted by it in one request.
pub(crate) async fn collection(bed: Bed, plural: &str, object: Value) -> Result<()> {
    for number in 0..3 {
        let more = json!({"name": format!("o{number}"), "labels": {"set": "one"}});
        bed.create(plural, conformance::with(object.clone(), "/metadata", more)).await?;
    }
    ensure!(bed.list(plural, "set=one").await?.len() == 3, "not all are found");
    bed.delete_all(plural, "set=one").await?;
    bed.until_all(plural, "set=one", <[Value]>::is_empty).await.map(drop)
}

pub(crate) async fn lease(bed: Bed) -> Result<()> {
    let spec = json!({
        "holderIdentity": "holder", "leaseDurationSeconds": 30, "leaseTransitions": 0,
        "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:05.000000Z",
    });
    bed.create("leases", json!({"metadata": {"name": "one"}, "spec": spec})).await?;
    ensure!(bed.get("leases", "one").await?["spec"] == spec, "not the spec that was created");
    let spec = json!({"holderIdentity": "other", "leaseDurationSeconds": 42, "leaseTransitions": 1});
    bed.update("leases", "one", |lease| lease["spec"] = spec.clone()).await?;
    ensure!(bed.get("leases", "one").await?["spec"] == spec, "not the spec of the update");
    bed.patch("leases", "one", json!({"spec": {"holderIdentity": "third", "leaseDurationSeconds": 60}}))
        .await?;
    let patched = json!({"holderIdentity": "third", "leaseDurationSeconds": 60, "leaseTransitions": 1});
    ensure!(bed.get("leases", "one").await?["spec"] == patched, "not the spec of the patch");
    bed.create("leases", json!({"metadata": {"name": "two", "labels": {"of": "two"}}, "spec": spec})).await?;
    ensure!(bed.list("leases", "").await?.len() == 2, "not two leases");
    bed.delete_all("leases", "of=two").await?;
    let left = bed.list("leases", "").await?;
    ensure!(left.len() == 1 && name(&left[0]) == "one", "{left:#?}");
    bed.delete("leases", "one").await?;
    refused(bed.try_get("leases", "one").await, 404, "not found")
}

pub(crate) async fn node(bed: Bed) -> Result<()> {
    let node = format!("fake-{}", bed.namespace);
    let (plural, node) = ("nodes", node.as_str());
    bed.create(plural, json!({"metadata": {"name": node}, "spec": {"unschedulable": true}})).await?;
    ensure!(name(&bed.get(plural, node).await?) == node, "another node");
    bed.patch(plural, node, json!({"metadata": {"labels": {(node): "patched"}}})).await?;
    let found = bed.list(plural, &format!("{node}=patched")).await?;
    ensure!(found.len() == 1 && name(&found[0]) == node, "{found:#?}");
    bed.update(plural, node, |object| object["metadata"]["labels"][node] = "updated".into()).await?;
    ensure!(bed.list(plural, &format!("{node}=updated")).await?.len() == 1, "the update is not found");
    bed.delete(plural, node).await?;
    bed.gone(plural, node).await
}

pub(crate) async fn runtime_class(bed: Bed) -> Result<()> {
    operations(&bed, "runtimeclasses", |_| json!({"handler": "no-such-handler"}), Value::Null).await
}

/// A class of its own for the case, and a pod that wants it.
async fn classed(bed: &Bed, more: Value) -> Result<(String, Value)> {
    let class = format!("class-{}", bed.namespace);
    let object = conformance::with(json!({"metadata": {"name": class}}), "", more);
    bed.create("runtimeclasses", conformance::with(object, "", json!({"handler": "test-handler"}))).await?;
    let pod = with_spec(pod("p", "true"), json!({"runtimeClassName": class}));
    Ok((class, pod))
}

/// The pod is given the class's overhead and a node; whether it starts there is for the handler.
pub(crate) async fn class_scheduled(bed: Bed, more: Value) -> Result<()> {
    let (class, pod) = classed(&bed, more.clone()).await?;
    bed.create("pods", pod).await?;
    let pod = bed.until("pods", "p", |pod| conformance::condition(pod, "PodScheduled") == "True").await?;
    let overhead = more.pointer("/overhead/podFixed").unwrap_or(&Value::Null);
    ensure!(pod["spec"]["overhead"] == *overhead, "{:#}", pod["spec"]);
    ensure!(text(&pod, &["spec", "runtimeClassName"]) == class, "{:#}", pod["spec"]);
    bed.delete_with("pods", "p", json!({"gracePeriodSeconds": 0})).await?;
    bed.delete("runtimeclasses", &class).await
}

pub(crate) async fn class_missing(bed: Bed) -> Result<()> {
    let pod = with_spec(pod("p", "true"), json!({"runtimeClassName": "none-such"}));
    refused(bed.try_create("pods", pod).await, 403, "none-such")
}

pub(crate) async fn class_deleted(bed: Bed) -> Result<()> {
    let (class, pod) = classed(&bed, json!({})).await?;
    bed.delete("runtimeclasses", &class).await?;
    bed.gone("runtimeclasses", &class).await?;
    // The API server learns of it by a watch: it may take a pod or two before.
    bed.eventually("the class to be forgotten", || async {
        let found = bed.try_create("pods", pod.clone()).await;
        if found.is_ok() {
            bed.delete_with("pods", "p", json!({"gracePeriodSeconds": 0})).await?;
            bed.gone("pods", "p").await?;
        }
        refused(found, 403, &class)
    })
    .await
}
