//! Hooks of a container's life.

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, pod, with_container, with_spec};
use proto_kube::object::text;
use serde_json::{Value, json};

/// A pod that serves files and tells in its log what is asked for; gives its address and its node.
async fn server(bed: &Bed) -> Result<(String, String)> {
    let script = "mkdir -p /www/cgi-bin; cd /www; touch ready poststart prestop; \
        printf '#!/bin/sh\\necho; cat > /tmp/written' > cgi-bin/write; chmod +x cgi-bin/write; \
        exec httpd -f -vv -p 8080 -h /www";
    let probe = json!({"readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1}});
    let pod = bed.ready(with_container(pod("server", script), probe)).await?;
    Ok((text(&pod, &["status", "podIP"]).to_owned(), text(&pod, &["spec", "nodeName"]).to_owned()))
}

async fn heard(bed: &Bed, what: &str) -> Result<()> {
    let log = bed.logs("server", "c").await?;
    ensure!(log.contains(&format!("url:/{what}")), "the server did not hear of {what}: {log}");
    Ok(())
}

fn by_http(ip: &str, what: &str) -> Value {
    json!({"httpGet": {"host": ip, "port": 8080, "path": format!("/{what}")}})
}

fn by_exec(ip: &str, what: &str) -> Value {
    json!({"exec": {"command": ["wget", "-qO", "/dev/null", format!("http://{ip}:8080/{what}")]}})
}

/// A pod on the server's node, with hooks.
async fn hooked(bed: &Bed, node: &str, hooks: Value) -> Result<()> {
    let pod = with_spec(pod("p", FOREVER), json!({"nodeName": node, "terminationGracePeriodSeconds": 30}));
    bed.ready(with_container(pod, json!({"lifecycle": hooks}))).await.map(drop)
}

pub(crate) async fn post_start(bed: Bed, hook: fn(&str, &str) -> Value) -> Result<()> {
    let (ip, node) = server(&bed).await?;
    hooked(&bed, &node, json!({"postStart": hook(&ip, "poststart")})).await?;
    heard(&bed, "poststart").await
}

pub(crate) async fn pre_stop(bed: Bed, hook: fn(&str, &str) -> Value) -> Result<()> {
    let (ip, node) = server(&bed).await?;
    hooked(&bed, &node, json!({"preStop": hook(&ip, "prestop")})).await?;
    ensure!(heard(&bed, "prestop").await.is_err(), "the hook ran too early");
    bed.delete("pods", "p").await?;
    bed.gone("pods", "p").await?;
    heard(&bed, "prestop").await
}

/// Each of the four hooks: `hooks::by_http` or `hooks::by_exec` says how.
pub(crate) const HTTP: fn(&str, &str) -> Value = by_http;
pub(crate) const EXEC: fn(&str, &str) -> Value = by_exec;

/// A hook that changes what a server remembers.
pub(crate) async fn pre_stop_writes(bed: Bed) -> Result<()> {
    let (ip, node) = server(&bed).await?;
    let url = format!("http://{ip}:8080/cgi-bin/write");
    let post = json!(["wget", "-qO", "/dev/null", "--post-data", "prestop", url]);
    hooked(&bed, &node, json!({"preStop": {"exec": {"command": post}}})).await?;
    ensure!(bed.sh("server", "ls /tmp").await?.is_empty(), "the hook ran too early");
    bed.delete("pods", "p").await?;
    bed.gone("pods", "p").await?;
    let written = bed.sh("server", "cat /tmp/written").await?;
    ensure!(written == "prestop", "{written}");
    Ok(())
}
