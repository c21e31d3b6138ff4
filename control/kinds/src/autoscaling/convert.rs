//! A `HorizontalPodAutoscaler` of `autoscaling/v1` as one of `v2`, and back. Of its metrics `v1` has only the CPU's; all
//! else stands in annotations, in the words of `v1`'s own types.

use proto_kube::object;
use serde_json::{Map, Value, json};

use crate::apps::workload::within;
use crate::meta::put;

const V1: &str = "autoscaling/v1";
const V2: &str = "autoscaling/v2";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ALL: [&str; 6] = [
    METRICS,
    CURRENT,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// How much of its CPU a pod should use when nobody says, in percent.
pub(super) const DEFAULT_CPU: i64 = 80;

/// The metric of CPU utilization, in percent.
pub(super) fn cpu(percent: i64) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// A copy in the form of `v2`.
pub(super) fn stored(object: &Value) -> Value {
    let mut object = object.clone();
    to_v2(&mut object);
    object
}

fn annotation(object: &Value, key: &str) -> Option<Value> {
    serde_json::from_str(object::at(object, &["metadata", "annotations", key])?.as_str()?).ok()
}

/// Drops the annotations that stand for fields of `v2`.
fn clean(object: &mut Value) {
    let metadata = object::metadata(object);
    let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else { return };
    let before = annotations.len();
    ALL.iter().for_each(|key| drop(annotations.remove(*key)));
    if annotations.is_empty() && before > 0 {
        metadata.remove("annotations");
    }
}

/// Turns an object of `v1` into one of `v2`; another is left as it is.
pub(super) fn to_v2(object: &mut Value) {
    if object["apiVersion"] != V1 {
        return;
    }
    object["apiVersion"] = V2.into();
    let list = |key: &str| annotation(object, key).and_then(|v| v.as_array().cloned());
    let (others, current, conditions) = (list(METRICS), list(CURRENT), list(CONDITIONS));
    let behavior = annotation(object, BEHAVIOR).filter(|behavior| behavior.is_object());
    clean(object);

    object::member(object, "spec");
    let spec = &mut object["spec"];
    let wish = spec.as_object_mut().and_then(|s| s.remove("targetCPUUtilizationPercentage"));
    let mut metrics: Vec<Value> = others.iter().flatten().map(|metric| metric_v2(metric, &SPEC)).collect();
    metrics.extend(wish.as_ref().and_then(Value::as_i64).map(cpu));
    if metrics.is_empty() {
        metrics.push(cpu(DEFAULT_CPU));
    }
    spec["metrics"] = metrics.into();
    if let Some(behavior) = behavior {
        spec["behavior"] = recased(&behavior, char::to_ascii_lowercase);
    }

    if object["status"].is_null() {
        return;
    }
    let status = &mut object["status"];
    let used = status.as_object_mut().and_then(|s| s.remove("currentCPUUtilizationPercentage"));
    let of_cpu = used.map(|percent| {
        let current = json!({"averageUtilization": percent, "averageValue": "0"});
        json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}])
    });
    let all = current.map(|all| all.iter().map(|metric| metric_v2(metric, &STATUS)).collect());
    put(status, "currentMetrics", all.or(of_cpu));
    if let Some(conditions) = conditions {
        status["conditions"] = conditions.into();
    }
}

/// Turns an object of `v2` into one of `v1`; another is left as it is.
pub(super) fn to_v1(object: &mut Value) {
    if object["apiVersion"] != V2 {
        return;
    }
    object["apiVersion"] = V1.into();
    clean(object);
    let mut take = |part: &str, member: &str| {
        object
            .get_mut(part)
            .and_then(Value::as_object_mut)
            .and_then(|m| m.remove(member))
            .filter(|v| !v.is_null())
    };
    let (metrics, behavior) = (take("spec", "metrics"), take("spec", "behavior"));
    let (current, conditions) = (take("status", "currentMetrics"), take("status", "conditions"));
    let list = |value: &Option<Value>| value.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();

    let (cpus, others): (Vec<Value>, Vec<Value>) = list(&metrics).into_iter().partition(|metric| {
        let used = object::at(metric, &["resource", "target", "averageUtilization"]).is_some();
        metric["type"] == "Resource" && metric["resource"]["name"] == "cpu" && used
    });
    let wish = cpus.first().map(|metric| metric["resource"]["target"]["averageUtilization"].clone());
    put(&mut object["spec"], "targetCPUUtilizationPercentage", wish);
    let current = list(&current);
    let used = current.iter().rev().find_map(|metric| {
        let is_cpu = metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
        object::at(metric, &["resource", "current", "averageUtilization"]).filter(|_| is_cpu)
    });
    if object["status"].is_object() {
        put(&mut object["status"], "currentCPUUtilizationPercentage", used.cloned());
        object::default(&mut object["status"], "currentReplicas", 0);
    }

    let v1 = |metrics: &[Value], words: &Words| -> Option<Value> {
        (!metrics.is_empty()).then(|| metrics.iter().map(|metric| metric_v1(metric, words)).collect())
    };
    let texts = [
        (METRICS, v1(&others, &SPEC)),
        (CURRENT, v1(&current, &STATUS)),
        (CONDITIONS, conditions.filter(|c| c.as_array().is_some_and(|c| !c.is_empty()))),
        (BEHAVIOR, behavior.map(|behavior| recased(&behavior, char::to_ascii_uppercase))),
    ];
    for (key, value) in texts.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        within(object, &["metadata", "annotations"])[key] = value.to_string().into();
    }
}

