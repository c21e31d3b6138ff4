//! What pods ask for.

use serde_json::json;

use super::*;

fn container(name: &str, cpu: &str, memory: &str) -> Value {
    json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": memory}}})
}

fn sidecar(name: &str, cpu: &str, memory: &str) -> Value {
    let mut sidecar = container(name, cpu, memory);
    sidecar["restartPolicy"] = "Always".into();
    sidecar
}

fn asked(spec: Value) -> (i64, i64) {
    let amounts = Amounts::requested(&json!({"spec": spec}));
    (amounts.cpu, amounts.memory)
}

#[test]
fn containers_add_up_and_the_start_may_need_more() {
    let main = || vec![container("a", "100m", "100"), container("b", "200m", "1k")];
    assert_eq!(asked(json!({"containers": main()})), (300, 1100));
    let init = |containers: Vec<Value>| json!({"initContainers": containers, "containers": main()});
    assert_eq!(asked(init(vec![container("i", "1", "10")])), (1000, 1100));
    assert_eq!(asked(init(vec![container("i", "250m", "10"), container("j", "10m", "2k")])), (300, 2000));
    assert_eq!(asked(init(vec![sidecar("s", "50m", "10")])), (350, 1110));
    assert_eq!(asked(init(vec![sidecar("s", "50m", "10"), container("i", "320m", "10")])), (370, 1110));
    assert_eq!(asked(init(vec![container("i", "320m", "10"), sidecar("s", "50m", "10")])), (350, 1110));
}

#[test]
fn the_pod_itself_may_ask() {
    let spec = json!({"containers": [container("a", "100m", "100")], "overhead": {"cpu": "5m"},
        "resources": {"requests": {"cpu": "1"}}});
    assert_eq!(asked(spec), (1005, 100));
}

#[test]
fn scalars_are_known_by_their_names() {
    let requests =
        json!({"example.com/gpu": 2, "hugepages-2Mi": "4Mi", "storage": "1Gi", "ephemeral-storage": "1Mi"});
    let pod = json!({"spec": {"containers": [{"resources": {"requests": requests}}]}});
    let amounts = Amounts::requested(&pod);
    assert_eq!(amounts.ephemeral_storage, 1 << 20);
    assert_eq!(
        amounts.scalar.into_iter().collect::<Vec<_>>(),
        [("example.com/gpu".to_owned(), 2), ("hugepages-2Mi".to_owned(), 4 << 20)]
    );
}

#[test]
fn a_resize_holds_the_larger() {
    let status = |reason: &str| {
        json!({"spec": {"containers": [container("a", "200m", "100")]}, "status": {
            "conditions": [{"type": "PodResizePending", "reason": reason}],
            "containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "300"}}, "allocatedResources": {"cpu": "150m"}}],
        }})
    };
    let held = |reason| Amounts::held(&status(reason));
    assert_eq!((held("Deferred").cpu, held("Deferred").memory), (200, 300));
    assert_eq!(held("Infeasible").cpu, 150);
    assert_eq!(Amounts::requested(&status("Deferred")).memory, 100);
}

#[test]
fn who_asks_for_nothing_counts_for_something() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, container("b", "1", "1")]}});
    let estimated = Amounts::estimated(&pod);
    assert_eq!((estimated.cpu, estimated.memory), (1100, (200 << 20) + 1));
    assert_eq!(Amounts::held(&pod).cpu, 1000);
}
