//! What the proxy tells of itself, and load balancers of the node: `/healthz`, `/metrics`, health check node ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use proxy_rules::ServiceName;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Changes that wait for longer than this are a proxy that does not work.
const PATIENCE: Duration = Duration::from_secs(60);
/// When a port that another has is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Whether load balancers should send to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Eligible {
    #[default]
    Yes,
    No,
}

/// Ports on which load balancers ask, with whose it is and how many endpoints it has here.
type Ports = BTreeMap<u16, (ServiceName, usize)>;

#[derive(Default)]
struct State {
    queued: Option<Instant>,
    synced: Option<SystemTime>,
    eligible: Eligible,
}

/// What the servers tell.
pub(crate) struct Health {
    state: Mutex<State>,
    ports: watch::Sender<(Ports, Vec<IpAddr>)>,
    pub(crate) metrics: Metrics,
}

/// What a server answers.
type Answer = Response<Full<Bytes>>;

impl Health {
    pub(crate) fn new() -> Arc<Health> {
        Arc::new(Health {
            state: Mutex::default(),
            ports: watch::Sender::default(),
            metrics: Metrics::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes have come.
    pub(crate) fn queued(&self, any: bool) {
        if any {
            self.state().queued.get_or_insert_with(Instant::now);
            self.metrics.queued();
        }
    }

    /// The kernel has all changes.
    pub(crate) fn synced(&self) {
        let mut state = self.state();
        state.queued = None;
        state.synced = Some(SystemTime::now());
        self.metrics.synced();
    }

    /// The kernel would not take a change.
    pub(crate) fn failed(&self) {
        self.state().queued.get_or_insert_with(Instant::now);
        self.metrics.failures.add(1);
    }

    fn works(&self) -> bool {
        let state = self.state();
        state.synced.is_some() && state.queued.is_none_or(|since| since.elapsed() < PATIENCE)
    }

    /// What load balancers shall hear, and on which of the node's addresses; all of them for `None`.
    pub(crate) fn report(&self, ports: Ports, eligible: Eligible, networks: Option<Vec<IpNet>>) {
        self.state().eligible = eligible;
        let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        let addresses = match networks {
            Some(networks) if networks.iter().all(single) => networks.iter().map(IpNet::addr).collect(),
            _ => vec![IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)],
        };
        self.ports.send_if_modified(|told| {
            let new = (ports, addresses);
            let changed = *told != new;
            *told = new;
            changed
        });
    }

    fn healthz(&self, liveness: bool) -> Answer {
        let works = self.works();
        let state = self.state();
        let eligible = state.eligible == Eligible::Yes;
        let now = SystemTime::now();
        let time =
            |time: SystemTime| jiff::Timestamp::try_from(time).map(|t| t.to_string()).unwrap_or_default();
        let mut body = json!({ "lastUpdated": time(state.synced.unwrap_or(SystemTime::UNIX_EPOCH)), "currentTime": time(now) });
        if !liveness {
            body["nodeEligible"] = json!(eligible);
        }
        let good = works && (liveness || eligible);
        answer(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body.to_string())
    }

    fn endpoints(&self, port: u16) -> Answer {
        let works = self.works();
        let ports = self.ports.borrow();
        let Some((name, count)) = ports.0.get(&port) else {
            return answer(StatusCode::NOT_FOUND, "{}");
        };
        let service = json!({ "namespace": &*name.namespace, "name": &*name.name });
        let body = json!({ "service": service, "localEndpoints": count, "serviceProxyHealthy": works });
        let good = works && *count > 0;
        let mut answer =
            answer(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body.to_string());
        answer.headers_mut().insert("x-load-balancing-endpoint-weight", (*count).into());
        answer
    }
}

fn answer(status: StatusCode, body: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
    answer
}

fn plain(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain; version=0.0.4"));
    answer
}

/// Answers `/healthz` and `/livez` until `shutdown`.
pub(crate) async fn serve_healthz(health: Arc<Health>, address: SocketAddr, shutdown: CancellationToken) {
    serve_at(address, shutdown, move |path| match path {
        "/livez" => health.healthz(true),
        "/healthz" => health.healthz(false),
        _ => plain(StatusCode::NOT_FOUND, "404 page not found\n".into()),
    })
    .await;
}

/// Answers `/metrics`, `/healthz` and `/proxyMode` until `shutdown`.
pub(crate) async fn serve_metrics(health: Arc<Health>, address: SocketAddr, shutdown: CancellationToken) {
    serve_at(address, shutdown, move |path| match path {
        "/metrics" => plain(StatusCode::OK, health.metrics.text()),
        "/healthz" => health.healthz(false),
        "/proxyMode" => plain(StatusCode::OK, "nftables".into()),
        _ => plain(StatusCode::NOT_FOUND, "404 page not found\n".into()),
    })
    .await;
}

/// Keeps a server on each health check node port until `shutdown`.
pub(crate) async fn serve_ports(health: Arc<Health>, shutdown: CancellationToken) {
    let mut told = health.ports.subscribe();
    let mut servers: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
    loop {
        let wanted: Vec<SocketAddr> = {
            let ports = told.borrow_and_update();
            ports.0.keys().flat_map(|port| ports.1.iter().map(|ip| SocketAddr::new(*ip, *port))).collect()
        };
        servers.retain(|address, server| {
            let keep = wanted.contains(address) && !server.is_cancelled();
            if !keep {
                server.cancel();
            }
            keep
        });
        let mut missing = false;
        for address in wanted {
            if servers.contains_key(&address) {
                continue;
            }
            match listen(address) {
                Ok(listener) => {
                    let server = shutdown.child_token();
                    let health = health.clone();
                    let task = serve(listener, server.clone(), move |_| health.endpoints(address.port()));
                    tokio::spawn(task);
                    servers.insert(address, server);
                }
                Err(error) => {
                    missing = true;
                    tracing::warn!(%address, %error, "cannot listen on a service's health check node port");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = told.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if missing => {}
        }
    }
}

/// A listener; one for all addresses of a family leaves the other family alone.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, 128)?;
    TcpListener::from_std(socket.into())
}

/// Waits for the port, then answers.
async fn serve_at(
    address: SocketAddr,
    shutdown: CancellationToken,
    respond: impl Fn(&str) -> Answer + Clone + Send + 'static,
) {
    let mut said = false;
    loop {
        match listen(address) {
            Ok(listener) => return serve(listener, shutdown, respond).await,
            Err(error) if !said => {
                tracing::warn!(%address, %error, "the service proxy does not tell of itself yet");
                said = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn serve(
    listener: TcpListener,
    shutdown: CancellationToken,
    respond: impl Fn(&str) -> Answer + Clone + Send + 'static,
) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (respond, shutdown) = (respond.clone(), shutdown.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let answer = respond(request.uri().path());
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = shutdown.cancelled() => {}
                // whoever asked has gone
                _ = connection => {}
            }
        });
    }
}
