//! The node's place in the cluster: its Node, its Lease, its status.

use std::time::Duration;

use agent_core::event::Event;
use client::{Client, ClientError, Patch, Query};
use proto_kube::object;
use serde_json::{Map, Value, json};
use tokio::sync::{oneshot, watch};

use super::lease::{Lease, Taken};
use super::object as node_object;
use super::status::Status;
use crate::config::nodes;

/// The first and the longest pause after a request that failed.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Registers the node and keeps it alive in the API.
pub(crate) struct Registration {
    pub(crate) lease: Lease,
    pub(crate) status: Status,
    /// Becomes true when the name is ours.
    pub(crate) named: watch::Sender<bool>,
    /// Whether the Node is made; else it is waited for.
    pub(crate) register: bool,
}

impl Registration {
    /// Takes the name, registers, says so, and keeps lease and status until another agent has the name.
    pub(crate) async fn run(mut self, registered: oneshot::Sender<()>) -> Taken {
        if let Err(taken) = self.lease.claim(&self.status.facts.machine).await {
            return taken;
        }
        self.named.send_replace(true);
        let mut pause = AGAIN_MIN;
        let node = loop {
            match self.register().await {
                Ok(node) => break node,
                Err(error) => tracing::warn!("node {} is not registered yet: {error}", self.lease.node),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        };
        let _ = registered.send(());
        self.status.tell(vec![Event::new(false, "Starting", "Starting kubelet.")]);
        let uid = object::uid(&node).to_owned();
        tokio::select! {
            taken = self.lease.keep(&uid) => taken,
            () = self.status.keep(node) => Taken { by: String::new() },
        }
    }

    async fn register(&mut self) -> Result<Value, ClientError> {
        let client: Client = self.status.cache.client().clone();
        let name = self.lease.node.clone();
        if self.register {
            let state = self.status.now();
            let node = node_object::node(&self.status.facts, &state, self.status.clock.now());
            match client.create(nodes(), "", &node, Query::default()).await {
                Err(error) if error.code() == Some(409) => {}
                result => return result,
            }
        }
        let node = client.get(nodes(), "", &name).await?;
        let changed: Map<String, Value> = node_object::own_labels(&name)
            .into_iter()
            .filter(|(key, value)| object::labels(&node).all(|(k, v)| k != *key || v != value))
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect();
        if changed.is_empty() {
            return Ok(node);
        }
        let body = json!({"metadata": {"labels": changed}});
        client.patch((nodes(), "", &name), None, (Patch::Merge, &body), Query::default()).await
    }
}
