//! Nodes as they are told.

use super::*;

fn facts() -> Facts {
    Facts {
        name: "n".into(),
        ips: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        cpu_millis: 4000,
        machine: Machine {
            memory_kilobytes: 8 << 20,
            disk_bytes: 10 << 30,
            huge_pages: BTreeMap::from([(2048, 2)]),
            ..Machine::default()
        },
        pods_max: 110,
        reserved: BTreeMap::from([
            ("cpu".to_owned(), "250m".to_owned()),
            ("memory".to_owned(), "1Gi".to_owned()),
        ]),
        thresholds: Thresholds::new(
            "/".into(),
            BTreeMap::from([("memory.available".into(), "512Mi".into())]),
        ),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        taints: vec![json!({"key": "k", "effect": "NoSchedule"})],
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn running() -> State {
    let runtime = Runtime { name: "r".into(), version: "1".into(), ..Runtime::default() };
    State { runtime: Some(runtime), port: 10250, ..State::default() }
}

#[test]
fn a_node_falls_once() {
    let of = |state: &State| status(&facts(), state, &Value::Null, at(0));
    let (ready, starting) = (of(&running()), of(&State::default()));
    assert!(falls(&State::default(), &ready));
    assert!(!falls(&running(), &ready));
    assert!(!falls(&State::default(), &starting));
}

#[test]
fn a_new_node() {
    let node = node(&facts(), &State::default(), at(0));
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n");
    assert_eq!(node["metadata"]["labels"]["zone"], "a");
    assert_eq!(node["spec"]["taints"][0]["key"], "k");
    let status = &node["status"];
    assert_eq!(
        status["capacity"],
        json!({"cpu": "4", "memory": "8Gi", "ephemeral-storage": "10Gi", "pods": "110", "hugepages-2Mi": "4Mi"})
    );
    assert_eq!(status["allocatable"]["cpu"], "3750m");
    assert_eq!(
        status["allocatable"]["memory"], "6652Mi",
        "reserved, huge pages and what has to be left are not for pods"
    );
    assert_eq!(status["addresses"].as_array().unwrap().len(), 3);
    assert_eq!(status["addresses"][2], json!({"type": "Hostname", "address": "n"}));
    let ready = &status["conditions"][3];
    assert_eq!((ready["type"].as_str(), ready["status"].as_str()), (Some("Ready"), Some("False")));
}

#[test]
fn transitions_and_heartbeats() {
    let old = status(&facts(), &State::default(), &Value::Null, at(0));
    let mut new = status(&facts(), &running(), &old, at(60));
    keep_heartbeats(&mut new, &old);
    let times = |status: &Value, n: usize| {
        let condition = &status["conditions"][n];
        [&condition["lastTransitionTime"], &condition["lastHeartbeatTime"]]
            .map(|t| t.as_str().unwrap().to_owned())
    };
    let (zero, minute) = ("1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z");
    assert_eq!(times(&new, 0), [zero, zero]);
    assert_eq!(times(&new, 3), [minute, minute], "Ready has changed");
    let later = status(&facts(), &running(), &new, at(120));
    assert_eq!(times(&later, 3), [minute, "1970-01-01T00:02:00Z"]);
    assert_eq!(new["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
    assert_eq!(new["nodeInfo"]["containerRuntimeVersion"], "r://1");
}

#[test]
fn why_it_is_not_ready() {
    let mut state = running();
    assert_eq!(unready(&state), None);
    let runtime = state.runtime.as_mut().unwrap();
    runtime.network_problem = Some(("no network".into(), String::new()));
    assert_eq!(unready(&state).unwrap(), "no network");
    state.runtime.as_mut().unwrap().problem = Some("container runtime is down".into());
    assert_eq!(unready(&state).unwrap(), "[container runtime is down, no network]");
}

#[test]
fn what_changes_is_told() {
    let reasons = |old: &Value, new: &Value| -> Vec<String> {
        changes("n", old, new).into_iter().map(|event| event.reason).collect()
    };
    let old = status(&facts(), &State::default(), &Value::Null, at(0));
    let mut new = status(&facts(), &running(), &old, at(60));
    assert_eq!(reasons(&old, &new), ["NodeReady"]);
    assert_eq!(reasons(&new, &old), ["NodeNotReady"]);
    assert_eq!(reasons(&Value::Null, &new).len(), 4);
    assert!(reasons(&new, &new).is_empty());
    let before = json!({"nodeInfo": {"bootID": "a"}, "conditions": new["conditions"]});
    new["nodeInfo"]["bootID"] = json!("b");
    assert_eq!(reasons(&before, &new), ["Rebooted"]);
}

#[test]
fn the_largest_images_are_told() {
    let all: Vec<Image> =
        (0..60).map(|n| Image { names: vec![format!("i{n}")], bytes: n }).chain([Image::default()]).collect();
    let told = images(&all);
    assert_eq!(told.as_array().unwrap().len(), IMAGES_MAX);
    assert_eq!(told[0], json!({"names": ["i59"], "sizeBytes": 59}));
}
