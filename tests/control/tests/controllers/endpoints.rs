//! Where services lead.

use serde_json::{Value, json};

use crate::plane::{Plane, until};

const SLICES: (&str, &str) = ("discovery.k8s.io", "endpointslices");

async fn addresses(plane: &Plane, service: &str) -> Vec<(String, bool)> {
    let of_service = |slice: &Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
    let slices = plane.list(SLICES, "default").await;
    let endpoints =
        slices.iter().filter(|s| of_service(s)).filter_map(|s| s["endpoints"].as_array()).flatten();
    let mut all: Vec<_> = endpoints
        .map(|e| (e["addresses"][0].as_str().unwrap().to_owned(), e["conditions"]["ready"] == true))
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn slices_follow_pods() {
    let mut plane = Plane::start().await;
    plane.node("n", true).await;
    let service = json!({"metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    plane.create(("", "services"), service).await;
    until("an empty slice", || async {
        let slices = plane.list(SLICES, "default").await;
        slices.into_iter().find(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "web")
    })
    .await;
    plane.pod("default", "p1", "n", "10.244.0.1").await;
    plane.pod("default", "p2", "n", "10.244.0.2").await;
    let both = [("10.244.0.1".to_owned(), true), ("10.244.0.2".to_owned(), true)];
    until("both", || async { (addresses(&plane, "web").await == both).then_some(()) }).await;
    let slices = plane.list(SLICES, "default").await;
    let slice =
        slices.iter().find(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "web").unwrap();
    assert_eq!(slice["ports"], json!([{"name": "", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(slice["endpoints"][0]["nodeName"], "n");
    let classic = until("the older form", || async {
        let found = plane.get(("", "endpoints"), "default", "web").await?;
        (found["subsets"][0]["addresses"].as_array()?.len() == 2).then_some(found)
    })
    .await;
    assert_eq!(classic["subsets"][0]["ports"], json!([{"port": 8080, "protocol": "TCP"}]));
    plane.delete(("", "pods"), "default", "p1", json!({})).await;
    until("the other", || async { (addresses(&plane, "web").await == both[1..]).then_some(()) }).await;
    plane.delete(("", "services"), "default", "web", json!({})).await;
    until("nothing", || async {
        let slices = plane.list(SLICES, "default").await;
        let gone = !slices.iter().any(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "web");
        (gone && plane.get(("", "endpoints"), "default", "web").await.is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn endpoints_by_hand_are_mirrored() {
    let plane = Plane::start().await;
    let service =
        json!({"metadata": {"name": "db", "namespace": "default"}, "spec": {"ports": [{"port": 5432}]}});
    plane.create(("", "services"), service).await;
    let endpoints = json!({"metadata": {"name": "db", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}]});
    plane.create(("", "endpoints"), endpoints).await;
    let one = [("192.0.2.7".to_owned(), true)];
    until("a mirror", || async { (addresses(&plane, "db").await == one).then_some(()) }).await;
    plane.delete(("", "endpoints"), "default", "db", json!({})).await;
    until("none", || async { addresses(&plane, "db").await.is_empty().then_some(()) }).await;
}
