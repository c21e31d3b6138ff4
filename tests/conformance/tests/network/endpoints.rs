//! Which pods a Service has, as Endpoints and as EndpointSlices.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use conformance::Bed;
use proto_kube::object::{items, name, text};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::pods::{client, ip, pod, reaches, service, serving, web};

/// The slices of a Service.
async fn slices(bed: &Bed, service: &str) -> Result<Vec<Value>> {
    bed.list("endpointslices", &format!("kubernetes.io/service-name={service}")).await
}

/// `address:port` of all ready endpoints in slices.
fn sliced(slices: &[Value]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for slice in slices {
        for endpoint in items(slice, &["endpoints"]).filter(|e| e["conditions"]["ready"] != false) {
            for port in items(slice, &["ports"]) {
                let addresses = items(endpoint, &["addresses"]).filter_map(Value::as_str);
                all.extend(addresses.map(|ip| format!("{ip}:{}", port["port"])));
            }
        }
    }
    all
}

/// `address:port` of all ready endpoints in Endpoints.
fn listed(endpoints: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for subset in items(endpoints, &["subsets"]) {
        for port in items(subset, &["ports"]) {
            all.extend(
                items(subset, &["addresses"]).map(|a| format!("{}:{}", text(a, &["ip"]), port["port"])),
            );
        }
    }
    all
}

/// Waits until a Service has just these endpoints, in Endpoints and in slices.
async fn has(bed: &Bed, service: &str, wanted: &[(&Value, u16)]) -> Result<()> {
    let wanted: BTreeSet<String> = wanted.iter().map(|(pod, port)| format!("{}:{port}", ip(pod))).collect();
    bed.until("endpoints", service, |endpoints| listed(endpoints) == wanted).await?;
    let selector = format!("kubernetes.io/service-name={service}");
    let all =
        bed.until_all("endpointslices", &selector, |all| !all.is_empty() && sliced(all) == wanted).await?;
    ensure!(all.iter().all(|slice| slice["addressType"] == "IPv4"), "{all:#?}");
    Ok(())
}

/// Waits until neither is left of a Service.
async fn none_left(bed: &Bed, service: &str) -> Result<()> {
    bed.gone("endpoints", service).await?;
    bed.until_all("endpointslices", &format!("kubernetes.io/service-name={service}"), <[Value]>::is_empty)
        .await?;
    Ok(())
}

pub(crate) async fn of_pods(bed: Bed) -> Result<()> {
    bed.create("services", service("s", json!([{"name": "http", "port": 80, "targetPort": 8080}]))).await?;
    let one = bed.ready(serving(client("one"), "s")).await?;
    let other = bed.ready(serving(client("other"), "s")).await?;
    has(&bed, "s", &[(&one, 8080), (&other, 8080)]).await?;
    for slice in slices(&bed, "s").await? {
        for endpoint in items(&slice, &["endpoints"]) {
            ensure!(text(endpoint, &["targetRef", "kind"]) == "Pod", "{endpoint:#}");
            let pod = bed.get("pods", text(endpoint, &["targetRef", "name"])).await?;
            ensure!(endpoint["targetRef"]["uid"] == pod["metadata"]["uid"], "{endpoint:#}");
            ensure!(endpoint["nodeName"] == pod["spec"]["nodeName"], "{endpoint:#}");
        }
    }
    bed.delete("services", "s").await?;
    none_left(&bed, "s").await
}

pub(crate) async fn of_none(bed: Bed) -> Result<()> {
    bed.create("services", service("s", json!([{"name": "http", "port": 80}]))).await?;
    has(&bed, "s", &[]).await?;
    bed.delete("services", "s").await?;
    none_left(&bed, "s").await
}

pub(crate) async fn basic(bed: Bed) -> Result<()> {
    bed.create("services", service("s", json!([{"port": 80}]))).await?;
    has(&bed, "s", &[]).await?;
    bed.ready(client("client")).await?;
    let one = bed.ready(serving(web("one", &[80]), "s")).await?;
    has(&bed, "s", &[(&one, 80)]).await?;
    reaches(&bed, "client", "s", "one").await?;
    let other = bed.ready(serving(web("other", &[80]), "s")).await?;
    has(&bed, "s", &[(&one, 80), (&other, 80)]).await?;
    bed.delete("pods", "one").await?;
    has(&bed, "s", &[(&other, 80)]).await?;
    reaches(&bed, "client", "s", "other").await?;
    bed.delete("pods", "other").await?;
    has(&bed, "s", &[]).await
}

