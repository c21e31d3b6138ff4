//! `cleat ctl`: the daily verbs, for those without kubectl. Of a cluster where there is one, else of the node alone.

mod cluster;
mod node;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use serde_json::Value;

pub(crate) use cluster::resource;
pub(crate) use node::{image_table, line};

use crate::args::{Ctl, Dirs, Verb};
use crate::node::Node;
use crate::paths::Paths;

pub(crate) async fn run(ctl: Ctl) -> anyhow::Result<ExitCode> {
    // What only the node knows.
    if let Verb::Get { kind, .. } = &ctl.verb
        && node::knows_alone(kind)
    {
        return node::run(&Node::new(&ctl.dirs)?, ctl).await;
    }
    match kubeconfig(&ctl.dirs, ctl.kubeconfig.as_deref())? {
        Some(kubeconfig) => cluster::run(&kubeconfig, ctl).await,
        None => node::run(&Node::new(&ctl.dirs)?, ctl).await,
    }
}

/// The cluster that was meant: the one of `--kubeconfig`, of the directories named, of `KUBECONFIG`, or of this machine.
pub(crate) fn kubeconfig(dirs: &Dirs, named: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(file) = named {
        return Ok(Some(file.to_owned()));
    }
    let own = Paths::resolve(dirs)?.admin_kubeconfig();
    if own.exists() {
        return Ok(Some(own));
    }
    let elsewhere = dirs.data_dir.is_none() && dirs.run_dir.is_none();
    let user = std::env::var("KUBECONFIG").ok().filter(|v| !v.is_empty() && elsewhere);
    match user.and_then(|list| client::Config::path(Some(&list), None)) {
        Some(file) if !file.exists() => bail!("KUBECONFIG: {} is not there", file.display()),
        file => Ok(file),
    }
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
