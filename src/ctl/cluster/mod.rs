//! The daily verbs of a cluster.

mod apply;
mod change;
mod describe;
mod get;
mod kind;
mod streams;
mod wait;

pub(crate) use kind::find as resource;

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use client::{Client, Config, Query};
use proto_kube::Resource;
use serde_json::{Value, json};

use super::{items, text};
use crate::args::{Ctl, Format, Verb};

/// What we call ourselves.
const AGENT: &str = concat!("cleat-ctl/", env!("CARGO_PKG_VERSION"));
/// What changes are recorded under (`fieldManager`).
const MANAGER: &str = "cleat-ctl";

/// A cluster, and what holds for every verb.
pub(super) struct Cluster {
    client: Client,
    /// How it was reached.
    config: Config,
    namespace: String,
    output: Format,
}

/// Objects of one kind, as named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    resource: &'static Resource,
    name: String,
}

pub(super) async fn run(kubeconfig: &Path, ctl: Ctl) -> anyhow::Result<ExitCode> {
    let config = Config::load(kubeconfig, ctl.context.as_deref())?;
    let client = Client::new(&config, AGENT)?;
    let namespace = ctl.namespace.unwrap_or_else(|| client.namespace().to_owned());
    let cluster = Cluster { client, config, namespace, output: ctl.output };
    match ctl.verb {
        Verb::Get { kind, names, all_namespaces, select, watch } => {
            let namespace = if all_namespaces { "" } else { &cluster.namespace };
            get::run(&cluster, namespace, &kind, &names, &select, watch).await?;
        }
        Verb::Describe { object } => describe::run(&cluster, &object).await?,
        Verb::Create { files } => apply::create(&cluster, &files).await?,
        Verb::Apply { files, force } => apply::apply(&cluster, &files, force).await?,
        Verb::Delete(delete) => change::delete(&cluster, delete).await?,
        Verb::Label { words } => change::metadata(&cluster, "labels", &words).await?,
        Verb::Annotate { words } => change::metadata(&cluster, "annotations", &words).await?,
        Verb::Scale { object, replicas } => change::scale(&cluster, &object, replicas).await?,
        Verb::Patch { object, patch, kind } => change::patch(&cluster, &object, &patch, kind).await?,
        Verb::Wait { object, condition, timeout } => {
            wait::run(&cluster, &object, &condition, timeout).await?;
        }
        Verb::ApiResources => kind::list(&cluster),
        Verb::Logs(logs) => streams::logs(&cluster, &logs).await?,
        Verb::Exec(exec) => return streams::exec(&cluster, &exec).await,
        Verb::Attach(attach) => return streams::attach(&cluster, &attach).await,
        Verb::PortForward(forward) => streams::port_forward(&cluster, &forward).await?,
        Verb::Cp(copy) => streams::copy(&cluster, &copy).await?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Cluster {
    /// The namespace of a resource's requests: none where it has no namespaces.
    fn namespace_of<'a>(&self, resource: &Resource, namespace: &'a str) -> &'a str {
        if resource.namespaced { namespace } else { "" }
    }

    async fn object(&self, target: &Target) -> anyhow::Result<Value> {
        let namespace = self.namespace_of(target.resource, &self.namespace);
        Ok(self.client.get(target.resource, namespace, &target.name).await?)
    }

    /// Prints what became of an object: its name and a word for people, or itself for programs.
    fn done(&self, target: &Target, word: &str, object: &Value) -> anyhow::Result<()> {
        match self.output {
            Format::Table | Format::Wide => println!("{target} {word}"),
            Format::Name => println!("{target}"),
            Format::Json | Format::Yaml => self.output.print(object)?,
        }
        Ok(())
    }
}

/// As `deployment.apps/web`.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource.singular)?;
        if !self.resource.group.is_empty() {
            write!(f, ".{}", self.resource.group)?;
        }
        write!(f, "/{}", self.name)
    }
}

/// Both forms: `TYPE NAME…` and `TYPE/NAME…`.
fn targets(words: &[String]) -> anyhow::Result<Vec<Target>> {
    let one = |kind: &str, name: &str| Ok(Target { resource: kind::find(kind)?, name: name.to_owned() });
    match words {
        [] => bail!("which object? `TYPE NAME` or `TYPE/NAME`"),
        all if all.iter().all(|w| w.contains('/')) => {
            all.iter().filter_map(|w| w.split_once('/')).map(|(kind, name)| one(kind, name)).collect()
        }
        [kind, names @ ..] if !names.is_empty() => names.iter().map(|name| one(kind, name)).collect(),
        _ => bail!("which {}? name it: `{} NAME`", words[0], words[0]),
    }
}

/// The one object that was named.
fn target(words: &[String]) -> anyhow::Result<Target> {
    let mut all = targets(words)?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => bail!("one object, please: {words:?} names several"),
    }
}

fn managed(query: Query) -> Query {
    query.with("fieldManager", MANAGER).with("fieldValidation", "Strict")
}

/// Drops from an object what only server-side apply reads.
fn without_managers(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}

/// A list of the kind that `-o json` prints.
fn list(items: Vec<Value>) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_in_both_forms() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&w| w.to_owned()).collect();
            targets(&words).map(|t| t.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(&["pod", "a", "b"]).unwrap(), "pod/a pod/b");
        assert_eq!(names(&["po/a", "deploy/b"]).unwrap(), "pod/a deployment.apps/b");
        assert!(names(&[]).is_err());
        assert!(names(&["pod"]).unwrap_err().to_string().contains("which pod?"));
        assert!(names(&["nothing", "a"]).is_err());
        assert!(target(&["pod".into(), "a".into(), "b".into()]).is_err());
    }
}
