//! Listening, answering, and following the cluster's objects.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use client::Event;
use proto_kube::view::View;
use proto_kube::{GroupResource, Resource, object, resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::answer::{Authority, Outcome, answer};
use crate::cache::Key;
use crate::forward::{Forwarder, Got};
use crate::message::{Data, Query, Rcode, Record, Reply, Unreadable, kind};
use crate::metrics::Metrics;
use crate::name::Name;
use crate::zone::Zone;
use crate::{Config, Error, address, guard, http};

/// How much of one client's is worked at that upstream servers have to be asked for, connections included.
const CLIENT_MAX: usize = 150;
/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// What was learnt while servers do not answer may be remembered for so many seconds.
const STALE_TTL: u32 = 5;
/// The addresses on `lo`, and whether upstream servers ask this one, are looked at again after this time.
const LOOK: Duration = Duration::from_secs(30);
const BIND_AGAIN: Duration = Duration::from_secs(2);

/// What a question needs before it is answered.
enum Step {
    Done(Vec<u8>),
    Silent,
    /// Upstream servers, whose records come after those of the reply.
    Ask(Query, Option<Reply>, Key),
}

pub(crate) struct Inner {
    zone: RwLock<Zone>,
    authority: Authority,
    forwarder: Arc<Forwarder>,
    metrics: Arc<Metrics>,
    ready: AtomicBool,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// A client's place; given back on drop.
struct Place {
    inner: Arc<Inner>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.inner.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

impl Inner {
    fn zone(&self) -> RwLockReadGuard<'_, Zone> {
        self.zone.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn metrics(&self) -> String {
        self.metrics.render(self.forwarder.remembered(), self.zone().len())
    }

    fn place(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_default();
        if *count >= CLIENT_MAX {
            self.metrics.overloaded();
            return None;
        }
        *count += 1;
        Some(Place { inner: self.clone(), client })
    }

    /// The first look at a message: most are answered by it.
    fn step(&self, message: &[u8], tcp: bool) -> Step {
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(Unreadable::Silent) => return Step::Silent,
            Err(Unreadable::Refuse(_, reply)) => return Step::Done(reply),
        };
        self.metrics.request(tcp, query.kind);
        let limit = limit(&query, tcp);
        if self.forwarder.is_own(&query.name) {
            return Step::Done(query.refusal(Rcode::Refused));
        }
        if !self.is_ready() && query.name.within(&self.authority.domain).is_some() {
            return Step::Done(query.refusal(Rcode::ServFail));
        }
        let (reply, name) = match answer(&self.zone(), &self.authority, &query.name, query.kind) {
            Outcome::Answer(mut reply) => {
                rotate(&mut reply.answers);
                return Step::Done(reply.write(&query, limit));
            }
            Outcome::Follow(reply, name) => (Some(reply), name),
            Outcome::Forward => (None, query.name.clone()),
        };
        if query.kind == kind::ANY {
            return Step::Done(query.refusal(Rcode::NotImp));
        }
        if reply.is_none() && !query.recursion {
            return Step::Done(query.refusal(Rcode::Refused));
        }
        let key = Key::named(&query, name);
        let now = Instant::now();
        match (self.forwarder.known(&key, now), &reply) {
            (Some(entry), None) => {
                self.metrics.cache(true);
                Step::Done(entry.passed.write(&query, limit, entry.age(now), None))
            }
            _ => Step::Ask(query, reply, key),
        }
    }

    /// The second: with what upstream servers say.
    async fn finish(&self, query: &Query, reply: Option<Reply>, key: &Key, tcp: bool) -> Vec<u8> {
        let got = self.forwarder.get(key).await;
        let (limit, now) = (limit(query, tcp), Instant::now());
        match (got, reply) {
            (Got::Answer { entry, stale }, None) => {
                entry.passed.write(query, limit, entry.age(now), stale.then_some(STALE_TTL))
            }
            (Got::Answer { entry, .. }, Some(mut reply)) => {
                reply.answers.extend(entry.passed.answers(entry.age(now)));
                reply.write(query, limit)
            }
            (Got::Nothing, None) => query.refusal(Rcode::ServFail),
            (Got::Nothing, Some(reply)) => Reply { rcode: Rcode::ServFail, ..reply }.write(query, limit),
        }
    }

    fn take(&self, event: &Event, slices: impl Fn(&str) -> Vec<Arc<serde_json::Value>>) {
        let mut zone = self.zone.write().unwrap_or_else(PoisonError::into_inner);
        let (old, new) = (event.old.as_deref(), event.new.as_deref());
        match (event.resource.plural, new, old) {
            ("services", Some(new), _) => zone.set_service(new, || slices(object::namespace(new))),
            ("services", None, Some(old)) => zone.remove_service(old),
            ("endpointslices", Some(new), _) => zone.set_slice(new),
            ("endpointslices", None, Some(old)) => zone.remove_slice(old),
            ("namespaces", Some(new), _) => zone.set_namespace(object::name(new), true),
            ("namespaces", None, Some(old)) => zone.set_namespace(object::name(old), false),
            ("namespaces", None, None) => zone.namespaces_known(),
            _ => {}
        }
    }
}

fn limit(query: &Query, tcp: bool) -> usize {
    if tcp { usize::from(u16::MAX) } else { query.udp_limit() }
}

/// Begins with another address each time: clients take the first.
fn rotate(answers: &mut [Record]) {
    let is_ip = |record: &Record| matches!(record.data, Data::Ip(_));
    let Some(first) = answers.iter().position(is_ip) else { return };
    let ips = &mut answers[first..];
    if ips.len() > 1 && ips.iter().all(is_ip) {
        ips.rotate_left(fastrand::usize(..ips.len()));
    }
}

/// A name service that listens.
pub struct Server {
    inner: Arc<Inner>,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    http: Option<TcpListener>,
    config: Config,
}

impl Server {
    /// Puts the addresses on `lo`, where the configuration says so, and listens on them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bind(config: Config) -> Result<Server, Error> {
        let domain = Name::from_text(&config.domain).ok_or_else(|| Error::Domain(config.domain.clone()))?;
        if let Some(run_dir) = &config.run_dir {
            address::ensure(run_dir, &config.addresses)?;
            // most nodes have no such pod: better answers than none
            if let Err(error) = guard::ensure(&config.addresses, config.port) {
                warn!(%error, "a pod with hostPort {} would be asked instead of the name service", config.port);
            }
        }
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for ip in &config.addresses {
            let mut address = SocketAddr::new(*ip, config.port);
            let fail = |address| move |source| Error::Bind { address, source };
            let listener = TcpListener::bind(address).await.map_err(fail(address))?;
            address = listener.local_addr().map_err(fail(address))?;
            udp.push(UdpSocket::bind(address).await.map_err(fail(address))?);
            tcp.push(listener);
        }
        let http = match config.http {
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some(listener.map_err(|source| Error::Bind { address, source })?)
            }
            None => None,
        };
        let metrics = Arc::new(Metrics::default());
        let forwarder = Forwarder::new(
            config.upstreams.clone(),
            config.addresses.clone(),
            config.cache_bytes,
            metrics.clone(),
        );
        let inner = Inner {
            zone: RwLock::default(),
            authority: Authority { domain, addresses: config.addresses.clone(), ttl: config.ttl },
            forwarder: Arc::new(forwarder),
            metrics,
            ready: AtomicBool::new(false),
            clients: Mutex::default(),
        };
        Ok(Server { inner: Arc::new(inner), udp, tcp, http, config })
    }

    /// Where it listens.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.local_addr().ok())
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// None that stay: a question that cannot be answered is its client's alone.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Server { inner, udp, tcp, http, config } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(inner.clone(), config.clone()));
        tasks.spawn(look(inner.clone(), config));
        for socket in udp {
            tasks.spawn(serve_udp(Arc::new(socket), inner.clone()));
        }
        for listener in tcp {
            tasks.spawn(serve_tcp(listener, inner.clone()));
        }
        if let Some(listener) = http {
            tasks.spawn(http::serve(listener, inner.clone()));
        }
        shutdown.cancelled().await;
        tasks.shutdown().await;
        Ok(())
    }
}

