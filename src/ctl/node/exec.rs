//! `cleat ctl exec`.

use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context, bail};
use proto_cri::ExecRequest;
use rustix::termios::isatty;
use serde_json::Value;
use stream::client::{self, Stdio};

use super::super::terminal::{Raw, sizes};
use super::{identity, items, text};
use crate::args::Exec;
use crate::node::Node;

pub(super) async fn run(node: &Node, namespace: &str, exec: Exec) -> anyhow::Result<ExitCode> {
    let pod = node.pod(namespace, &exec.pod).await?;
    let container_id = container_id(&pod, exec.container.as_deref())?;
    let stdin = std::io::stdin();
    let terminal = exec.tty && exec.stdin && isatty(&stdin);
    if exec.tty && !terminal {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let request = ExecRequest {
        container_id,
        cmd: exec.command,
        tty: terminal,
        stdin: exec.stdin,
        stdout: true,
        stderr: !terminal,
    };
    let url =
        node.runtime().await?.exec(request).await.map_err(|s| anyhow::anyhow!(s.message().to_owned()))?;
    let raw = terminal.then(|| Raw::enter(stdin.as_fd())).transpose().context("setting the terminal")?;
    let streams = Stdio {
        stdin: exec.stdin.then(|| Box::new(tokio::io::stdin()) as _),
        stdout: Some(Box::new(tokio::io::stdout())),
        stderr: Some(Box::new(tokio::io::stderr())),
        resize: terminal.then(sizes).transpose()?,
    };
    let code = client::command(&url.into_inner().url, streams).await;
    drop(raw);
    let code = code?;
    if code != 0 {
        eprintln!("command terminated with exit code {code}");
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The id of the named running container, or of the pod's first.
fn container_id(pod: &Value, wanted: Option<&str>) -> anyhow::Result<String> {
    let (name, _) = identity(pod);
    let status = &pod["status"];
    let mut all = items(&status["containerStatuses"]).iter().chain(items(&status["initContainerStatuses"]));
    let found = match wanted {
        Some(wanted) => all.find(|c| c["name"] == wanted),
        None => all.next(),
    };
    let Some(container) = found else {
        bail!("pod {name} has no container {}", wanted.unwrap_or("yet"));
    };
    if container["state"]["running"].is_null() {
        bail!(
            "container {} of pod {name} does not run; `cleat ctl describe pod {name}` says why",
            text(&container["name"])
        );
    }
    let id = text(&container["containerID"]);
    Ok(id.split_once("://").map_or(id, |(_, id)| id).to_owned())
}
