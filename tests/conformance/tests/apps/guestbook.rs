//! An application of several parts: a page, and a store with its replicas.

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, pod};
use serde_json::{Value, json};

use crate::workload::{of_template, ready_pods, template};

/// The page: writes an entry to the primary, and reads them from a replica, by the names of their services.
const PAGE: &str = r#"#!/bin/sh
echo "Content-Type: text/plain"
echo
case "$QUERY_STRING" in
    add=*) printf 'RPUSH guests %s\r\nQUIT\r\n' "${QUERY_STRING#add=}" | nc primary 6379;;
    *) printf 'LRANGE guests 0 -1\r\nQUIT\r\n' | nc replica 6379;;
esac"#;

/// A deployment and its service.
fn part(app: &str, replicas: usize, port: u32, container: Value) -> String {
    let mut pods = template(app, "");
    pods["spec"]["containers"] = json!([container]);
    let mut deployment = of_template("deployments", app, replicas, pods);
    deployment["apiVersion"] = "apps/v1".into();
    deployment["kind"] = "Deployment".into();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": app},
        "spec": {"selector": {"app": app}, "ports": [{"port": port}]}});
    format!("{deployment}\n---\n{service}\n---\n")
}

fn store(name: &str, more: &[&str]) -> Value {
    let command = [&["redis-server", "--protected-mode", "no", "--save", ""], more].concat();
    let probe = json!({"tcpSocket": {"port": 6379}, "periodSeconds": 1});
    json!({"name": name, "image": "redis:7.0", "command": command, "readinessProbe": probe})
}

pub(crate) async fn works(bed: Bed) -> Result<()> {
    let script = format!(
        "mkdir -p /www/cgi-bin; cat > /www/cgi-bin/page <<'END'\n{PAGE}\nEND\n\
        chmod +x /www/cgi-bin/page; exec httpd -f -h /www"
    );
    let page = json!({"name": "page", "image": "busybox:1.35", "command": ["sh", "-c", script],
        "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1}});
    let manifest = part("primary", 1, 6379, store("primary", &[]))
        + &part("replica", 2, 6379, store("replica", &["--replicaof", "primary", "6379"]))
        + &part("frontend", 2, 80, page);
    bed.kubectl(&["create", "-f", "-"], &manifest).await?;
    for (app, replicas) in [("primary", 1), ("replica", 2), ("frontend", 2)] {
        ready_pods(&bed, app, replicas).await?;
    }
    bed.ready(pod("guest", FOREVER)).await?;
    let ask = async |query: &str| {
        bed.sh("guest", &format!("timeout 20 wget -q -O - 'http://frontend/cgi-bin/page?{query}'")).await
    };
    let added = || async {
        let answer = ask("add=TestEntry").await?;
        ensure!(answer.starts_with(':'), "{answer}");
        Ok(())
    };
    bed.eventually("an entry", added).await?;
    let read = || async {
        let answer = ask("").await?;
        ensure!(answer.contains("TestEntry"), "{answer}");
        Ok(())
    };
    bed.eventually("the entry on a replica", read).await?;
    bed.kubectl(&["delete", "--grace-period=1", "-f", "-"], &manifest).await?;
    bed.delete("pods", "guest").await?;
    bed.until_all("pods", "", <[Value]>::is_empty).await?;
    Ok(())
}
