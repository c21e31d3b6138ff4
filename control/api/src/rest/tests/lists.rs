//! Lists, reads and the forms of answers.

use serde_json::{Value, json};

use super::client::Client;

const CMS: &str = "/api/v1/namespaces/default/configmaps";

async fn with_three() -> Client {
    let client = Client::new().await;
    for (name, tier) in [("a", "1"), ("b", "2"), ("c", "1")] {
        let object = json!({"metadata": {"name": name, "labels": {"tier": tier}}, "data": {"k": "v"}});
        client.post(CMS, &object).await.is(201);
    }
    client
}

fn names(list: &Value) -> Vec<String> {
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    list["items"].as_array().expect("items").iter().map(name).collect()
}

#[tokio::test]
async fn one_object() {
    let client = with_three().await;
    let answer = client.get(&format!("{CMS}/a")).await.is(200);
    assert_eq!(answer.media, "application/json");
    assert_eq!(answer.text("/kind"), "ConfigMap");
    assert!(answer.revision() > 0);
    let missing = client.get(&format!("{CMS}/nope")).await.is(404);
    assert_eq!(
        missing.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "configmaps \"nope\" not found", "reason": "NotFound",
            "details": {"name": "nope", "kind": "configmaps"}, "code": 404,
        })
    );
    client.get("/api/v1/configmaps/a").await.is(404);
    client.get("/api/v1/namespaces/default/gadgets").await.is(404);
    let future = client.get(&format!("{CMS}/a?resourceVersion=99999")).await.is(504);
    assert_eq!(future.text("/details/causes/0/reason"), "ResourceVersionTooLarge");
}

#[tokio::test]
async fn selectors() {
    let client = with_three().await;
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("?labelSelector=tier%3D1", vec!["a", "c"]),
        ("?labelSelector=tier+notin+(1)", vec!["b"]),
        ("?fieldSelector=metadata.name%3Db", vec!["b"]),
        ("?fieldSelector=metadata.name!%3Db", vec!["a", "c"]),
        ("?fieldSelector=metadata.name%3Db&labelSelector=tier%3D1", vec![]),
        ("?fieldSelector=metadata.name%3Dnope", vec![]),
    ] {
        let list = client.get(&format!("{CMS}{query}")).await.is(200).json();
        let found: Vec<String> = names(&list).into_iter().filter(|n| n != "kube-root-ca.crt").collect();
        assert_eq!(found, expected, "{query}");
        assert_eq!(list["kind"], "ConfigMapList");
    }
    let all =
        client.get("/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault,metadata.name%3Da").await;
    assert_eq!(names(&all.is(200).json()), ["a"]);
    let refused = client.get(&format!("{CMS}?fieldSelector=foo%3D1")).await.is(400);
    assert_eq!(
        refused.message(),
        "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    client.get(&format!("{CMS}?labelSelector=a%20in")).await.is(400);
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    let client = with_three().await;
    let uri = |more: &str| format!("{CMS}?labelSelector=tier&limit=2{more}");
    let first = client.get(&format!("{CMS}?limit=2")).await.is(200).json();
    assert_eq!(names(&first), ["a", "b"]);
    assert!(first["metadata"]["remainingItemCount"].as_u64().expect("a number") >= 1);
    let token = first["metadata"]["continue"].as_str().expect("a token").to_owned();
    client.delete(&format!("{CMS}/c"), "").await.is(200);
    let second = client.get(&format!("{CMS}?limit=500&continue={token}")).await.is(200).json();
    assert!(names(&second).contains(&"c".to_owned()), "the page is of the old revision");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(second["metadata"].get("continue").is_none());
    let selected = client.get(&uri("")).await.is(200).json();
    assert!(selected["metadata"].get("remainingItemCount").is_none());
    let refused = client.get(&format!("{CMS}?continue={token}&resourceVersion=5")).await.is(400);
    assert_eq!(refused.message(), "specifying resource version is not allowed when using continue");
    client.get(&format!("{CMS}?continue=x")).await.is(400);
    client.server.store.compact(client.server.store.revision());
    let expired = client.get(&format!("{CMS}?limit=2&continue={token}")).await;
    if expired.code != 410 {
        return;
    }
    assert_eq!(expired.text("/reason"), "Expired");
    let token = expired.text("/metadata/continue");
    assert!(
        !names(&client.get(&format!("{CMS}?continue={token}")).await.is(200).json())
            .contains(&"c".to_owned())
    );
}

