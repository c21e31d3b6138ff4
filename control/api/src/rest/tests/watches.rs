//! Watches.

use serde_json::json;

use super::client::Client;

const CMS: &str = "/api/v1/namespaces/watched/configmaps";

async fn with_one() -> Client {
    let client = Client::new().await;
    client.post("/api/v1/namespaces", &json!({"metadata": {"name": "watched"}})).await.is(201);
    make(&client, "a", "1").await;
    client
}

async fn make(client: &Client, name: &str, tier: &str) -> i64 {
    let object = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
    client.post(CMS, &object).await.is(201).revision()
}

async fn label(client: &Client, name: &str, tier: &str) -> i64 {
    let patch = json!({"metadata": {"labels": {"tier": tier}}}).to_string();
    client.patch(&format!("{CMS}/{name}"), "merge", &patch).await.is(200).revision()
}

#[tokio::test]
async fn what_there_is_and_then_changes() {
    let client = with_one().await;
    let mut events = client.watch(&format!("{CMS}?watch=true&timeoutSeconds=60")).await;
    assert_eq!(events.line().await, "ADDED a");
    make(&client, "b", "1").await;
    assert_eq!(events.line().await, "ADDED b");
    label(&client, "b", "2").await;
    assert_eq!(events.line().await, "MODIFIED b");
    client.delete(&format!("{CMS}/b"), "").await.is(200);
    let gone = events.next().await.expect("an event");
    assert_eq!((&gone["type"], &gone["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("b")));
    let now = client.server.store.revision();
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], now.to_string());
}

#[tokio::test]
async fn from_a_revision() {
    let client = with_one().await;
    let revision = make(&client, "b", "1").await;
    make(&client, "c", "1").await;
    let mut events = client.watch(&format!("{CMS}?watch=true&resourceVersion={revision}")).await;
    assert_eq!(events.line().await, "ADDED c");
    client.server.store.compact(client.server.store.revision());
    let mut events = client.watch(&format!("{CMS}?watch=true&resourceVersion=1")).await;
    let event = events.next().await.expect("an event");
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn selectors_are_crossed() {
    let client = with_one().await;
    let mut events = client.watch(&format!("{CMS}?watch=true&labelSelector=tier%3D1")).await;
    assert_eq!(events.line().await, "ADDED a");
    let revision = label(&client, "a", "2").await;
    let gone = events.next().await.expect("an event");
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(gone["object"]["metadata"]["labels"]["tier"], "1");
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], revision.to_string());
    label(&client, "a", "1").await;
    assert_eq!(events.line().await, "ADDED a");
    let mut one = client.watch(&format!("{CMS}?watch=true&fieldSelector=metadata.name%3Da")).await;
    assert_eq!(one.line().await, "ADDED a");
    make(&client, "ab", "1").await;
    label(&client, "a", "3").await;
    assert_eq!(one.line().await, "MODIFIED a");
}

#[tokio::test]
async fn a_list_as_a_watch() {
    let client = with_one().await;
    let list = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = client.watch(&format!("{CMS}?{list}")).await;
    assert_eq!(events.line().await, "ADDED a");
    let mark = events.next().await.expect("an event");
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    make(&client, "b", "1").await;
    assert_eq!(events.line().await, "ADDED b");
    let refused = client.get(&format!("{CMS}?watch=true&sendInitialEvents=true")).await.is(422);
    assert!(
        refused.message().contains("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    );
    let mut future = client.watch(&format!("{CMS}?{list}&resourceVersion=99999")).await;
    let event = future.next().await.expect("an event");
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(504)));
}

#[tokio::test]
async fn time_is_up() {
    let client = with_one().await;
    let revision = client.server.store.revision();
    let uri =
        format!("{CMS}?watch=true&resourceVersion={revision}&allowWatchBookmarks=true&timeoutSeconds=1");
    let mut events = client.watch(&uri).await;
    client.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "x"}})).await.is(201);
    let mark = events.next().await.expect("a bookmark at the end");
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["resourceVersion"], client.server.store.revision().to_string());
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn the_server_ends() {
    let client = with_one().await;
    let mut events = client.watch(&format!("{CMS}?watch=true")).await;
    assert_eq!(events.line().await, "ADDED a");
    client.server.ends.cancel();
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn tables_name_their_columns_once() {
    let client = with_one().await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    make(&client, "b", "1").await;
    let answer = client.ask("GET", &format!("{CMS}?watch=true&timeoutSeconds=1"), &table, "").await;
    let events: Vec<serde_json::Value> = answer
        .bytes
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("an event"))
        .collect();
    assert_eq!(events[0]["object"]["kind"], "Table");
    assert!(events[0]["object"]["columnDefinitions"].is_array());
    assert!(events[1]["object"]["columnDefinitions"].is_null());
    assert_eq!(events[1]["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test]
async fn one_that_falls_behind_is_told() {
    let client = with_one().await;
    let mut events = client.watch(&format!("{CMS}?watch=true")).await;
    for tier in ["2", "3"] {
        label(&client, "a", tier).await;
    }
    assert_eq!(events.line().await, "ADDED a");
    label(&client, "a", "4").await;
    client.server.store.compact(client.server.store.revision());
    let mut last = events.next().await.expect("an event");
    while last["type"] == "MODIFIED" {
        last = events.next().await.expect("an event");
    }
    assert_eq!((&last["type"], &last["object"]["reason"]), (&json!("ERROR"), &json!("Expired")));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn many_share_what_is_written_once() {
    let client = with_one().await;
    let mut all = Vec::new();
    for _ in 0..200 {
        all.push(
            client
                .watch(&format!("{CMS}?watch=true&resourceVersion={}", client.server.store.revision()))
                .await,
        );
    }
    make(&client, "b", "1").await;
    for events in &mut all {
        assert_eq!(events.line().await, "ADDED b");
    }
}
