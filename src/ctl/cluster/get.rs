//! `cleat ctl get`: the server draws the tables.

use anyhow::bail;
use client::{Query, WatchEvent};
use http::Method;
use proto_kube::Resource;
use serde_json::Value;

use super::{Cluster, Target, items, kind, list, text, without_managers};
use crate::args::{Format, Select};
use crate::output::table;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

pub(super) async fn run(
    cluster: &Cluster,
    namespace: &str,
    words: &str,
    names: &[String],
    select: &Select,
    watch: bool,
) -> anyhow::Result<()> {
    let (resources, names) = match words.split_once('/') {
        Some((word, name)) => (vec![kind::find(word)?], vec![name.to_owned()]),
        None => (kind::find_all(words)?, names.to_vec()),
    };
    if watch {
        let [resource] = resources.as_slice() else {
            bail!("a watch is of one resource type, not {words:?}")
        };
        return follow(cluster, resource, namespace, &names, select).await;
    }
    if !names.is_empty() && resources.len() > 1 {
        bail!("names are of one resource type, not {words:?}");
    }
    match cluster.output {
        Format::Json | Format::Yaml => documents(cluster, &resources, namespace, &names, select).await,
        Format::Name => {
            for resource in resources {
                for object in objects(cluster, resource, namespace, &names, select).await? {
                    let name = proto_kube::object::name(&object).to_owned();
                    println!("{}", Target { resource, name });
                }
            }
            Ok(())
        }
        Format::Table | Format::Wide => tables(cluster, &resources, namespace, &names, select).await,
    }
}

fn query(select: &Select) -> Query {
    let selector = |s: &Option<String>| s.clone().unwrap_or_default();
    Query::default()
        .with("labelSelector", &selector(&select.selector))
        .with("fieldSelector", &selector(&select.field_selector))
}

async fn objects(
    cluster: &Cluster,
    resource: &'static Resource,
    namespace: &str,
    names: &[String],
    select: &Select,
) -> anyhow::Result<Vec<Value>> {
    let namespace = cluster.namespace_of(resource, namespace);
    if names.is_empty() {
        let mut list = cluster.client.list(resource, namespace, query(select)).await?;
        let Value::Array(mut all) = list["items"].take() else { return Ok(Vec::new()) };
        for object in &mut all {
            // Items of a list do not say what they are.
            proto_kube::object::default(object, "apiVersion", resource.api_version());
            proto_kube::object::default(object, "kind", resource.kind);
        }
        return Ok(all);
    }
    let mut found = Vec::new();
    for name in names {
        found.push(cluster.client.get(resource, namespace, name).await?);
    }
    Ok(found)
}

async fn documents(
    cluster: &Cluster,
    resources: &[&'static Resource],
    namespace: &str,
    names: &[String],
    select: &Select,
) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for resource in resources {
        all.extend(objects(cluster, resource, namespace, names, select).await?);
    }
    all.iter_mut().for_each(without_managers);
    match (names, all.len()) {
        ([_], 1) => cluster.output.print(&all[0]),
        _ => cluster.output.print(&list(all)),
    }
}

async fn tables(
    cluster: &Cluster,
    resources: &[&'static Resource],
    namespace: &str,
    names: &[String],
    select: &Select,
) -> anyhow::Result<()> {
    let mut shown = 0;
    for resource in resources {
        let scope = cluster.namespace_of(resource, namespace);
        let mut rows = Vec::new();
        let mut header = Vec::new();
        let query = query(select);
        let paths = match names {
            [] => vec![format!("{}{query}", resource.path(scope, ""))],
            names => names.iter().map(|name| resource.path(scope, name)).collect(),
        };
        for path in paths {
            let answer = cluster.client.bytes(Method::GET, &path, None, TABLE).await?;
            let answer: Value = serde_json::from_slice(&answer)?;
            let drawn = Drawn {
                wide: cluster.output == Format::Wide,
                namespaces: resource.namespaced && namespace.is_empty(),
            };
            header = drawn.header(&answer);
            rows.extend(items(&answer["rows"]).iter().map(|row| drawn.row(&answer, row)));
        }
        if rows.is_empty() {
            continue;
        }
        if resources.len() > 1 {
            for row in &mut rows {
                let name = usize::from(header.first().is_some_and(|h| h == "NAMESPACE"));
                row[name] = Target { resource, name: row[name].clone() }.to_string();
            }
        }
        if shown > 0 {
            println!();
        }
        shown += rows.len();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        print!("{}", table(&header, &rows));
    }
    if shown == 0 {
        let place = if namespace.is_empty() { String::new() } else { format!(" in {namespace} namespace") };
        eprintln!("No resources found{place}.");
    }
    Ok(())
}

/// Which columns of a server's table are shown.
struct Drawn {
    wide: bool,
    namespaces: bool,
}

impl Drawn {
    fn shows(&self, column: &Value) -> bool {
        self.wide || column["priority"].as_i64().unwrap_or(0) == 0
    }

    fn header(&self, table: &Value) -> Vec<String> {
        let columns = items(&table["columnDefinitions"]).iter().filter(|c| self.shows(c));
        let names = columns.map(|c| text(&c["name"]).to_uppercase());
        self.namespaces.then(|| "NAMESPACE".to_owned()).into_iter().chain(names).collect()
    }

    fn row(&self, table: &Value, row: &Value) -> Vec<String> {
        let columns = items(&table["columnDefinitions"]).iter().zip(items(&row["cells"]));
        let cells = columns.filter(|(c, _)| self.shows(c)).map(|(_, cell)| match cell {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        });
        let namespace = text(&row["object"]["metadata"]["namespace"]).to_owned();
        self.namespaces.then_some(namespace).into_iter().chain(cells).collect()
    }
}

/// Prints objects as they are and then as they change, one line each.
async fn follow(
    cluster: &Cluster,
    resource: &'static Resource,
    namespace: &str,
    names: &[String],
    select: &Select,
) -> anyhow::Result<()> {
    let mut query = query(select);
    match names {
        [] => {}
        [name] => query = query.with("fieldSelector", &format!("metadata.name={name}")),
        _ => bail!("a watch is of one object or of all"),
    }
    let scope = cluster.namespace_of(resource, namespace);
    let mut watch = cluster.client.watch(resource, scope, query).await?;
    while let Some(event) = watch.next().await? {
        let (word, object) = match event {
            WatchEvent::Added(object) => ("added", object),
            WatchEvent::Modified(object) => ("modified", object),
            WatchEvent::Deleted(object) => ("deleted", object),
            WatchEvent::Bookmark(_) => continue,
        };
        let name = proto_kube::object::name(&object).to_owned();
        cluster.done(&Target { resource, name }, word, &object)?;
    }
    Ok(())
}
