//! What reaches the pods of a Service.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use conformance::Bed;
use proto_kube::object::{items, name, number, text};
use serde_json::{Value, json};

use crate::names::{leads_outside, outside};
use crate::pods::{both, client, datagram, reaches, service, serving, socat_client, stream, web};

/// A Service's address.
fn cluster_ip(service: &Value) -> &str {
    text(service, &["spec", "clusterIP"])
}

/// The port that a Service has on every node; zero without one.
fn node_port(service: &Value) -> i64 {
    number(&service["spec"]["ports"][0], &["nodePort"]).unwrap_or_default()
}

/// Wherever a Service must be reached: its name, its address, and the node port on each node's address.
async fn places(bed: &Bed, service: &Value) -> Result<Vec<String>> {
    let port = &service["spec"]["ports"][0]["port"];
    let mut all = vec![format!("{}:{port}", name(service)), format!("{}:{port}", cluster_ip(service))];
    if node_port(service) != 0 {
        for node in bed.list("nodes", "").await? {
            let addresses = items(&node, &["status", "addresses"]).filter(|a| a["type"] != "Hostname");
            all.extend(addresses.map(|a| format!("{}:{}", text(a, &["address"]), node_port(service))));
        }
    }
    Ok(all)
}

/// The Service with a type.
fn typed(mut service: Value, kind: &str) -> Value {
    service["spec"]["type"] = kind.into();
    service
}

fn external(target: &str) -> Value {
    json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": target}})
}

pub(crate) async fn on_nodes(bed: Bed) -> Result<()> {
    let made = bed.create("services", typed(service("s", json!([{"port": 80}])), "NodePort")).await?;
    ensure!(node_port(&made) != 0, "{made:#}");
    bed.ready(web("s", &[80])).await?;
    bed.ready(client("client")).await?;
    for place in places(&bed, &made).await? {
        reaches(&bed, "client", &place, "s").await?;
    }
    Ok(())
}

/// A Service of a type becomes external.
async fn becomes_external(bed: Bed, kind: &str) -> Result<()> {
    let target = outside(&bed).await?;
    let made = bed.create("services", typed(service("s", json!([{"port": 80}])), kind)).await?;
    ensure!(!cluster_ip(&made).is_empty() && (node_port(&made) != 0) == (kind == "NodePort"), "{made:#}");
    bed.ready(web("s", &[80])).await?;
    bed.ready(client("client")).await?;
    for place in places(&bed, &made).await? {
        reaches(&bed, "client", &place, "s").await?;
    }
    let spec = json!({"type": "ExternalName", "externalName": target, "clusterIP": null, "clusterIPs": null,
        "ports": [{"port": 80, "nodePort": null}]});
    let changed = bed.patch("services", "s", json!({"spec": spec})).await?;
    ensure!(cluster_ip(&changed).is_empty() && node_port(&changed) == 0, "{changed:#}");
    leads_outside(&bed, "client", "s", &target).await?;
    if kind == "NodePort" {
        let ports = json!([{"port": 80, "nodePort": node_port(&made)}]);
        bed.create("services", typed(service("next", ports), "NodePort")).await?;
    }
    Ok(())
}

pub(crate) async fn cluster_ip_to_external(bed: Bed) -> Result<()> {
    becomes_external(bed, "ClusterIP").await
}

pub(crate) async fn node_port_to_external(bed: Bed) -> Result<()> {
    becomes_external(bed, "NodePort").await
}

/// An external Service becomes one of a type.
async fn external_becomes(bed: Bed, kind: &str) -> Result<()> {
    let made = bed.create("services", external(&outside(&bed).await?)).await?;
    ensure!(cluster_ip(&made).is_empty(), "{made:#}");
    bed.ready(web("s", &[80])).await?;
    bed.ready(client("client")).await?;
    let ports = json!([{"port": 80, "protocol": "TCP"}]);
    let spec = json!({"type": kind, "externalName": null, "selector": {"app": "s"}, "ports": ports});
    let changed = bed.patch("services", "s", json!({"spec": spec})).await?;
    ensure!(
        !cluster_ip(&changed).is_empty() && (node_port(&changed) != 0) == (kind == "NodePort"),
        "{changed:#}"
    );
    for place in places(&bed, &changed).await? {
        reaches(&bed, "client", &place, "s").await?;
    }
    Ok(())
}

pub(crate) async fn external_to_cluster_ip(bed: Bed) -> Result<()> {
    external_becomes(bed, "ClusterIP").await
}

