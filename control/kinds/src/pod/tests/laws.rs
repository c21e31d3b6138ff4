//! What holds for every valid pod.

use proptest::prelude::*;

use super::*;
use crate::cases::{check_settled, with_some};

/// Changes of a pod each of which leaves it valid, alone or with any others.
fn changes() -> Vec<Value> {
    let main = |change: &Value| container(change);
    let spec = |change: Value| json!({"spec": change});
    let volumes = json!([
        {"name": "e"}, {"name": "m", "configMap": {"name": "m"}}, {"name": "c", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "p", "projected": {"sources": [{"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
    ]);
    let rich = json!({
        "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "livenessProbe": {"httpGet": {"port": "http"}}, "startupProbe": {"exec": {"command": ["true"]}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
        "resources": {"limits": {"cpu": "1500m", "memory": "0.5Gi"}, "requests": {"cpu": "0.0005"}},
        "securityContext": {"runAsUser": 5, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
    });
    vec![
        main(&rich),
        spec(json!({"volumes": volumes})),
        spec(json!({"restartPolicy": "OnFailure"})),
        spec(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
        spec(
            json!({"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 9}]}),
        ),
        spec(json!({"nodeSelector": {"kubernetes.io/os": "linux"}, "nodeName": "n1"})),
        spec(
            json!({"initContainers": [{"name": "i", "image": "i"}, {"name": "s", "image": "s", "restartPolicy": "Always"}]}),
        ),
        spec(
            json!({"securityContext": {"fsGroup": 7, "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}}),
        ),
        spec(
            json!({"activeDeadlineSeconds": 60, "hostname": "h", "subdomain": "s", "priorityClassName": "p"}),
        ),
        spec(json!({"resources": {"limits": {"cpu": "4", "memory": "4Gi"}}})),
        spec(
            json!({"overhead": {"cpu": "10m"}, "runtimeClassName": "r", "imagePullSecrets": [{"name": "s"}]}),
        ),
        spec(
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"a": "b"}}}]}),
        ),
        json!({"metadata": {"labels": {"a": "b"}, "annotations": {"x.io/y": "z"}, "finalizers": ["x.io/f"]}}),
        spec(json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 5, "podAffinityTerm": {"topologyKey": "z", "labelSelector": {"matchLabels": {"a": "b"}}}},
        ]}}})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_valid_pod_stays_valid(bits in any::<u64>()) {
        check_settled(&with_some(&pod(), &changes(), bits));
    }
}

#[test]
fn a_pods_own_resources_are_completed() {
    let own = |resources: Value| {
        let spec = json!({"spec": {"resources": resources}});
        let main = container(&json!({"resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}}));
        created(&with(&with(&pod(), &main), &spec))["spec"]["resources"].clone()
    };
    assert_eq!(
        own(json!({"limits": {"cpu": "4", "memory": "1Gi"}})),
        json!({"limits": {"cpu": "4", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}})
    );
    assert_eq!(
        own(json!({"requests": {"cpu": "1"}})),
        json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}})
    );
}
