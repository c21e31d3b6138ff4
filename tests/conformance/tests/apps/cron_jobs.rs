//! CronJobs.

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, condition, pod, with_spec};
use proto_kube::object::{items, name, text, uid};
use serde_json::{Value, json};

use crate::workload::owner;

const CRONS: &str = "cronjobs";

/// A cron job that is due each minute.
pub(crate) fn minutely(name: &str, script: &str, policy: &str) -> Value {
    let job = json!({"spec": {"template": {"spec": pod("", script)["spec"]}}});
    json!({"metadata": {"name": name},
        "spec": {"schedule": "*/1 * * * *", "concurrencyPolicy": policy, "jobTemplate": job}})
}

/// Creates one and waits for its first job, which is active.
async fn first(bed: &Bed, policy: &str) -> Result<Value> {
    let cron = bed.create(CRONS, minutely("cron", FOREVER, policy)).await?;
    let jobs = bed.until_all("jobs", "", |jobs| !jobs.is_empty()).await?;
    ensure!(jobs.len() == 1 && owner(&jobs[0]) == uid(&cron), "{jobs:#?}");
    bed.until(CRONS, "cron", |cron| items(cron, &["status", "active"]).count() == 1).await?;
    Ok(jobs[0].clone())
}

/// While another one has jobs, that of the suspended one has none.
pub(crate) async fn suspended(bed: Bed) -> Result<()> {
    let suspended = minutely("suspended", "true", "Allow");
    let suspended = bed.create(CRONS, with_spec(suspended, json!({"suspend": true}))).await?;
    let other = bed.create(CRONS, minutely("other", "true", "Allow")).await?;
    let jobs = bed.until_all("jobs", "", |jobs| jobs.iter().any(|job| owner(job) == uid(&other))).await?;
    bed.until("jobs", name(&jobs[0]), |job| condition(job, "Complete") == "True").await?;
    let jobs = bed.list("jobs", "").await?;
    ensure!(jobs.iter().all(|job| owner(job) != uid(&suspended)), "{jobs:#?}");
    let suspended = bed.get(CRONS, "suspended").await?;
    ensure!(items(&suspended, &["status", "active"]).count() == 0, "{suspended:#}");
    Ok(())
}

/// The next one is left out, and it is told.
pub(crate) async fn forbidden(bed: Bed) -> Result<()> {
    let job = first(&bed, "Forbid").await?;
    let skipped = |event: &Value| text(event, &["reason"]) == "JobAlreadyActive";
    bed.until_all("events", "", |events| events.iter().any(skipped)).await?;
    let jobs = bed.list("jobs", "").await?;
    ensure!(jobs.len() == 1 && uid(&jobs[0]) == uid(&job), "{jobs:#?}");
    Ok(())
}

pub(crate) async fn replaced(bed: Bed) -> Result<()> {
    let job = first(&bed, "Replace").await?;
    let another = |jobs: &[Value]| jobs.len() == 1 && uid(&jobs[0]) != uid(&job);
    bed.until_all("jobs", "", another).await?;
    Ok(())
}

pub(crate) async fn concurrent(bed: Bed) -> Result<()> {
    first(&bed, "Allow").await?;
    bed.until_all("jobs", "", |jobs| jobs.iter().filter(|job| job["status"]["active"] == 1).count() == 2)
        .await?;
    bed.until(CRONS, "cron", |cron| items(cron, &["status", "active"]).count() == 2).await?;
    Ok(())
}

pub(crate) async fn operations(bed: Bed) -> Result<()> {
    // One that is not due while the case runs, as its controller would change it too.
    let make = |_| with_spec(minutely("", "true", "Allow"), json!({"schedule": "0 0 29 2 *"}));
    let status = json!({"lastScheduleTime": "2026-01-01T00:00:00Z"});
    conformance::operations(&bed, CRONS, make, status).await
}
