//! `cleat up`: the CRI server and the agent in one process, and a screen that says what runs.

use std::path::Path;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::args::Up;
use crate::daemon::{self, agent_config, cri_config};
use crate::network;
use crate::output::{BOLD, paint};
use crate::paths::Paths;
use crate::progress;

pub(crate) async fn run(up: Up) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("`cleat up` makes namespaces, mounts and cgroups: run it as root");
    }
    let paths = Paths::resolve(&up.dirs)?;
    let _lock = daemon::lock(&paths, "cleat")?;
    let agent = agent_config(&paths, &up.node, up.manifests.as_deref())?;
    let mut cri = cri_config(&paths, &up.runtime)?;
    if up.runtime.cni_conf_dir.is_none() {
        cri.cni_conf_dir = network::configure(&paths, &up.network, &up.plane.pod_cidr)?;
    }
    let shutdown = daemon::shutdown_on_signal()?;
    let node_name = agent.node_name.clone();
    let server = cri::Server::open(cri).await.context("starting the CRI server")?;
    let screen = tokio::spawn(screen(paths.clone(), up.manifests.is_some(), server.images().clone()));
    welcome(&paths, &node_name, up.manifests.as_deref());
    let served = serve(server, agent, shutdown).await;
    screen.abort();
    served?;
    eprintln!(
        "cleat stopped; its pods go on. `cleat up` takes them up again, `cleat down{}` ends them.",
        paths.flags()
    );
    Ok(())
}

/// Runs both until one fails or `shutdown` is cancelled; either's end is the other's.
pub(crate) async fn serve(
    server: cri::Server,
    agent: agent::Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let both = shutdown.child_token();
    let ends = |name: &'static str| {
        let both = both.clone();
        move |result: anyhow::Result<()>| {
            both.cancel();
            result.context(name)
        }
    };
    let cri = async { ends("the CRI server ended")(server.run(both.clone()).await.map_err(Into::into)) };
    let agent = async { ends("the agent ended")(agent::run(agent, both.clone()).await.map_err(Into::into)) };
    let (cri, agent) = tokio::join!(cri, agent);
    cri.and(agent)
}

fn welcome(paths: &Paths, node: &str, manifests: Option<&Path>) {
    let flags = paths.flags();
    let own = std::env::args().next().unwrap_or_else(|| "cleat".into());
    println!("{}", paint(&format!("cleat {} on node {node}", env!("CARGO_PKG_VERSION")), BOLD));
    println!("  CRI v1     {}", paths.cri_socket().display());
    println!("  state      {}", paths.data.display());
    match manifests {
        Some(dir) => println!("  manifests  {} (edit, add or remove files at any time)", dir.display()),
        None => println!("  manifests  none; name a directory with --manifests DIR"),
    }
    println!("Next, in another terminal:");
    // The directories come before the verb: after `--` they would be the container's arguments.
    for (command, what) in [
        ("ctl get pods -o wide", "the pods and their addresses"),
        ("ctl describe pod NAME", "one pod, what it waits for, its events"),
        ("ctl logs NAME -c CONTAINER -f", "what it prints"),
        ("ctl exec -it NAME -c CONTAINER -- sh", "a shell in it"),
        ("image ls", "the images"),
        ("down", "end all pods and leave nothing"),
    ] {
        let (group, rest) = command.split_once(' ').unwrap_or((command, ""));
        println!("  {:<52} {what}", format!("{own} {group}{flags} {rest}").trim_end());
    }
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
