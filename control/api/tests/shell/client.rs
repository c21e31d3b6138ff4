//! A server on a free port, and a client that shows what it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use apiserver::{Bound, Config, Server};
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// The time as the server has it.
#[derive(Debug, Clone)]
pub(crate) struct Clock(Arc<AtomicI64>);

impl Clock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now().as_second().try_into().ok()?)))
    }
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) server: Arc<Server>,
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    /// How far the server's clock is ahead, in seconds.
    ahead: Arc<AtomicI64>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::with(Config::in_memory()).await
    }

    pub(crate) async fn with(mut config: Config) -> Self {
        let ahead = Arc::new(AtomicI64::new(0));
        let clock = Clock(ahead.clone());
        config.clock = Arc::new(move || clock.now());
        let bound = Bound::new(Server::open(config).await.unwrap()).await.unwrap();
        let (server, address) = (bound.server().clone(), bound.addresses()[0]);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(bound.run(shutdown.clone()));
        Self { server, address, shutdown, task, ahead }
    }

    /// The clock leaps.
    pub(crate) fn leap(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }

    /// A client without credentials.
    pub(crate) fn anonymous(&self) -> Client {
        Client {
            address: self.address,
            bundle: self.server.pki.bundle(),
            identity: None,
            headers: Vec::new(),
            http2: false,
            clock: Clock(self.ahead.clone()),
        }
    }

    /// The administrator.
    pub(crate) fn admin(&self) -> Client {
        self.anonymous().identity(self.server.pki.admin())
    }

    /// A user with a certificate.
    pub(crate) fn user(&self, name: &str, groups: &[&str]) -> Client {
        self.anonymous().identity(self.server.pki.issue_client(name, groups, self.server.now()).unwrap())
    }
}

/// What a client shows.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    bundle: String,
    identity: Option<pki::Identity>,
    headers: Vec<(String, String)>,
    http2: bool,
    clock: Clock,
}

/// What a server answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

impl Client {
    pub(crate) fn identity(mut self, identity: pki::Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Speaks HTTP/2.
    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn tls(&self, protocols: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        for certificate in pki::key::certificates(&self.bundle).unwrap() {
            roots.add(certificate).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(self.clock.clone()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = pki::key::certificates(&identity.certificate).unwrap();
                let key = pki::Key::from_pem(&identity.key).unwrap().der();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A connection on which nothing is said yet.
    pub(crate) async fn connect(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        self.tls(protocols).connect(name, stream).await.unwrap()
    }

    /// Which protocol the server chooses of those offered.
    pub(crate) async fn negotiate(&self, protocols: &[&str]) -> Option<Vec<u8>> {
        let stream = self.connect(protocols).await;
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    }

    /// Sends a request on a connection of its own; the body of the answer is still to be read.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::from(self.address.ip());
        let protocols: &[&str] = if self.http2 { &["h2"] } else { &[] };
        let stream = TokioIo::new(self.tls(protocols).connect(name, stream).await.unwrap());
        let mut request = http::Request::builder().method(method);
        request = if self.http2 {
            request.uri(format!("https://test{path}"))
        } else {
            request.uri(path).header("host", "test")
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !self.headers.iter().any(|(name, _)| name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(body.into())).unwrap();
        if self.http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let (parts, body) = self.open(method, path, body).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> Answer {
        self.send(Method::POST, path, object.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "").await
    }

    /// Makes an object.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Value {
        let answer = self.post(path, object).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
        answer.json()
    }
}

/// Asks again until it is so; panics when it never is.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    for _ in 0..200 {
        if ask().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}
