//! Durable creates a second, side by side: this store's log, redb 4.4 behind the same group commit, and etcd where
//! it is installed; then the memory and the start of a store with 10,000 pods.
//!
//! `cargo run --release -p store --example bench -- [seconds [clients [bytes]]]`, in a directory on the disk that is
//! to be measured.

use std::{
    io::Error as IoError,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};
use store::{Config, Etcd, Place, Store, Txn, Write};
use tokio::{runtime::Runtime, sync::oneshot};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("registry");

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is measured.
#[derive(Clone, Copy)]
struct Load {
    time: Duration,
    clients: usize,
    bytes: usize,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse::<usize>());
    let mut next = |default: usize| arguments.next().transpose().map(|word| word.unwrap_or(default));
    let (seconds, clients, bytes) = (next(4)?, next(8)?, next(3000)?);
    let load = Load { time: Duration::from_secs(seconds as u64), clients, bytes };
    let runtime = Runtime::new()?;
    let folder = tempfile::tempdir_in(".")?;
    println!(
        "{clients} clients create objects of {bytes} bytes for {seconds} s, each durable before the next"
    );
    let store = |place| runtime.block_on(Store::<()>::open(Config::new(place)));
    let ours = store(Place::Directory(folder.path().join("log")))?;
    measure(&runtime, "cleat", load, &commit(&ours));
    runtime.block_on(ours.close());
    let (database, writer) = redb(&folder.path().join("redb"))?;
    measure(&runtime, "redb 4.4, group commit", load, &database);
    drop(database);
    writer.join().map_err(|_| "redb's writer has panicked")?;
    if let Some(server) = Server::start(folder.path()) {
        let place = || Place::Etcd(Etcd { endpoints: vec![server.endpoint.clone()], tls: None });
        let began = Instant::now();
        let remote = loop {
            match store(place()) {
                Ok(store) => break store,
                Err(error) if began.elapsed() > Duration::from_secs(20) => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        measure(&runtime, "cleat on etcd", load, &commit(&remote));
        runtime.block_on(remote.close());
    }
    watchers(&runtime)?;
    pods(&runtime, &folder.path().join("pods"))
}

/// Creates a key, durably.
type Create =
    Arc<dyn Fn(String, Vec<u8>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

fn commit(store: &Store) -> Create {
    let store = store.clone();
    Arc::new(move |key, value| {
        let store = store.clone();
        Box::pin(async move {
            store.commit(Txn::one(Write::create(key, value))).await.expect("the disk takes it");
        })
    })
}

fn measure(runtime: &Runtime, name: &str, load: Load, create: &Create) {
    let mut times = runtime.block_on(async {
        let number = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let client = |_| {
            let (number, create) = (number.clone(), create.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while began.elapsed() < load.time {
                    let key =
                        format!("/registry/configmaps/bench/{}", number.fetch_add(1, Ordering::Relaxed));
                    let from = Instant::now();
                    create(key, vec![b'x'; load.bytes]).await;
                    times.push(from.elapsed());
                }
                times
            })
        };
        let mut times = Vec::new();
        for task in (0..load.clients).map(client).collect::<Vec<_>>() {
            times.extend(task.await.expect("no client panics"));
        }
        times
    });
    times.sort_unstable();
    let part = |hundredth: usize| times[(times.len() - 1) * hundredth / 100].as_secs_f64() * 1e3;
    let rate = times.len() as f64 / load.time.as_secs_f64();
    println!("{name:24} {rate:7.0}/s   p50 {:6.2} ms   p99 {:6.2} ms", part(50), part(99));
}

type Job = (String, Vec<u8>, oneshot::Sender<()>);

/// redb behind one writer, which commits all that waits in one transaction.
fn redb(path: &Path) -> Result<(Create, std::thread::JoinHandle<()>), Failure> {
    let database = Database::create(path)?;
    let (queue, jobs) = mpsc::channel::<Job>();
    let run = move || -> Result<(), redb::Error> {
        while let Ok(first) = jobs.recv() {
            let (transaction, mut done) = (database.begin_write()?, Vec::new());
            let mut table = transaction.open_table(TABLE)?;
            for (key, value, to) in std::iter::once(first).chain(jobs.try_iter()) {
                table.insert(key.as_str(), value.as_slice())?;
                done.push(to);
            }
            drop(table);
            transaction.commit()?;
            for to in done {
                let _ = to.send(());
            }
        }
        Ok(())
    };
    let writer = std::thread::spawn(move || run().expect("redb takes it"));
    let create: Create = Arc::new(move |key, value| {
        let (to, done) = oneshot::channel();
        let sent = queue.send((key, value, to));
        Box::pin(async move {
            sent.expect("the writer lives");
            done.await.expect("the writer answers");
        })
    });
    Ok((create, writer))
}

/// What 10,000 idle watchers cost, and how soon 1,000 of one prefix have an event.
fn watchers(runtime: &Runtime) -> Result<(), Failure> {
    let store = runtime.block_on(Store::<()>::open(Config::new(Place::Memory)))?;
    let put = |number: usize| {
        let began = Instant::now();
        let write = Write::create(format!("/registry/pods/default/{number}"), vec![b'x'; 3000]);
        runtime.block_on(store.commit(Txn::one(write))).map(|_| began.elapsed())
    };
    let median = |from: usize| -> Result<f64, store::CommitError> {
        let mut times = (from..from + 999).map(put).collect::<Result<Vec<_>, _>>()?;
        times.sort_unstable();
        Ok(times[499].as_secs_f64() * 1e6)
    };
    let alone = median(0)?;
    let before = resident()?;
    let mut idle = Vec::new();
    for number in 0..10_000 {
        idle.push(store.watch(&format!("/registry/leases/kube-node-lease/node-{number}"), store.revision())?);
    }
    let (taken, beside) = (resident()? - before, median(1000)?);
    println!(
        "10,000 idle watches: {:.1} MB; a commit in memory takes {beside:.0} us beside them, {alone:.0} us alone",
        taken / 1e6
    );
    let mut times = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let mut watch = store.watch("/registry/secrets/", store.revision()).expect("now is kept");
            tasks.spawn(async move {
                let batch = watch.next().await.expect("open").expect("kept");
                (batch.revision, Instant::now())
            });
        }
        let began = Instant::now();
        let write = Write::create("/registry/secrets/default/a", "1");
        store.commit(Txn::one(write)).await.expect("it is new");
        tasks.join_all().await.into_iter().map(|(_, at)| at - began).collect::<Vec<_>>()
    });
    times.sort_unstable();
    println!(
        "1,000 watchers of one prefix have an event after {:.2} ms (median), {:.2} ms (last)",
        times[500].as_secs_f64() * 1e3,
        times[999].as_secs_f64() * 1e3
    );
    runtime.block_on(store.close());
    Ok(())
}

