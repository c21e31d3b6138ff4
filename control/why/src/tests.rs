//! Tables: objects in, the answer out.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::{GroupResource, object, resource, view::View};
use serde_json::{Value, json};

use crate::{Answer, Refusals, explain};

const NOW: &str = "2026-01-01T00:10:00Z";

#[derive(Default)]
struct World(BTreeMap<(String, String), Arc<Value>>);

impl World {
    fn with(mut self, plural: &str, object: Value) -> Self {
        self.0.insert((plural.to_owned(), object::name(&object).to_owned()), Arc::new(object));
        self
    }

    fn ask(&self, group: &str, plural: &str, name: &str) -> Answer {
        let resource = resource::preferred(GroupResource { group, resource: plural }).unwrap();
        let object = self.0[&(plural.to_owned(), name.to_owned())].clone();
        let refusals = |_: &Value| Refusals::from([("n1".to_owned(), vec!["too small".to_owned()])]);
        let world = crate::World { view: self, now: NOW.parse().unwrap(), refusals: &refusals };
        explain(&world, resource, &object)
    }
}

impl View for World {
    fn get(&self, resource: GroupResource<'_>, _: &str, name: &str) -> Option<Arc<Value>> {
        self.0.get(&(resource.resource.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, resource: GroupResource<'_>, _: &str) -> Vec<Arc<Value>> {
        self.0.iter().filter(|((of, _), _)| of == resource.resource).map(|(_, o)| o.clone()).collect()
    }
}

fn owned(mut object: Value, by: &str) -> Value {
    object["metadata"]["ownerReferences"] =
        json!([{ "kind": "X", "name": by, "uid": by, "controller": true }]);
    object
}

fn pod(spec: Value, status: Value) -> Value {
    json!({ "metadata": { "name": "web", "namespace": "d", "uid": "p" }, "spec": spec, "status": status })
}

fn ready_node() -> Value {
    json!({ "metadata": { "name": "n1", "uid": "n1" },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] } })
}

fn event(reason: &str, message: &str) -> Value {
    json!({ "metadata": { "name": reason }, "involvedObject": { "kind": "Pod", "name": "web", "uid": "p" },
            "reason": reason, "message": message, "lastTimestamp": NOW })
}

/// The last link's state, and whom it waits for.
fn told(answer: &Answer) -> (String, String) {
    let state = answer.chain.last().unwrap().state.clone();
    (state, answer.next.as_ref().map_or(String::new(), |next| next.on.clone()))
}