/// How the members of a metric are called in `v1`: as a wish, or as what is.
struct Words {
    /// What they begin with in `v1`.
    prefix: &'static str,
    /// The member of `v2` that holds them.
    member: &'static str,
}

const SPEC: Words = Words { prefix: "target", member: "target" };
const STATUS: Words = Words { prefix: "current", member: "current" };

impl Words {
    fn name(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    /// The names in `v1` and `v2` of the values of a source, each with whether `v1` always has it.
    fn values(&self, source: &str) -> Vec<(String, &'static str, bool)> {
        let is_status = self.prefix == "current";
        match source {
            "object" => {
                vec![(self.name("Value"), "value", true), ("averageValue".to_owned(), "averageValue", false)]
            }
            "external" => vec![
                (self.name("Value"), "value", is_status),
                (self.name("AverageValue"), "averageValue", false),
            ],
            "pods" => vec![(self.name("AverageValue"), "averageValue", true)],
            _ => vec![
                (self.name("AverageUtilization"), "averageUtilization", false),
                (self.name("AverageValue"), "averageValue", is_status),
            ],
        }
    }
}

fn source_of(metric: &Value) -> Option<(&str, &Value)> {
    let mut members = metric.as_object().into_iter().flatten();
    members.find(|(key, value)| *key != "type" && value.is_object()).map(|(key, value)| (key.as_str(), value))
}

fn copy(to: &mut Map<String, Value>, key: &str, value: Option<&Value>) {
    if let Some(value) = value {
        to.insert(key.to_owned(), value.clone());
    }
}

/// The member of `v1` that holds the selector of a source's metric.
fn selector(source: &str) -> &'static str {
    if source == "external" { "metricSelector" } else { "selector" }
}

fn metric_v1(metric: &Value, words: &Words) -> Value {
    let mut out = json!({"type": metric["type"]});
    let Some((name, source)) = source_of(metric) else { return out };
    let mut to = Map::new();
    copy(&mut to, "target", object::at(source, &["describedObject"]));
    copy(&mut to, "metricName", object::at(source, &["metric", "name"]));
    copy(&mut to, selector(name), object::at(source, &["metric", "selector"]));
    copy(&mut to, "name", object::at(source, &["name"]));
    copy(&mut to, "container", object::at(source, &["container"]));
    for (old, new, always) in words.values(name) {
        let value = object::at(source, &[words.member, new]);
        let zero = Value::from("0");
        copy(&mut to, &old, value.or(always.then_some(&zero)));
    }
    out[name] = to.into();
    out
}

fn metric_v2(metric: &Value, words: &Words) -> Value {
    let mut out = json!({"type": metric["type"]});
    let Some((name, source)) = source_of(metric) else { return out };
    let mut to = Map::new();
    copy(&mut to, "describedObject", object::at(source, &["target"]));
    copy(&mut to, "name", object::at(source, &["name"]));
    copy(&mut to, "container", object::at(source, &["container"]));
    if let Some(named) = object::at(source, &["metricName"]) {
        let mut metric = Map::new();
        copy(&mut metric, "name", Some(named));
        copy(&mut metric, "selector", object::at(source, &[selector(name)]));
        to.insert("metric".to_owned(), metric.into());
    }
    let mut values = Map::new();
    for (old, new, _) in words.values(name) {
        copy(&mut values, new, object::at(source, &[&old]));
    }
    let average = values.contains_key("averageValue");
    if words.prefix == "target" {
        // The value that `v1` must have says nothing where there is an average.
        if name == "object" && average && values.get("value").is_some_and(|v| v == "0") {
            values.remove("value");
        }
        let kind = match name {
            "object" if !average => "Value",
            "external" if values.contains_key("value") => "Value",
            "resource" | "containerResource" if values.contains_key("averageUtilization") => "Utilization",
            _ => "AverageValue",
        };
        values.insert("type".to_owned(), kind.into());
    }
    to.insert(words.member.to_owned(), values.into());
    out[name] = to.into();
    out
}

/// The same value, with the first letter of each member's name changed: `v1` keeps the behaviour in the words of Go's
/// fields.
fn recased(value: &Value, case: fn(&char) -> char) -> Value {
    match value {
        Value::Object(members) => {
            let name = |name: &str| {
                let mut chars = name.chars();
                let first = chars.next().map(|c| case(&c));
                first.into_iter().chain(chars).collect::<String>()
            };
            members.iter().map(|(key, value)| (name(key), recased(value, case))).collect()
        }
        Value::Array(items) => items.iter().map(|item| recased(item, case)).collect(),
        other => other.clone(),
    }
}