pub(crate) async fn external_to_node_port(bed: Bed) -> Result<()> {
    external_becomes(bed, "NodePort").await
}

/// So many requests in a row.
const REQUESTS: usize = 15;

/// Who has answered a row of requests to a place.
async fn servers(bed: &Bed, place: &str) -> Result<BTreeSet<String>> {
    let script = format!(
        "for i in $(seq {REQUESTS}); do timeout 5 wget -qO- http://{place} || exit 1; done | cut -d ' ' -f 1"
    );
    let said = bed.sh("client", &script).await?;
    ensure!(said.lines().count() == REQUESTS, "not every request to {place} was answered: {said}");
    Ok(said.lines().map(str::to_owned).collect())
}

/// Waits until one server, or several, answer a row of requests.
async fn sticks(bed: &Bed, place: &str, one: bool) -> Result<()> {
    bed.eventually(&format!("affinity {one} at {place}"), || async {
        let servers = servers(bed, place).await?;
        ensure!((servers.len() == 1) == one, "{servers:?}");
        Ok(())
    })
    .await
}

/// A Service with affinity of a type, three servers and a client.
async fn affine(bed: &Bed, kind: &str) -> Result<Value> {
    let mut object = typed(service("s", json!([{"port": 80}])), kind);
    object["spec"]["sessionAffinity"] = "ClientIP".into();
    let made = bed.create("services", object).await?;
    ensure!((node_port(&made) != 0) == (kind == "NodePort"), "{made:#}");
    let mut template = web("s", &[80]);
    template["metadata"] = json!({"labels": {"app": "s"}});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "s"}}, "template": template});
    bed.create("deployments", json!({"metadata": {"name": "s"}, "spec": spec})).await?;
    bed.ready(client("client")).await?;
    bed.until("deployments", "s", |d| d["status"]["readyReplicas"] == 3).await?;
    bed.until("endpoints", "s", |e| items(&e["subsets"][0], &["addresses"]).count() == 3).await?;
    Ok(made)
}

/// The place whose affinity is looked at: the node port where there is one.
async fn looked_at(bed: &Bed, service: &Value) -> Result<String> {
    Ok(places(bed, service).await?.pop().unwrap_or_default())
}

pub(crate) async fn affinity(bed: Bed, kind: &str) -> Result<()> {
    let service = affine(&bed, kind).await?;
    sticks(&bed, &looked_at(&bed, &service).await?, true).await?;
    for place in places(&bed, &service).await? {
        servers(&bed, &place).await?;
    }
    Ok(())
}

pub(crate) async fn switched_affinity(bed: Bed, kind: &str) -> Result<()> {
    let service = affine(&bed, kind).await?;
    let place = looked_at(&bed, &service).await?;
    bed.patch("services", "s", json!({"spec": {"sessionAffinity": "None"}})).await?;
    sticks(&bed, &place, false).await?;
    bed.patch("services", "s", json!({"spec": {"sessionAffinity": "ClientIP"}})).await?;
    sticks(&bed, &place, true).await?;
    for place in places(&bed, &service).await? {
        servers(&bed, &place).await?;
    }
    Ok(())
}

pub(crate) async fn same_port(bed: Bed) -> Result<()> {
    let port = |protocol: &str| json!({"name": protocol.to_lowercase(), "port": 80, "protocol": protocol});
    let made = bed.create("services", service("s", json!([port("TCP"), port("UDP")]))).await?;
    bed.ready(serving(both(&bed, "server", 80)?, "s")).await?;
    bed.ready(socat_client(&bed, "client")?).await?;
    let place = format!("{}:80", cluster_ip(&made));
    let answers = async |tcp: bool, udp: bool| {
        bed.eventually(&format!("TCP {tcp}, UDP {udp}"), || async {
            let by_tcp = stream(&bed, "client", &place).await?;
            let by_udp = datagram(&bed, "client", &place).await?;
            ensure!((by_tcp == "server", by_udp == "server") == (tcp, udp), "TCP {by_tcp:?}, UDP {by_udp:?}");
            Ok(())
        })
        .await
    };
    answers(true, true).await?;
    for protocol in ["TCP", "UDP"] {
        bed.update("services", "s", |s| s["spec"]["ports"] = json!([port(protocol)])).await?;
        answers(protocol == "TCP", protocol == "UDP").await?;
    }
    Ok(())
}
