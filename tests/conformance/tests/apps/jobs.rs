//! Jobs.

use anyhow::{Context, Result, ensure};
use client::Query;
use conformance::{Bed, FOREVER, condition, container, discovered, holds, of, pod, seen, with, with_spec};
use proto_kube::object::{annotation, items, label, name, number, text, uid};
use serde_json::{Value, json};

use crate::disruption::evict;
use crate::workload::{owner, status_of};

const JOBS: &str = "jobs";
/// Succeeds in a container with an even index and fails in others.
const EVEN: &str = "exit $((JOB_COMPLETION_INDEX % 2))";

/// A job of one script.
fn job(name: &str, script: &str, more: Value) -> Value {
    let template = json!({"spec": pod("", script)["spec"]});
    with_spec(
        json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"template": template}}),
        more,
    )
}

/// A job with a pod for each index.
fn indexed(name: &str, script: &str, more: Value) -> Value {
    with_spec(job(name, script, json!({"completionMode": "Indexed", "backoffLimit": 100})), more)
}

/// The label selector of a job's pods.
fn pods_of(job: &str) -> String {
    format!("batch.kubernetes.io/job-name={job}")
}

fn count(job: &Value, field: &str) -> i64 {
    number(job, &["status", field]).unwrap_or(0)
}

/// Creates a job and waits until it has ended so: `Complete` or `Failed`. Gives it.
async fn ends(bed: &Bed, job: Value, end: &str) -> Result<Value> {
    let job = bed.create(JOBS, job).await?;
    let over = |job: &Value| ["Complete", "Failed"].iter().any(|kind| condition(job, kind) == "True");
    let job = bed.until(JOBS, name(&job), over).await?;
    ensure!(condition(&job, end) == "True", "{:#}", job["status"]);
    Ok(job)
}

/// The reason of a condition.
fn reason<'a>(job: &'a Value, kind: &str) -> &'a str {
    let found = items(job, &["status", "conditions"]).find(|c| c["type"] == kind && c["status"] == "True");
    found.map_or("", |c| text(c, &["reason"]))
}

/// Creates a job of pods that do not end, and waits until all run.
async fn running(bed: &Bed, name: &str, parallelism: i64) -> Result<Value> {
    let more = json!({"parallelism": parallelism, "completions": parallelism});
    bed.create(JOBS, job(name, FOREVER, more)).await?;
    bed.until(JOBS, name, |job| count(job, "active") == parallelism && count(job, "ready") == parallelism)
        .await
}

pub(crate) async fn adopts_and_releases(bed: Bed) -> Result<()> {
    let job = running(&bed, "adopter", 2).await?;
    let selector = pods_of("adopter");
    let pods = bed.until_all("pods", &selector, |pods| pods.len() == 2).await?;
    let orphan = name(&pods[0]);
    let orphaned = bed.patch("pods", orphan, json!({"metadata": {"ownerReferences": null}})).await?;
    ensure!(owner(&orphaned).is_empty(), "{orphaned:#}");
    bed.until("pods", orphan, |pod| owner(pod) == uid(&job)).await?;
    let labels = json!({"batch.kubernetes.io/job-name": null, "job-name": null,
        "batch.kubernetes.io/controller-uid": null, "controller-uid": null});
    bed.patch("pods", orphan, json!({"metadata": {"labels": labels}})).await?;
    bed.until("pods", orphan, |pod| owner(pod).is_empty()).await?;
    bed.until_all("pods", &selector, |pods| pods.iter().all(|pod| name(pod) != orphan) && pods.len() == 2)
        .await?;
    Ok(())
}

/// What an eviction ends is not counted, though the exit code of the failure would end the job.
pub(crate) async fn disruption_ignored(bed: Bed) -> Result<()> {
    let rules = json!({"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]});
    let script = "trap 'exit 1' TERM; while [ ! -e /marks/$JOB_COMPLETION_INDEX ]; do \
        touch /marks/$JOB_COMPLETION_INDEX; while :; do sleep 0.1; done; done";
    // All on one node: it is there that the marks are.
    let marks = bed.cluster.node(0).machine().folder().join(&bed.namespace);
    let volume = json!({"hostPath": {"path": marks, "type": "DirectoryOrCreate"}, "name": "marks"});
    let more = json!({"parallelism": 2, "completions": 2, "backoffLimit": 0, "podFailurePolicy": rules});
    let job =
        with_spec(indexed("evicted", script, more), json!({"template": {"spec": {"volumes": [volume]}}}));
    let mount = json!({"volumeMounts": [{"name": "marks", "mountPath": "/marks"}]});
    let pinned = json!({"template": {"spec": {"nodeName": bed.cluster.name(0)?}}});
    let job = with(with_spec(job, pinned), "/spec/template/spec/containers/0", mount);
    bed.create(JOBS, job).await?;
    bed.until(JOBS, "evicted", |job| count(job, "ready") == 2).await?;
    for pod in bed.list("pods", &pods_of("evicted")).await? {
        let marked = || async { bed.sh(name(&pod), "test -e /marks/$JOB_COMPLETION_INDEX").await };
        bed.eventually("the mark", marked).await?;
        evict(&bed, name(&pod)).await?;
    }
    let job = bed.until(JOBS, "evicted", |job| !condition(job, "Complete").is_empty()).await?;
    ensure!(count(&job, "succeeded") == 2, "{:#}", job["status"]);
    Ok(())
}

pub(crate) async fn failed_early(bed: Bed) -> Result<()> {
    let rule = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}});
    let script = format!("[ $JOB_COMPLETION_INDEX = 0 ] && exit 3; {FOREVER}");
    let more = json!({"parallelism": 2, "completions": 2, "podFailurePolicy": {"rules": [rule]}});
    let job = ends(&bed, indexed("early", &script, more), "Failed").await?;
    ensure!(reason(&job, "Failed") == "PodFailurePolicy", "{:#}", job["status"]);
    ensure!(count(&job, "active") == 0, "{:#}", job["status"]);
    Ok(())
}

