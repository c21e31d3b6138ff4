//! `cleat control`: the control plane alone, and its backups.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use apiserver::admin::{self, Order, Outcome};

use crate::args::{Control, ControlVerb};
use crate::daemon;
use crate::output::{BOLD, paint};
use crate::parts::Parts;
use crate::paths::Paths;
use crate::plane::ControlPlane;
use crate::up::hints;

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
    let shutdown = daemon::shutdown_on_signal()?;
    let plane = ControlPlane::open(&control.plane, control.identity.as_deref(), paths).await?;
    welcome(&plane, control.plane.store.as_deref(), paths, began);
    let mut parts = Parts::new();
    plane.start(&mut parts);
    parts.run(shutdown).await
}

fn welcome(plane: &ControlPlane, store: Option<&str>, paths: &Paths, began: Instant) {
    let revision = plane.server().store.revision();
    let (major, minor) = apiserver::route::VERSION;
    let title = format!("cleat {} control plane, Kubernetes {major}.{minor}", env!("CARGO_PKG_VERSION"));
    println!("{}", paint(&title, BOLD));
    println!("  API        {}", plane.addresses());
    match store {
        Some(url) => println!("  store      {url}, revision {revision}"),
        None => println!("  store      {}, revision {revision}", paths.data.join("control/store").display()),
    }
    println!("  ready      in {} ms", began.elapsed().as_millis());
    println!("Next, in another terminal:");
    println!("  export KUBECONFIG={}", plane.kubeconfig.display());
    hints(
        paths,
        Some(&plane.kubeconfig),
        &[
            ("ctl get nodes,pods -A -o wide", "what there is; kubectl does as well"),
            ("token create", "the command by which a node joins"),
            ("control backup FILE", "everything in one file, while it runs"),
        ],
    );
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
