//! Creates, updates, patches, deletions and subresources.

use serde_json::{Value, json};

use super::client::Client;

const NS: &str = "/api/v1/namespaces/default";
const CMS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    })
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn creates() {
    let client = Client::new().await;
    let made = client.post(CMS, &json!({"metadata": {"name": "c1"}, "data": {"a": "b"}})).await.is(201);
    assert_eq!(made.text("/metadata/namespace"), "default");
    assert_eq!(made.text("/metadata/uid").len(), 36);
    assert_eq!(made.text("/metadata/managedFields/0/manager"), "test");
    let again = client.post(CMS, &json!({"metadata": {"name": "c1"}})).await.is(409);
    assert_eq!(
        again.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "configmaps \"c1\" already exists", "reason": "AlreadyExists",
            "details": {"name": "c1", "kind": "configmaps"}, "code": 409,
        })
    );
    for (object, code, message) in [
        (
            json!({"metadata": {"name": "x", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"}}),
            400,
            "Pod in version \"v1\" cannot be handled as a ConfigMap",
        ),
        (
            json!({"kind": "ConfigMap", "apiVersion": "v2", "metadata": {"name": "x"}}),
            400,
            "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\"",
        ),
        (
            json!({"metadata": {"name": "C_1"}}),
            422,
            "ConfigMap \"C_1\" is invalid: metadata.name: Invalid value: \"C_1\"",
        ),
        (
            json!({"metadata": {}}),
            422,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
    ] {
        let refused = client.post(CMS, &object).await.is(code);
        assert!(refused.message().starts_with(message), "{}", refused.message());
    }
    client.post("/api/v1/namespaces/nope/configmaps", &json!({"metadata": {"name": "x"}})).await.is(404);
}

#[tokio::test]
async fn names_are_generated() {
    let client = Client::new().await;
    let object = json!({"metadata": {"generateName": "web-"}});
    let (a, b) = (client.post(CMS, &object).await.is(201), client.post(CMS, &object).await.is(201));
    assert!(a.text("/metadata/name").starts_with("web-"));
    assert_ne!(a.text("/metadata/name"), b.text("/metadata/name"));
}

#[tokio::test]
async fn dry_runs_store_nothing() {
    let client = Client::new().await;
    let before = client.server.store.revision();
    let made = client.post(&format!("{CMS}?dryRun=All"), &json!({"metadata": {"name": "c1"}})).await.is(201);
    assert_eq!(made.text("/metadata/resourceVersion"), "");
    client.get(&format!("{CMS}/c1")).await.is(404);
    assert_eq!(client.server.store.revision(), before);
    client.post(CMS, &json!({"metadata": {"name": "c1"}})).await.is(201);
    client.post(&format!("{CMS}?dryRun=All"), &json!({"metadata": {"name": "c1"}})).await.is(409);
    let patched =
        client.patch(&format!("{CMS}/c1?dryRun=All"), "merge", r#"{"data":{"a":"b"}}"#).await.is(200);
    assert_eq!(patched.text("/data/a"), "b");
    assert_eq!(client.get(&format!("{CMS}/c1")).await.text("/data/a"), "");
    client.delete(&format!("{CMS}/c1?dryRun=All"), "").await.is(200);
    client.get(&format!("{CMS}/c1")).await.is(200);
}

#[tokio::test]
async fn fields_are_validated() {
    let client = Client::new().await;
    let body =
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"c1"},"foo":1,"data":{"a":"1","a":"2"}}"#;
    let refused = client.ask("POST", &format!("{CMS}?fieldValidation=Strict"), &[], body).await.is(400);
    assert_eq!(
        refused.message(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\", duplicate field \"data.a\""
    );
    let warned = client.ask("POST", CMS, &[], body).await.is(201);
    assert_eq!(
        warned.warnings,
        ["299 - \"unknown field \\\"foo\\\"\"", "299 - \"duplicate field \\\"data.a\\\"\""]
    );
    assert_eq!(warned.text("/foo"), "");
    let other = body.replace("c1", "c2");
    let ignored = client.ask("POST", &format!("{CMS}?fieldValidation=Ignore"), &[], other).await.is(201);
    assert!(ignored.warnings.is_empty());
    client.ask("POST", CMS, &[("content-type", "text/plain")], "x").await.is(415);
    client.ask("POST", CMS, &[], "{").await.is(400);
    client.ask("POST", CMS, &[], "").await.is(400);
    let yaml = "metadata:\n  name: yaml\ndata:\n  k: v\n";
    let made = client.ask("POST", CMS, &[("content-type", "application/yaml")], yaml).await.is(201);
    assert_eq!(made.text("/data/k"), "v");
}

#[tokio::test]
async fn protobuf_comes_and_goes() {
    let client = Client::new().await;
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "n1"}});
    let gvk = proto_kube::Gvk::new("v1", "Namespace");
    let body = proto_kube::wire::encode(&gvk, &object).expect("a namespace");
    let media = "application/vnd.kubernetes.protobuf";
    let headers = [("content-type", media), ("accept", media)];
    let made = client.ask("POST", "/api/v1/namespaces", &headers, body.clone()).await.is(201);
    assert_eq!(made.media, media);
    let (_, made) = proto_kube::wire::decode(&made.bytes).expect("a namespace");
    assert_eq!((&made["metadata"]["name"], &made["status"]["phase"]), (&json!("n1"), &json!("Active")));
    let refused = client.ask("POST", "/api/v1/namespaces", &headers, body).await.is(409);
    assert_eq!(proto_kube::wire::decode(&refused.bytes).expect("a status").1["reason"], "AlreadyExists");
    client.ask("POST", "/api/v1/namespaces", &headers, &b"k8s\0\xff"[..]).await.is(400);
}

