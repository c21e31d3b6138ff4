//! A running node, as commands reach it: the agent's HTTP API and the CRI server, each on its Unix socket.

use std::path::Path;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use proto_cri::{image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient};
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::args::Dirs;
use crate::paths::Paths;

/// Replies of the CRI server may be as large as the kubelet lets them be.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The node whose directories were named on the command line.
pub(crate) struct Node {
    paths: Paths,
}

impl Node {
    pub(crate) fn new(dirs: &Dirs) -> anyhow::Result<Self> {
        Ok(Self { paths: Paths::resolve(dirs)? })
    }

    /// GETs a path of the agent's API; a status other than success is an error with the agent's text.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Incoming> {
        let socket = self.paths.agent_socket();
        let stream = connect(&socket).await.with_context(|| not_running(&socket, "agent"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = http::Request::get(path).header("host", "cleat").body(Empty::<Bytes>::new())?;
        let response =
            sender.send_request(request).await.with_context(|| format!("asking the agent for {path}"))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let text = response.into_body().collect().await?.to_bytes();
        bail!("{}", message(&text).unwrap_or_else(|| format!("the agent answered {status} to {path}")))
    }

    /// GETs JSON.
    pub(crate) async fn json(&self, path: &str) -> anyhow::Result<Value> {
        let body = self.get(path).await?.collect().await?.to_bytes();
        serde_json::from_slice(&body).with_context(|| format!("the agent's answer to {path} is not JSON"))
    }

    /// All pods of a namespace (`None`: of all), as the agent reports them.
    pub(crate) async fn pods(&self, namespace: Option<&str>) -> anyhow::Result<Vec<Value>> {
        let list = self.json("/pods").await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .into_iter()
            .filter(|pod| namespace.is_none_or(|wanted| pod["metadata"]["namespace"] == wanted))
            .collect())
    }

    /// One pod, by its name or, since the node appends its own name to those of static pods, by the name in its manifest.
    pub(crate) async fn pod(&self, namespace: &str, name: &str) -> anyhow::Result<Value> {
        let pods = self.pods(Some(namespace)).await?;
        let named = |pod: &&Value| {
            let full = pod["metadata"]["name"].as_str().unwrap_or_default();
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            full == name || full.strip_suffix(node).and_then(|f| f.strip_suffix('-')) == Some(name)
        };
        match pods.iter().find(named) {
            Some(pod) => Ok(pod.clone()),
            None => {
                bail!("pods {name:?} not found in namespace {namespace:?}; `cleat ctl get pods -A` lists all")
            }
        }
    }

    pub(crate) async fn runtime(&self) -> anyhow::Result<RuntimeServiceClient<Channel>> {
        Ok(RuntimeServiceClient::new(self.channel().await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn images(&self) -> anyhow::Result<ImageServiceClient<Channel>> {
        Ok(ImageServiceClient::new(self.channel().await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    async fn channel(&self) -> anyhow::Result<Channel> {
        let socket = self.paths.cri_socket();
        connect(&socket).await.with_context(|| not_running(&socket, "CRI server"))?;
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { connect(&socket).await.map(TokioIo::new) }
        });
        Ok(Endpoint::from_static("http://cri").connect_with_connector(connector).await?)
    }
}

/// Connects to a Unix socket whose path may be longer than the kernel's 107 bytes.
pub(crate) async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    UnixStream::connect(linux::socket::Short::of(socket)?.path()).await
}

fn not_running(socket: &Path, who: &str) -> String {
    format!(
        "no {who} answers on {}: is `cleat up` running, and with the same --data-dir or --run-dir?",
        socket.display()
    )
}

/// The message of a Status object, or the text itself.
fn message(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let status: Option<Value> = serde_json::from_str(text).ok();
    let message = status.as_ref().and_then(|s| s["message"].as_str()).unwrap_or(text);
    (!message.is_empty()).then(|| message.to_owned())
}
