//! ReplicaSets and ReplicationControllers.

use std::time::Duration;

use anyhow::{Result, ensure};
use client::Query;
use conformance::{Bed, condition, holds, of, seen, socat, with};
use proto_kube::object::{items, name, text};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::workload::{self, has_ready, ready_pods, running, template};

const SETS: &str = "replicasets";
const CONTROLLERS: &str = "replicationcontrollers";
/// Serves the pod's name by HTTP.
pub(crate) const WEB: &str = "hostname > /tmp/index.html; exec httpd -f -h /tmp";

pub(crate) async fn replaced_and_patched(bed: Bed) -> Result<()> {
    running(&bed, SETS, workload::workload(SETS, "set", 1)).await?;
    ready_pods(&bed, "set", 1).await?;
    bed.update(SETS, "set", |set| set["spec"]["replicas"] = 2.into()).await?;
    bed.until(SETS, "set", |set| has_ready(set, 2)).await?;
    let patch = json!({"metadata": {"labels": {"patched": "yes"}}, "spec": {"replicas": 3}});
    let patched = bed.patch(SETS, "set", patch.clone()).await?;
    ensure!(holds(&patched, &patch), "{patched:#}");
    bed.until(SETS, "set", |set| has_ready(set, 3) && holds(set, &patch)).await?;
    Ok(())
}

pub(crate) async fn set_adopts_and_releases(bed: Bed) -> Result<()> {
    workload::adopts(&bed, SETS).await?;
    workload::releases(&bed, SETS, "adopter").await
}

pub(crate) async fn controller_adopts(bed: Bed) -> Result<()> {
    workload::adopts(&bed, CONTROLLERS).await.map(drop)
}

pub(crate) async fn controller_releases(bed: Bed) -> Result<()> {
    running(&bed, CONTROLLERS, workload::workload(CONTROLLERS, "releaser", 1)).await?;
    workload::releases(&bed, CONTROLLERS, "releaser").await
}

pub(crate) async fn set_serves(bed: Bed) -> Result<()> {
    workload::serves(&bed, SETS, template("web", WEB)).await.map(drop)
}

/// By HTTP, TCP and UDP.
pub(crate) async fn controller_serves(bed: Bed) -> Result<()> {
    let script = format!(
        "socat TCP4-LISTEN:81,fork,reuseaddr EXEC:hostname & socat UDP4-RECVFROM:82,fork EXEC:hostname & {WEB}"
    );
    let image = json!({"image": socat::image(&bed)?});
    let template = with(template("web", &script), "/spec/containers/0", image);
    for pod in workload::serves(&bed, CONTROLLERS, template).await? {
        let (name, address) = (name(&pod), text(&pod, &["status", "podIP"]));
        let tcp = || async {
            let mut answer = String::new();
            TcpStream::connect((address, 81)).await?.read_to_string(&mut answer).await?;
            ensure!(answer.trim() == name, "{answer:?} instead of {name}");
            Ok(())
        };
        bed.eventually("an answer by TCP", tcp).await?;
        let udp = || async {
            let (socket, mut answer) = (UdpSocket::bind("0.0.0.0:0").await?, [0; 100]);
            socket.connect((address, 82)).await?;
            socket.send(b"who?").await?;
            let length = timeout(Duration::from_secs(2), socket.recv(&mut answer)).await??;
            ensure!(answer[..length].trim_ascii() == name.as_bytes(), "{answer:?} instead of {name}");
            Ok(())
        };
        bed.eventually("an answer by UDP", udp).await?;
    }
    Ok(())
}

/// More replicas than the quota allows are a failure that the status tells of, as long as it lasts.
pub(crate) async fn over_quota(bed: Bed) -> Result<()> {
    let quota = json!({"metadata": {"name": "two"}, "spec": {"hard": {"pods": "2"}}});
    bed.create("resourcequotas", quota).await?;
    bed.until("resourcequotas", "two", |quota| quota["status"]["hard"]["pods"] == "2").await?;
    bed.create(CONTROLLERS, workload::workload(CONTROLLERS, "three", 3)).await?;
    bed.until(CONTROLLERS, "three", |rc| condition(rc, "ReplicaFailure") == "True").await?;
    bed.update(CONTROLLERS, "three", |rc| rc["spec"]["replicas"] = 2.into()).await?;
    bed.until(CONTROLLERS, "three", |rc| condition(rc, "ReplicaFailure").is_empty()).await?;
    Ok(())
}

pub(crate) async fn lifecycle(bed: Bed) -> Result<()> {
    let mut watch = bed.watch(CONTROLLERS, "set=life", "").await?;
    let mut rc = workload::workload(CONTROLLERS, "life", 1);
    rc["metadata"]["labels"]["set"] = "life".into();
    bed.create(CONTROLLERS, rc).await?;
    seen(&mut watch, "ADDED", |rc| name(rc) == "life").await?;
    seen(&mut watch, "MODIFIED", |rc| has_ready(rc, 1)).await?;
    let label = json!({"metadata": {"labels": {"patched": "yes"}}});
    bed.patch(CONTROLLERS, "life", label.clone()).await?;
    seen(&mut watch, "MODIFIED", |rc| holds(rc, &label)).await?;
    bed.patch(CONTROLLERS, "life/status", json!({"status": {"availableReplicas": 0}})).await?;
    seen(&mut watch, "MODIFIED", |rc| rc["status"]["availableReplicas"].as_i64().unwrap_or(0) == 0).await?;
    let scale = bed.patch(CONTROLLERS, "life/scale", json!({"spec": {"replicas": 2}})).await?;
    ensure!(scale["spec"]["replicas"] == 2, "{scale}");
    seen(&mut watch, "MODIFIED", |rc| has_ready(rc, 2)).await?;
    let template = template("life", WEB);
    bed.update(CONTROLLERS, "life", |rc| rc["spec"]["template"] = template.clone()).await?;
    seen(&mut watch, "MODIFIED", |rc| holds(rc, &json!({"spec": {"template": template}}))).await?;
    let all =
        bed.client.list(of(CONTROLLERS), "", Query::default().with("labelSelector", "set=life")).await?;
    ensure!(items(&all, &["items"]).any(|rc: &Value| name(rc) == "life"), "{all:#}");
    bed.delete_all(CONTROLLERS, "set=life").await?;
    seen(&mut watch, "DELETED", |rc| name(rc) == "life").await?;
    bed.gone(CONTROLLERS, "life").await
}
