//! What is placed when something happens.

use proto_kube::GroupResource;
use serde_json::json;

use super::*;

/// Nothing to look up.
struct Nothing;

impl View for Nothing {
    fn get(&self, _: GroupResource<'_>, _: &str, _: &str) -> Option<Arc<Value>> {
        None
    }

    fn list(&self, _: GroupResource<'_>, _: &str) -> Vec<Arc<Value>> {
        Vec::new()
    }
}

const fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

/// A pod that asks for so many cores; on a node it has been given `held` of them.
fn pod(name: &str, cpu: &str, held: Option<&str>) -> Arc<Value> {
    let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": {"containers": [container]},
    });
    if let Some(held) = held {
        pod["spec"]["nodeName"] = "n".into();
        let status = json!({"name": "c", "resources": {"requests": {"cpu": held}}, "allocatedResources": {"cpu": held}});
        pod["status"] = json!({"phase": "Running", "containerStatuses": [status]});
    }
    Arc::new(pod)
}

#[test]
fn a_resize_frees_room_when_the_status_says_so() {
    let mut placing = Placing::new("default-scheduler".to_owned());
    let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "pods": "9"}}});
    placing.heed("nodes", None, Some(&Arc::new(node)), at(0));
    let [large, wished, small] =
        [("2", "2"), ("1", "2"), ("1", "1")].map(|(cpu, held)| pod("r", cpu, Some(held)));
    placing.heed("pods", None, Some(&large), at(0));
    placing.heed("pods", None, Some(&pod("p", "1", None)), at(0));
    assert!(matches!(placing.next(&Nothing, at(0)), Some(Task::Refuse(..))));
    placing.heed("pods", Some(&large), Some(&wished), at(1));
    assert!(placing.next(&Nothing, at(11)).is_none(), "the node has not given it up yet");
    placing.heed("pods", Some(&wished), Some(&small), at(12));
    assert!(matches!(placing.next(&Nothing, at(22)), Some(Task::Bind(pod)) if pod.name == "p"));
}