/// Listens and answers until `shutdown`. While it cannot listen it says so and tries again.
///
/// # Errors
/// When the domain is no name.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let mut said = String::new();
    loop {
        match Server::bind(config.clone()).await {
            Ok(server) => {
                info!(addresses = ?config.addresses, port = config.port, "names of the cluster are answered");
                return server.run(shutdown).await;
            }
            Err(error @ Error::Domain(_)) => return Err(error),
            Err(error) => {
                let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
                let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
                if text != said {
                    warn!(error = text, "the name service waits");
                    said = text;
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(BIND_AGAIN) => {}
        }
    }
}

async fn follow(inner: Arc<Inner>, config: Config) {
    let find = |group, plural| {
        let wanted = GroupResource { group, resource: plural };
        resource::preferred(wanted).expect("the catalogue has what a cluster is made of")
    };
    let slices = find("discovery.k8s.io", "endpointslices");
    let resources: [&'static Resource; 3] = [find("", "services"), slices, find("", "namespaces")];
    let mut streams: [UnboundedReceiver<Event>; 3] =
        resources.map(|resource| config.cache.subscribe(resource));
    let in_namespace = |namespace: &str| config.cache.list(slices.group_resource(), namespace);
    let mut synced = [false; 3];
    loop {
        let [services, endpoints, namespaces] = &mut streams;
        let (at, event) = tokio::select! {
            event = services.recv() => (0, event),
            event = endpoints.recv() => (1, event),
            event = namespaces.recv() => (2, event),
        };
        let Some(event) = event else { return };
        inner.take(&event, in_namespace);
        synced[at] |= event.object().is_none();
        // namespaces only tell which pods' names there may be
        if synced[0] && synced[1] && !inner.ready.swap(true, Ordering::Relaxed) {
            info!(services = inner.zone().len(), "all services are known");
        }
    }
}

/// Things that may change without a word.
async fn look(inner: Arc<Inner>, config: Config) {
    loop {
        inner.forwarder.look_for_loop().await;
        tokio::time::sleep(LOOK).await;
        let Some(run_dir) = config.run_dir.clone() else { continue };
        let addresses = config.addresses.clone();
        let ensure = move || {
            address::ensure(&run_dir, &addresses)?;
            Ok::<_, Error>(guard::ensure(&addresses, config.port)?)
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(ensure).await {
            warn!(%error, "the name service's addresses cannot be kept");
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, inner: Arc<Inner>) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            // what ails the socket is over by itself, or the process ends
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let start = Instant::now();
        let (query, reply, key) = match inner.step(&buffer[..length], false) {
            Step::Silent => continue,
            Step::Done(message) => {
                inner.metrics.response(&message, start.elapsed());
                let _ = socket.send_to(&message, peer).await;
                continue;
            }
            Step::Ask(query, reply, key) => (query, reply, key),
        };
        let Some(place) = inner.place(peer.ip()) else {
            let _ = socket.send_to(&query.refusal(Rcode::ServFail), peer).await;
            continue;
        };
        let socket = socket.clone();
        tokio::spawn(async move {
            let message = place.inner.finish(&query, reply, &key, false).await;
            place.inner.metrics.response(&message, start.elapsed());
            let _ = socket.send_to(&message, peer).await;
        });
    }
}

async fn serve_tcp(listener: TcpListener, inner: Arc<Inner>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Some(place) = inner.place(peer.ip()) {
                    tokio::spawn(async move {
                        // a client that goes away ends its connection, that is all
                        let _ = converse(stream, &place.inner).await;
                        drop(place);
                    });
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(mut stream: TcpStream, inner: &Inner) -> std::io::Result<()> {
    loop {
        let message = async {
            let length = stream.read_u16().await?;
            let mut message = vec![0; usize::from(length)];
            stream.read_exact(&mut message).await?;
            Ok::<_, std::io::Error>(message)
        };
        let message = timeout(IDLE, message).await??;
        let start = Instant::now();
        let answer = match inner.step(&message, true) {
            Step::Silent => return Ok(()),
            Step::Done(answer) => answer,
            Step::Ask(query, reply, key) => inner.finish(&query, reply, &key, true).await,
        };
        inner.metrics.response(&answer, start.elapsed());
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes();
        timeout(IDLE, stream.write_all(&[&length[..], &answer].concat())).await??;
    }
}
