//! `cleat up`: a cluster on this machine, control plane and node in one process; or a node alone. And a screen that says
//! what runs.

use std::path::Path;
use std::time::Instant;

use agent::ServingCertificate;
use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::Up;
use crate::daemon::{self, agent_config, cri_config};
use crate::network;
use crate::output::{BOLD, paint, program};
use crate::parts::Parts;
use crate::paths::Paths;
use crate::plane::ControlPlane;
use crate::progress;
use crate::worker::{Membership, Orders, Worker};

pub(crate) async fn run(up: Up) -> anyhow::Result<()> {
    daemon::require_root()?;
    let paths = Paths::resolve(&up.dirs)?;
    let _lock = daemon::lock(&paths, "cleat")?;
    if up.standalone {
        alone(&up, &paths).await?
    } else {
        cluster(&up, &paths).await?
    }
    eprintln!(
        "cleat stopped; its pods go on. `cleat up` takes them up again, `cleat down{}` ends them.",
        paths.flags()
    );
    Ok(())
}

/// Control plane and node.
async fn cluster(up: &Up, paths: &Paths) -> anyhow::Result<()> {
    let began = Instant::now();
    let shutdown = daemon::shutdown_on_signal()?;
    let plane = ControlPlane::open(&up.plane, None, paths).await?;
    let name = agent_config(paths, &up.node, None)?.node_name;
    let membership = Membership {
        agent: plane.cache(&format!("system:node:{name}"), &["system:nodes"]),
        proxy: plane.cache("system:kube-proxy", &[]),
        serving: ServingCertificate::open(&paths.node()),
        authority: watch::channel(plane.server().pki.bundle()).1,
        identity: None,
    };
    let orders = Orders {
        node: &up.node,
        network: &up.network,
        runtime: &up.runtime,
        manifests: up.manifests.as_deref(),
    };
    let worker = Worker::open(&orders, paths, plane.cluster(), membership).await?;
    let screen = worker.images().map(|images| tokio::spawn(progress::pulls(images)));
    introduce(&plane, &worker, paths, began);
    let mut parts = Parts::new();
    plane.start(&mut parts);
    worker.start(&mut parts);
    let ran = parts.run(shutdown).await;
    screen.inspect(tokio::task::JoinHandle::abort);
    ran
}

fn introduce(plane: &ControlPlane, worker: &Worker, paths: &Paths, began: Instant) {
    let (major, minor) = apiserver::route::VERSION;
    let title = format!("cleat {}, Kubernetes {major}.{minor}", env!("CARGO_PKG_VERSION"));
    println!("{}", paint(&title, BOLD));
    println!("  API        {}", plane.addresses());
    println!("  node       {}", worker.name());
    println!("  state      {}", paths.data.display());
    println!("  ready      in {} ms", began.elapsed().as_millis());
    println!("Next, in another terminal:");
    println!("  export KUBECONFIG={}", plane.kubeconfig.display());
    hints(
        paths,
        Some(&plane.kubeconfig),
        &[
            ("ctl get nodes,pods -A -o wide", "what there is; kubectl does as well"),
            ("ctl apply -f FILE", "what there should be"),
            ("why pod/NAME", "why something is not as it should be"),
            ("token create", "the command by which another machine joins"),
            ("down", "end all pods and stop; `reset` removes everything"),
        ],
    );
    println!("Ctrl-C stops cleat; the pods go on.\n");
}

/// Commands that find this node, or the cluster of a kubeconfig, and what each is for.
pub(crate) fn hints(paths: &Paths, kubeconfig: Option<&Path>, commands: &[(&str, &str)]) {
    let elsewhere = kubeconfig.filter(|kubeconfig| **kubeconfig != paths.admin_kubeconfig());
    // The directories come last: `cleat control` takes no flags before its verb. After `--` they would be the container's.
    let whole = |command: &str| {
        let (own, its) = command.split_at(command.find(" -- ").unwrap_or(command.len()));
        let asks_cluster = ["ctl ", "token ", "why "].iter().any(|group| command.starts_with(group));
        let flags = match elsewhere.filter(|_| asks_cluster) {
            Some(kubeconfig) => format!(" --kubeconfig {}", kubeconfig.display()),
            None => paths.flags(),
        };
        format!("{} {own}{flags}{its}", program())
    };
    let lines: Vec<_> = commands.iter().map(|(command, what)| (whole(command), what)).collect();
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, what) in lines {
        println!("  {command:<width$}  {what}");
    }
}

/// A node without a cluster.
async fn alone(up: &Up, paths: &Paths) -> anyhow::Result<()> {
    let mut agent = agent_config(paths, &up.node, up.manifests.as_deref())?;
    daemon::obey(&mut agent, &up.node)?;
    let mut cri = cri_config(paths, &up.runtime)?;
    if up.runtime.cni_conf_dir.is_none() {
        cri.cni_conf_dir = network::configure(paths, &up.network, &up.plane.pod_cidr)?;
    }
    let shutdown = daemon::shutdown_on_signal()?;
    let node_name = agent.node_name.clone();
    let server = cri::Server::open(cri).await.context("starting the CRI server")?;
    let screen = tokio::spawn(screen(paths.clone(), up.manifests.is_some(), server.images().clone()));
    welcome(paths, &node_name, up.manifests.as_deref());
    let served = serve(Some(server), agent, shutdown).await;
    screen.abort();
    served
}

/// Runs both until one fails or `shutdown` is cancelled; either's end is the other's.
pub(crate) async fn serve(
    server: Option<cri::Server>,
    agent: agent::Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut parts = Parts::new();
    if let Some(server) = server {
        parts.add("CRI server", |stop| server.run(stop));
    }
    parts.add("agent", |stop| agent::run(agent, stop));
    parts.run(shutdown).await
}

fn welcome(paths: &Paths, node: &str, manifests: Option<&Path>) {
    println!("{}", paint(&format!("cleat {} on node {node}", env!("CARGO_PKG_VERSION")), BOLD));
    println!("  CRI v1     {}", paths.cri_socket().display());
    println!("  state      {}", paths.data.display());
    match manifests {
        Some(dir) => println!("  manifests  {} (edit, add or remove files at any time)", dir.display()),
        None => println!("  manifests  none; name a directory with --manifests DIR"),
    }
    println!("Next, in another terminal:");
    hints(
        paths,
        None,
        &[
            ("ctl get pods -o wide", "the pods and their addresses"),
            ("ctl describe pod NAME", "one pod, what it waits for, its events"),
            ("ctl logs NAME -c CONTAINER -f", "what it prints"),
            ("ctl exec -it NAME -c CONTAINER -- sh", "a shell in it"),
            ("image ls", "the images"),
            ("down", "end all pods and leave nothing"),
        ],
    );
    println!("Ctrl-C stops cleat; the pods go on.\n");
}

/// Pull progress for as long as the node runs, and each pod's way to its first settled state.
async fn screen(paths: Paths, pods: bool, images: image::Store) {
    tokio::join!(progress::pulls(images), async {
        if pods {
            progress::pods(&paths).await;
        }
    });
}
