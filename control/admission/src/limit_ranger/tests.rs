//! Defaults, and each limit in upstream's words.

use serde_json::{Value, json};

use super::*;
use crate::tests::{Ask, Cluster, pod};

fn cluster(limits: Value) -> Cluster {
    let range = json!({"metadata": {"name": "r", "namespace": "ns"}, "spec": {"limits": limits}});
    Cluster::usual().and("", "limitranges", range)
}

fn asking(resources: Value) -> Value {
    let mut pod = pod("p");
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

#[test]
fn containers_get_the_defaults() {
    let cluster = cluster(json!([
        {"type": "Container", "default": {"cpu": "500m", "memory": "64Mi"}, "defaultRequest": {"cpu": "100m"}},
        {"type": "Pod", "max": {"cpu": "8"}},
    ]));
    let mut pod = asking(json!({"limits": {"memory": "1Gi"}}));
    pod["spec"]["initContainers"] = json!([{"name": "i"}]);
    Ask::create("", "pods").admit(&mut pod, &cluster).unwrap();
    assert_eq!(
        pod["spec"]["containers"][0]["resources"],
        json!({"limits": {"memory": "1Gi", "cpu": "500m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        pod["metadata"]["annotations"][ANNOTATION],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c; cpu request for init container i; cpu, memory limit for init container i"
    );
    let before = pod.clone();
    Ask::create("", "pods").admit(&mut pod, &cluster).unwrap();
    assert_eq!(pod, before);
}

#[test]
fn nothing_is_added_where_nothing_is_missing() {
    let mut pod = pod("p");
    Ask::create("", "pods")
        .admit(&mut pod, &cluster(json!([{"type": "Container", "max": {"cpu": "1"}}])))
        .unwrap();
    assert!(pod["spec"]["containers"][0].get("resources").is_none());
    assert!(pod["metadata"].get("annotations").is_none());
}

#[test]
fn limits_are_held() {
    let both = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    for (limit, resources, why) in [
        (
            json!({"type": "Container", "min": {"cpu": "50m"}}),
            json!({}),
            "minimum cpu usage per Container is 50m.  No request is specified",
        ),
        (
            json!({"type": "Container", "min": {"cpu": "50m"}}),
            both("10m"),
            "minimum cpu usage per Container is 50m, but request is 10m",
        ),
        (
            json!({"type": "Container", "min": {"cpu": "50m"}}),
            json!({"requests": {"cpu": "60m"}, "limits": {"cpu": "40m"}}),
            "minimum cpu usage per Container is 50m, but limit is 40m",
        ),
        (json!({"type": "Container", "min": {"cpu": "50m"}}), both("50m"), ""),
        (
            json!({"type": "Container", "max": {"cpu": "1"}}),
            json!({"requests": {"cpu": "1"}}),
            "maximum cpu usage per Container is 1.  No limit is specified",
        ),
        (
            json!({"type": "Container", "max": {"cpu": "1"}}),
            both("1500m"),
            "maximum cpu usage per Container is 1, but limit is 1500m",
        ),
        (
            json!({"type": "Container", "max": {"memory": "1Gi"}}),
            json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}),
            "maximum memory usage per Container is 1Gi, but request is 2Gi",
        ),
        (
            json!({"type": "Container", "max": {"cpu": "1", "memory": "1Gi"}}),
            json!({}),
            "[maximum cpu usage per Container is 1.  No limit is specified, maximum memory usage per Container is 1Gi.  No limit is specified]",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"limits": {"cpu": "1"}}),
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"requests": {"cpu": "1"}}),
            "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 5.000000",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}),
            "",
        ),
        (
            json!({"type": "Pod", "max": {"cpu": "1"}}),
            both("2"),
            "maximum cpu usage per Pod is 1, but limit is 2",
        ),
        (json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}), json!({}), ""),
    ] {
        let refusal = Ask::create("", "pods").refusal(&asking(resources), &cluster(json!([limit])));
        assert_eq!(refusal.strip_prefix("pods \"p\" is forbidden: ").unwrap_or_default(), why);
    }
}

#[test]
fn only_what_can_change_is_looked_at() {
    let cluster = cluster(json!([{"type": "Container", "max": {"cpu": "1"}}]));
    let pod = asking(json!({"limits": {"cpu": "2"}}));
    assert_eq!(Ask::update("", "pods", pod.clone()).refusal(&pod, &cluster), "");
    assert_ne!(Ask::update("", "pods", pod.clone()).sub("resize").refusal(&pod, &cluster), "");
    let mut going = pod.clone();
    going["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z".into();
    assert_eq!(Ask::update("", "pods", going).sub("resize").refusal(&pod, &cluster), "");
}

#[test]
fn claims_have_their_own_limits() {
    let cluster = cluster(
        json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]),
    );
    let claim = |size: &str| json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": {"resources": {"requests": {"storage": size}}}});
    for (size, why) in [
        ("1Gi", ""),
        ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        ("1Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"),
    ] {
        let refusal = Ask::create("", "persistentvolumeclaims").refusal(&claim(size), &cluster);
        assert_eq!(
            refusal.strip_prefix("persistentvolumeclaims \"c\" is forbidden: ").unwrap_or_default(),
            why
        );
    }
}
