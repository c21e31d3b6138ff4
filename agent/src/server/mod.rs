//! The kubelet's API: on the agent's own Unix socket for whoever may open that, and on the node's port over HTTPS for
//! whom the cluster lets in.
//!
//! ```text
//!   https ─> TLS ─> auth: who, may he ─┐
//!   unix ──────────────────────────────┴─> answer: pods, logs, stats, metrics
//!                                                  session: exec, attach, port-forward, through to the CRI server's URL
//! ```

mod auth;
mod https;
mod reply;
mod session;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proto_cri as cri;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use auth::Authorization;
pub use https::Serving;
pub(crate) use https::bind;
pub(crate) use reply::{Body, Refused};

use crate::cri::{CALL, within};
use crate::effect::Effects;
use crate::labels;
use crate::logs;
use crate::stats::{self, metrics, summary};
use crate::sync::{PodEntry, View};
use reply::{figures, json_reply, refusal, text};

/// Before accepting again when no descriptor was left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What requests are answered from.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) effects: Arc<Effects>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    /// What was measured last.
    pub(crate) memory: Arc<stats::Memory>,
}

impl Server {
    /// Answers on a Unix socket until told to stop. Who may open it may do everything.
    pub(crate) async fn run(self, listener: UnixListener, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = stream else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let server = self.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                // A client that hangs up is no concern of ours.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    }

    /// Answers a request that may be made.
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        self.found(request).await.unwrap_or_else(|refused| refusal(&refused))
    }

