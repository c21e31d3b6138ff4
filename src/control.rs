//! `cleat control`: the API server and its store, and the way in for its administrator.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use apiserver::admin::{self, Order, Outcome};
use apiserver::{Bound, Config, Server};

use crate::args::{Control, ControlVerb};
use crate::daemon;
use crate::output::{BOLD, paint};
use crate::paths::Paths;

pub(crate) async fn run(control: Control) -> anyhow::Result<()> {
    let paths = Paths::resolve(&control.dirs)?;
    match &control.verb {
        None => serve(&control, &paths).await,
        Some(ControlVerb::Backup { file }) => backup(&paths, file).await,
        Some(ControlVerb::Restore { file }) => restore(&paths, file).await,
    }
}

async fn serve(control: &Control, paths: &Paths) -> anyhow::Result<()> {
    let began = Instant::now();
    let _lock = daemon::lock(paths, "control")?;
    let config = config(control, paths)?;
    let kubeconfig = config.kubeconfig.clone().unwrap_or_default();
    let shutdown = daemon::shutdown_on_signal()?;
    allow_many_files();
    let server = Server::open(config).await?;
    let bound = Bound::new(server).await?;
    welcome(&bound, &kubeconfig, control.store.as_deref(), paths, began);
    bound.run(shutdown).await;
    Ok(())
}

fn config(control: &Control, paths: &Paths) -> anyhow::Result<Config> {
    let absolute = |path: &PathBuf| std::path::absolute(path);
    let mut config = Config::in_memory();
    config.etcd = control.store.as_deref().map(|url| etcd(url, control)).transpose()?;
    config.listen.clone_from(&control.listen);
    config.advertise = control.advertise_address.unwrap_or_else(own_address);
    config.names.clone_from(&control.tls_san);
    config.names.extend(rustix::system::uname().nodename().to_str().map(str::to_owned).ok());
    config.service_cidrs.clone_from(&control.service_cidr);
    config.issuer.clone_from(&control.service_account_issuer);
    config.audit_log = control.audit_log.as_ref().map(absolute).transpose()?;
    config.kubeconfig = Some(match &control.kubeconfig {
        Some(path) => absolute(path)?,
        None => paths.data.join("control/admin.kubeconfig"),
    });
    config.socket = Some(paths.control_socket());
    config.data = Some(paths.data.clone());
    Ok(config)
}

/// Each connection is an open file, and shells allow few of those unless asked.
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the number of open files stays limited");
    }
}

/// Reads `etcd://HOST:PORT[,HOST:PORT]`.
fn etcd(url: &str, control: &Control) -> anyhow::Result<store::Etcd> {
    let hosts = url.strip_prefix("etcd://").map(|hosts| hosts.split(',').collect::<Vec<_>>());
    let Some(hosts) = hosts.filter(|hosts| hosts.iter().all(|host| host.contains(':'))) else {
        bail!("--store {url}: expected etcd://HOST:PORT[,HOST:PORT]");
    };
    let tls = match (&control.store_ca, &control.store_cert, &control.store_key) {
        (Some(ca), Some(certificate), Some(key)) => {
            Some(store::Tls { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoints = hosts.iter().map(|host| format!("{scheme}://{host}")).collect();
    Ok(store::Etcd { endpoints, tls })
}

/// The address from which the default route would be taken; the loopback's where there is none. Nothing is sent.
fn own_address() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address of the documentation's range: never anybody's.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    ask().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

fn welcome(bound: &Bound, kubeconfig: &Path, store: Option<&str>, paths: &Paths, began: Instant) {
    let server: &Arc<Server> = bound.server();
    let addresses: Vec<String> = bound.addresses().iter().map(|a| format!("https://{a}")).collect();
    let (major, minor) = apiserver::route::VERSION;
    let own = std::env::args().next().unwrap_or_else(|| "cleat".into());
    println!(
        "{}",
        paint(
            &format!("cleat {} control plane, Kubernetes {major}.{minor}", env!("CARGO_PKG_VERSION")),
            BOLD
        )
    );
    println!("  API        {}", addresses.join(", "));
    match store {
        Some(url) => println!("  store      {url}, revision {}", server.store.revision()),
        None => println!(
            "  store      {}, revision {}",
            paths.data.join("control/store").display(),
            server.store.revision()
        ),
    }
    println!("  ready      in {} ms", began.elapsed().as_millis());
    println!("Next, in another terminal:");
    println!("  export KUBECONFIG={}", kubeconfig.display());
    println!("  kubectl get namespaces");
    println!("  {own} control backup{} FILE", paths.flags());
    println!("Ctrl-C stops the control plane; running pods go on.\n");
}

async fn backup(paths: &Paths, file: &Path) -> anyhow::Result<()> {
    let file = std::path::absolute(file)?;
    match order(paths, &Order::Backup(file.clone())).await? {
        Some(Outcome::BackedUp(revision)) => {
            println!("{}: everything as of revision {revision}", file.display());
            Ok(())
        }
        Some(outcome) => bail!("{}", failure(outcome)),
        None => bail!("no control plane runs in {}: start it first", paths.run.display()),
    }
}

async fn restore(paths: &Paths, file: &Path) -> anyhow::Result<()> {
    let file = std::path::absolute(file)?;
    match order(paths, &Order::Restore(file.clone())).await? {
        Some(Outcome::Restored(changes, revision)) => {
            println!("restored by {changes} changes; the store is at revision {revision}");
            Ok(())
        }
        Some(outcome) => bail!("{}", failure(outcome)),
        None => {
            // Nobody may start while the directory is written.
            let _lock = daemon::lock(paths, "control")?;
            let directory = paths.data.join("control/store");
            store::restore(&file, &directory)
                .with_context(|| format!("restoring into {}", directory.display()))?;
            println!("{}: restored; start it with `cleat control{}`", directory.display(), paths.flags());
            Ok(())
        }
    }
}

/// What the running control plane makes of an order; `None` when none runs.
async fn order(paths: &Paths, order: &Order) -> anyhow::Result<Option<Outcome>> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let socket = paths.control_socket();
    match admin::order(&socket, order).await {
        Ok(outcome) => Ok(Some(outcome)),
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("talking to {}", socket.display())),
    }
}

fn failure(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(why) => why,
        other => format!("unexpected answer: {other:?}"),
    }
}