pub(crate) async fn status(bed: Bed) -> Result<()> {
    let job = running(&bed, "told", 2).await?;
    let mut watch = bed.watch(JOBS, "app=told", text(&job, &["metadata", "resourceVersion"])).await?;
    let patch = json!({"metadata": {"annotations": {"patched": "yes"}}, "status": {"terminating": 0}});
    let patched = bed.patch(JOBS, "told/status", patch).await?;
    ensure!(annotation(&patched, "patched") == Some("yes"), "{patched:#}");
    seen(&mut watch, "MODIFIED", |job| annotation(job, "patched") == Some("yes")).await?;
    status_of(&bed, JOBS, &patched).await
}

pub(crate) async fn completion_indexes(bed: Bed) -> Result<()> {
    let script = "echo $JOB_COMPLETION_INDEX $(hostname)";
    let more = json!({"parallelism": 2, "completions": 4});
    let job = ends(&bed, indexed("numbered", script, more), "Complete").await?;
    ensure!(
        job["status"]["completedIndexes"] == "0-3" && count(&job, "succeeded") == 4,
        "{:#}",
        job["status"]
    );
    let pods = bed.list("pods", &pods_of("numbered")).await?;
    let mut indexes = Vec::new();
    for pod in &pods {
        let index = annotation(pod, "batch.kubernetes.io/job-completion-index").context("no annotation")?;
        ensure!(label(pod, "batch.kubernetes.io/job-completion-index") == Some(index), "{pod:#}");
        ensure!(text(pod, &["spec", "hostname"]) == format!("numbered-{index}"), "{pod:#}");
        ensure!(bed.logs(name(pod), "c").await? == format!("{index} numbered-{index}\n"), "{}", name(pod));
        indexes.push(index);
    }
    indexes.sort_unstable();
    ensure!(indexes == ["0", "1", "2", "3"], "{indexes:?}");
    Ok(())
}

pub(crate) async fn deleted(bed: Bed) -> Result<()> {
    running(&bed, "doomed", 2).await?;
    bed.delete_with(JOBS, "doomed", json!({"propagationPolicy": "Foreground"})).await?;
    bed.gone(JOBS, "doomed").await?;
    let pods = bed.list("pods", &pods_of("doomed")).await?;
    ensure!(pods.is_empty(), "{pods:#?}");
    Ok(())
}

pub(crate) async fn all_indexes(bed: Bed) -> Result<()> {
    let more = json!({"parallelism": 4, "completions": 4, "backoffLimit": null, "backoffLimitPerIndex": 1});
    let job = ends(&bed, indexed("all", EVEN, more), "Failed").await?;
    let status = &job["status"];
    ensure!(status["completedIndexes"] == "0,2" && status["failedIndexes"] == "1,3", "{status:#}");
    ensure!(count(&job, "succeeded") == 2 && count(&job, "failed") == 4, "{status:#}");
    ensure!(reason(&job, "Failed") == "FailedIndexes", "{status:#}");
    Ok(())
}

pub(crate) async fn too_many_failed(bed: Bed) -> Result<()> {
    let script = format!("[ $JOB_COMPLETION_INDEX -lt 2 ] && exit 1; {FOREVER}");
    let more = json!({"parallelism": 4, "completions": 4, "backoffLimit": null, "backoffLimitPerIndex": 0,
        "maxFailedIndexes": 1});
    let job = ends(&bed, indexed("many", &script, more), "Failed").await?;
    ensure!(reason(&job, "Failed") == "MaxFailedIndexesExceeded", "{:#}", job["status"]);
    ensure!(count(&job, "succeeded") == 0 && count(&job, "active") == 0, "{:#}", job["status"]);
    Ok(())
}