    async fn found(&self, request: Request<Body>) -> Result<Response<Body>, Refused> {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        let parts: Vec<String> = path.split('/').skip(1).map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["exec" | "attach" | "portForward" | "run", ..] => {
                return session::answer(self, &parts, request).await;
            }
            ["checkpoint", ..] => {
                let why = "checkpoints are not supported by this node's agent";
                return Err(Refused::new(StatusCode::NOT_IMPLEMENTED, why));
            }
            ["logs", ..] => {
                return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled."));
            }
            _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
                return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"));
            }
            _ => {}
        }
        match parts.as_slice() {
            ["healthz"] | ["healthz", "ping" | "log"] => Ok(text("ok")),
            ["healthz", "syncloop"] if self.view.borrow().ready => Ok(text("ok")),
            ["healthz", "syncloop"] => Err(Refused::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the CRI server has not been looked at yet",
            )),
            ["pods"] => Ok(json_reply(&self.ready()?.list())),
            ["runningpods"] => Ok(json_reply(&self.running().await?)),
            ["configz"] => Ok(json_reply(&self.configuration())),
            ["stats", "summary"] => {
                let small = pairs(request.uri().query().unwrap_or_default())
                    .iter()
                    .any(|(name, value)| name == "only_cpu_and_memory" && value == "true");
                Ok(json_reply(&summary::summary(&self.sample(!small).await?, small)))
            }
            ["metrics"] => self.own_metrics().await.map(figures),
            ["metrics", "resource"] => Ok(figures(metrics::resource(self.sample(false).await.ok().as_ref()))),
            ["metrics", "cadvisor"] => Ok(figures(metrics::cadvisor(&self.sample(false).await?))),
            ["metrics", "probes"] => {
                Err(Refused::new(StatusCode::NOT_IMPLEMENTED, "this node's agent keeps no figures of probes"))
            }
            ["api", "v1", "events"] => Ok(json_reply(&self.effects.events.list())),
            ["containerLogs", namespace, pod, container] => {
                let query = request.uri().query().unwrap_or_default();
                logs::read(self, namespace, pod, container, query).await.map(text)
            }
            _ => Err(Refused::new(StatusCode::NOT_FOUND, "404 page not found")),
        }
    }

    /// What there is, once there is something.
    fn ready(&self) -> Result<Arc<View>, Refused> {
        let view = self.view.borrow().clone();
        let why = "the agent is waiting for the CRI server; try again in a moment";
        if view.ready { Ok(view) } else { Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, why)) }
    }

    /// A pod by its name; one of a manifest also by the name that it has there.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<PodEntry> {
        let node = format!("-{}", self.effects.config.node_name);
        let named = |entry: &&PodEntry| {
            let own = agent_core::pod::name(&entry.pod);
            agent_core::pod::namespace(&entry.pod) == namespace
                && (own == name || own.strip_suffix(&node) == Some(name))
        };
        self.view.borrow().pods.iter().rev().find(named).cloned()
    }

    /// The pods of which the runtime has something that runs, with no more than is known of them there.
    async fn running(&self) -> Result<serde_json::Value, Refused> {
        let containers = session::running(self, [].into()).await?;
        let mut pods: std::collections::BTreeMap<String, serde_json::Value> = Default::default();
        for container in containers {
            let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
            let image = container.image.as_ref().map(|i| i.image.clone()).unwrap_or_default();
            let pod = pods.entry(label(labels::POD_UID)).or_insert_with(|| {
                json!({
                    "metadata": {"name": label(labels::POD_NAME), "namespace": label(labels::POD_NAMESPACE),
                        "uid": label(labels::POD_UID), "creationTimestamp": null},
                    "spec": {"containers": []}, "status": {},
                })
            });
            if let Some(list) = pod["spec"]["containers"].as_array_mut() {
                list.push(json!({"name": label(labels::CONTAINER_NAME), "image": image, "resources": {}}));
            }
        }
        let items: Vec<_> = pods.into_values().collect();
        Ok(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    /// Figures of this moment; those of volumes and logs on demand.
    async fn sample(&self, sizes: bool) -> Result<stats::Sample, Refused> {
        let view = self.view.borrow().clone();
        Ok(stats::sample(&self.effects, &view, &self.memory, sizes).await?)
    }

    async fn own_metrics(&self) -> Result<String, Refused> {
        let list = cri::ListContainersRequest { filter: None };
        let all = within(CALL, self.effects.cri.runtime.clone().list_containers(list)).await?.containers;
        let own: Vec<_> = all.into_iter().filter(|c| c.labels.contains_key(labels::POD_UID)).collect();
        let of = |state: cri::ContainerState| own.iter().filter(|c| c.state() == state).count();
        let pods: std::collections::BTreeSet<_> = own
            .iter()
            .filter(|c| c.state() == cri::ContainerState::ContainerRunning)
            .map(|c| &c.pod_sandbox_id)
            .collect();
        let states = [
            ("created", of(cri::ContainerState::ContainerCreated)),
            ("exited", of(cri::ContainerState::ContainerExited)),
            ("running", of(cri::ContainerState::ContainerRunning)),
            ("unknown", of(cri::ContainerState::ContainerUnknown)),
        ];
        Ok(metrics::own(&self.effects.config.node_name, pods.len(), &states))
    }

    /// The agent's configuration, as far as a `KubeletConfiguration` has words for it.
    fn configuration(&self) -> serde_json::Value {
        let config = &self.effects.config;
        let serving = config.serving.as_ref();
        json!({"kubeletconfig": {
            "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": serving.map(|s| s.listen.ip()), "port": *self.effects.port.borrow(),
            "authentication": {"anonymous": {"enabled": serving.is_some_and(|s| s.anonymous)},
                "webhook": {"enabled": serving.is_some_and(|s| s.tokens)}},
            "authorization": {"mode": serving.map(|s| s.authorization.name())},
            "staticPodPath": config.manifests, "cgroupRoot": config.cgroup_root,
            "clusterDNS": config.cluster_dns, "clusterDomain": config.cluster_domain,
            "resolvConf": config.resolv_conf, "maxPods": config.pods_max,
            "maxParallelImagePulls": config.pulls_max, "kubeReserved": config.reserved,
            "containerLogMaxSize": config.log_bytes_max.to_string(), "containerLogMaxFiles": config.log_files_max,
            "containerRuntimeEndpoint": format!("unix://{}", config.cri_socket.display()),
        }})
    }
}

/// Undoes percent encoding.
fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = &rest[if escaped.is_some() { 3 } else { 1 }..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Decoded names and values of a query.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    split.map(|(name, value)| (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))).collect()
}
