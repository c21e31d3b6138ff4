//! `cleat down`: ends all pods, gently, and removes what the node made outside its data directory.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use client::{Client, ClientError};
use proto_cri::{ListPodSandboxRequest, PodSandbox, RemovePodSandboxRequest, StopPodSandboxRequest};
use proto_kube::object;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::args::{self, Down};
use crate::daemon::{self, agent_config, cri_config};
use crate::drain;
use crate::network;
use crate::node::Node;
use crate::paths::Paths;
use crate::up::serve;

/// Asks the API server who we are.
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const WHO_BODY: &str = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
/// How long a running daemon may take to stop; it leaves its pods, so it has little to do.
const STOP_SECONDS: u64 = 10;
/// How long nothing may change with pods that end, beside the longest of their grace periods.
const STALLED: Duration = Duration::from_secs(600);
/// How often what is waited for is told.
const SAY: Duration = Duration::from_secs(30);
/// How long giving a name back may take.
const GIVE_BACK: Duration = Duration::from_secs(5);

pub(crate) async fn run(down: Down) -> anyhow::Result<()> {
    daemon::require_root()?;
    let paths = Paths::resolve(&down.dirs)?;
    let ended = end(&paths, &down.dirs, &down.runtime, Duration::from_secs(down.timeout)).await?;
    println!("{ended} pods ended; {} keeps images and logs", paths.data.display());
    Ok(())
}

/// Gives pods away for as long as `limit`, ends the others, and takes away what the node had of the network. Gives how
/// many pods were ended.
pub(crate) async fn end(
    paths: &Paths,
    dirs: &args::Dirs,
    runtime: &args::Runtime,
    limit: Duration,
) -> anyhow::Result<usize> {
    if !limit.is_zero() && paths.node().join("kubeconfig").exists() {
        give_away(paths, limit).await;
    }
    let mut locks = Vec::new();
    for who in ["cleat", "agent", "cri"] {
        locks.push(take_over(paths, who).await?);
    }
    // An agent without manifests ends every pod it finds, as it would one whose manifest was removed.
    let mut agent = agent_config(paths, &args::Node::default(), None)?;
    // Its pods are found by the name it had when they were made.
    if let Some(name) = agent::kept_name(&paths.data).context("reading the name that the node had")? {
        agent.node_name = name;
    }
    // A link leads to another's server, which runs by itself and may have pods that are none of ours.
    let own = !paths.cri_socket().is_symlink();
    let server = match own {
        true => Some(cri::Server::open(cri_config(paths, runtime)?).await?),
        false => None,
    };
    let shutdown = CancellationToken::new();
    let drained = async {
        let result = drain(&Node::new(dirs)?, own, &shutdown).await;
        shutdown.cancel();
        result
    };
    let (served, drained) = tokio::join!(serve(server, agent, shutdown.clone()), drained);
    let ended = drained.and_then(|ended| served.map(|()| ended))?;
    // A control plane of this machine hears of the pods' end before its own.
    locks.push(take_over(paths, "control").await?);
    give_name_back(paths).await;
    network::remove(paths).context("removing the pods' bridge")?;
    if in_cluster(paths) {
        leave(paths)?;
    }
    Ok(ended)
}

/// Whether this machine is, or was, a cluster or a node of one.
fn in_cluster(paths: &Paths) -> bool {
    paths.node().exists() || paths.data.join("control").exists()
}

/// Lets other nodes take over what runs here. What they do not take ends with the rest.
async fn give_away(paths: &Paths, limit: Duration) {
    let Ok(config) = kubeconfig(paths) else { return };
    let given = async {
        let (client, name) = member(&config).await?;
        Ok::<_, ClientError>(drain::drain(&client, &name, limit).await)
    };
    match tokio::time::timeout(limit, given).await {
        Ok(Ok((gone, None))) => println!("{gone} pods given away"),
        Ok(Ok((gone, Some(error)))) => eprintln!("{gone} pods given away; the others end here: {error}"),
        Ok(Err(error)) => eprintln!("no pods given away: {error}"),
        Err(_) => eprintln!("not all pods given away: the control plane took too long"),
    }
}

/// Lets another machine have the node's name.
async fn give_name_back(paths: &Paths) {
    let Ok(config) = kubeconfig(paths) else { return };
    let given = async {
        let (client, name) = member(&config).await?;
        agent::release(&client, &name, &paths.data).await
    };
    match tokio::time::timeout(GIVE_BACK, given).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => eprintln!("the node's name is not given back, and free in a minute: {error}"),
        Err(_) => {
            eprintln!("the node's name is not given back, and free in a minute: no control plane answers")
        }
    }
}

/// How this machine reaches the cluster that it is a node of.
fn kubeconfig(paths: &Paths) -> Result<client::Config, client::KubeconfigError> {
    client::Config::load(&paths.node().join("kubeconfig"), None)
}

/// A client of the cluster, and which node it speaks for.
async fn member(config: &client::Config) -> Result<(Client, String), ClientError> {
    let client = Client::new(config, concat!("cleat-down/", env!("CARGO_PKG_VERSION")))?;
    let me = client.call(http::Method::POST, WHO, Some(("application/json", WHO_BODY.into()))).await?;
    let user = object::text(&me, &["status", "userInfo", "username"]);
    let name = user.trim_start_matches("system:node:").to_owned();
    Ok((client, name))
}

