//! Resources of the network as the API has them.

use anyhow::{Context, Result, ensure};
use conformance::{Bed, holds, of, operations, seen};
use http::Method;
use proto_kube::object::{items, name, namespace, text};
use serde_json::{Value, json};

pub(crate) async fn endpoint_slices(bed: Bed) -> Result<()> {
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": []});
    operations(&bed, "endpointslices", |_| slice.clone(), Value::Null).await
}

pub(crate) async fn ingresses(bed: Bed) -> Result<()> {
    let ingress = json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}});
    operations(&bed, "ingresses", |_| ingress.clone(), status).await
}

pub(crate) async fn ingress_classes(bed: Bed) -> Result<()> {
    let class = json!({"spec": {"controller": "example.com/controller"}});
    operations(&bed, "ingressclasses", |_| class.clone(), Value::Null).await
}

pub(crate) async fn ip_addresses(bed: Bed) -> Result<()> {
    let service = json!({"resource": "services", "namespace": bed.namespace, "name": "s"});
    let address = |n| json!({"metadata": {"name": format!("192.168.0.{n}")}, "spec": {"parentRef": service}});
    operations(&bed, "ipaddresses", address, Value::Null).await
}

pub(crate) async fn service_cidrs(bed: Bed) -> Result<()> {
    let cidr = |n| json!({"spec": {"cidrs": [format!("10.250.{n}.0/24")]}});
    let condition = json!({"type": "Shown", "status": "True", "reason": "r", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    operations(&bed, "servicecidrs", cidr, json!({"conditions": [condition]})).await
}

/// The case's hands in another namespace.
fn within(bed: &Bed, namespace: &str) -> Bed {
    Bed { namespace: namespace.to_owned(), ..bed.clone() }
}

pub(crate) async fn secure_service(bed: Bed) -> Result<()> {
    let service = within(&bed, "default").get("services", "kubernetes").await?;
    ensure!(holds(&service["spec"]["ports"], &json!([{"name": "https", "port": 443}])), "{service:#}");
    Ok(())
}

pub(crate) async fn server_endpoints(bed: Bed) -> Result<()> {
    let bed = within(&bed, "default");
    let endpoints = bed.get("endpoints", "kubernetes").await?;
    let subset = &endpoints["subsets"][0];
    let mut addresses: Vec<&str> = items(subset, &["addresses"]).map(|a| text(a, &["ip"])).collect();
    ensure!(!addresses.is_empty() && subset["ports"][0]["name"] == "https", "{endpoints:#}");
    let slices = bed.list("endpointslices", "kubernetes.io/service-name=kubernetes").await?;
    let all =
        slices.iter().flat_map(|slice| items(slice, &["endpoints"])).flat_map(|e| items(e, &["addresses"]));
    let mut sliced: Vec<&str> = all.filter_map(Value::as_str).collect();
    addresses.sort_unstable();
    sliced.sort_unstable();
    ensure!(addresses == sliced, "Endpoints have {addresses:?}, slices {sliced:?}");
    Ok(())
}

pub(crate) async fn endpoints_lifecycle(bed: Bed) -> Result<()> {
    let subset =
        |ip: &str, port: u16| json!([{"addresses": [{"ip": ip}], "ports": [{"name": "p", "port": port}]}]);
    let selector = format!("case={}", bed.namespace);
    let labels = json!({"case": bed.namespace});
    let made = json!({"metadata": {"name": "e", "labels": labels}, "subsets": subset("10.0.0.24", 80)});
    let made = bed.create("endpoints", made).await?;
    let mut watch = bed.watch("endpoints", &selector, text(&made, &["metadata", "resourceVersion"])).await?;
    ensure!(bed.list("endpoints", &selector).await?.len() == 1, "it is not listed");

    bed.update("endpoints", "e", |e| e["metadata"]["labels"]["updated"] = "true".into()).await?;
    seen(&mut watch, "MODIFIED", |e| e["metadata"]["labels"]["updated"] == "true").await?;
    let found = bed.list("endpoints", "updated=true").await?;
    ensure!(found.len() == 1 && found[0]["subsets"] == made["subsets"], "{found:#?}");

    bed.patch("endpoints", "e", json!({"subsets": subset("10.0.0.25", 8080)})).await?;
    let patched =
        seen(&mut watch, "MODIFIED", |e| e["subsets"][0]["addresses"][0]["ip"] == "10.0.0.25").await?;
    ensure!(patched["subsets"][0]["ports"][0]["port"] == 8080, "{patched:#}");
    ensure!(bed.get("endpoints", "e").await?["subsets"] == patched["subsets"], "the patch is not kept");

    bed.delete_all("endpoints", &selector).await?;
    seen(&mut watch, "DELETED", |e| name(e) == "e").await?;
    bed.gone("endpoints", "e").await
}

pub(crate) async fn service_status(bed: Bed) -> Result<()> {
    let labels = json!({"case": bed.namespace});
    let spec = json!({"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]});
    let made =
        bed.create("services", json!({"metadata": {"name": "s", "labels": labels}, "spec": spec})).await?;
    let selector = format!("case={}", bed.namespace);
    let mut watch = bed.watch("services", &selector, text(&made, &["metadata", "resourceVersion"])).await?;

    let path = of("services").path(&bed.namespace, "s") + "/status";
    let read = bed.client.call(Method::GET, &path, None).await?;
    ensure!(read["status"] == json!({"loadBalancer": {}}), "{read:#}");

    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}});
    let patched = json!({"metadata": {"annotations": {"patched": "true"}}, "status": ingress});
    bed.patch("services", "s/status", patched.clone()).await?;
    seen(&mut watch, "MODIFIED", |s| holds(s, &patched)).await?;

    let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set by a case",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    bed.update_status("services", "s", |s| s["status"]["conditions"] = json!([condition])).await?;
    seen(&mut watch, "MODIFIED", |s| {
        holds(s, &json!({"status": {"conditions": [condition], "loadBalancer": ingress["loadBalancer"]}}))
    })
    .await?;

    bed.patch("services", "s", json!({"metadata": {"labels": {"test-service": "patched"}}})).await?;
    seen(&mut watch, "MODIFIED", |s| s["metadata"]["labels"]["test-service"] == "patched").await?;
    bed.delete("services", "s").await?;
    seen(&mut watch, "DELETED", |s| name(s) == "s").await?;
    Ok(())
}

pub(crate) async fn service_collection(bed: Bed) -> Result<()> {
    for (name, goes) in [("a", "yes"), ("b", "yes"), ("c", "no")] {
        let metadata = json!({"name": name, "labels": {"set": "one", "goes": goes}});
        bed.create("services", json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}})).await?;
    }
    ensure!(bed.list("services", "set=one").await?.len() == 3, "not all three are there");
    bed.delete_all("services", "goes=yes").await?;
    let left = bed.until_all("services", "set=one", |all| all.len() == 1).await?;
    ensure!(name(&left[0]) == "c", "{left:#?}");
    Ok(())
}

pub(crate) async fn services_of_all_namespaces(bed: Bed) -> Result<()> {
    let all = bed.client.list(of("services"), "", client::Query::default()).await?;
    let wanted = items(&all, &["items"]).find(|s| name(s) == "kubernetes" && namespace(s) == "default");
    wanted.map(drop).with_context(|| format!("kubernetes is not in {all:#}"))
}
