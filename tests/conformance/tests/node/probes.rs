//! Liveness and readiness.

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, condition, pod, with_container, with_spec};
use proto_kube::object::{text, time};
use serde_json::{Value, json};

/// A server that is healthy for so many probes; each of them stands in `/tmp/probes`.
fn served(times: usize) -> String {
    format!(
        "mkdir -p /www/cgi-bin; \
        printf '#!/bin/sh\\necho x >> /tmp/probes\\n[ $(wc -l < /tmp/probes) -le {times} ] || echo Status: 500 no\\necho\\n' \
            > /www/cgi-bin/healthz; chmod +x /www/cgi-bin/healthz; exec httpd -f -p 8080 -h /www"
    )
}

/// The http probe of [`served`].
fn by_http() -> Value {
    json!({"httpGet": {"path": "/cgi-bin/healthz", "port": 8080}})
}

/// A pod that is started again when the probe has failed.
fn lives(script: &str, probe: Value) -> Value {
    let often =
        json!({"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 30, "initialDelaySeconds": 1});
    let pod = with_container(pod("p", script), json!({"livenessProbe": often}));
    with_spec(with_container(pod, json!({"livenessProbe": probe})), json!({"restartPolicy": "Always"}))
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0)
}

/// So many probes have been made, and the container was not restarted for any.
async fn stays(bed: Bed, pod: Value) -> Result<()> {
    bed.ready(pod).await?;
    bed.eventually("five probes", || async {
        let probes = bed.sh("p", "wc -l < /tmp/probes").await?;
        ensure!(probes.parse::<usize>()? >= 5, "{probes}");
        Ok(())
    })
    .await?;
    let count = restarts(&bed.get("pods", "p").await?);
    ensure!(count == 0, "{count} restarts");
    Ok(())
}

/// The container is restarted, so many times; the count never falls.
async fn restarted(bed: Bed, pod: Value, times: i64) -> Result<()> {
    bed.create("pods", pod).await?;
    for wanted in 1..=times {
        let pod = bed.until("pods", "p", |pod| restarts(pod) >= wanted).await?;
        ensure!(restarts(&pod) == wanted, "{} restarts after {}", restarts(&pod), wanted - 1);
    }
    Ok(())
}

pub(crate) async fn http_stays(bed: Bed) -> Result<()> {
    stays(bed, lives(&served(1_000_000), by_http())).await
}

pub(crate) async fn exec_stays(bed: Bed) -> Result<()> {
    let script = format!("echo ok > /tmp/health; {FOREVER}");
    stays(
        bed,
        lives(
            &script,
            json!({"exec": {"command": ["sh", "-c", "cat /tmp/health && echo x >> /tmp/probes"]}}),
        ),
    )
    .await
}

/// What is asked by HTTP is refused, but the port is open.
pub(crate) async fn tcp_stays(bed: Bed) -> Result<()> {
    let script = "exec nc -ll -p 8080 -e sh -c 'echo x >> /tmp/probes; echo HTTP/1.0 500 no'";
    stays(bed, lives(script, json!({"tcpSocket": {"port": 8080}}))).await
}

pub(crate) async fn http_restarts(bed: Bed) -> Result<()> {
    restarted(bed, lives(&served(3), by_http()), 1).await
}

/// The delays between the restarts grow: the last is 80 seconds long.
pub(crate) async fn http_restarts_often(bed: Bed) -> Result<()> {
    restarted(bed, lives(&served(1), by_http()), 5).await
}

pub(crate) async fn exec_restarts(bed: Bed) -> Result<()> {
    let script = format!("echo ok > /tmp/health; sleep 3; rm /tmp/health; {FOREVER}");
    restarted(bed, lives(&script, json!({"exec": {"command": ["cat", "/tmp/health"]}})), 1).await
}

/// An nginx that answers the calls of the gRPC health protocol: it serves (the message is field 1 = 1).
const GRPC: &str = "printf '\\0\\0\\0\\0\\2\\10\\1' > /tmp/serving; cat > /tmp/conf <<'END'
error_log /dev/stderr notice;
pid /tmp/pid;
events { }
http {
    access_log /tmp/probes;
    server {
        listen 5000 http2;
        error_page 405 =200 /serving;
        location /grpc.health.v1.Health/Check { root /; default_type application/grpc; return 405; }
        location /serving { root /tmp; default_type application/grpc; add_trailer grpc-status 0 always; }
    }
}
END
exec nginx -g 'daemon off;' -c /tmp/conf";

fn grpc(port: u16) -> Value {
    with_container(lives(GRPC, json!({"grpc": {"port": port}})), json!({"image": "nginx:1.22"}))
}

pub(crate) async fn grpc_stays(bed: Bed) -> Result<()> {
    stays(bed, grpc(5000)).await
}

/// Nobody listens on the port of the probe.
pub(crate) async fn grpc_restarts(bed: Bed) -> Result<()> {
    restarted(bed, grpc(2333), 1).await
}

pub(crate) async fn ready_after_delay(bed: Bed) -> Result<()> {
    const DELAY_SECONDS: i64 = 5;
    let probe =
        json!({"exec": {"command": ["true"]}, "initialDelaySeconds": DELAY_SECONDS, "periodSeconds": 1});
    let pod = bed.ready(with_container(pod("p", FOREVER), json!({"readinessProbe": probe}))).await?;
    let started = time(&pod["status"]["containerStatuses"][0], &["state", "running", "startedAt"]);
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.filter(|c| c["type"] == "Ready").find_map(|c| time(c, &["lastTransitionTime"]));
    let waited = started.zip(ready).map(|(started, ready)| ready.as_second() - started.as_second());
    // Both times are cut to whole seconds.
    ensure!(waited >= Some(DELAY_SECONDS - 1), "ready after {waited:?} s");
    ensure!(restarts(&pod) == 0, "{} restarts", restarts(&pod));
    Ok(())
}

pub(crate) async fn never_ready(bed: Bed) -> Result<()> {
    let probe =
        json!({"exec": {"command": ["sh", "-c", "echo x >> /tmp/probes; false"]}, "periodSeconds": 1});
    bed.create("pods", with_container(pod("p", FOREVER), json!({"readinessProbe": probe}))).await?;
    bed.eventually("five probes", || async {
        let probes = bed.sh("p", "wc -l < /tmp/probes").await?;
        let pod = bed.get("pods", "p").await?;
        ensure!(probes.parse::<usize>()? >= 5, "{probes}");
        Ok(pod)
    })
    .await?;
    let pod = bed.get("pods", "p").await?;
    let never = condition(&pod, "Ready") == "False" && restarts(&pod) == 0;
    ensure!(never && text(&pod, &["status", "phase"]) == "Running", "{:#}", pod["status"]);
    Ok(())
}