#[test]
fn a_pods_stages() {
    let unschedulable =
        json!([{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" }]);
    let waiting = |reason: &str| {
        json!({ "containerStatuses": [{ "name": "c", "image": "x:1", "restartCount": 3,
            "state": { "waiting": { "reason": reason, "message": "m" } },
            "lastState": { "terminated": { "exitCode": 139, "finishedAt": "2026-01-01T00:09:50Z" } } }] })
    };
    let bound = || json!({ "nodeName": "n1", "containers": [{ "name": "c" }] });
    for (spec, status, says, on) in [
        (json!({ "schedulingGates": [{ "name": "g" }] }), json!({}), "scheduling gates g", "whoever set g"),
        (json!({}), json!({ "conditions": unschedulable }), "fits no node: 0/1 nodes", "the scheduler"),
        (json!({ "schedulerName": "s" }), json!({}), "not been looked at", "the scheduler \"s\""),
        (json!({ "nodeName": "gone" }), json!({}), "does not exist", "pod garbage collection"),
        (bound(), json!({}), "has not taken it up", "the node's agent"),
        (bound(), waiting("ImagePullBackOff"), "container c has no image x:1: m", "the registry"),
        (bound(), waiting("CrashLoopBackOff"), "exit code 139 (signal 11)", "the node's agent"),
        (bound(), waiting("CreateContainerConfigError"), "cannot be made: m", "you"),
        (bound(), json!({ "phase": "Succeeded" }), "has done its work", ""),
    ] {
        let world = World::default().with("pods", pod(spec, status)).with("nodes", ready_node());
        let (state, who) = told(&world.ask("", "pods", "web"));
        assert!(state.contains(says), "{state:?} says not {says:?}");
        assert_eq!(who, on, "{state}");
    }
}

#[test]
fn a_crash_is_tried_again_after_its_back_off() {
    let status = json!({ "containerStatuses": [{ "name": "c", "restartCount": 3,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "exitCode": 1, "finishedAt": "2026-01-01T00:09:50Z" } } }] });
    let world =
        World::default().with("pods", pod(json!({ "nodeName": "n1" }), status)).with("nodes", ready_node());
    let at = world.ask("", "pods", "web").next.unwrap().at.unwrap();
    assert_eq!(at, "2026-01-01T00:10:30Z".parse::<Timestamp>().unwrap());
}

#[test]
fn a_volume_that_is_missing_is_named() {
    let status = json!({ "containerStatuses": [{ "name": "c",
        "state": { "waiting": { "reason": "ContainerCreating" } } }] });
    let world = World::default()
        .with("pods", pod(json!({ "nodeName": "n1" }), status))
        .with("nodes", ready_node())
        .with("events", event("FailedMount", "configmap \"c\" not found"));
    let answer = world.ask("", "pods", "web");
    assert!(told(&answer).0.contains("waits for a volume: configmap \"c\" not found"), "{answer:?}");
    assert_eq!(answer.said, ["FailedMount: configmap \"c\" not found"]);
}

#[test]
fn the_chain_leads_from_a_deployment_to_its_cause() {
    let world = World::default()
        .with(
            "deployments",
            json!({ "metadata": { "name": "web", "uid": "dep", "namespace": "d" },
            "spec": { "replicas": 2 }, "status": { "updatedReplicas": 2 } }),
        )
        .with(
            "replicasets",
            owned(
                json!({ "metadata": { "name": "web-1", "uid": "set", "namespace": "d" },
            "spec": { "replicas": 2 }, "status": { "replicas": 2 } }),
                "dep",
            ),
        )
        .with("pods", owned(pod(json!({ "nodeName": "n1" }), json!({ "phase": "Pending" })), "set"))
        .with(
            "nodes",
            json!({ "metadata": { "name": "n1", "uid": "n1" }, "spec": {},
            "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } }),
        )
        .with(
            "leases",
            json!({ "metadata": { "name": "n1" }, "spec": { "renewTime": "2026-01-01T00:00:00Z" } }),
        );
    let answer = world.ask("apps", "deployments", "web");
    let objects: Vec<&str> = answer.chain.iter().map(|step| step.object.as_str()).collect();
    assert_eq!(objects, ["deployment/web", "replicaset/web-1", "pod/web", "node/n1"]);
    assert!(told(&answer).0.contains("does not answer"), "{answer:?}");
}

#[test]
fn services_namespaces_and_finalizers() {
    let world = World::default()
        .with("services", json!({ "metadata": { "name": "s", "namespace": "d" }, "spec": { "selector": { "a": "b" } } }))
        .with("namespaces", json!({ "metadata": { "name": "n", "deletionTimestamp": NOW }, "status": { "conditions": [
            { "type": "NamespaceContentRemaining", "status": "True", "message": "pods. has 1 resource instances" }] } }))
        .with("configmaps", json!({ "metadata": { "name": "c", "deletionTimestamp": NOW, "finalizers": ["x/y"] } }));
    assert!(told(&world.ask("", "services", "s")).0.contains("no pod in d has the labels"));
    assert!(told(&world.ask("", "namespaces", "n")).0.contains("pods. has 1 resource"));
    assert_eq!(told(&world.ask("", "configmaps", "c")).1, "whoever set x/y");
}

#[test]
fn what_no_node_takes_is_told_of_each_node_or_of_the_cause() {
    let refused = || {
        let message = "0/1 nodes are available: 1 too small. preemption: no";
        let conditions = json!([{ "type": "PodScheduled", "status": "False", "message": message }]);
        json!({ "conditions": conditions })
    };
    let world = || World::default().with("nodes", ready_node());
    let answer = world().with("pods", pod(json!({}), refused())).ask("", "pods", "web");
    assert_eq!(told(&answer).0, "fits no node: 0/1 nodes are available: 1 too small.");
    assert_eq!(answer.refusals["n1"], ["too small"]);

    let mut tainted = ready_node();
    tainted["spec"]["taints"] = json!([{ "key": "disk", "effect": "NoSchedule" }]);
    tainted["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "DiskPressure", "status": "True", "message": "full" }));
    let world = || World::default().with("nodes", tainted.clone());
    let answer = world().with("pods", pod(json!({}), refused())).ask("", "pods", "web");
    assert_eq!(told(&answer).0, "is ready, with DiskPressure: full");
    assert_eq!(answer.refusals["n1"], ["too small", "untolerated taint disk:NoSchedule"]);
    let bears = json!({ "tolerations": [{ "key": "disk", "operator": "Exists" }] });
    let answer = world().with("pods", pod(bears, refused())).ask("", "pods", "web");
    assert_eq!(told(&answer).1, "the scheduler");

    let volumes = json!({ "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }] });
    let claim =
        json!({ "metadata": { "name": "data", "namespace": "d" }, "spec": { "storageClassName": "fast" } });
    let with_claim = || {
        world().with("pods", pod(volumes.clone(), refused())).with("persistentvolumeclaims", claim.clone())
    };
    assert_eq!(
        told(&with_claim().ask("", "pods", "web")).0,
        "has no volume: its storage class fast does not exist"
    );
    let class = json!({ "metadata": { "name": "fast" }, "provisioner": "example.com/disk" });
    let answer = with_claim().with("storageclasses", class).ask("", "pods", "web");
    assert_eq!(told(&answer).1, "the provisioner example.com/disk");
}

#[test]
fn a_failed_job_leads_to_what_its_pod_said() {
    let failed = json!({ "phase": "Failed", "containerStatuses": [
        { "name": "c", "state": { "terminated": { "exitCode": 3, "message": "no such table" } } }] });
    let mut made = owned(pod(json!({}), failed), "job");
    made["metadata"]["ownerReferences"][0]["name"] = "sum".into();
    let job = json!({ "metadata": { "name": "sum", "namespace": "d", "uid": "job" },
        "status": { "conditions": [{ "type": "Failed", "status": "True", "message": "too often" }] } });
    let answer = World::default().with("pods", made).with("jobs", job).ask("batch", "jobs", "sum");
    assert_eq!(answer.chain[0].state, "failed: too often");
    let (state, on) = told(&answer);
    assert_eq!(
        (state.as_str(), on.as_str()),
        ("failed: container c: exit code 3, saying \"no such table\"", "you")
    );
}

#[test]
fn a_cron_jobs_next_time_is_told() {
    let cron = |schedule: &str| json!({ "metadata": { "name": "c", "namespace": "d" }, "spec": { "schedule": schedule, "timeZone": "Etc/UTC" } });
    let ask =
        |schedule: &str| World::default().with("cronjobs", cron(schedule)).ask("batch", "cronjobs", "c");
    assert_eq!(ask("30 * * * *").next.unwrap().at, "2026-01-01T00:30:00Z".parse().ok());
    assert_eq!(told(&ask("at tea time")).1, "you");
}

#[test]
fn of_what_is_well_nothing_more_is_said() {
    let status = json!({ "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{ "name": "c", "ready": true, "state": { "running": {} } }] });
    let world = World::default()
        .with("pods", pod(json!({ "nodeName": "n1" }), status))
        .with("nodes", ready_node())
        .with("events", event("Unhealthy", "Readiness probe failed"));
    let answer = world.ask("", "pods", "web");
    assert_eq!((answer.next, answer.said), (None, Vec::<String>::new()));
}
