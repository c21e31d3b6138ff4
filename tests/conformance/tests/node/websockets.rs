//! Commands and logs over a websocket.

use anyhow::{Context, Result, ensure};
use client::{Config, Connection};
use conformance::{Bed, FOREVER, PATIENCE, of, pod};
use futures_util::StreamExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};

/// Asks for something below a pod by a websocket of a protocol, and gives the messages that come until `enough` of them.
async fn messages(
    bed: &Bed,
    what: &str,
    protocol: &str,
    enough: fn(&[Vec<u8>]) -> bool,
) -> Result<Vec<Vec<u8>>> {
    let config = Config::load(&bed.cluster.node(0).data().join("control/admin.kubeconfig"), None)?;
    let Connection { socket, authority, headers } = Connection::open(&config, "conformance/1").await?;
    let path = of("pods").path(&bed.namespace, "p");
    let mut request = format!("ws://{authority}{path}/{what}").into_client_request()?;
    request.headers_mut().extend(headers);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocol)?);
    let (mut socket, answer) = tokio_tungstenite::client_async(request, socket).await?;
    let chosen = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    ensure!(chosen == Some(protocol), "the server speaks {chosen:?}");
    let mut all = Vec::new();
    let reading = async {
        while !enough(&all) {
            match socket.next().await.transpose()? {
                Some(message) if !message.is_close() => all.push(message.into_data().to_vec()),
                _ => break,
            }
        }
        anyhow::Ok(all)
    };
    timeout(PATIENCE, reading).await.context("the websocket is silent")?
}

pub(crate) async fn exec(bed: Bed) -> Result<()> {
    bed.ready(pod("p", FOREVER)).await?;
    let command = "exec?stdout=1&stderr=1&command=echo&command=remote&command=execution";
    // The first byte is the channel: 1 is the standard output.
    let output = |all: &[Vec<u8>]| -> Vec<u8> {
        all.iter().filter(|m| m.first() == Some(&1)).flat_map(|m| m[1..].to_vec()).collect()
    };
    let all =
        messages(&bed, command, "v4.channel.k8s.io", |all| all.iter().any(|m| m.first() == Some(&3))).await?;
    let output = output(&all);
    ensure!(output == b"remote execution\n", "{:?}", String::from_utf8_lossy(&output));
    Ok(())
}

pub(crate) async fn logs(bed: Bed) -> Result<()> {
    bed.ends(pod("p", "echo container is alive")).await?;
    let all = messages(&bed, "log?container=c", "binary.k8s.io", |_| false).await?.concat();
    ensure!(all == b"container is alive\n", "{:?}", String::from_utf8_lossy(&all));
    Ok(())
}