/// Takes away what the node had of the cluster's network.
fn leave(paths: &Paths) -> anyhow::Result<()> {
    let cleanup = overlay::Cleanup {
        device: "cleat".to_owned(),
        bridge: "cleat0".to_owned(),
        cni_conf_dir: paths.data.join("cni/net.d"),
        run_dir: paths.run.clone(),
    };
    let overlay = overlay::cleanup(&cleanup).context("removing the network between nodes");
    let proxy = proxy::cleanup().context("removing the rules of services");
    let dns = dns::cleanup(&paths.run).context("removing the address of the name service");
    overlay.and(proxy).and(dns)
}

/// Ends a running daemon and takes its place.
async fn take_over(paths: &Paths, who: &str) -> anyhow::Result<daemon::Lock> {
    let file = daemon::lock_file(paths, who);
    if let Some(lock) = daemon::try_lock(&file)? {
        return Ok(lock);
    }
    let holder = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let pid = holder.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.with_context(|| format!("{} names no process", file.display()))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .with_context(|| format!("stopping {}", daemon::program(who)))?;
    for _ in 0..STOP_SECONDS * 20 {
        if let Some(lock) = daemon::try_lock(&file)? {
            return Ok(lock);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("process {} did not stop within {STOP_SECONDS} s", holder.trim())
}

/// Waits until the agent has ended its pods, then removes sandboxes that no agent knew where the CRI server is our own.
/// Returns how many pods there were.
async fn drain(node: &Node, own: bool, shutdown: &CancellationToken) -> anyhow::Result<usize> {
    let mut patience = Patience::new(Instant::now());
    while !shutdown.is_cancelled()
        && let Err(error) = node.json("/pods").await
    {
        patience.wait(vec![format!("the agent, which says: {error:#}")], Duration::ZERO)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut most = 0;
    loop {
        let left = node.pods(None).await?;
        most = most.max(left.len());
        if left.is_empty() {
            break;
        }
        patience.wait(left.iter().map(told).collect(), left.iter().map(grace).max().unwrap_or_default())?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if !own {
        return Ok(most);
    }
    let mut runtime = node.runtime().await?;
    let strays: Vec<PodSandbox> =
        runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?.into_inner().items;
    most += strays.len();
    for PodSandbox { id, .. } in strays {
        runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await?;
        runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await?;
    }
    Ok(most)
}

/// A pod that is left, for people; it changes as the pod ends.
fn told(pod: &Value) -> String {
    let containers = ["initContainerStatuses", "containerStatuses"].into_iter();
    let containers = containers.flat_map(|kind| object::items(pod, &["status", kind]));
    let running = containers.filter(|container| container["state"]["running"].is_object()).count();
    format!("pod {}/{}, containers running: {running}", object::namespace(pod), object::name(pod))
}

/// How long a pod may take by its own account.
fn grace(pod: &Value) -> Duration {
    let seconds =
        [&pod["spec"]["terminationGracePeriodSeconds"], &pod["metadata"]["deletionGracePeriodSeconds"]];
    Duration::from_secs(seconds.into_iter().filter_map(Value::as_u64).max().unwrap_or_default())
}

/// What is left to wait for, and since when.
struct Patience {
    left: Vec<String>,
    changed: Instant,
    said: Instant,
}

/// What is to be done about what is left.
#[derive(Debug, PartialEq)]
enum Next {
    Wait,
    Say,
    GiveUp,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Self { left: Vec::new(), changed: now, said: now }
    }

    /// Decides; `grace` is the longest that what is left may take by its own account.
    fn next(&mut self, left: Vec<String>, grace: Duration, now: Instant) -> Next {
        if left != self.left {
            (self.left, self.changed) = (left, now);
        }
        if now.duration_since(self.changed) >= STALLED.saturating_add(grace) {
            return Next::GiveUp;
        }
        if now.duration_since(self.said) < SAY {
            return Next::Wait;
        }
        self.said = now;
        Next::Say
    }

    /// Says now and then what is waited for.
    ///
    /// # Errors
    /// Nothing has changed for too long.
    fn wait(&mut self, left: Vec<String>, grace: Duration) -> anyhow::Result<()> {
        match self.next(left, grace, Instant::now()) {
            Next::Wait => {}
            Next::Say => eprintln!("waiting for {}", self.left.join(", ")),
            Next::GiveUp => bail!(
                "nothing has changed for {} s, and there is still:\n  {}\nA second attempt with `--log info` says more",
                self.changed.elapsed().as_secs(),
                self.left.join("\n  ")
            ),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patience_ends_when_nothing_changes_for_longer_than_any_grace() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        let grace = Duration::from_secs(3600);
        let looks = [
            (0, "a", Next::Wait),
            (29, "a", Next::Wait),
            (30, "a", Next::Say),
            (31, "a", Next::Wait),
            (4000, "b", Next::Say),
            (8199, "b", Next::Say),
            (8200, "b", Next::GiveUp),
        ];
        for (second, left, next) in looks {
            let now = start + Duration::from_secs(second);
            assert_eq!(patience.next(vec![left.to_owned()], grace, now), next, "after {second} s");
        }
    }

    #[test]
    fn what_is_left_of_a_pod_is_told() {
        let pod = json!({
            "metadata": { "namespace": "d", "name": "p", "deletionGracePeriodSeconds": 5 },
            "spec": { "terminationGracePeriodSeconds": 90 },
            "status": { "containerStatuses": [{ "state": { "running": {} } }, { "state": { "terminated": {} } }] },
        });
        assert_eq!(told(&pod), "pod d/p, containers running: 1");
        assert_eq!((grace(&pod), grace(&Value::Null)), (Duration::from_secs(90), Duration::ZERO));
    }
}
