//! `cleat why`: one causal answer to why an object is not as it should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::bail;
use client::{Client, Config, Query};
use jiff::Timestamp;
use proto_kube::{GroupResource, Resource, object, resource, view::View};
use scheduler::{Decision, Pod, Snapshot};
use serde_json::Value;
use why::{Answer, Refusals, World, explain};

use crate::args::{Format, Why};
use crate::ctl;
use crate::output::{BOLD, age, paint};

/// How many nodes' reasons are printed; `--output json` has all.
const NODES: usize = 10;

/// The objects that the answer is drawn from, by plural, namespace and name.
#[derive(Default)]
struct Seen(BTreeMap<(&'static str, String, String), Arc<Value>>);

impl View for Seen {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let same =
            |key: &&(&str, String, String)| key.0 == resource.resource && key.1 == namespace && key.2 == name;
        self.0.iter().find(|(key, _)| same(key)).map(|(_, object)| object.clone())
    }

    fn list(&self, resource: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let of = |key: &(&str, String, String)| {
            key.0 == resource.resource && (namespace.is_empty() || key.1 == namespace)
        };
        self.0.iter().filter(|(key, _)| of(key)).map(|(_, object)| object.clone()).collect()
    }
}

pub(crate) async fn run(why: Why) -> anyhow::Result<()> {
    let Some(kubeconfig) = ctl::kubeconfig(&why.dirs, why.kubeconfig.as_deref())? else {
        bail!("no cluster is known here: name one with --kubeconfig, or its --data-dir");
    };
    let client =
        Client::new(&Config::load(&kubeconfig, None)?, concat!("cleat-why/", env!("CARGO_PKG_VERSION")))?;
    let (kind, name) = match why.object.as_slice() {
        [one] => one.split_once('/').unwrap_or(("", one)),
        [kind, name] => (kind.as_str(), name.as_str()),
        _ => bail!("one object, please: `TYPE NAME` or `TYPE/NAME`"),
    };
    let resource = match kind {
        "" if ctl::resource(name).is_ok() => bail!("which {name}? `cleat why {name}/NAME`"),
        "" => bail!("of which type is {name}? Such as `cleat why pod/{name}`"),
        kind => ctl::resource(kind)?,
    };
    let namespace = why.namespace.unwrap_or_else(|| client.namespace().to_owned());
    let namespace = if namespace.is_empty() { "default".to_owned() } else { namespace };
    let own = if resource.namespaced { namespace.as_str() } else { "" };
    let object = match client.get(resource, own, name).await {
        Err(error) if error.code() == Some(404) => {
            bail!("{error}{}", elsewhere(&client, resource, own, name).await)
        }
        found => found?,
    };
    let seen = look(&client, &namespace).await;
    let (now, refusals) = (Timestamp::now(), |pod: &Value| seen.refusals(pod));
    let answer = explain(&World { view: &seen, now, refusals: &refusals }, resource, &object);
    match why.output {
        Format::Json | Format::Yaml => why.output.print(&answer.to_json()),
        _ => {
            print(&answer, now);
            Ok(())
        }
    }
}

impl Seen {
    /// What our own scheduler would say now; another's is not ours to know, and without all nodes nobody knows.
    fn refusals(&self, pod: &Value) -> Refusals {
        let pod = Pod::new(Arc::new(pod.clone()));
        let decided = (pod.scheduler() == "default-scheduler")
            .then(|| scheduler::schedule(&Snapshot::of(self), self, &pod));
        match decided {
            Some(Decision::Unschedulable(refusal)) => {
                refusal.by_node.into_iter().map(|(node, reason)| (node, reason.words)).collect()
            }
            Some(Decision::Bind(_)) | None => Refusals::new(),
        }
    }
}

/// In which other namespaces there is an object of the name, for who has forgotten `-n`.
async fn elsewhere(client: &Client, resource: &Resource, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        return String::new();
    }
    let named = Query::default().with("fieldSelector", &format!("metadata.name={name}"));
    let all = client.list(resource, "", named).await.unwrap_or_default();
    let found: Vec<&str> = object::items(&all, &["items"]).map(object::namespace).collect();
    match found.as_slice() {
        [] => format!(" in namespace {namespace}"),
        found => format!(" in namespace {namespace}; there is one in {} (-n)", found.join(", ")),
    }
}

/// Everything that an answer may need. What may not be read is as if it were not there.
async fn look(client: &Client, namespace: &str) -> Seen {
    let find = |(group, plural): &(&'static str, &'static str)| {
        resource::preferred(GroupResource { group, resource: plural })
    };
    let lists = why::READS.iter().filter_map(find).map(|resource| read(client, resource, namespace));
    let mut seen = Seen::default();
    for (resource, list) in futures_util::future::join_all(lists).await {
        for item in object::items(&list, &["items"]) {
            let key = (resource.plural, object::namespace(item).to_owned(), object::name(item).to_owned());
            seen.0.insert(key, Arc::new(item.clone()));
        }
    }
    seen
}

async fn read<'a>(client: &Client, resource: &'a Resource, namespace: &str) -> (&'a Resource, Value) {
    let scope = match (resource.namespaced, resource.plural) {
        // Pods of all namespaces take room on nodes.
        (false, _) | (_, "pods") => "",
        // Nodes' leases have a namespace of their own.
        (_, "leases") => "kube-node-lease",
        _ => namespace,
    };
    let list = client.list(resource, scope, Query::default()).await;
    let list = match list {
        Err(_) if scope.is_empty() && resource.namespaced => {
            client.list(resource, namespace, Query::default()).await
        }
        list => list,
    };
    (resource, list.unwrap_or_default())
}

fn print(answer: &Answer, now: Timestamp) {
    for (depth, step) in answer.chain.iter().enumerate() {
        let lead = if depth == 0 { String::new() } else { format!("{}because ", "  ".repeat(depth)) };
        let since = step.since.map(|since| format!(" (for {})", age(now.as_second() - since.as_second())));
        println!("{lead}{} {}{}", paint(&step.object, BOLD), step.state, since.unwrap_or_default());
    }
    if let Some(next) = &answer.next {
        let at = next.at.map(|at| match at.as_second() - now.as_second() {
            ..=0 => ", any moment".to_owned(),
            seconds => format!(", in {}", age(seconds)),
        });
        println!("next: {} {}{}", paint(&next.on, BOLD), next.what, at.unwrap_or_default());
    }
    for (node, words) in answer.refusals.iter().take(NODES) {
        println!("  {node}: {}", words.join(", "));
    }
    if let Some(more @ 1..) = answer.refusals.len().checked_sub(NODES) {
        println!("  and {more} nodes more");
    }
    if !answer.said.is_empty() {
        println!("said last:");
    }
    for line in &answer.said {
        println!("  {line}");
    }
}
