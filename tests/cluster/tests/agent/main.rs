//! The agent on a real API server in this process, as the node that it is: with the node authorizer and every
//! admission plug-in in its way. Containers are those of a fake CRI server.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "../../../../agent/src/tests/fake.rs"]
#[allow(dead_code, reason = "the agent's own tests use more of it")]
mod fake;
mod join;
mod node;

/// What the fake needs of the agent.
mod clock {
    /// The system's time.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Clock;

    impl Clock {
        pub(crate) fn now(self) -> jiff::Timestamp {
            jiff::Timestamp::now()
        }
    }
}

/// What the fake needs of the agent.
mod labels {
    pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
}

use std::time::Duration;

use node::{Api, Node, condition, pod, ready};
use serde_json::{Value, json};

#[tokio::test]
async fn a_node_registers_and_runs_a_pod() {
    let api = Api::start().await;
    let node = Node::start(&api, "n1").await;
    let object = api.until("nodes", "", "n1", |n| condition(n, "Ready") == "True").await;
    assert_eq!(object["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(object["status"]["capacity"]["pods"], "110");
    let lease = api.until("leases", "kube-node-lease", "n1", |_| true).await;
    assert_eq!(lease["spec"]["holderIdentity"], "n1");
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], object["metadata"]["uid"]);
    api.create("pods", "default", pod("web", "n1")).await;
    let web = api.until("pods", "default", "web", ready).await;
    assert_eq!(web["status"]["phase"], "Running");
    assert_eq!(web["status"]["podIP"], "10.0.0.7");
    assert_eq!(web["status"]["hostIP"], "192.0.2.1");
    assert_eq!(condition(&web, "PodScheduled"), "True");
    let version = |p: &Value| p["metadata"]["resourceVersion"].clone();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let later = api.until("pods", "default", "web", |_| true).await;
    assert_eq!(version(&web), version(&later), "what has been told is not told again");
    api.delete("pods", "default", "web").await;
    api.gone("pods", "default", "web").await;
    assert!(node.fake.inside().sandboxes.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn pods_are_found_as_they_are() {
    let api = Api::start().await;
    let mut node = Node::start(&api, "n1").await;
    let mut lingering = pod("web", "n1");
    lingering["spec"]["terminationGracePeriodSeconds"] = json!(3);
    for pod in [lingering, pod("other", "n1"), pod("dead", "n1")] {
        api.create("pods", "default", pod).await;
    }
    let before = api.until("pods", "default", "other", ready).await;
    for name in ["web", "dead"] {
        api.until("pods", "default", name, ready).await;
    }
    node.kill().await;
    node.fake.inside().calls.clear();
    // One goes while nobody looks, one is to end.
    api.remove("pods", "default", "dead").await;
    api.delete("pods", "default", "web").await;
    node.restart(&api).await;
    api.gone("pods", "default", "web").await;
    let after = api.until("pods", "default", "other", ready).await;
    assert_eq!(before["status"], after["status"]);
    node.until(|inside| inside.sandboxes.len() == 1).await;
    let calls = node.fake.inside().calls.clone();
    assert!(calls.iter().all(|c| !c.starts_with("create") && !c.starts_with("sandbox")), "{calls:?}");
    assert!(calls.contains(&"stop c 3".to_owned()) && calls.contains(&"stop c 30".to_owned()), "{calls:?}");
    node.clear(&api).await;
    node.stop().await;
}

#[tokio::test]
async fn a_name_is_one_nodes() {
    let api = Api::start().await;
    let first = Node::start(&api, "n1").await;
    api.until("leases", "kube-node-lease", "n1", |_| true).await;
    let mut second = Node::new("n1");
    let error = second.run(&api).await.unwrap_err().to_string();
    assert!(error.contains("node n1 is alive elsewhere"), "{error}");
    first.stop().await;
}

#[tokio::test]
async fn static_pods_have_mirrors() {
    let api = Api::start().await;
    let mut node = Node::new("n1");
    let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    node.manifest("web.yaml", &manifest);
    node.restart(&api).await;
    let mirror = api.until("pods", "default", "web-n1", ready).await;
    assert_eq!(mirror["metadata"]["labels"]["app"], "web");
    assert_eq!(mirror["metadata"]["ownerReferences"][0]["kind"], "Node");
    let uid = mirror["metadata"]["uid"].clone();
    // Whoever deletes the mirror ends nothing.
    api.delete("pods", "default", "web-n1").await;
    let again = api.until("pods", "default", "web-n1", |p| ready(p) && p["metadata"]["uid"] != uid).await;
    assert_eq!(again["status"]["containerStatuses"], mirror["status"]["containerStatuses"]);
    assert_eq!(node.fake.inside().sandboxes.len(), 1);
    std::fs::remove_file(node.manifests().join("web.yaml")).unwrap();
    api.gone("pods", "default", "web-n1").await;
    assert!(node.fake.inside().sandboxes.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let api = Api::start().await;
    let node = Node::start(&api, "n1").await;
    api.until("nodes", "", "n1", |n| condition(n, "Ready") == "True").await;
    let mut large = pod("large", "n1");
    large["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10k"}});
    let mut elsewhere = pod("elsewhere", "n1");
    elsewhere["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    for (pod, reason, message) in [
        (
            large,
            "OutOfcpu",
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 10000000, used: 0, ",
        ),
        (elsewhere, "NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: "),
    ] {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        api.create("pods", "default", pod).await;
        let refused = api.until("pods", "default", &name, |p| p["status"]["phase"] == "Failed").await;
        assert_eq!(refused["status"]["reason"], reason);
        assert!(refused["status"]["message"].as_str().unwrap().starts_with(message), "{refused:#}");
        api.event(&name, reason).await;
    }
    node.clear(&api).await;
    node.stop().await;
}

#[tokio::test]
async fn events_are_told_and_counted() {
    let api = Api::start().await;
    let node = Node::start(&api, "n1").await;
    api.create("pods", "default", pod("web", "n1")).await;
    api.until("pods", "default", "web", ready).await;
    for reason in ["Pulling", "Pulled", "Created", "Started"] {
        let event = api.event("web", reason).await;
        assert_eq!(event["source"], json!({"component": "kubelet", "host": "n1"}));
        assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{c}");
    }
    api.event("n1", "Starting").await;
    node.clear(&api).await;
    node.stop().await;
}

#[tokio::test]
async fn everything_goes_on_while_the_server_is_away() {
    let api = Api::start().await;
    let mut node = Node::start(&api, "n1").await;
    for name in ["web", "ends"] {
        api.create("pods", "default", pod(name, "n1")).await;
        api.until("pods", "default", name, ready).await;
    }
    for code in [503, 429] {
        api.answer_nodes(code);
        node.fake.inside().calls.clear();
        node.fake.exit("c", 1);
        // It is started again, whoever is away.
        node.until(|inside| inside.calls.iter().any(|call| call.starts_with("start c"))).await;
    }
    // Killed and started again without a server: what is known goes on, and nothing is made twice.
    node.kill().await;
    let before = node.fake.inside().containers.len();
    node.restart(&api).await;
    api.delete("pods", "default", "ends").await;
    api.create("pods", "default", pod("late", "n1")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(node.fake.inside().containers.len(), before);
    api.answer_nodes(0);
    api.until("pods", "default", "late", ready).await;
    api.gone("pods", "default", "ends").await;
    let restarts = |p: &Value| p["status"]["containerStatuses"][0]["restartCount"].as_u64();
    let names = ["web", "late"];
    let mut total = 0;
    for name in names {
        total += restarts(&api.until("pods", "default", name, ready).await).unwrap();
    }
    assert!(total <= 2, "the ends of containers are counted once");
    node.clear(&api).await;
    node.stop().await;
}

#[tokio::test]
async fn many_pods_at_once() {
    let api = Api::start().await;
    let node = Node::start(&api, "n1").await;
    api.until("nodes", "", "n1", |n| condition(n, "Ready") == "True").await;
    for n in 0..100 {
        api.create("pods", "default", pod(&format!("p{n}"), "n1")).await;
    }
    for n in 0..100 {
        api.until("pods", "default", &format!("p{n}"), ready).await;
    }
    node.until(|inside| inside.sandboxes.len() == 100 && inside.containers.len() == 100).await;
    for n in 0..100 {
        api.delete("pods", "default", &format!("p{n}")).await;
    }
    for n in 0..100 {
        api.gone("pods", "default", &format!("p{n}")).await;
    }
    node.until(|inside| inside.sandboxes.is_empty() && inside.containers.is_empty()).await;
    node.stop().await;
}