#[tokio::test]
async fn updates() {
    let client = Client::new().await;
    let uri = format!("{CMS}/c1");
    let first = client.post(CMS, &json!({"metadata": {"name": "c1"}})).await.is(201).json();
    let mut new = first.clone();
    new["data"] = json!({"a": "b"});
    let second = client.put(&uri, &new).await.is(200);
    let stale = client.put(&uri, &new).await.is(409);
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"c1\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let same = client.put(&uri, &second.json()).await.is(200);
    assert_eq!(same.revision(), second.revision(), "nothing changed, nothing is written");
    client.put(&uri, &json!({"metadata": {"name": "c1"}, "data": {"a": "c"}})).await.is(200);
    client.put(&uri, &json!({"metadata": {"name": "c2"}})).await.is(400);
    client.put(&format!("{CMS}/none"), &json!({"metadata": {"name": "none"}})).await.is(404);
    let foreign = json!({"metadata": {"name": "c1", "uid": "zz"}});
    assert_eq!(client.put(&uri, &foreign).await.is(409).text("/reason"), "Conflict");
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "x"}});
    client.put("/apis/coordination.k8s.io/v1/namespaces/default/leases/l", &lease).await.is(201);
}

#[tokio::test]
async fn patches() {
    let client = Client::new().await;
    client.post(DEPLOYMENTS, &deployment("d")).await.is(201);
    let uri = format!("{DEPLOYMENTS}/d");
    let strategic = r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"s"}]}}}}"#;
    let patched = client.patch(&uri, "strategic-merge", strategic).await.is(200);
    assert_eq!(patched.json()["spec"]["template"]["spec"]["containers"].as_array().expect("a list").len(), 2);
    assert_eq!(patched.text("/metadata/generation"), "2");
    client.patch(&uri, "merge", r#"{"spec":{"replicas":3}}"#).await.is(200);
    let json_patch = r#"[{"op":"test","path":"/spec/replicas","value":3},{"op":"replace","path":"/spec/replicas","value":4}]"#;
    assert_eq!(client.patch(&uri, "json", json_patch).await.is(200).text("/spec/replicas"), "4");
    let failed = client.patch(&uri, "json", json_patch).await.is(422);
    assert_eq!(failed.message(), "the server rejected our request due to an error in our request");
    client.patch(&uri, "odd", "{}").await.is(415);
    client.patch(&uri, "merge", "{").await.is(400);
    client.patch(&format!("{DEPLOYMENTS}/none"), "merge", "{}").await.is(404);
    let strict =
        client.patch(&format!("{uri}?fieldValidation=Strict"), "merge", r#"{"spec":{"x":1}}"#).await.is(422);
    assert!(strict.message().contains("unknown field \"spec.x\""), "{}", strict.message());
    let forgotten = client.patch(&uri, "merge", r#"{"metadata":{"managedFields":[]}}"#).await.is(200);
    assert!(forgotten.json()["metadata"].get("managedFields").is_none());
    let other = client.patch(&uri, "merge", r#"{"kind":"Zz"}"#).await.is(422);
    assert!(other.message().contains("no kind \"Zz\" is registered for version \"apps/v1\""));
    let invalid =
        client.patch(&uri, "merge", r#"{"spec":{"template":{"metadata":{"labels":{"app":"dX"}}}}}"#).await;
    assert!(
        invalid
            .is(422)
            .message()
            .starts_with("Deployment.apps \"d\" is invalid: spec.template.metadata.labels: Invalid value")
    );
}

#[tokio::test]
async fn apply() {
    let client = Client::new().await;
    let uri = format!("{DEPLOYMENTS}/d");
    let config = deployment("d").to_string();
    client.patch(&uri, "apply", &config).await.is(422);
    let one = format!("{uri}?fieldManager=one");
    let made = client.patch(&one, "apply", &config).await.is(201);
    let again = client.patch(&one, "apply", &config).await.is(200);
    assert_eq!(made.revision(), again.revision(), "twice is once");
    client.patch(&uri, "merge", r#"{"spec":{"replicas":5}}"#).await.is(200);
    let mut wish = deployment("d");
    wish["spec"]["replicas"] = 2.into();
    let conflict = client.patch(&one, "apply", &wish.to_string()).await.is(409);
    assert_eq!(
        conflict.message(),
        "Apply failed with 1 conflict: conflict with \"test\" using apps/v1: .spec.replicas"
    );
    client.patch(&format!("{one}&force=true"), "apply", &wish.to_string()).await.is(200);
}

#[tokio::test]
async fn deletions() {
    let client = Client::new().await;
    let made = client.post(CMS, &json!({"metadata": {"name": "c1"}})).await.is(201);
    let uri = format!("{CMS}/c1");
    let refused = client.delete(&uri, r#"{"preconditions":{"uid":"zz"}}"#).await.is(409);
    let uid = made.text("/metadata/uid");
    assert_eq!(
        refused.message(),
        format!(
            "Operation cannot be fulfilled on ConfigMap \"c1\": the UID in the precondition (zz) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )
    );
    let gone = client.delete(&uri, r#"{"propagationPolicy":"Background"}"#).await.is(200);
    assert_eq!(
        gone.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "c1", "kind": "configmaps", "uid": uid},
        })
    );
    client.delete(&uri, "").await.is(404);
    client.post(DEPLOYMENTS, &deployment("d")).await.is(201);
    let waits = client.delete(&format!("{DEPLOYMENTS}/d?propagationPolicy=Foreground"), "").await.is(200);
    assert_eq!(waits.text("/metadata/finalizers/0"), "foregroundDeletion");
    let patch = r#"[{"op":"remove","path":"/metadata/finalizers"}]"#;
    client.patch(&format!("{DEPLOYMENTS}/d"), "json", patch).await.is(200);
    client.get(&format!("{DEPLOYMENTS}/d")).await.is(404);
}

#[tokio::test]
async fn a_pod_ends_gracefully() {
    let client = Client::new().await;
    let uri = format!("{NS}/pods/p");
    client.post(&format!("{NS}/serviceaccounts"), &json!({"metadata": {"name": "default"}})).await;
    client.post(&format!("{NS}/pods"), &pod("p")).await.is(201);
    let target = json!({"target": {"kind": "Node", "name": "n1"}, "metadata": {"name": "p"}});
    client.post(&format!("{uri}/binding"), &target).await.is(201);
    let bound = client.get(&uri).await;
    assert_eq!(bound.text("/spec/nodeName"), "n1");
    assert_eq!(bound.text("/status/conditions/0/type"), "PodScheduled");
    let again = client.post(&format!("{uri}/binding"), &target).await.is(409);
    assert_eq!(
        again.message(),
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
    let log = client.get(&format!("{uri}/log")).await.is(404);
    assert_eq!(log.message(), "pods \"n1\" not found");
    let waits = client.delete(&uri, "").await.is(200);
    assert_eq!(waits.text("/metadata/deletionGracePeriodSeconds"), "30");
    client.delete(&format!("{uri}?gracePeriodSeconds=0"), "").await.is(200);
    client.get(&uri).await.is(404);
}

#[tokio::test]
async fn collections_are_deleted() {
    let client = Client::new().await;
    for name in ["a", "b", "c"] {
        let labels = json!({"keep": if name == "b" { "yes" } else { "no" }});
        client.post(CMS, &json!({"metadata": {"name": name, "labels": labels}})).await.is(201);
    }
    let gone = client.delete(&format!("{CMS}?labelSelector=keep%3Dno"), "").await.is(200).json();
    assert_eq!(gone["items"].as_array().expect("items").len(), 2);
    client.get(&format!("{CMS}/a")).await.is(404);
    client.get(&format!("{CMS}/b")).await.is(200);
}

#[tokio::test]
async fn scales() {
    let client = Client::new().await;
    client.post(DEPLOYMENTS, &deployment("d")).await.is(201);
    let uri = format!("{DEPLOYMENTS}/d/scale");
    let scale = client.get(&uri).await.is(200);
    assert_eq!((scale.text("/kind"), scale.text("/spec/replicas")), ("Scale".to_owned(), "1".to_owned()));
    let patched = client.patch(&uri, "merge", r#"{"spec":{"replicas":7}}"#).await.is(200);
    assert_eq!(patched.text("/spec/replicas"), "7");
    let live = client.get(&format!("{DEPLOYMENTS}/d")).await;
    assert_eq!(
        (live.text("/spec/replicas"), live.text("/metadata/generation")),
        ("7".to_owned(), "2".to_owned())
    );
    let refused = client.patch(&uri, "merge", r#"{"spec":{"replicas":-1}}"#).await.is(422);
    assert!(
        refused.message().starts_with("Scale.autoscaling \"d\" is invalid: spec.replicas: Invalid value: -1")
    );
}

#[tokio::test]
async fn namespaces_end() {
    let client = Client::new().await;
    client.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.is(201);
    client.post("/api/v1/namespaces/n/configmaps", &json!({"metadata": {"name": "c"}})).await.is(201);
    let ends = client.delete("/api/v1/namespaces/n", "").await.is(200);
    assert_eq!(ends.text("/status/phase"), "Terminating");
    client.post("/api/v1/namespaces/n/configmaps", &json!({"metadata": {"name": "d"}})).await.is(403);
    client.delete("/api/v1/namespaces/n/configmaps", "").await.is(200);
    let mut object = client.get("/api/v1/namespaces/n").await.json();
    object["spec"]["finalizers"] = json!([]);
    client.put("/api/v1/namespaces/n/finalize", &object).await.is(200);
    client.get("/api/v1/namespaces/n").await.is(404);
}

#[tokio::test]
async fn services_have_addresses_of_their_own() {
    let client = Client::new().await;
    let uri = format!("{NS}/services");
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let ports = json!([{"port": 80}]);
    let made = client.post(&uri, &service("a", json!({"type": "NodePort", "ports": ports}))).await.is(201);
    let address = made.text("/spec/clusterIP");
    assert!(address.starts_with("10."), "{address}");
    let port: u16 = made.text("/spec/ports/0/nodePort").parse().expect("a port");
    assert!((30_000..=32_767).contains(&port));
    client.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}")).await.is(200);
    let taken = client.post(&uri, &service("b", json!({"clusterIP": address, "ports": ports}))).await.is(422);
    assert!(taken.message().contains("provided IP is already allocated"), "{}", taken.message());
    let asked = json!([{"port": 80, "nodePort": port}]);
    let taken = client.post(&uri, &service("b", json!({"type": "NodePort", "ports": asked}))).await.is(422);
    assert!(taken.message().contains("provided port is already allocated"), "{}", taken.message());
    let out = json!([{"port": 80, "nodePort": 80}]);
    let refused = client.post(&uri, &service("b", json!({"type": "NodePort", "ports": out}))).await.is(422);
    assert!(refused.message().contains("The range of valid ports is 30000-32767"), "{}", refused.message());
    client.patch(&format!("{uri}/a"), "merge", r#"{"spec":{"type":"ClusterIP"}}"#).await.is(200);
    client.post(&uri, &service("b", json!({"type": "NodePort", "ports": asked}))).await.is(201);
    client.delete(&format!("{uri}/a"), "").await.is(200);
    client.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}")).await.is(404);
}

#[tokio::test]
async fn two_versions_of_one_object() {
    let client = Client::new().await;
    let spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3, "targetCPUUtilizationPercentage": 80});
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let v2 = v1.replace("v1", "v2");
    let made = client.post(v1, &json!({"metadata": {"name": "h"}, "spec": spec})).await.is(201);
    assert_eq!(made.text("/apiVersion"), "autoscaling/v1");
    let other = client.get(&format!("{v2}/h")).await.is(200);
    assert_eq!(other.text("/apiVersion"), "autoscaling/v2");
    assert_eq!(other.text("/spec/metrics/0/resource/target/averageUtilization"), "80");
    let list = client.get(v1).await.is(200).json();
    assert_eq!(list["items"][0]["spec"]["targetCPUUtilizationPercentage"], 80);
    client.patch(&format!("{v1}/h"), "merge", r#"{"spec":{"maxReplicas":9}}"#).await.is(200);
    assert_eq!(client.get(&format!("{v2}/h")).await.text("/spec/maxReplicas"), "9");
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_have() {
    let client = Client::new().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]});
    let refused = client.ask_as("eve", "POST", roles, &role.to_string()).await.is(403);
    assert!(
        refused.message().contains("is attempting to grant RBAC permissions not currently held"),
        "{}",
        refused.message()
    );
    client.post(roles, &role).await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_at_once_all_count() {
    let client = Client::new().await;
    client.post(CMS, &json!({"metadata": {"name": "c"}})).await.is(201);
    let patch = |at: u32| {
        let client = &client;
        async move {
            let patch = json!({"data": {format!("k{at}"): "v"}}).to_string();
            client.patch(&format!("{CMS}/c"), "merge", &patch).await.is(200);
        }
    };
    futures_util::future::join_all((0..32).map(patch)).await;
    let data = client.get(&format!("{CMS}/c")).await.json()["data"].clone();
    assert_eq!(data.as_object().map(serde_json::Map::len), Some(32));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_at_once_share_no_number() {
    let client = Client::new().await;
    let make = |at: u32| {
        let client = &client;
        async move {
            let spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
            let service = json!({"metadata": {"name": format!("s{at}")}, "spec": spec});
            let made = client.post(&format!("{NS}/services"), &service).await.is(201);
            (made.text("/spec/clusterIP"), made.text("/spec/ports/0/nodePort"))
        }
    };
    let made = futures_util::future::join_all((0..24).map(make)).await;
    let addresses: std::collections::BTreeSet<_> = made.iter().map(|(address, _)| address).collect();
    let ports: std::collections::BTreeSet<_> = made.iter().map(|(_, port)| port).collect();
    assert_eq!((addresses.len(), ports.len()), (24, 24));
}

#[tokio::test]
async fn the_request_itself_is_wrong() {
    let client = Client::new().await;
    client.post(CMS, &json!({"metadata": {"name": "c"}})).await.is(201);
    for (method, uri, code, message) in [
        (
            "POST",
            "/api/v1/configmaps",
            405,
            "the server does not allow this method on the requested resource",
        ),
        (
            "DELETE",
            "/api/v1/configmaps",
            405,
            "the server does not allow this method on the requested resource",
        ),
        (
            "DELETE",
            "/api/v1/namespaces",
            405,
            "the server does not allow this method on the requested resource",
        ),
        ("PUT", CMS, 405, "the server does not allow this method on the requested resource"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "the server could not find the requested resource"),
        (
            "GET",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            405,
            "the server does not allow this method on the requested resource",
        ),
        (
            "DELETE",
            "/apis/apps/v1/namespaces/default/deployments/d/status",
            405,
            "the server does not allow this method on the requested resource",
        ),
    ] {
        let refused = client.ask(method, uri, &[], r#"{"metadata":{"name":"x"}}"#).await.is(code);
        assert_eq!(refused.message(), message, "{method} {uri}");
    }
    let list = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let refused = client.ask("GET", CMS, &list, "").await.is(406);
    assert_eq!(
        refused.message(),
        "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)"
    );
    let options = r#"{"kind":"DeleteOptions","apiVersion":"apps/v1","propagationPolicy":"Background"}"#;
    client.delete(&format!("{CMS}/c"), options).await.is(200);
}
