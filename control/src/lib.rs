//! Runs the controllers and the scheduler against an API server, ours or another. What decides is pure: the controllers
//! and the scheduler in their crates, here a controller's [`work`] with its [`queue`] of keys and what is [`pending`], what
//! an [`answer`] means, the [`correlate`]d events and the [`lead`]er's lease. The rest puts decisions into requests.
#![forbid(unsafe_code)]

pub mod answer;
mod apply;
pub mod correlate;
mod known;
pub mod lead;
mod metrics;
pub mod pending;
pub mod queue;
mod record;
mod run;
mod schedule;
mod sign;
pub mod work;

use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Client};
use controllers::{Controller, Facts};
use proto_kube::{GroupResource, resource};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use metrics::Metrics;
pub use sign::Signing;

use apply::Hand;
use lead::Candidate;
use record::Recorder;
use run::Runner;
use schedule::{Scheduler, Teller};

/// Upstream's names of the two processes whose work this is, and of their leases.
const CONTROLLERS: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
/// How long what is under way may take when all is to end.
const GRACE: Duration = Duration::from_secs(5);

/// What runs, for whom.
#[derive(Clone)]
pub struct Config {
    /// The objects, watched once for all.
    pub cache: Cache,
    /// In whose name each component acts: a controller by its own name, as `replicaset-controller` (that is
    /// `system:serviceaccount:kube-system:replicaset-controller`), and `kube-controller-manager` and `kube-scheduler` (the
    /// users `system:kube-controller-manager` and `system:kube-scheduler`).
    pub client_of: Arc<dyn Fn(&'static str) -> Client + Send + Sync>,
    /// Who this process is among those that want the same leases: the host's name and something random.
    pub identity: String,
    /// Whether there may be others. Alone it starts at once.
    pub leader_election: bool,
    /// What controllers must know of the cluster.
    pub facts: Facts,
    /// The authority that signs certificates; without it none are signed here.
    pub signer: Option<Signing>,
    /// The `spec.schedulerName` of the pods that are placed here.
    pub scheduler_name: String,
    /// Counts what is done.
    pub metrics: Metrics,
    /// Who works here: names of controllers, `kube-scheduler`, and `*` for all that are not left out as `-NAME`. Others'
    /// work is done by somebody else, as upstream's `kube-controller-manager`.
    pub workers: Vec<String>,
}

impl Config {
    /// A process that is alone, with upstream's scheduler name.
    #[must_use]
    pub fn new(
        cache: Cache,
        client_of: Arc<dyn Fn(&'static str) -> Client + Send + Sync>,
        identity: String,
    ) -> Self {
        Self {
            cache,
            client_of,
            identity,
            leader_election: false,
            facts: known::facts(),
            signer: None,
            scheduler_name: "default-scheduler".to_owned(),
            metrics: Metrics::default(),
            workers: vec!["*".to_owned()],
        }
    }

    fn has(&self, name: &str) -> bool {
        let told = |name: &str| self.workers.iter().any(|worker| worker == name);
        told(name) || told("*") && !told(&format!("-{name}"))
    }
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has this name.
    #[error("there is no controller {name}")]
    Unknown {
        /// As it was given.
        name: String,
    },
    /// A controller reads something that the API does not have.
    #[error("the controller {controller} reads {resource}, which does not exist")]
    Resource {
        /// Whose name.
        controller: &'static str,
        /// What.
        resource: String,
    },
}

/// Runs all controllers and the scheduler until `shutdown`. Each half waits for its lease where there may be others, gives
/// it back at the end, and stops at once when it is lost.
///
/// # Errors
/// When a controller is not fit to run; nothing has been started then.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let mut controllers: Vec<Arc<dyn Controller>> = controllers::all().into_iter().map(Arc::from).collect();
    let known = |worker: &&String| {
        let name = worker.strip_prefix('-').unwrap_or(worker);
        matches!(name, "*" | SCHEDULER) || controllers.iter().any(|c| c.name() == name)
    };
    if let Some(unknown) = config.workers.iter().find(|worker| !known(worker)) {
        return Err(Error::Unknown { name: unknown.clone() });
    }
    controllers.retain(|controller| config.has(controller.name()));
    for controller in &controllers {
        reads(controller.as_ref())?;
    }
    let controlling = async {
        if !controllers.is_empty() {
            half(&config, CONTROLLERS, &shutdown, |stop| control(&config, &controllers, stop)).await;
        }
    };
    let scheduling = async {
        if config.has(SCHEDULER) {
            half(&config, SCHEDULER, &shutdown, |stop| schedule(&config, stop)).await;
        }
    };
    tokio::join!(controlling, scheduling, shutdown.cancelled());
    Ok(())
}

/// Works at once, or as long as the lease is held.
async fn half<F: Future<Output = ()>>(
    config: &Config,
    name: &'static str,
    shutdown: &CancellationToken,
    work: impl Fn(CancellationToken) -> F,
) {
    let work = |stop: CancellationToken| {
        let work = work(stop.clone());
        async move {
            let late = async {
                stop.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                () = work => {}
                () = late => tracing::warn!(name, "left with requests under way"),
            }
        }
    };
    if !config.leader_election {
        return work(shutdown.clone()).await;
    }
    let candidate = Candidate::new(name, config.identity.clone());
    let leads = |leads| config.metrics.set(metrics::LEADING, ("name", name), usize::from(leads));
    leads(false);
    lead::while_leading(&(config.client_of)(name), candidate, shutdown.clone(), leads, work).await;
}

async fn control(config: &Config, controllers: &[Arc<dyn Controller>], stop: CancellationToken) {
    let (recorder, writer) = Recorder::new(config.client_of.clone(), stop.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(writer);
    for controller in controllers {
        let hand = Hand {
            name: controller.name(),
            client: (config.client_of)(controller.name()),
            recorder: recorder.clone(),
            signer: config.signer.clone(),
            reads: reads(controller.as_ref()).unwrap_or_default(),
        };
        let runner = Runner {
            controller: controller.clone(),
            cache: config.cache.clone(),
            facts: config.facts.clone(),
            hand: Arc::new(hand),
            metrics: config.metrics.clone(),
        };
        tasks.spawn(runner.run(stop.clone()));
    }
    drop(recorder);
    while tasks.join_next().await.is_some() {}
}

async fn schedule(config: &Config, stop: CancellationToken) {
    let (recorder, writer) = Recorder::new(config.client_of.clone(), stop.clone());
    let teller = Teller {
        client: (config.client_of)(SCHEDULER),
        recorder,
        name: config.scheduler_name.clone(),
        identity: format!("{}-{}", config.scheduler_name, config.identity),
    };
    let scheduler = Scheduler::new(config.cache.clone(), teller, config.metrics.clone());
    tokio::join!(writer, scheduler.run(stop));
}

/// The resources that a controller reads.
fn reads(controller: &dyn Controller) -> Result<Vec<GroupResource<'static>>, Error> {
    let of = |(group, plural): &(&'static str, &'static str)| {
        let wanted = GroupResource { group, resource: plural };
        resource::preferred(wanted)
            .map(proto_kube::Resource::group_resource)
            .ok_or_else(|| Error::Resource { controller: controller.name(), resource: wanted.to_string() })
    };
    controller.watches().iter().map(of).collect()
}
