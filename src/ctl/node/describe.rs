//! `cleat ctl describe pod`: its state, what it waits for, and its events.

use std::fmt::Write;

use anyhow::bail;
use serde_json::{Value, json};

use super::get::{ago, summary};
use super::{identity, items, text};
use crate::args::Format;
use crate::node::Node;
use crate::output::table;

pub(super) async fn run(
    node: &Node,
    namespace: &str,
    object: &[String],
    format: Format,
) -> anyhow::Result<()> {
    let name = match object {
        [kind, name] if is_pod(kind) => name.as_str(),
        [one] => match one.split_once('/') {
            Some((kind, name)) if is_pod(kind) => name,
            _ => bail!("describe takes `pod NAME` or `pod/NAME`, not {one:?}"),
        },
        _ => bail!("describe knows pods: `cleat ctl describe pod NAME`"),
    };
    let pod = node.pod(namespace, name).await?;
    let (name, namespace) = identity(&pod);
    let events = node.json("/api/v1/events").await?;
    let of_pod = |event: &&Value| {
        let involved = &event["involvedObject"];
        involved["name"] == name && involved["namespace"] == namespace
    };
    let events: Vec<&Value> = items(&events["items"]).iter().filter(of_pod).collect();
    if matches!(format, Format::Json | Format::Yaml) {
        format.print(&json!({ "pod": pod, "events": events }))?;
    } else {
        print!("{}", describe(&pod, &events));
    }
    Ok(())
}

fn is_pod(kind: &str) -> bool {
    ["pod", "pods", "po"].contains(&kind)
}

fn describe(pod: &Value, events: &[&Value]) -> String {
    let (name, namespace) = identity(pod);
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let mut out = String::new();
    // One line a wait; aligned under the first.
    let waits =
        text(&pod["metadata"]["annotations"]["cleat.dev/waiting-for"]).replace('\n', "\n             ");
    let ips: Vec<&str> = items(&status["podIPs"]).iter().map(|ip| text(&ip["ip"])).collect();
    let lines = [
        ("Name", name.to_owned()),
        ("Namespace", namespace.to_owned()),
        ("Node", text(&spec["nodeName"]).to_owned()),
        ("Started", format!("{} ago", ago(&status["startTime"]))),
        ("Status", summary(pod)),
        ("Reason", text(&status["reason"]).to_owned()),
        ("Message", text(&status["message"]).to_owned()),
        ("IPs", ips.join(", ")),
        ("QoS Class", text(&status["qosClass"]).to_owned()),
        ("Restarts", text(&spec["restartPolicy"]).to_owned()),
        ("Waiting for", waits),
    ];
    for (label, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(out, "{:<13}{value}", format!("{label}:"));
    }
    for (title, specs, statuses) in [
        ("Init Containers", &spec["initContainers"], &status["initContainerStatuses"]),
        ("Containers", &spec["containers"], &status["containerStatuses"]),
    ] {
        if !items(specs).is_empty() {
            let _ = writeln!(out, "{title}:");
        }
        for spec in items(specs) {
            let status = items(statuses).iter().find(|s| s["name"] == spec["name"]).unwrap_or(&Value::Null);
            container(&mut out, spec, status);
        }
    }
    conditions(&mut out, items(&status["conditions"]));
    event_table(&mut out, events);
    out
}

fn container(out: &mut String, spec: &Value, status: &Value) {
    let _ = writeln!(out, "  {}:", text(&spec["name"]));
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "    {:<15}{value}", format!("{label}:"));
        }
    };
    line("Container ID", text(&status["containerID"]));
    line("Image", text(&spec["image"]));
    line("State", &state(&status["state"]));
    line("Last State", &state(&status["lastState"]));
    line("Ready", if status["ready"] == true { "True" } else { "False" });
    line("Restart Count", &status["restartCount"].as_u64().unwrap_or(0).to_string());
}

/// One line of a container's state: what it is, since when, and why.
fn state(state: &Value) -> String {
    if let Some(running) = state.get("running") {
        return format!("Running for {}", ago(&running["startedAt"]));
    }
    let detail = |of: &Value| {
        [text(&of["reason"]), text(&of["message"])]
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join(": ")
    };
    if let Some(waiting) = state.get("waiting") {
        return format!("Waiting ({})", detail(waiting));
    }
    match state.get("terminated") {
        Some(ended) => {
            format!(
                "Terminated {} ago, exit code {} ({})",
                ago(&ended["finishedAt"]),
                ended["exitCode"],
                detail(ended)
            )
        }
        None => String::new(),
    }
}

fn conditions(out: &mut String, conditions: &[Value]) {
    if conditions.is_empty() {
        return;
    }
    let row =
        |c: &Value| ["type", "status", "reason", "message"].map(|field| text(&c[field]).to_owned()).to_vec();
    let rows: Vec<_> = conditions.iter().map(row).collect();
    let _ = write!(out, "Conditions:\n{}", indent(&table(&["TYPE", "STATUS", "REASON", "MESSAGE"], &rows)));
}

fn event_table(out: &mut String, events: &[&Value]) {
    if events.is_empty() {
        out.push_str("Events: <none>\n");
        return;
    }
    let row = |event: &&Value| {
        let count = event["count"].as_u64().unwrap_or(1);
        let mut age = ago(&event["lastTimestamp"]);
        if count > 1 {
            age += &format!(" (x{count} over {})", ago(&event["firstTimestamp"]));
        }
        vec![
            text(&event["type"]).to_owned(),
            text(&event["reason"]).to_owned(),
            age,
            text(&event["message"]).to_owned(),
        ]
    };
    let rows: Vec<_> = events.iter().map(row).collect();
    let _ = write!(out, "Events:\n{}", indent(&table(&["TYPE", "REASON", "AGE", "MESSAGE"], &rows)));
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_why_a_pod_waits() {
        let pod = json!({
            "metadata": { "name": "web-n", "namespace": "default",
                "annotations": { "cleat.dev/waiting-for": "nginx: image nginx:1\nnext try in 10s" } },
            "spec": { "nodeName": "n", "containers": [{ "name": "nginx", "image": "nginx:1" }] },
            "status": { "phase": "Pending", "containerStatuses": [
                { "name": "nginx", "state": { "waiting": { "reason": "ErrImagePull", "message": "no such host" } } }] },
        });
        let event = json!({ "type": "Warning", "reason": "Failed", "message": "no such host", "count": 1 });
        let text = describe(&pod, &[&event]);
        assert!(text.contains("State:         Waiting (ErrImagePull: no such host)"), "{text}");
        assert!(text.contains("Warning   Failed"), "{text}");
        let waits = "Waiting for: nginx: image nginx:1\n             next try in 10s\n";
        assert!(text.contains(waits), "{text}");
    }
}
