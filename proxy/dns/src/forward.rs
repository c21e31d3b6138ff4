//! Asking upstream servers: one question at a time for all who ask the same, remembered as long as they allow.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::cache::{Cache, Entry, Key};
use crate::message::{NoAnswer, Passed, UDP_BYTES_MAX};
use crate::metrics::Metrics;
use crate::name::Name;
use crate::resolv;

/// For how long one server is waited for.
const SERVER_LIMIT: Duration = Duration::from_millis(1500);
/// How many questions are on their way at once.
const PENDING_MAX: usize = 1000;
/// The file of servers is looked at again after this time.
const RELOAD: Duration = Duration::from_secs(5);

/// Where the upstream servers are known from.
#[derive(Debug, Clone)]
pub enum Upstreams {
    /// A `resolv.conf(5)`, read again when it changes.
    File(PathBuf),
    /// These.
    Fixed(Vec<SocketAddr>),
}

impl Default for Upstreams {
    fn default() -> Upstreams {
        Upstreams::File("/etc/resolv.conf".into())
    }
}

/// What became of a question to upstream servers.
#[derive(Debug, Clone)]
pub(crate) enum Got {
    /// An answer; stale where no server answers now.
    Answer { entry: Entry, stale: bool },
    /// Nobody answers.
    Nothing,
}

struct Servers {
    list: Arc<[SocketAddr]>,
    looked: Option<Instant>,
    changed: Option<SystemTime>,
}

pub(crate) struct Forwarder {
    upstreams: Upstreams,
    /// Where we are reached: never asked.
    ours: Vec<IpAddr>,
    servers: Mutex<Servers>,
    /// The server that answered last is asked first.
    best: AtomicUsize,
    cache: Mutex<Cache>,
    pending: Mutex<HashMap<Key, watch::Receiver<Option<Got>>>>,
    places: Semaphore,
    /// A name that only this process asks for: whoever gets it as a question asks itself.
    probe: Name,
    looped: AtomicBool,
    metrics: Arc<Metrics>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    pub(crate) fn new(
        upstreams: Upstreams,
        ours: Vec<IpAddr>,
        cache_bytes: usize,
        metrics: Arc<Metrics>,
    ) -> Forwarder {
        let probe = format!("{:016x}{:016x}.loop.cleat.invalid", fastrand::u64(..), fastrand::u64(..));
        Forwarder {
            upstreams,
            ours,
            servers: Mutex::new(Servers { list: Arc::new([]), looked: None, changed: None }),
            best: AtomicUsize::new(0),
            cache: Mutex::new(Cache::new(cache_bytes)),
            pending: Mutex::default(),
            places: Semaphore::new(PENDING_MAX),
            probe: Name::from_text(&probe).expect("it is a name"),
            looped: AtomicBool::new(false),
            metrics,
        }
    }

    /// Whether a question is our own, come back. It is noted.
    pub(crate) fn is_own(&self, name: &Name) -> bool {
        let own = *name == self.probe;
        if own && !self.looped.swap(true, Ordering::Relaxed) {
            error!(servers = ?self.servers(), "the upstream name servers ask this one: names outside the cluster are \
                                              refused until that ends");
        }
        own
    }

    /// Asks upstream servers for a name that only this process knows, to see whether it comes back.
    pub(crate) async fn look_for_loop(&self) {
        let servers = self.servers();
        self.looped.store(false, Ordering::Relaxed);
        let key =
            Key::of(&crate::message::Query::new(0, &self.probe, crate::message::kind::TXT, false, false));
        for server in servers.iter() {
            let _ = ask(*server, &key).await;
        }
    }

    /// What is known without asking anybody.
    pub(crate) fn known(&self, key: &Key, now: Instant) -> Option<Entry> {
        lock(&self.cache).get(key, now).filter(|entry| entry.is_fresh(now))
    }

