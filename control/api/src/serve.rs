//! Connections: TLS, HTTP/1.1 with upgrades and HTTP/2 on one port, limits, and an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::authn::Peer;
use crate::bootstrap;
use crate::front;
use crate::kubeconfig;
use crate::server::{Error, Server};

/// How long a client may take for the TLS handshake.
const HELLO: Duration = Duration::from_secs(10);
/// How long requests may still run when the server goes down.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// The largest head of a request.
const HEAD: u32 = 64 << 10;

/// A server that is bound to its addresses.
pub struct Bound {
    server: Arc<Server>,
    listeners: Vec<TcpListener>,
}

impl Bound {
    /// Takes the addresses of the server's configuration.
    ///
    /// # Errors
    /// When one cannot be taken.
    pub async fn new(server: Arc<Server>) -> Result<Self, Error> {
        let mut listeners = Vec::new();
        for address in &server.config.listen {
            let failed = |source| Error::Listen { address: *address, source };
            listeners.push(listen(*address).map_err(failed)?);
        }
        let bound = Self { server, listeners };
        if let Some(first) = bound.addresses().first() {
            bound.server.set_port(first.port());
        }
        bootstrap::publish_address(&bound.server).await.map_err(|why| Error::Bootstrap { why })?;
        bound.introduce().map_err(Error::Pki)?;
        Ok(bound)
    }

    /// Where it listens, with the ports that it really got.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|l| l.local_addr().ok()).collect()
    }

    /// Writes the administrator's kubeconfig, if one is wanted.
    fn introduce(&self) -> Result<(), pki::Error> {
        introduce(&self.server, self.addresses().first().copied())
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Serves until `shutdown` is cancelled: then takes no more connections, ends watches, lets requests finish, and
    /// closes the store.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { server, listeners } = self;
        let tasks = TaskTracker::new();
        let first = listeners.first().and_then(|l| l.local_addr().ok());
        let open = Arc::new(Semaphore::new(server.config.connections));
        for listener in listeners {
            tasks.spawn(accept(server.clone(), listener, tasks.clone(), open.clone(), shutdown.clone()));
        }
        tasks.spawn(renew(server.clone(), first, shutdown.clone()));
        if server.config.etcd.is_some() {
            tasks.spawn(bootstrap::renew(server.clone(), shutdown.clone()));
        }
        if let Some(socket) = server.config.socket.clone() {
            tasks.spawn(orders(server.clone(), socket, shutdown.clone()));
        }
        server.set_ready();
        shutdown.cancelled().await;
        server.ends.cancel();
        tasks.close();
        if tokio::time::timeout(LAST_WORDS, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "not all requests have ended in time");
        }
        server.store.close().await;
    }
}

/// Takes an address. What is accepted there inherits the keepalive of TCP, so that peers that have vanished are noticed
/// on connections that have nothing to say for long, as watches of HTTP/1.1.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    // As many as the kernel allows.
    socket.listen(u32::MAX)
}

async fn accept(
    server: Arc<Server>,
    listener: TcpListener,
    tasks: TaskTracker,
    open: Arc<Semaphore>,
    shutdown: CancellationToken,
) {
    loop {
        let room = tokio::select! {
            () = shutdown.cancelled() => return,
            room = open.clone().acquire_owned() => room,
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let (server, shutdown) = (server.clone(), shutdown.clone());
                tasks.spawn(async move {
                    server.metrics.connections.fetch_add(1, Ordering::Relaxed);
                    connection(&server, stream, address, shutdown).await;
                    server.metrics.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(room);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: there is nothing to do but wait for some to come free.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    server: &Arc<Server>,
    stream: TcpStream,
    address: SocketAddr,
    shutdown: CancellationToken,
) {
    // Small answers must not wait for an acknowledgement; without this they only come later.
    let _ = stream.set_nodelay(true);
    if tokio::time::timeout(HELLO, is_plain(&stream)).await.unwrap_or(false) {
        return refuse_plain(stream).await;
    }
    let acceptor = TlsAcceptor::from(server.pki.server());
    let stream = match tokio::time::timeout(HELLO, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "no TLS"),
        Err(_) => return tracing::debug!(%address, "no TLS in time"),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
    let peer = Arc::new(Peer::new(address, chain));
    let asked = AtomicBool::new(false);
    let service = service_fn(|request: http::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(front::answer(server, peer, request).await) }
    });
    let builder = protocol(server.config.idle);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = silence(server.config.idle, &asked) => return tracing::debug!(%address, "no request in time"),
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection broken");
    }
}

/// Ends when a connection has had no request in its first `idle`. Hyper waits for the first bytes without end, and for
/// the first request of HTTP/2 as long as the peer answers pings.
async fn silence(idle: Duration, asked: &AtomicBool) {
    tokio::time::sleep(idle).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Whether a client begins with the name of a method where TLS begins with a number.
async fn is_plain(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0].is_ascii_uppercase()
}

/// Tells a client that it has forgotten the `s` of `https`, in upstream's words.
async fn refuse_plain(mut stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let told = async {
        stream.write_all(ANSWER).await?;
        stream.shutdown().await?;
        // What it has sent is read, or it would be cut off before it has read the answer.
        tokio::io::copy(&mut stream.take(u64::from(HEAD)), &mut tokio::io::sink()).await
    };
    // It may as well have left.
    let _ = tokio::time::timeout(HELLO, told).await;
}

fn protocol(idle: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(256 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD)
        .max_concurrent_streams(1000)
        // What a client does not read is not buffered without end.
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn orders(server: Arc<Server>, socket: std::path::PathBuf, shutdown: CancellationToken) {
    if let Err(error) = admin::serve(server, &socket, shutdown).await {
        tracing::error!(%error, socket = %socket.display(), "backups cannot be ordered");
    }
}

/// Writes the administrator's kubeconfig, if one is wanted.
fn introduce(server: &Server, address: Option<SocketAddr>) -> Result<(), pki::Error> {
    match (&server.config.kubeconfig, address) {
        (Some(path), Some(address)) => kubeconfig::write(server, address, path),
        _ => Ok(()),
    }
}

/// Makes new certificates and keys before the old ones end.
async fn renew(server: Arc<Server>, address: Option<SocketAddr>, shutdown: CancellationToken) {
    let mut told = true;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(server.config.renewal) => {}
        }
        match server.pki.renew(server.now()) {
            Ok(new) => told &= !new,
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "renewing certificates"),
        }
        if !told {
            told = tell(&server, address).await;
        }
    }
}

/// Tells everybody of new certificates and keys; whether that was possible.
async fn tell(server: &Server, address: Option<SocketAddr>) -> bool {
    server.tokens.clear();
    server.nodes.forget();
    let published = bootstrap::publish_authorities(server).await;
    if let Err(why) = &published {
        tracing::error!(why, "publishing the new authorities");
    }
    let introduced = introduce(server, address);
    if let Err(error) = &introduced {
        tracing::error!(error = error as &dyn std::error::Error, "writing the kubeconfig");
    }
    let told = published.is_ok() && introduced.is_ok();
    if told {
        tracing::info!("certificates renewed");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn peers_that_vanish_are_noticed() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound"));
        let (_peer, accepted) = tokio::join!(peer, listener.accept());
        let stream = accepted.expect("accepted").0.into_std().expect("ours");
        assert!(TcpSocket::from_std_stream(stream).keepalive().expect("asked"));
    }
}
