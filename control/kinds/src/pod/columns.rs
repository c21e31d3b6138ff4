//! A pod's row in a table.

use jiff::Timestamp;
use proto_kube::object;
use serde_json::Value;

use crate::column::{self, AGE, Column, NAME, or_none, text, wide};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "How many of the pod's containers are ready for traffic."),
    text("Status", "What the pod's containers are doing, in one word."),
    text("Restarts", "How often the pod's containers were started again, and when last."),
    AGE,
    wide(text("IP", "The pod's address.")),
    wide(text("Node", "The node on which the pod runs.")),
    wide(text("Nominated Node", "The node on which room is being made for the pod.")),
    wide(text("Readiness Gates", "How many of the conditions that the pod waits for are true.")),
];

pub(crate) const TEMPLATE: &[Column] = &[
    NAME,
    text("Containers", "The names of the template's containers."),
    text("Images", "The images of the template's containers."),
    text("Pod Labels", "The labels of pods made from the template."),
];

/// What is told of the containers in a row.
struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last: Option<Timestamp>,
    reason: String,
}

/// The containers of a pod that has the status of each.
struct Status<'a>(&'a Value);

impl<'a> Status<'a> {
    fn restarts(&self) -> i64 {
        self.0["restartCount"].as_i64().unwrap_or(0)
    }

    fn last_end(&self) -> Option<Timestamp> {
        object::text(self.0, &["lastState", "terminated", "finishedAt"]).parse().ok()
    }

    fn terminated(&self) -> Option<&'a Value> {
        object::at(self.0, &["state", "terminated"])
    }

    fn waiting(&self) -> &'a str {
        object::text(self.0, &["state", "waiting", "reason"])
    }

    fn flag(&self, key: &str) -> bool {
        self.0[key] == Value::Bool(true)
    }

    fn name(&self) -> &'a str {
        object::text(self.0, &["name"])
    }
}

/// Why a container ended, after a prefix.
fn ended(prefix: &str, state: &Value) -> String {
    match (object::text(state, &["reason"]), state["signal"].as_i64().unwrap_or(0)) {
        ("", 0) => format!("{prefix}ExitCode:{}", state["exitCode"].as_i64().unwrap_or(0)),
        ("", signal) => format!("{prefix}Signal:{signal}"),
        (reason, _) => format!("{prefix}{reason}"),
    }
}

fn summary(pod: &Value) -> Summary {
    let mut reason = object::text(pod, &["status", "phase"]).to_owned();
    match object::text(pod, &["status", "reason"]) {
        "" => {}
        own => own.clone_into(&mut reason),
    }
    if condition(pod, "PodScheduled").is_some_and(|c| object::text(c, &["reason"]) == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut reason);
    }
    let sidecars = object::items(pod, &["spec", "initContainers"])
        .filter(|c| object::text(c, &["restartPolicy"]) == "Always")
        .map(|c| object::text(c, &["name"]));
    let sidecars: Vec<&str> = sidecars.collect();
    let total = object::items(pod, &["spec", "containers"]).count() + sidecars.len();
    let mut sum = Summary { ready: 0, total, restarts: 0, last: None, reason };
    let side = starting(pod, &sidecars, &mut sum);
    let initialized = condition(pod, "Initialized").is_some_and(|c| object::text(c, &["status"]) == "True");
    if side.done || initialized {
        sum.restarts = side.restarts;
        sum.last = side.last;
        running(pod, &mut sum);
    }
    sum
}

/// What the containers that run before the others come to.
struct Started {
    /// Whether all that have to end did, and all sidecars run.
    done: bool,
    /// The sidecars' restarts, and the last of them.
    restarts: i64,
    last: Option<Timestamp>,
}

