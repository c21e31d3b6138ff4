//! `cleat ctl describe`: an object as it is, without the noise, and what happened to it.

use client::Query;
use proto_kube::{object, resource};
use serde_json::Value;

use super::{Cluster, items, targets, text, without_managers};
use crate::args::Format;
use crate::output::{age_since, table};

pub(super) async fn run(cluster: &Cluster, words: &[String]) -> anyhow::Result<()> {
    for target in targets(words)? {
        let mut object = cluster.object(&target).await?;
        without_managers(&mut object);
        let format = if cluster.output == Format::Json { Format::Json } else { Format::Yaml };
        format.print(&object)?;
        if format == Format::Yaml {
            events(cluster, &object).await?;
        }
    }
    Ok(())
}

async fn events(cluster: &Cluster, object: &Value) -> anyhow::Result<()> {
    let Some(resource) = resource::find("", "v1", "events") else { return Ok(()) };
    let query =
        Query::default().with("fieldSelector", &format!("involvedObject.uid={}", object::uid(object)));
    let list = cluster.client.list(resource, object::namespace(object), query).await?;
    let row = |event: &Value| {
        let seen = [&event["lastTimestamp"], &event["eventTime"], &event["firstTimestamp"]];
        let seen = seen.into_iter().find_map(Value::as_str).unwrap_or_default();
        vec![
            text(&event["type"]).to_owned(),
            text(&event["reason"]).to_owned(),
            age_since(seen),
            text(&event["source"]["component"]).to_owned(),
            text(&event["message"]).trim().to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = items(&list["items"]).iter().map(row).collect();
    if rows.is_empty() {
        println!("# no events");
    } else {
        print!("# events\n{}", table(&["TYPE", "REASON", "AGE", "FROM", "MESSAGE"], &rows));
    }
    Ok(())
}
