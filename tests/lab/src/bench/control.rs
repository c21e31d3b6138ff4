//! `cargo xtask bench control`: the API server and its store. The store stands beside etcd in one run; the API server
//! beside upstream's where a kubeconfig names one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::{Client, Config, Query, WatchEvent};
use proto_kube::{Resource, resource};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::process::Memory;
use super::table::{Budget, Table, rank};
use super::{count, millis};

const STARTS: usize = 5;
const CLIENTS: usize = 8;
const LOAD: Duration = Duration::from_secs(5);
const VALUE_BYTES: usize = 3000;
const READS: usize = 1000;
const LISTED: usize = 1000;
const WATCHED: usize = 300;
const PODS: usize = 10_000;
const WATCHERS: usize = 1000;

/// What one API server needed; milliseconds where nothing else is said.
struct Figures {
    creates_a_second: f64,
    create: Vec<f64>,
    get: Vec<f64>,
    list: Vec<f64>,
    delivery: Vec<f64>,
}

/// The times of one kind of request.
type Times = fn(&Figures) -> &[f64];

/// Measures and prints the table.
pub(crate) async fn run(programs: &Path, peer: Option<&Path>) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine before the run: {} (times mean little unless it was quiet)", load.trim());
    let mut ready = Vec::new();
    for _ in 0..STARTS {
        ready.push(Server::start(programs, &[]).await?.ready_ms);
    }
    let server = Server::start(programs, &[]).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let empty_kb = Memory::of(server.child.id()).context("cleat control is gone")?.pss;
    eprintln!("cleat control: load");
    let ours = figures(&server.config).await?;
    let theirs = match peer {
        Some(kubeconfig) => {
            eprintln!("{}: load", kubeconfig.display());
            Some(figures(&Config::load(kubeconfig, None)?).await?)
        }
        None => None,
    };
    drop(server);
    eprintln!("cleat control: {PODS} pods, {WATCHERS} watchers");
    // As upstream's API server, which is a process of its own; and with all that `cleat control` runs.
    let (full_kb, whole_kb) = (full(programs, &["--controllers="]).await?, full(programs, &[]).await?);
    eprintln!("the stores alone");
    let stores = (store_of_ours().await?, store_on_etcd().await?);
    let mut table = Table::beside("upstream");
    let kilobytes = |kb: u64| kb as f64 / 1000.0;
    let of = |figure: &dyn Fn(&Figures) -> f64| theirs.as_ref().map_or(f64::NAN, figure);
    table.row("time to ready, ms", rank(&ready, 50), f64::NAN, Budget::AtMost(500.0));
    table.row("memory, empty, MB PSS", kilobytes(empty_kb), f64::NAN, Budget::AtMost(50.0));
    let name = format!("{PODS} pods, {WATCHERS} watchers, MB PSS");
    table.row(&name, kilobytes(full_kb), f64::NAN, Budget::AtMost(150.0));
    table.row("  with controllers, scheduler", kilobytes(whole_kb), f64::NAN, Budget::None);
    let name = format!("durable creates/s, {CLIENTS} clients");
    table.row(&name, ours.creates_a_second, of(&|f| f.creates_a_second), Budget::AtLeast(2000.0));
    let rows: [(&str, Times); 4] = [
        ("create", |f| &f.create),
        ("get", |f| &f.get),
        ("list of 1,000", |f| &f.list),
        ("watch delivery", |f| &f.delivery),
    ];
    for (name, times) in rows {
        for percent in [50, 99] {
            let ours = rank(times(&ours), percent);
            table.row(
                &format!("{name} p{percent}, ms"),
                ours,
                of(&|f| rank(times(f), percent)),
                Budget::None,
            );
        }
    }
    table.print();
    let mut table = Table::beside("on etcd");
    table.row(
        &format!("store alone, commits/s, {CLIENTS} clients"),
        stores.0,
        stores.1,
        Budget::AtLeast(2000.0),
    );
    table.print();
    Ok(())
}