pub(crate) async fn fail_index(bed: Bed) -> Result<()> {
    let script = "case $JOB_COMPLETION_INDEX in 1) exit 3;; esac";
    let rule = json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3]}});
    let more = json!({"parallelism": 2, "completions": 3, "backoffLimit": null, "backoffLimitPerIndex": 2,
        "podFailurePolicy": {"rules": [rule]}});
    let job = ends(&bed, indexed("index", script, more), "Failed").await?;
    let status = &job["status"];
    ensure!(status["completedIndexes"] == "0,2" && status["failedIndexes"] == "1", "{status:#}");
    ensure!(count(&job, "failed") == 1, "{status:#}");
    Ok(())
}

pub(crate) async fn lifecycle(bed: Bed) -> Result<()> {
    discovered(&bed, JOBS, &["status"]).await?;
    bed.create(JOBS, job("life", FOREVER, json!({"suspend": true}))).await?;
    bed.until(JOBS, "life", |job| condition(job, "Suspended") == "True").await?;
    ensure!(bed.list("pods", "").await?.is_empty(), "a suspended job has pods");
    let patch = json!({"metadata": {"labels": {"set": bed.namespace}}});
    let patched = bed.patch(JOBS, "life", patch.clone()).await?;
    ensure!(holds(&patched, &patch), "{patched:#}");
    let change = |job: &mut Value| {
        job["spec"]["suspend"] = false.into();
        job["metadata"]["annotations"]["updated"] = "yes".into();
    };
    let updated = bed.update(JOBS, "life", change).await?;
    ensure!(annotation(&updated, "updated") == Some("yes"), "{updated:#}");
    bed.until(JOBS, "life", |job| count(job, "ready") == 1).await?;
    let selector = format!("set={}", bed.namespace);
    let all = bed.client.list(of(JOBS), "", Query::default().with("labelSelector", &selector)).await?;
    ensure!(items(&all, &["items"]).count() == 1, "{all:#}");
    bed.delete_all(JOBS, &selector).await?;
    bed.until_all(JOBS, &selector, <[Value]>::is_empty).await?;
    Ok(())
}

/// Each pod fails the first time that its container runs; the node starts it anew.
pub(crate) async fn locally_restarted(bed: Bed) -> Result<()> {
    let script = "[ -e /seen/it ] && exit 0; touch /seen/it; exit 1";
    let job = job("again", script, json!({"parallelism": 2, "completions": 3}));
    let spec = json!({"restartPolicy": "OnFailure", "volumes": [{"name": "seen", "emptyDir": {}}]});
    let mut seen = container("c", script);
    seen["volumeMounts"] = json!([{"name": "seen", "mountPath": "/seen"}]);
    let job =
        with(with(job, "/spec/template/spec", spec), "/spec/template/spec", json!({"containers": [seen]}));
    let job = ends(&bed, job, "Complete").await?;
    ensure!(count(&job, "succeeded") == 3, "{:#}", job["status"]);
    for pod in bed.list("pods", &pods_of("again")).await? {
        ensure!(items(&pod, &["status", "containerStatuses"]).all(|c| c["restartCount"] == 1), "{pod:#}");
    }
    Ok(())
}

/// The job succeeds by its policy.
async fn succeeds(bed: &Bed, script: &str, rules: Value) -> Result<Value> {
    let mut more = json!({"parallelism": 3, "completions": 3});
    more["successPolicy"] = rules;
    let job = ends(bed, indexed("policy", script, more), "Complete").await?;
    for kind in ["SuccessCriteriaMet", "Complete"] {
        ensure!(reason(&job, kind) == "SuccessPolicy", "{:#}", job["status"]);
    }
    Ok(job)
}

pub(crate) async fn all_succeeded(bed: Bed) -> Result<()> {
    let job = succeeds(&bed, "true", json!({"rules": [{"succeededIndexes": "0-2"}]})).await?;
    ensure!(job["status"]["completedIndexes"] == "0-2", "{:#}", job["status"]);
    Ok(())
}

/// Index 0 succeeds; the others would never end.
async fn first_succeeded(bed: Bed, rule: Value) -> Result<()> {
    let script = format!("[ $JOB_COMPLETION_INDEX = 0 ] && exit 0; {FOREVER}");
    let job = succeeds(&bed, &script, json!({"rules": [rule]})).await?;
    ensure!(job["status"]["completedIndexes"] == "0" && count(&job, "active") == 0, "{:#}", job["status"]);
    Ok(())
}

pub(crate) async fn enough_succeeded(bed: Bed) -> Result<()> {
    first_succeeded(bed, json!({"succeededCount": 1})).await
}

pub(crate) async fn these_succeeded(bed: Bed) -> Result<()> {
    first_succeeded(bed, json!({"succeededIndexes": "0"})).await
}
