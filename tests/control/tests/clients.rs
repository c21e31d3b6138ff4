//! Client libraries as their users use them: Python's, and kube.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use lab::Control;
use serde_json::json;

#[test]
fn python() {
    let control = Control::start().unwrap();
    let python = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("python3"))
        .find(|program| program.is_file())
        .expect("python3 is in PATH");
    let mut command = control.client(&python);
    command.env("PYTHONPATH", lab::pypi::client().unwrap());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/client.py"));
    let output = lab::control::feed(&mut command, "").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&output.stdout), "ok\n", "{}\n{}", text(&output.stderr), control.log());
}

async fn client(control: &Control) -> kube::Client {
    let kubeconfig = Kubeconfig::read_from(control.kubeconfig()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_typed() {
    let control = tokio::task::spawn_blocking(|| Control::start().unwrap()).await.unwrap();
    let client = client(&control).await;
    assert_eq!(client.apiserver_version().await.unwrap().minor, "37");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let names: Vec<String> = namespaces
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|n| n.metadata.name)
        .collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);

    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let manifest: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]},
            },
        },
    }))
    .unwrap();
    let made = deployments.create(&PostParams::default(), &manifest).await.unwrap();
    assert_eq!(made.spec.replicas, Some(1));
    let apply = PatchParams::apply("kube-test");
    let body = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "b"}},
    });
    let applied = deployments.patch("web", &apply, &Patch::Apply(&body)).await.unwrap();
    let managers: Vec<_> =
        applied.metadata.managed_fields.into_iter().flatten().filter_map(|m| m.manager).collect();
    assert!(managers.contains(&"kube-test".to_owned()), "{managers:?}");
    let status = json!({"status": {"readyReplicas": 1, "replicas": 1}});
    deployments.patch_status("web", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let refused = deployments.create(&PostParams::default(), &manifest).await.unwrap_err();
    let kube::Error::Api(refused) = refused else { panic!("{refused}") };
    assert_eq!((refused.code, refused.reason.as_str()), (409, "AlreadyExists"));
    deployments.delete("web", &DeleteParams::background()).await.unwrap();
    assert!(deployments.get_opt("web").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_watches() {
    let control = tokio::task::spawn_blocking(|| Control::start().unwrap()).await.unwrap();
    let client = client(&control).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let list = maps.list(&ListParams::default()).await.unwrap();
    let from = list.metadata.resource_version.unwrap();
    let parameters = WatchParams::default().fields("metadata.name=seen").timeout(60);
    let mut events = maps.watch(&parameters, &from).await.unwrap().boxed();
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "seen"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    maps.delete("seen", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match events.try_next().await.unwrap().expect("the watch goes on") {
            WatchEvent::Added(_) => seen.push("added"),
            WatchEvent::Deleted(_) => seen.push("deleted"),
            WatchEvent::Bookmark(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["added", "deleted"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_binds_and_evicts() {
    let control = tokio::task::spawn_blocking(|| Control::start().unwrap()).await.unwrap();
    let client = client(&control).await;
    let nodes: Api<Node> = Api::all(client.clone());
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]},
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let done: serde_json::Value =
        pods.create_subresource("binding", "p", &PostParams::default(), &binding).await.unwrap();
    assert_eq!(done["status"], "Success");
    let bound = pods.get("p").await.unwrap();
    assert_eq!(bound.spec.and_then(|s| s.node_name).as_deref(), Some("n1"));
    pods.evict("p", &kube::api::EvictParams::default()).await.unwrap();
    // The pod is bound: it waits for its node's agent to end it.
    assert!(pods.get("p").await.unwrap().metadata.deletion_timestamp.is_some());
}
