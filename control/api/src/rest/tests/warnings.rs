//! What is said to who deletes.

use serde_json::json;

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
