//! What ties the agent to a cluster: its place there, the pods it is given, what it tells, and its certificates.

use std::sync::Arc;

use agent_core::Node;
use pki::Names;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Api;
use crate::effect::Effects;
use crate::identity::{renew_client, renew_serving};
use crate::node::lease::Taken;
use crate::node::register::Registration;
use crate::runtime::Runtime;
use crate::sync::{Cluster, Happening, View};
use crate::{AgentFailed, mirror, node, report, source};

/// A cluster that the agent is about to join.
pub(crate) struct Joining {
    api: Api,
    effects: Arc<Effects>,
    registration: Registration,
    /// What the node is called.
    names: Names,
    happenings: mpsc::UnboundedSender<Happening>,
}

/// Prepares to join the cluster of the configuration, if there is one, and begins what needs no registration. Returns
/// what the loop has to know of it.
pub(crate) fn prepare(
    effects: &Arc<Effects>,
    facts: &Node,
    runtime: watch::Receiver<Option<Runtime>>,
    (happenings, view): (&mpsc::UnboundedSender<Happening>, watch::Receiver<Arc<View>>),
    tasks: &mut JoinSet<()>,
) -> Result<Option<(Joining, Cluster)>, AgentFailed> {
    let config = &effects.config;
    let Some(api) = config.api.clone() else { return Ok(None) };
    let id = node::machine::identity(&config.data_dir)
        .map_err(|source| AgentFailed::Identity { path: config.data_dir.clone(), source })?;
    let registration = node::registration(
        (config, &api, id),
        (effects.cri.clone(), effects.clock, facts, effects.events.clone()),
        runtime,
        effects.port.subscribe(),
    );
    let (reports, reported) = mpsc::unbounded_channel();
    tasks.spawn(report::Reporter::new(api.cache.clone(), &config.node_name).run(reported));
    tasks.spawn(effects.events.publish(api.cache.client().clone()));
    tasks.spawn(mirror::run(api.cache.clone(), config.node_name.clone(), view));
    if let Some(identity) = api.identity.clone() {
        tasks.spawn(renew_client(identity, api.cache.client().clone(), effects.clock));
    }
    let ips = facts.ips.iter().map(ToString::to_string);
    let names = Names::new(ips.chain([config.node_name.clone()]));
    let (effects, happenings) = (effects.clone(), happenings.clone());
    let joining = Joining { api, effects, registration, names, happenings };
    Ok(Some((joining, Cluster::new(reports))))
}

impl Joining {
    /// Registers the node, and runs the pods that the API binds to it once it is registered: before that they may be
    /// another's of the same name. Ends when another agent has the name.
    async fn run(self) -> Taken {
        let Self { api, effects, registration, names, happenings } = self;
        let (registered, done) = oneshot::channel();
        let registered_node = async {
            if done.await.is_ok() {
                let node = effects.config.node_name.clone();
                let pods = source::api::run(api.cache.clone(), node, happenings);
                let client = api.cache.client().clone();
                let serving = async {
                    if let Some(serving) = api.serving.clone() {
                        let node = &effects.config.node_name;
                        renew_serving(serving, (node, names), client, effects.clock).await;
                    }
                };
                tokio::join!(pods, serving);
            }
            std::future::pending().await
        };
        tokio::select! {
            taken = registration.run(registered) => taken,
            never = registered_node => never,
        }
    }

    /// Takes part in the cluster until the agent ends, and ends the agent when its name is another's.
    pub(crate) async fn until(joining: Option<Self>, ends: CancellationToken) -> Option<Taken> {
        let joining = joining?;
        tokio::select! {
            taken = joining.run() => {
                ends.cancel();
                Some(taken)
            }
            () = ends.cancelled() => None,
        }
    }
}
