//! What is said to who deletes, and to who names an owner twice.

use serde_json::{Value, json};

use super::client::Client;

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

#[tokio::test]
async fn jobs_leave_their_pods() {
    let client = Client::new().await;
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "c:1"}]});
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": pod}}});
    client.post(JOBS, &job).await.is(201);
    for (options, count) in [("{}", 1), (r#"{"propagationPolicy":"Background"}"#, 0)] {
        let deleted = client.delete(&format!("{JOBS}/j?dryRun=All"), options).await.is(200);
        assert_eq!(deleted.warnings.len(), count, "{options}: {:?}", deleted.warnings);
    }
}

fn owner(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "A", "name": "a", "uid": number.to_string()})
}

#[tokio::test]
async fn owners_are_named_once() {
    let client = Client::new().await;
    let references = [owner(1), owner(2), owner(1), owner(2), owner(3)];
    let map = json!({"metadata": {"name": "m", "ownerReferences": references}});
    let made = client.post("/api/v1/namespaces/default/configmaps", &map).await.is(201);
    assert_eq!(made.json()["metadata"]["ownerReferences"], json!([owner(1), owner(2), owner(3)]));
    assert!(made.warnings.concat().contains("duplicate UID(s) observed: 1, 2"), "{:?}", made.warnings);
}

#[tokio::test]
async fn many_owners_are_looked_through_at_once() {
    let client = Client::new().await;
    let mut references: Vec<Value> = (0..50_000).map(owner).collect();
    references.push(owner(7));
    let map = json!({"metadata": {"name": "m", "ownerReferences": references}});
    let made = client.post("/api/v1/namespaces/default/configmaps?dryRun=All", &map).await.is(201);
    assert_eq!(made.json()["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(50_000));
    assert!(made.warnings.concat().contains("duplicate UID(s) observed: 7"), "{:?}", made.warnings);
}
