//! The node's port: TLS, and the question who asks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pki::{Clients, Identity, Names, Pki};
use proto_kube::User;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::auth::{Auth, Authorization, unauthorized};
use super::reply::{Body, Refused, refusal};
use super::{ACCEPT_PAUSE, Server};

/// How long a client may take for the TLS handshake.
const HELLO: Duration = Duration::from_secs(10);
/// How long a connection may be idle, or take for the head of a request.
const IDLE: Duration = Duration::from_secs(90);

/// How the kubelet's API is served over HTTPS.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Where; port 0 takes a free one, which the Node tells.
    pub listen: SocketAddr,
    /// The certificate to show, as it is at each moment. While there is none, one that the agent has signed itself, which
    /// clients cannot verify.
    pub identity: watch::Receiver<Option<Identity>>,
    /// The authorities of client certificates, in PEM, as they are at each moment; empty: certificates prove nothing.
    pub client_ca: watch::Receiver<String>,
    /// Whether the API server is asked whose a bearer token is.
    pub tokens: bool,
    /// Whether who proves nothing is `system:anonymous` rather than refused.
    pub anonymous: bool,
    /// Who decides what may be done.
    pub authorization: Authorization,
}

impl Serving {
    /// On every address, for whom the cluster's authority or API server vouches, and as that API server allows.
    #[must_use]
    pub fn new(
        port: u16,
        identity: watch::Receiver<Option<Identity>>,
        client_ca: watch::Receiver<String>,
    ) -> Self {
        Self {
            listen: SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)),
            identity,
            client_ca,
            tokens: true,
            anonymous: false,
            authorization: Authorization::Webhook,
        }
    }
}

/// What connections share.
struct Door {
    server: Server,
    serving: Serving,
    auth: Auth,
    tls: Mutex<Made>,
}

/// What was made of the certificates that there were last.
#[derive(Default)]
struct Made {
    tls: Option<(Option<Identity>, Arc<ServerConfig>)>,
    clients: Option<(String, Arc<Clients>)>,
}

/// Listens, tells on which port, and answers until told to stop.
///
/// # Errors
/// When the address cannot be taken.
pub(crate) async fn bind(serving: &Serving) -> std::io::Result<TcpListener> {
    match TcpListener::bind(serving.listen).await {
        // A machine without IPv6.
        Err(_) if serving.listen.ip() == std::net::Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, serving.listen.port())).await
        }
        bound => bound,
    }
}

impl Server {
    /// Answers over HTTPS until told to stop.
    pub(crate) async fn run_https(
        self,
        listener: TcpListener,
        serving: Serving,
        shutdown: CancellationToken,
    ) {
        if let Ok(address) = listener.local_addr() {
            self.effects.port.send_replace(address.port());
        }
        let config = &self.effects.config;
        let client = config.api.as_ref().map(|api| api.cache.client().clone());
        let auth = Auth::new(client, &config.node_name);
        let door = Arc::new(Door { auth, serving, tls: Mutex::default(), server: self });
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((socket, peer)) => drop(connections.spawn(door.clone().connection(socket, peer))),
                Err(error) => {
                    tracing::warn!(%error, "the kubelet's API cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Door {
    async fn connection(self: Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        let _ = socket.set_nodelay(true);
        let tls = match self.tls() {
            Ok(tls) => tls,
            Err(error) => return tracing::error!(%error, "the serving certificate cannot be used"),
        };
        let stream = match tokio::time::timeout(HELLO, TlsAcceptor::from(tls).accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS"),
            Err(_) => return tracing::debug!(%peer, "no TLS in time"),
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain: Arc<[CertificateDer<'static>]> = chain.iter().map(|c| c.clone().into_owned()).collect();
        let service = service_fn(|request| {
            let (door, chain) = (self.clone(), chain.clone());
            async move { Ok::<_, Infallible>(door.answer(&chain, request).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
        if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
            tracing::debug!(%peer, %error, "connection broken");
        }
    }

    async fn answer(&self, chain: &[CertificateDer<'_>], request: Request<Incoming>) -> Response<Body> {
        match self.admit(chain, &request).await {
            Ok(()) => self.server.answer(request).await,
            Err(refused) => refusal(&refused),
        }
    }

    async fn admit(&self, chain: &[CertificateDer<'_>], request: &Request<Incoming>) -> Result<(), Refused> {
        let user = match self.certified(chain) {
            Some(user) => Some(user),
            None if self.serving.tokens => self.auth.bearer(request.headers()).await?,
            None => None,
        };
        let shows = request.headers().contains_key(http::header::AUTHORIZATION);
        let user = match user {
            Some(user) => user,
            None if self.serving.anonymous && !shows => User {
                name: "system:anonymous".to_owned(),
                groups: vec!["system:unauthenticated".to_owned()],
                ..User::default()
            },
            None => return Err(unauthorized()),
        };
        match self.serving.authorization {
            Authorization::AlwaysAllow => Ok(()),
            Authorization::Webhook => {
                self.auth.authorize(&user, request.method(), request.uri().path()).await
            }
        }
    }

    /// The user of a client certificate that an authority of the cluster stands behind.
    fn certified(&self, chain: &[CertificateDer<'_>]) -> Option<User> {
        if chain.is_empty() {
            return None;
        }
        let read = self.clients()?.check(chain, self.server.effects.clock.now());
        let read = read.inspect_err(|error| tracing::debug!(%error, "client certificate refused")).ok()?;
        let groups = read.organizations.into_iter().chain(["system:authenticated".to_owned()]).collect();
        Some(User { name: read.common_name, groups, ..User::default() })
    }

    fn clients(&self) -> Option<Arc<Clients>> {
        let authorities = self.serving.client_ca.borrow().clone();
        let mut made = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, clients)) = &made.clients
            && *of == authorities
        {
            return Some(clients.clone());
        }
        let parsed = pki::key::certificates(&authorities).and_then(|all| Clients::new(&all));
        let clients =
            parsed.inspect_err(|error| tracing::warn!(%error, "no client certificate is taken")).ok()?;
        let clients = Arc::new(clients);
        made.clients = Some((authorities, clients.clone()));
        Some(clients)
    }

    /// TLS with the certificate of this moment.
    fn tls(&self) -> Result<Arc<ServerConfig>, pki::Error> {
        let identity = self.serving.identity.borrow().clone();
        let mut made = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, tls)) = &made.tls
            && *of == identity
        {
            return Ok(tls.clone());
        }
        let tls = match &identity {
            Some(identity) => pki::serve(identity)?,
            None => self.own()?,
        };
        made.tls = Some((identity, tls.clone()));
        Ok(tls)
    }

    /// A certificate by an authority of a moment, which nobody else knows.
    fn own(&self) -> Result<Arc<ServerConfig>, pki::Error> {
        let effects = &self.server.effects;
        let ips = effects.config.node_ips.iter().map(ToString::to_string);
        let names = Names::new(ips.chain([effects.config.node_name.clone()]));
        Ok(Pki::open(None, names, effects.clock.now())?.server())
    }
}
