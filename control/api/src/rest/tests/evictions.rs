//! Evictions, which ask the budget of disruptions.

use serde_json::{Value, json};

use super::client::Client;

const NS: &str = "/api/v1/namespaces/default";
const POD: &str = "/api/v1/namespaces/default/pods/p";
const EVICTION: &str = "/api/v1/namespaces/default/pods/p/eviction";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const BUDGET: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b";

fn eviction() -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}})
}

/// The status of a pod that is ready.
fn ready() -> String {
    json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}).to_string()
}

/// The status of a budget that allows so many disruptions.
fn allows(count: u32) -> String {
    json!({"status": {"observedGeneration": 1, "disruptionsAllowed": count, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}}).to_string()
}

/// A server with a pod that stays when it is deleted, and its budget, whose controller has not seen it.
async fn served() -> Client {
    let client = Client::new().await;
    client.post(&format!("{NS}/serviceaccounts"), &json!({"metadata": {"name": "default"}})).await;
    let pod = json!({
        "metadata": {"name": "p", "labels": {"app": "p"}, "finalizers": ["a.b/c"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    client.post(&format!("{NS}/pods"), &pod).await.is(201);
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}}});
    client.post(BUDGETS, &budget).await.is(201);
    client
}

#[tokio::test]
async fn evictions_ask_the_budget() {
    let client = served().await;
    client.patch(&format!("{POD}/status"), "merge", &ready()).await.is(200);
    let processing = client.post(EVICTION, &eviction()).await.is(429);
    assert_eq!(processing.message(), "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(processing.text("/details/causes/0/reason"), "DisruptionBudget");
    client.patch(&format!("{BUDGET}/status"), "merge", &allows(0)).await.is(200);
    let why = "The disruption budget b needs 1 healthy pods and has 1 currently";
    assert_eq!(client.post(EVICTION, &eviction()).await.is(429).text("/details/causes/0/message"), why);
    client.patch(&format!("{BUDGET}/status"), "merge", &allows(1)).await.is(200);
    client.post(EVICTION, &eviction()).await.is(201);
    assert_eq!(client.get(BUDGET).await.text("/status/disruptionsAllowed"), "0");
    assert_eq!(client.get(POD).await.text("/status/conditions/1/reason"), "EvictionByEvictionAPI");
}

#[tokio::test]
async fn a_dry_run_evicts_nothing_however_it_is_asked_for() {
    let client = served().await;
    client.patch(&format!("{POD}/status"), "merge", &ready()).await.is(200);
    client.patch(&format!("{BUDGET}/status"), "merge", &allows(1)).await.is(200);
    let (pod, budget) = (client.get(POD).await.json(), client.get(BUDGET).await.json());
    let mut in_body = eviction();
    in_body["deleteOptions"] = json!({"dryRun": ["All"]});
    for (uri, object) in [(format!("{EVICTION}?dryRun=All"), eviction()), (EVICTION.to_owned(), in_body)] {
        client.post(&uri, &object).await.is(201);
        assert_eq!(client.get(BUDGET).await.json(), budget, "{uri}");
        assert_eq!(client.get(POD).await.json(), pod, "{uri}");
    }
    client.patch(&format!("{BUDGET}/status"), "merge", &allows(0)).await.is(200);
    client.post(&format!("{EVICTION}?dryRun=All"), &eviction()).await.is(429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_becomes_ready_meanwhile_is_judged_again() {
    for _ in 0..32 {
        let client = served().await;
        client.patch(&format!("{BUDGET}/status"), "merge", &allows(0)).await.is(200);
        let (uri, body, status) = (format!("{POD}/status"), eviction(), ready());
        let (evicted, patched) =
            tokio::join!(client.post(EVICTION, &body), client.patch(&uri, "merge", &status));
        let terminating = !patched.is(200).text("/metadata/deletionTimestamp").is_empty();
        // Pending, it needs no budget; ready, it has none.
        assert_eq!(evicted.code == 201, terminating, "{evicted:?}");
    }
}