pub(crate) async fn of_many_ports(bed: Bed) -> Result<()> {
    let ports = json!([
        {"name": "portname1", "port": 80, "targetPort": "svc1"},
        {"name": "portname2", "port": 81, "targetPort": "svc2"},
    ]);
    bed.create("services", service("s", ports)).await?;
    has(&bed, "s", &[]).await?;
    bed.ready(client("client")).await?;
    let named = |name: &str, port: u16, called: &str| {
        let mut pod = serving(web(name, &[port]), "s");
        pod["spec"]["containers"][0]["ports"][0]["name"] = called.into();
        pod
    };
    let one = bed.ready(named("one", 100, "svc1")).await?;
    has(&bed, "s", &[(&one, 100)]).await?;
    let other = bed.ready(named("other", 101, "svc2")).await?;
    has(&bed, "s", &[(&one, 100), (&other, 101)]).await?;
    reaches(&bed, "client", "s:80", "one").await?;
    reaches(&bed, "client", "s:81", "other").await?;
    bed.delete("pods", "one").await?;
    has(&bed, "s", &[(&other, 101)]).await?;
    bed.delete("pods", "other").await?;
    has(&bed, "s", &[]).await
}

/// A Service without a selector, its slices made by hand: each of a port's name and number, and an address.
async fn by_hand(bed: &Bed, parts: &[(&str, u16, &Value)]) -> Result<()> {
    let ports: Vec<Value> = parts.iter().map(|(name, port, _)| json!({"name": name, "port": port})).collect();
    bed.create("services", json!({"metadata": {"name": "s"}, "spec": {"ports": ports}})).await?;
    for (name, port, pod) in parts {
        let metadata = json!({"name": format!("s-{name}"), "labels": {"kubernetes.io/service-name": "s"}});
        let endpoints = json!([{"addresses": [ip(pod)]}]);
        let slice = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": name, "port": port}]});
        bed.create("endpointslices", slice).await?;
    }
    bed.ready(client("client")).await?;
    for (_, port, pod) in parts {
        reaches(bed, "client", &format!("s:{port}"), name(pod)).await?;
    }
    Ok(())
}

pub(crate) async fn ports_in_slices(bed: Bed) -> Result<()> {
    let pod = bed.ready(web("server", &[8090, 9090])).await?;
    by_hand(&bed, &[("one", 8090, &pod), ("other", 9090, &pod)]).await
}

pub(crate) async fn addresses_in_slices(bed: Bed) -> Result<()> {
    let one = bed.ready(web("one", &[8090])).await?;
    let other = bed.ready(web("other", &[9090])).await?;
    by_hand(&bed, &[("one", 8090, &one), ("other", 9090, &other)]).await
}

pub(crate) async fn mirrored(bed: Bed) -> Result<()> {
    let subset = |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"name": "p", "port": 80}]}]);
    bed.create(
        "services",
        json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "p", "port": 80}]}}),
    )
    .await?;
    bed.create("endpoints", json!({"metadata": {"name": "s"}, "subsets": subset("10.1.2.3")})).await?;
    let selector = "kubernetes.io/service-name=s,\
        endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io";
    let mirrors = |address: &str| {
        let wanted = BTreeSet::from([format!("{address}:80")]);
        move |all: &[Value]| all.len() == 1 && sliced(all) == wanted
    };
    bed.until_all("endpointslices", selector, mirrors("10.1.2.3")).await?;
    bed.update("endpoints", "s", |e| e["subsets"] = subset("10.2.3.4")).await?;
    bed.until_all("endpointslices", selector, mirrors("10.2.3.4")).await?;
    bed.delete("endpoints", "s").await?;
    bed.until_all("endpointslices", selector, <[Value]>::is_empty).await?;
    Ok(())
}

/// So many Services in turn.
const SERVICES: usize = 100;

pub(crate) async fn latency(bed: Bed) -> Result<()> {
    let server = bed.ready(pod("s", "busybox:1.35", "sleep 1000000")).await?;
    let mut took = Vec::new();
    for round in 0..SERVICES {
        let mut object = service("s", json!([{"port": 80}]));
        object["metadata"]["name"] = format!("latency-{round}").into();
        let begun = Instant::now();
        let made = bed.create("services", object).await?;
        let complete = |e: &Value| text(&e["subsets"][0]["addresses"][0], &["ip"]) == ip(&server);
        bed.until("endpoints", name(&made), complete).await?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let (half, most) = (took[SERVICES / 2], took[SERVICES * 9 / 10]);
    ensure!(half.as_secs() < 20 && most.as_secs() < 50, "50 %: {half:?}, 90 %: {most:?}");
    Ok(())
}
