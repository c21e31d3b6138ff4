//! Rules, defaults, conversion and rows of the autoscaling kinds.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::convert;
use super::pod_autoscaler::{V1, V2};
use crate::Kind;

fn autoscaler(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    proto_kube::object::default(&mut spec, "scaleTargetRef", target);
    proto_kube::object::default(&mut spec, "maxReplicas", 3);
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": spec})
}

fn faults(spec: &Value) -> Vec<String> {
    let mut object = autoscaler(spec);
    V2.default(&mut object);
    V2.validate(&object).iter().map(ToString::to_string).collect()
}

#[test]
fn defaults() {
    let mut object = autoscaler(&json!({"behavior": {"scaleDown": {"policies": []}}}));
    V2.default(&mut object);
    let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    assert_eq!(object["spec"]["metrics"], cpu);
    assert_eq!(object["spec"]["minReplicas"], 1);
    let up = &object["spec"]["behavior"]["scaleUp"];
    assert_eq!(up["stabilizationWindowSeconds"], 0);
    assert_eq!(up["policies"][0], json!({"type": "Pods", "value": 4, "periodSeconds": 15}));
    assert_eq!(object["spec"]["behavior"]["scaleDown"], json!({"policies": [], "selectPolicy": "Max"}));
    let once = object.clone();
    V2.default(&mut object);
    assert_eq!(object, once);
}

#[test]
fn rules() {
    let target = json!({"type": "Utilization", "averageUtilization": 0});
    for (spec, expected) in [
        (json!({}), &[][..]),
        (
            json!({"minReplicas": 0, "maxReplicas": 0}),
            &[
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.maxReplicas: Required value: must be set and greater than 0",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (
            json!({"minReplicas": 4}),
            &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
        ),
        (
            json!({"scaleTargetRef": {"apiVersion": "v1", "kind": "Deployment", "name": ""}}),
            &[
                "spec.scaleTargetRef.name: Required value",
                "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
            ],
        ),
        (json!({"scaleTargetRef": {"apiVersion": "v1", "kind": "ReplicationController", "name": "a"}}), &[]),
        (
            json!({"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}),
            &["spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"],
        ),
        (
            json!({"metrics": [{"type": "Pods"}]}),
            &["spec.metrics[0].pods: Required value: must populate information for the given metric source"],
        ),
        (
            json!({"metrics": [{"type": "Disk", "resource": {"name": "cpu", "target": {"type": "Value", "averageValue": "0"}}}]}),
            &[
                "spec.metrics[0].type: Unsupported value: \"Disk\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
                "spec.metrics[0].resource.target.averageValue: Invalid value: \"0\": must be positive",
                "spec.metrics[0].type: Unsupported value: \"Disk\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
            ],
        ),
        (
            json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601, "selectPolicy": "x", "policies": [{"type": "Pods", "value": 0, "periodSeconds": 1801}]}}}),
            &[
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"x\": supported values: \"Disabled\", \"Max\", \"Min\"",
                "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ],
        ),
    ] {
        assert_eq!(faults(&spec), expected, "{spec}");
    }
}

#[test]
fn v1_has_the_same_rules() {
    let object = json!({"apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 0, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    let texts: Vec<String> = V1.validate(&object).iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["spec.maxReplicas: Required value: must be set and greater than 0"]);
}

#[test]
fn rows() {
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "10"}}});
    let mut object = autoscaler(&json!({"metrics": [convert::cpu(80), pods, pods]}));
    object["status"] = json!({"currentReplicas": 2, "currentMetrics": [
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 50, "averageValue": "5m"}}},
    ]});
    let cells = V2.cells(&object, Timestamp::UNIX_EPOCH);
    let targets = "cpu: 50%/80%, <unknown>/10 + 1 more...";
    assert_eq!(
        Value::from(cells.clone()),
        json!(["web", "Deployment/web", targets, "<unset>", 3, 2, "<unknown>"])
    );
    assert_eq!(cells.len(), V2.columns().len());
}

#[test]
fn v1_keeps_the_rest_in_annotations() {
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "10"}}});
    let behavior = json!({"scaleUp": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}});
    let mut object =
        autoscaler(&json!({"minReplicas": 1, "metrics": [pods, convert::cpu(70)], "behavior": behavior}));
    let stored = object.clone();
    V1.from_storage(&mut object);
    assert_eq!(object["apiVersion"], "autoscaling/v1");
    assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 70);
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(
        annotations["autoscaling.alpha.kubernetes.io/metrics"],
        r#"[{"pods":{"metricName":"x","targetAverageValue":"10"},"type":"Pods"}]"#
    );
    assert_eq!(
        annotations["autoscaling.alpha.kubernetes.io/behavior"],
        r#"{"ScaleUp":{"Policies":[{"PeriodSeconds":15,"Type":"Pods","Value":4}],"SelectPolicy":"Max"}}"#
    );
    V1.to_storage(&mut object);
    assert_eq!(object, stored);
}

fn source(words: &'static str) -> impl Strategy<Value = Value> {
    let name = "[a-z]{1,5}";
    let metric = (name, proptest::option::of(name)).prop_map(|(name, label)| match label {
        Some(label) => json!({"name": name, "selector": {"matchLabels": {"a": label}}}),
        None => json!({"name": name}),
    });
    let described = name.prop_map(|name| json!({"apiVersion": "v1", "kind": "Service", "name": name}));
    (0..5_usize, metric, described, 1..100_i64).prop_map(move |(which, metric, described, n)| {
        let spec = words == "target";
        let typed = |kind: &str, mut value: Value| {
            if spec {
                value["type"] = kind.into();
            }
            value
        };
        let amount = n.to_string();
        match which {
            0 => json!({"type": "Object", "object": {"metric": metric, "describedObject": described, words: typed("Value", json!({"value": amount}))}}),
            1 => json!({"type": "External", "external": {"metric": metric, words: typed("Value", json!({"value": amount}))}}),
            2 => json!({"type": "Pods", "pods": {"metric": metric, words: typed("AverageValue", json!({"averageValue": amount}))}}),
            3 => json!({"type": "Resource", "resource": {"name": "memory", words: typed("AverageValue", json!({"averageValue": amount}))}}),
            _ => json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", words: typed("AverageValue", json!({"averageValue": amount}))}}),
        }
    })
}

proptest! {
    #[test]
    fn v1_loses_nothing(
        metrics in proptest::collection::vec(source("target"), 0..3),
        current in proptest::collection::vec(source("current"), 1..3),
        cpu in 1..100_i64,
        notes in proptest::option::of("[a-z]{1,5}"),
    ) {
        let mut metrics = metrics;
        metrics.push(convert::cpu(cpu));
        let mut object = autoscaler(&json!({"minReplicas": 1, "metrics": metrics}));
        object["status"] = json!({"currentReplicas": 1, "desiredReplicas": 2, "currentMetrics": current, "conditions": [{"type": "A", "status": "True"}]});
        if let Some(note) = notes {
            object["metadata"]["annotations"] = json!({"a": note});
        }
        let stored = object.clone();
        V1.from_storage(&mut object);
        let v1 = object.clone();
        V1.to_storage(&mut object);
        prop_assert_eq!(&object, &stored);
        V1.from_storage(&mut object);
        prop_assert_eq!(object, v1);
    }
}