fn starting(pod: &Value, sidecars: &[&str], sum: &mut Summary) -> Started {
    let mut started = Started { done: true, restarts: 0, last: None };
    let total = object::items(pod, &["spec", "initContainers"]).count();
    for (index, status) in object::items(pod, &["status", "initContainerStatuses"]).map(Status).enumerate() {
        let sidecar = sidecars.contains(&status.name());
        sum.restarts += status.restarts();
        sum.last = sum.last.max(status.last_end());
        if sidecar {
            started.restarts += status.restarts();
            started.last = started.last.max(status.last_end());
        }
        match status.terminated() {
            Some(state) if state["exitCode"].as_i64() == Some(0) => continue,
            _ if sidecar && status.flag("started") => {
                sum.ready += usize::from(status.flag("ready"));
                continue;
            }
            Some(state) => sum.reason = ended("Init:", state),
            None => {
                sum.reason = match status.waiting() {
                    "" | "PodInitializing" => format!("Init:{index}/{total}"),
                    reason => format!("Init:{reason}"),
                }
            }
        }
        started.done = false;
        break;
    }
    started
}

fn running(pod: &Value, sum: &mut Summary) {
    let mut runs = false;
    let statuses: Vec<_> = object::items(pod, &["status", "containerStatuses"]).map(Status).collect();
    for status in statuses.iter().rev() {
        sum.restarts += status.restarts();
        sum.last = sum.last.max(status.last_end());
        match (status.waiting(), status.terminated()) {
            ("", Some(state)) => sum.reason = ended("", state),
            ("", None) => {
                if status.flag("ready") && object::at(status.0, &["state", "running"]).is_some() {
                    runs = true;
                    sum.ready += 1;
                }
            }
            (reason, _) => reason.clone_into(&mut sum.reason),
        }
    }
    if sum.reason == "Completed" && runs {
        let ready = condition(pod, "Ready").is_some_and(|c| object::text(c, &["status"]) == "True");
        sum.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    object::items(pod, &["status", "conditions"]).find(|c| object::text(c, &["type"]) == kind)
}

/// The cells of a pod.
pub(crate) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let mut sum = summary(pod);
    if object::is_terminating(pod) {
        let phase = object::text(pod, &["status", "phase"]);
        if object::text(pod, &["status", "reason"]) == "NodeLost" {
            "Unknown".clone_into(&mut sum.reason);
        } else if !["Succeeded", "Failed"].contains(&phase) {
            "Terminating".clone_into(&mut sum.reason);
        }
    }
    let restarts = match sum.last {
        Some(last) if sum.restarts != 0 => {
            format!("{} ({} ago)", sum.restarts, column::duration(now.duration_since(last).as_secs()))
        }
        _ => sum.restarts.to_string(),
    };
    let ip = object::items(pod, &["status", "podIPs"]).next().map(|ip| object::text(ip, &["ip"]));
    vec![
        object::name(pod).into(),
        format!("{}/{}", sum.ready, sum.total).into(),
        sum.reason.into(),
        restarts.into(),
        column::age(pod, now),
        or_none(ip.unwrap_or_default()),
        or_none(object::text(pod, &["spec", "nodeName"])),
        or_none(object::text(pod, &["status", "nominatedNodeName"])),
        gates(pod),
    ]
}

fn gates(pod: &Value) -> Value {
    let wanted: Vec<&str> = object::items(pod, &["spec", "readinessGates"])
        .map(|g| object::text(g, &["conditionType"]))
        .collect();
    if wanted.is_empty() {
        return "<none>".into();
    }
    let holds = |kind: &&&str| condition(pod, kind).is_some_and(|c| object::text(c, &["status"]) == "True");
    format!("{}/{}", wanted.iter().filter(holds).count(), wanted.len()).into()
}

/// The cells of a `PodTemplate`.
pub(crate) fn template_cells(object: &Value, _now: Timestamp) -> Vec<Value> {
    let [names, images] = column::containers(&object["template"]["spec"]);
    let labels = column::labels(object::at(object, &["template", "metadata", "labels"]));
    vec![object::name(object).into(), names, images, labels.into()]
}
