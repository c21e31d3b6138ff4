//! A node without a cluster: what its agent and its CRI server tell.

mod describe;
mod exec;
mod get;
mod logs;

use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use serde_json::Value;

pub(crate) use get::image_table;

use super::{identity, items, text};
use crate::args::{Ctl, Kind, Verb};
use crate::node::Node;

/// Whether no API server has it: containers and images.
pub(super) fn knows_alone(kind: &str) -> bool {
    matches!(Kind::from_str(kind, true), Ok(Kind::Containers | Kind::Images))
}

pub(super) async fn run(node: &Node, ctl: Ctl) -> anyhow::Result<ExitCode> {
    let namespace = ctl.namespace.as_deref().unwrap_or("default");
    match ctl.verb {
        Verb::Get { kind, names, all_namespaces, .. } => {
            let Ok(kind) = Kind::from_str(&kind, true) else {
                bail!("without a cluster there are pods, containers and images, not {kind:?}");
            };
            let namespace = (!all_namespaces).then_some(namespace);
            match names.as_slice() {
                [] => get::run(node, kind, namespace, None, ctl.output).await?,
                names => {
                    for name in names {
                        get::run(node, kind, namespace, Some(name), ctl.output).await?;
                    }
                }
            }
        }
        Verb::Describe { object } => describe::run(node, namespace, &object, ctl.output).await?,
        Verb::Logs(logs) => logs::run(node, namespace, &logs).await?,
        Verb::Exec(exec) => return exec::run(node, namespace, exec).await,
        _ => bail!(
            "this needs a cluster: name one with --kubeconfig or KUBECONFIG, or start one with `cleat control`"
        ),
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