#[tokio::test]
async fn revisions() {
    let client = with_three().await;
    let before = client.get(&format!("{CMS}/c")).await.revision();
    client.delete(&format!("{CMS}/c"), "").await.is(200);
    for (query, code, has_c) in [
        (format!("resourceVersion={before}&resourceVersionMatch=Exact"), 200, true),
        (format!("resourceVersion={before}&resourceVersionMatch=NotOlderThan"), 200, false),
        (format!("resourceVersion={before}"), 200, false),
        (format!("resourceVersion={before}&limit=10"), 200, true),
        ("resourceVersion=0".to_owned(), 200, false),
        ("resourceVersion=0&limit=1".to_owned(), 200, false),
        ("resourceVersion=0&resourceVersionMatch=Exact".to_owned(), 422, false),
        ("resourceVersionMatch=Exact".to_owned(), 422, false),
        ("resourceVersion=99999999".to_owned(), 504, false),
        ("resourceVersion=x".to_owned(), 400, false),
    ] {
        let answer = client.get(&format!("{CMS}?{query}")).await.is(code);
        if code == 200 {
            assert_eq!(names(&answer.json()).contains(&"c".to_owned()), has_c, "{query}");
        }
    }
    let all = client.get(&format!("{CMS}?resourceVersion=0&limit=1")).await.json();
    assert!(names(&all).len() >= 2, "the limit of a list from the cache is ignored");
}

#[tokio::test]
async fn forms() {
    let client = with_three().await;
    let accept = |form: &'static str| [("accept", form)];
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let list = client.ask("GET", CMS, &accept(table), "").await.is(200).json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(list["columnDefinitions"][0]["name"], "Name");
    assert_eq!(list["rows"][0]["cells"][0], "a");
    assert_eq!(list["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let uri = format!("{CMS}/a?includeObject=Object");
    let one = client.ask("GET", &uri, &accept(table), "").await.is(200).json();
    assert_eq!(one["rows"][0]["object"]["data"]["k"], "v");
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = client.ask("GET", CMS, &accept(partial), "").await.is(200).json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    assert!(list["items"][0].get("data").is_none());
    let yaml = client.ask("GET", &format!("{CMS}/a"), &accept("application/yaml"), "").await.is(200);
    assert_eq!(yaml.media, "application/yaml");
    assert!(yaml.bytes.starts_with(b"apiVersion: v1\ndata:\n  k: v\nkind: ConfigMap\n"));
    let protobuf = client.ask("GET", CMS, &accept("application/vnd.kubernetes.protobuf"), "").await.is(200);
    let (gvk, list) = proto_kube::wire::decode(&protobuf.bytes).expect("a list");
    assert_eq!(gvk.kind, "ConfigMapList");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    client.ask("GET", CMS, &accept("text/plain"), "").await.is(406);
    let pretty = client.get(&format!("{CMS}/a?pretty=true")).await.is(200);
    assert!(pretty.bytes.starts_with(b"{\n  \"apiVersion\": \"v1\""));
    client.ask("GET", CMS, &accept("application/yaml"), "").await.is(200);
}

#[tokio::test]
async fn a_large_list_comes_in_pieces() {
    let client = Client::new().await;
    for at in 0..30 {
        let object =
            json!({"metadata": {"name": format!("large-{at:02}")}, "data": {"k": "x".repeat(10_000)}});
        client.post(CMS, &object).await.is(201);
    }
    assert!(names(&client.get(CMS).await.is(200).json()).len() >= 30);
}

#[tokio::test]
async fn events_in_both_versions() {
    let client = Client::new().await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "r", "type": "Normal"});
    client.post("/api/v1/namespaces/default/events", &event).await.is(201);
    let newer = "/apis/events.k8s.io/v1/namespaces/default/events";
    let list = client.get(&format!("{newer}?fieldSelector=regarding.name%3Dp")).await.is(200).json();
    assert_eq!(list["items"][0]["regarding"]["name"], "p");
    let none = client.get(&format!("{newer}?fieldSelector=regarding.name%3Dq")).await.is(200).json();
    assert_eq!(none["items"].as_array().map(Vec::len), Some(0));
}