/// What 10,000 pods take, and how long a start with them.
fn pods(runtime: &Runtime, path: &Path) -> Result<(), Failure> {
    let open = || runtime.block_on(Store::<()>::open(Config::new(Place::Directory(path.to_owned()))));
    let before = resident()?;
    let store = open()?;
    runtime.block_on(async {
        for number in 0..100 {
            let write = |at| {
                Write::create(format!("/registry/pods/default/pod-{number:03}-{at:03}"), vec![b'x'; 3464])
            };
            store.commit(Txn { writes: (0..100).map(write).collect() }).await.expect("the disk takes it");
        }
    });
    let filled = resident()?;
    runtime.block_on(store.close());
    drop(store);
    let began = Instant::now();
    let store = open()?;
    let took = began.elapsed();
    let pods = store.range("/registry/pods/", store::Range::default())?.entries.len();
    println!(
        "{pods} pods of 3,464 bytes: {:.1} MB more resident memory; the next start takes {:.0} ms",
        (filled - before) / 1e6,
        took.as_secs_f64() * 1e3
    );
    runtime.block_on(store.close());
    Ok(())
}

fn resident() -> Result<f64, IoError> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    Ok(pages.unwrap_or_default() * 4096.0)
}

/// A running etcd, killed when this goes out of scope.
struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    fn start(folder: &Path) -> Option<Server> {
        let url = || {
            let listener = TcpListener::bind("127.0.0.1:0").ok()?;
            Some(format!("http://127.0.0.1:{}", listener.local_addr().ok()?.port()))
        };
        let (endpoint, peer) = (url()?, url()?);
        let mut command = Command::new("etcd");
        command.args(["--log-level", "error", "--name", "one", "--data-dir"]).arg(folder.join("etcd"));
        command.args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.arg("--initial-cluster").arg(format!("one={peer}"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if child.is_err() {
            println!("no etcd here: `apt-get install etcd-server` brings it");
        }
        Some(Server { child: child.ok()?, endpoint })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
