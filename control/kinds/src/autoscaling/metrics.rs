//! The metrics by which a `HorizontalPodAutoscaler` scales.

use proto_kube::quantity::Amount;
use proto_kube::{name, object};
use serde_json::Value;

use super::pod_autoscaler::{Version, reference};
use crate::check::{self, Field};

const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The members that hold a metric's source, in the order in which they are looked at.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// Rule: the metrics; scaling to nothing (`least` zero) needs one that can be measured without pods.
pub(super) fn rules(metrics: &Field<'_>, least: &Field<'_>, described: Version) {
    metrics.items().for_each(|metric| rule(&metric, described));
    let outside = metrics.items().any(|metric| ["Object", "External"].contains(&metric.at("type").text()));
    if least.number() == Some(0) && !outside {
        metrics.forbidden(
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
}

fn rule(metric: &Field<'_>, described: Version) {
    let kind = metric.at("type");
    kind.needs("must specify a metric source type");
    if !TYPES.contains(&kind.text()) {
        kind.not_supported(&TYPES);
    }
    let present: Vec<&str> =
        SOURCES.iter().map(|(_, member)| *member).filter(|member| metric.at(member).is_set()).collect();
    if let Some(member) = present.first() {
        source(member, &metric.at(member), described);
    }
    let expected = SOURCES.iter().find(|(of, _)| *of == kind.text()).map(|(_, member)| *member);
    match expected {
        Some(member) => {
            metric.at(member).needs_value("must populate information for the given metric source");
        }
        None => kind.not_supported(&TYPES),
    }
    if present.len() != 1 {
        for member in present.iter().filter(|member| Some(**member) != expected) {
            metric.at(member).forbidden("must populate the given metric source only");
        }
    }
}

fn source(member: &str, source: &Field<'_>, described: Version) {
    let goal = source.at("target");
    let (value, average, used) = (goal.at("value"), goal.at("averageValue"), goal.at("averageUtilization"));
    match member {
        "object" => {
            reference(&source.at("describedObject"), described);
            metric(&source.at("metric"));
            target(&goal);
            if !value.is_set() && !average.is_set() {
                average.required("must set either a target value or averageValue");
            }
        }
        "external" => {
            metric(&source.at("metric"));
            target(&goal);
            if !value.is_set() && !average.is_set() {
                average.required("must set either a target value for metric or a per-pod target");
            }
            if value.is_set() && average.is_set() {
                value.forbidden("may not set both a target value for metric and a per-pod target");
            }
        }
        "pods" => {
            metric(&source.at("metric"));
            target(&goal);
            average.needs_value("must specify a positive target averageValue");
        }
        _ => {
            if source.at("name").needs("must specify a resource name") && member == "containerResource" {
                source.at("name").all_invalid(name::qualified(source.at("name").text()));
            }
            let container = source.at("container");
            if member == "containerResource" && container.needs("must specify a container") {
                container.all_invalid(name::label(container.text()));
            }
            target(&goal);
            if !used.is_set() && !average.is_set() {
                used.required("must set either a target raw value or a target utilization");
            }
            if used.is_set() && average.is_set() {
                average.forbidden("may not set both a target raw value and a target utilization");
            }
        }
    }
}

fn metric(metric: &Field<'_>) {
    let at = metric.at("name");
    if at.needs("must specify a metric name") {
        at.all_invalid(name::path_segment(at.text()));
    }
}

fn target(target: &Field<'_>) {
    let kind = target.at("type");
    kind.needs("must specify a metric target type");
    if !["Utilization", "Value", "AverageValue"].contains(&kind.text()) {
        kind.invalid("must be either Utilization, Value, or AverageValue");
    }
    for at in ["value", "averageValue"].into_iter().filter_map(|member| target.member(member)) {
        if at.quantity().is_some_and(|amount| amount <= Amount::default()) {
            at.invalid("must be positive");
        }
    }
    let used = target.at("averageUtilization");
    if used.number().is_some_and(|n| n < 1) {
        used.invalid("must be greater than 0");
    }
}

/// The metrics as a cell: what each is and should be; the first two, and how many more.
pub(super) fn cell(object: &Value) -> String {
    const SHOWN: usize = 2;
    let mut current = object::items(object, &["status", "currentMetrics"]);
    let all: Vec<String> =
        object::items(object, &["spec", "metrics"]).map(|spec| one(spec, current.next())).collect();
    match all.len() {
        0 => "<none>".to_owned(),
        n if n > SHOWN => format!("{} + {} more...", all[..SHOWN].join(", "), n - SHOWN),
        _ => all.join(", "),
    }
}

fn one(spec: &Value, status: Option<&Value>) -> String {
    let kind = object::text(spec, &["type"]);
    let Some((_, member)) = SOURCES.iter().find(|(of, _)| *of == kind) else {
        return "<unknown type>".to_owned();
    };
    let is = |value: &str| {
        let now = status.and_then(|status| object::at(status, &[member, "current", value]));
        now.filter(|now| check::amount(now).is_some()).map_or("<unknown>".to_owned(), quantity)
    };
    let goal = |value: &str| object::at(spec, &[member, "target", value]).map(quantity);
    let percent = |text: String| if text.starts_with('<') { text } else { format!("{text}%") };
    match (*member, goal("averageValue")) {
        ("object" | "external", Some(goal)) => format!("{}/{goal} (avg)", is("averageValue")),
        ("object" | "external", None) => format!("{}/{}", is("value"), goal("value").unwrap_or_default()),
        ("pods", goal) => format!("{}/{}", is("averageValue"), goal.unwrap_or_default()),
        (_, Some(goal)) => {
            format!("{}: {}/{goal}", object::text(spec, &[member, "name"]), is("averageValue"))
        }
        _ => {
            let goal = goal("averageUtilization").unwrap_or_else(|| "<auto>".to_owned());
            let now = percent(is("averageUtilization"));
            format!("{}: {now}/{}", object::text(spec, &[member, "name"]), percent(goal))
        }
    }
}

fn quantity(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
