//! `cleat ctl`: looking at the node in kubectl's words.

mod describe;
mod exec;
mod get;
mod logs;

use std::process::ExitCode;

use serde_json::Value;

pub(crate) use get::image_table;

use crate::args::{Ctl, Verb};
use crate::node::Node;

pub(crate) async fn run(ctl: Ctl) -> anyhow::Result<ExitCode> {
    let node = Node::new(&ctl.dirs)?;
    match ctl.verb {
        Verb::Get { kind, name, all_namespaces } => {
            let namespace = (!all_namespaces).then_some(ctl.namespace.as_str());
            get::run(&node, kind, namespace, name.as_deref(), ctl.output).await?;
        }
        Verb::Describe { object } => describe::run(&node, &ctl.namespace, &object, ctl.output).await?,
        Verb::Logs(logs) => logs::run(&node, &ctl.namespace, &logs).await?,
        Verb::Exec(exec) => return exec::run(&node, &ctl.namespace, exec).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// A pod's full name and its state in one line, for `cleat up`.
pub(crate) fn line(pod: &Value) -> (String, String) {
    let (name, namespace) = identity(pod);
    let ip = text(&pod["status"]["podIP"]);
    (
        format!("{namespace}/{name}"),
        format!("{} {} {ip}", get::ready(pod), get::summary(pod)).trim_end().to_owned(),
    )
}

/// The name and namespace of an object.
fn identity(object: &Value) -> (&str, &str) {
    (text(&object["metadata"]["name"]), text(&object["metadata"]["namespace"]))
}

/// A string, or nothing.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// An array's items, or none.
fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
