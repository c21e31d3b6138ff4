//! `cleat ctl logs`.

use anyhow::bail;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{identity, items, text};
use crate::args::Logs;
use crate::node::Node;

pub(super) async fn run(node: &Node, namespace: &str, logs: &Logs) -> anyhow::Result<()> {
    let pod = node.pod(namespace, &logs.pod).await?;
    let container = container(&pod, logs.container.as_deref())?;
    let mut body = node.get(&path(&pod, container, logs)).await?;
    let mut out = tokio::io::stdout();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            out.write_all(&data).await?;
            out.flush().await?;
        }
    }
    Ok(())
}

fn path(pod: &Value, container: &str, logs: &Logs) -> String {
    let (name, namespace) = identity(pod);
    let mut path = format!("/containerLogs/{namespace}/{name}/{container}?");
    for (flag, set) in [("follow", logs.follow), ("previous", logs.previous), ("timestamps", logs.timestamps)]
    {
        if set {
            path += &format!("{flag}=true&");
        }
    }
    for (option, value) in [("tailLines", logs.tail), ("sinceSeconds", logs.since)] {
        if let Some(value) = value {
            path += &format!("{option}={value}&");
        }
    }
    path.pop();
    path
}

/// The named container of a pod, or the only one.
pub(super) fn container<'a>(pod: &'a Value, wanted: Option<&str>) -> anyhow::Result<&'a str> {
    let spec = &pod["spec"];
    let own = items(&spec["containers"]);
    let (name, _) = identity(pod);
    let mut all = own.iter().chain(items(&spec["initContainers"])).map(|c| text(&c["name"]));
    match wanted {
        Some(wanted) => match all.clone().find(|name| *name == wanted) {
            Some(found) => Ok(found),
            None => bail!(
                "container {wanted} is not valid for pod {name}; it has: {}",
                all.collect::<Vec<_>>().join(", ")
            ),
        },
        None if own.len() == 1 => Ok(text(&own[0]["name"])),
        None => bail!(
            "a container name must be specified for pod {name}, choose one with -c: {}",
            all.by_ref().collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_carry_what_was_asked() {
        let pod = json!({ "metadata": { "name": "web-n", "namespace": "default" } });
        let asked = Logs {
            pod: "web".into(),
            container: None,
            follow: true,
            previous: false,
            tail: Some(5),
            since: None,
            timestamps: true,
        };
        assert_eq!(
            path(&pod, "c", &asked),
            "/containerLogs/default/web-n/c?follow=true&timestamps=true&tailLines=5"
        );
        let plain = Logs { follow: false, tail: None, timestamps: false, ..asked };
        assert_eq!(path(&pod, "c", &plain), "/containerLogs/default/web-n/c");
    }

    #[test]
    fn one_container_needs_no_name() {
        let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "a" }, { "name": "b" }], "initContainers": [{ "name": "i" }] } });
        assert_eq!(container(&pod, Some("i")).unwrap(), "i");
        assert!(container(&pod, None).unwrap_err().to_string().ends_with("a, b, i"));
        assert!(container(&pod, Some("x")).unwrap_err().to_string().contains("it has: a, b, i"));
    }
}