/// A running `cleat control` of our own.
struct Server {
    child: std::process::Child,
    config: Config,
    ready_ms: f64,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start(programs: &Path, more: &[&str]) -> Result<Server> {
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("admin.kubeconfig");
        let mut command = Command::new(programs.join("cleat"));
        command.args(["control", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
        command.arg("--kubeconfig").arg(&kubeconfig).args(more).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(std::fs::File::create(folder.path().join("log"))?);
        let start = Instant::now();
        let mut child = command.spawn().context("cleat control")?;
        loop {
            if let Some(status) = child.try_wait()? {
                let log = std::fs::read_to_string(folder.path().join("log"))?;
                bail!("cleat control ended with {status}: {log}");
            }
            if let Ok(config) = Config::load(&kubeconfig, None)
                && client(&config)?.bytes(http::Method::GET, "/readyz", None, "*/*").await.is_ok()
            {
                let ready_ms = millis(start.elapsed());
                return Ok(Server { child, config, ready_ms, _folder: folder });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(config: &Config) -> Result<Client> {
    Ok(Client::new(config, "cleat-bench/1")?)
}

fn kind(plural: &str) -> Result<&'static Resource> {
    resource::find("", "v1", plural).context("a resource of the core group")
}

async fn figures(config: &Config) -> Result<Figures> {
    let (resource, one) = (kind("configmaps")?, client(config)?);
    for namespace in ["bench", "bench-list", "bench-watch"] {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        one.create(kind("namespaces")?, "", &object, Query::default()).await?;
    }
    let (creates_a_second, create) = creates(config).await?;
    let object = config_map("one");
    one.create(resource, "bench-list", &object, Query::default()).await?;
    let mut get = Vec::new();
    for _ in 0..READS {
        let start = Instant::now();
        one.get(resource, "bench-list", "one").await?;
        get.push(millis(start.elapsed()));
    }
    for number in 1..LISTED {
        one.create(resource, "bench-list", &config_map(&format!("c{number}")), Query::default()).await?;
    }
    let mut list = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        one.bytes(http::Method::GET, &resource.path("bench-list", ""), None, "application/json").await?;
        list.push(millis(start.elapsed()));
    }
    let delivery = delivery(config).await?;
    Ok(Figures { creates_a_second, create, get, list, delivery })
}

fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
        "data": { "value": "x".repeat(VALUE_BYTES) },
    })
}

/// Clients with a connection each, for a while.
async fn creates(config: &Config) -> Result<(f64, Vec<f64>)> {
    let (resource, mut clients) = (kind("configmaps")?, JoinSet::new());
    let start = Instant::now();
    for number in 0..CLIENTS {
        let one = client(config)?;
        clients.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < LOAD {
                let object = config_map(&format!("c{number}-{}", times.len()));
                let begun = Instant::now();
                one.create(resource, "bench", &object, Query::default()).await?;
                times.push(millis(begun.elapsed()));
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = clients.join_next().await {
        times.extend(done??);
    }
    Ok((count(times.len()) / start.elapsed().as_secs_f64(), times))
}

/// From the moment a create is sent until a watcher on another connection has the object.
async fn delivery(config: &Config) -> Result<Vec<f64>> {
    let (resource, one) = (kind("configmaps")?, client(config)?);
    let mut watch = client(config)?.watch(resource, "bench-watch", Query::default()).await?;
    let mut times = Vec::new();
    for number in 0..WATCHED {
        let object = config_map(&format!("c{number}"));
        let start = Instant::now();
        let sent = tokio::spawn({
            let one = one.clone();
            async move { one.create(resource, "bench-watch", &object, Query::default()).await }
        });
        loop {
            match watch.next().await?.context("the watch ended")? {
                WatchEvent::Added(object) if proto_kube::object::name(&object) == format!("c{number}") => {
                    break;
                }
                _ => {}
            }
        }
        times.push(millis(start.elapsed()));
        sent.await??;
    }
    Ok(times)
}

/// The memory of a server that is in use, in kilobytes.
async fn full(programs: &Path, more: &[&str]) -> Result<u64> {
    let server = Server::start(programs, more).await?;
    let (pods, mut work) = (kind("pods")?, JoinSet::new());
    let done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for _ in 0..CLIENTS {
        let (one, done) = (client(&server.config)?, done.clone());
        work.spawn(async move {
            loop {
                let number = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= PODS {
                    return Ok::<_, anyhow::Error>(());
                }
                one.create(pods, "default", &pod(number), Query::default()).await?;
            }
        });
    }
    while let Some(done) = work.join_next().await {
        done??;
    }
    // As many agents, each with a connection and the pods of its node.
    let mut watches = Vec::new();
    for number in 0..WATCHERS {
        let query = Query::default().with("fieldSelector", &format!("spec.nodeName=node-{number}"));
        let one = client(&server.config)?;
        watches.push((one.watch(pods, "", query).await?, one));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(Memory::of(server.child.id()).context("cleat control is gone")?.pss)
}

/// A pod as a workload has it: some kilobytes.
fn pod(number: usize) -> Value {
    let env: Vec<Value> = (0..12)
        .map(|n| json!({ "name": format!("SETTING_{n}"), "value": format!("a value of some length, number {n}") }))
        .collect();
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example/team/{name}:1.2.3"), "env": env,
            "ports": [{ "containerPort": 8080 }],
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "memory": "128Mi" } },
            "readinessProbe": { "httpGet": { "path": "/ready", "port": 8080 } },
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("pod-{number}"), "labels": { "app": "bench", "number": number.to_string() } },
        "spec": {
            "nodeName": format!("node-{}", number % WATCHERS),
            "containers": [container("app"), container("sidecar")],
        },
    })
}

async fn store_of_ours() -> Result<f64> {
    let folder = tempfile::tempdir()?;
    commits(store::Place::Directory(folder.path().join("store"))).await
}

/// Our store over Debian's etcd.
async fn store_on_etcd() -> Result<f64> {
    let etcd = tokio::task::spawn_blocking(lab::Etcd::start).await??;
    let endpoints = vec![format!("http://{}", etcd.address())];
    commits(store::Place::Etcd(store::Etcd { endpoints, tls: None })).await
}

async fn commits(place: store::Place) -> Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let store = loop {
        match store::Store::<()>::open(store::Config::new(place.clone())).await {
            Ok(store) => break store,
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    let (mut work, start) = (JoinSet::new(), Instant::now());
    for number in 0..CLIENTS {
        let store = store.clone();
        work.spawn(async move {
            let mut done = 0;
            while start.elapsed() < LOAD {
                let key = format!("/registry/bench/{number}/{done}");
                store.commit(store::Txn::one(store::Write::create(key, vec![b'x'; VALUE_BYTES]))).await?;
                done += 1;
            }
            Ok::<usize, store::CommitError>(done)
        });
    }
    let mut done = 0;
    while let Some(one) = work.join_next().await {
        done += one??;
    }
    Ok(count(done) / start.elapsed().as_secs_f64())
}