    /// An answer, from memory or from a server.
    pub(crate) async fn get(self: &Arc<Self>, key: &Key) -> Got {
        let now = Instant::now();
        if let Some(entry) = self.known(key, now) {
            self.metrics.cache(true);
            return Got::Answer { entry, stale: false };
        }
        self.metrics.cache(false);
        let mut waiting = {
            let mut pending = lock(&self.pending);
            match pending.get(key) {
                Some(waiting) => waiting.clone(),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    pending.insert(key.clone(), receiver.clone());
                    let (this, key) = (self.clone(), key.clone());
                    tokio::spawn(async move {
                        let got = this.ask_all(&key).await;
                        lock(&this.pending).remove(&key);
                        let _ = sender.send(Some(got));
                    });
                    receiver
                }
            }
        };
        match waiting.wait_for(Option::is_some).await {
            Ok(got) => got.clone().unwrap_or(Got::Nothing),
            Err(_) => Got::Nothing,
        }
    }

    async fn ask_all(&self, key: &Key) -> Got {
        let servers = self.servers();
        let place = self.places.try_acquire();
        if place.is_ok() && !self.looped.load(Ordering::Relaxed) {
            let best = self.best.load(Ordering::Relaxed);
            let mut last = None;
            for turn in 0..servers.len() {
                let at = (best + turn) % servers.len();
                let start = Instant::now();
                match ask(servers[at], key).await {
                    // a server that fails may know less than the next
                    Ok(passed) if matches!(passed.rcode, 2 | 5) => last = Some(passed),
                    Ok(passed) => {
                        self.best.store(at, Ordering::Relaxed);
                        self.metrics.forwarded(start.elapsed());
                        let entry = Entry { passed: Arc::new(passed), at: Instant::now() };
                        lock(&self.cache).put(key.clone(), entry.clone());
                        return Got::Answer { entry, stale: false };
                    }
                    Err(_) => self.metrics.upstream_failed(),
                }
            }
            if let Some(stale) = self.stale(key) {
                return stale;
            }
            if let Some(passed) = last {
                return Got::Answer {
                    entry: Entry { passed: Arc::new(passed), at: Instant::now() },
                    stale: false,
                };
            }
        }
        self.stale(key).unwrap_or(Got::Nothing)
    }

    fn stale(&self, key: &Key) -> Option<Got> {
        let entry = lock(&self.cache).get(key, Instant::now())?;
        self.metrics.served_stale();
        Some(Got::Answer { entry, stale: true })
    }

    /// How many answers are remembered.
    pub(crate) fn remembered(&self) -> usize {
        lock(&self.cache).len()
    }

    /// The servers as they are now.
    pub(crate) fn servers(&self) -> Arc<[SocketAddr]> {
        let mut servers = lock(&self.servers);
        if servers.looked.is_none_or(|at| at.elapsed() > RELOAD) {
            servers.looked = Some(Instant::now());
            self.reload(&mut servers);
        }
        servers.list.clone()
    }

    fn reload(&self, servers: &mut Servers) {
        let list = match &self.upstreams {
            Upstreams::Fixed(list) => list.clone(),
            Upstreams::File(path) => {
                let changed = std::fs::metadata(path).and_then(|file| file.modified()).ok();
                if changed.is_some() && changed == servers.changed {
                    return;
                }
                servers.changed = changed;
                match std::fs::read_to_string(path) {
                    Ok(text) => resolv::servers(&text, &self.ours),
                    // it is being replaced, perhaps: those that were known stay
                    Err(_) => return,
                }
            }
        };
        if list[..] != servers.list[..] {
            info!(servers = ?list, "names outside the cluster are asked for at");
            servers.list = list.into();
        }
        if servers.list.is_empty() {
            warn!(from = ?self.upstreams, "there is no name server to ask for names outside the cluster");
        }
    }
}

/// Asks one server, over UDP and, where the answer is too long, over TCP.
async fn ask(server: SocketAddr, key: &Key) -> io::Result<Passed> {
    let query = key.query(fastrand::u16(..));
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let message = query.write();
    let over_udp = async {
        // a socket, and so a port, of its own: who guesses the number must guess the port too
        let socket = UdpSocket::bind((local, 0)).await?;
        socket.connect(server).await?;
        socket.send(&message).await?;
        let mut buffer = vec![0; usize::from(UDP_BYTES_MAX) * 4];
        loop {
            let length = socket.recv(&mut buffer).await?;
            match Passed::read(&query, &buffer[..length]) {
                Err(NoAnswer::Other) => {}
                read => return Ok::<_, io::Error>(read),
            }
        }
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    if let Ok(passed) = timeout(SERVER_LIMIT, over_udp).await.map_err(late)?? {
        return Ok(passed);
    }
    let over_tcp = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write_all(&[&length[..], &message].concat()).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Passed::read(&query, &answer).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    };
    timeout(SERVER_LIMIT, over_tcp).await.map_err(late)?
}
