//! The node's Lease: the sign of life of this agent, and of no other that calls itself by the same name.
//!
//! `holderIdentity` is the node's name, as everywhere; the annotation `cleat.dev/agent` says which agent it is.

use std::time::Duration;

use client::{Client, ClientError, Query};
use jiff::Timestamp;
use proto_kube::object;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::machine::Machine;
use crate::clock::Clock;
use crate::config::{leases, nodes};

/// The namespace of the nodes' leases.
const NAMESPACE: &str = "kube-node-lease";
/// Which agent holds a lease.
const AGENT: &str = "cleat.dev/agent";
/// How long a lease is good that says nothing else, in seconds.
const LEASE_SECONDS: i64 = 40;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// The first and the longest pause after a request that failed.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Gives a node's name back, for an agent that has ended and will not come again; another can have it at once. Nothing
/// happens when the name is another agent's by now.
///
/// # Errors
/// When the API server does not answer, or does not let us.
pub(crate) async fn release(client: &Client, node: &str, id: &str) -> Result<(), ClientError> {
    let Some(mut lease) = found(client.get(leases(), NAMESPACE, node).await)? else { return Ok(()) };
    if holder(&lease) != Some(id) {
        return Ok(());
    }
    object::metadata(&mut lease).remove("managedFields");
    object::member(&mut lease["metadata"], "annotations").remove(AGENT);
    object::member(&mut lease, "spec").insert("holderIdentity".into(), json!(""));
    client.update(leases(), None, &lease, Query::default()).await.map(drop)
}

/// Another agent keeps a node of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Which, as far as that is known.
    pub(crate) by: String,
}

/// Keeps the lease of a node.
pub(crate) struct Lease {
    pub(crate) client: Client,
    pub(crate) node: String,
    /// This agent.
    pub(crate) id: String,
    pub(crate) clock: Clock,
}

/// Somebody else's claim to the name.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    by: String,
    renewed: String,
    good_for: Duration,
}

impl Lease {
    /// Waits until the name is ours: until there is no lease of another agent, or that one is not renewed any more.
    pub(crate) async fn claim(&self, machine: &Machine) -> Result<(), Taken> {
        let mut seen: Option<(Claim, Instant)> = None;
        let mut pause = AGAIN_MIN;
        loop {
            match self.claimed(machine).await {
                Ok(None) => return Ok(()),
                Ok(Some(claim)) => match &seen {
                    Some((before, _)) if *before != claim => return Err(Taken { by: claim.by }),
                    Some((before, since)) if since.elapsed() >= before.good_for => return Ok(()),
                    Some(_) => {}
                    None => {
                        let Claim { by, good_for, .. } = &claim;
                        let seconds = good_for.as_secs();
                        tracing::warn!(
                            "node {} belonged to {by}; waiting for up to {seconds} s to see whether that is alive",
                            self.node
                        );
                        seen = Some((claim, Instant::now()));
                        pause = Duration::from_secs(1);
                    }
                },
                Err(error) => {
                    tracing::debug!(%error, "cannot look whether the node's name is free; trying again");
                    pause = (pause * 2).min(AGAIN_MAX);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn claimed(&self, machine: &Machine) -> Result<Option<Claim>, ClientError> {
        let Some(lease) = found(self.client.get(leases(), NAMESPACE, &self.node).await)? else {
            return Ok(None);
        };
        let node = found(self.client.get(nodes(), "", &self.node).await)?;
        Ok(claim(&lease, node.as_ref(), &self.id, machine))
    }

    /// Renews the lease for ever, until another agent has taken it.
    pub(crate) async fn keep(&self, node_uid: &str) -> Taken {
        let mut known: Option<Value> = None;
        let (mut held, mut pause) = (false, AGAIN_MIN);
        loop {
            match self.renew(known.take(), held, node_uid).await {
                Ok(Ok(lease)) => {
                    (known, held, pause) = (Some(lease), true, AGAIN_MIN);
                    tokio::time::sleep(RENEW).await;
                }
                Ok(Err(taken)) => return taken,
                Err(error) => {
                    // Somebody has written it, or removed it: it is read again.
                    tracing::debug!(%error, "the node's lease could not be renewed; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_MAX);
                }
            }
        }
    }

    async fn renew(
        &self,
        known: Option<Value>,
        held: bool,
        node_uid: &str,
    ) -> Result<Result<Value, Taken>, ClientError> {
        let none = || Query::default();
        let known = match known {
            Some(lease) => Some(lease),
            None => found(self.client.get(leases(), NAMESPACE, &self.node).await)?,
        };
        let Some(mut lease) = known else {
            let lease =
                self.lease(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}), node_uid);
            return self.client.create(leases(), NAMESPACE, &lease, none()).await.map(Ok);
        };
        let other = holder(&lease).filter(|holder| *holder != self.id);
        if let Some(other) = other.filter(|_| held) {
            return Ok(Err(Taken { by: format!("agent {other}") }));
        }
        object::metadata(&mut lease).remove("managedFields");
        let lease = self.lease(lease, node_uid);
        self.client.update(leases(), None, &lease, none()).await.map(Ok)
    }

    /// The lease as it is to be.
    fn lease(&self, mut lease: Value, node_uid: &str) -> Value {
        let metadata = object::metadata(&mut lease);
        metadata.insert("name".into(), json!(self.node));
        metadata.insert("namespace".into(), json!(NAMESPACE));
        if !node_uid.is_empty() {
            let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": node_uid}]);
            metadata.insert("ownerReferences".into(), owner);
        }
        object::member(&mut lease["metadata"], "annotations").insert(AGENT.into(), json!(self.id));
        let spec = object::member(&mut lease, "spec");
        spec.insert("holderIdentity".into(), json!(self.node));
        spec.insert("leaseDurationSeconds".into(), json!(LEASE_SECONDS));
        spec.insert("renewTime".into(), json!(micro(self.clock.now())));
        lease
    }
}

/// An object, or that there is none.
fn found(result: Result<Value, ClientError>) -> Result<Option<Value>, ClientError> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

fn holder(lease: &Value) -> Option<&str> {
    object::annotations(lease).find(|(key, _)| *key == AGENT).map(|(_, agent)| agent)
}

/// Whether the one that had it has given it back.
fn is_released(lease: &Value) -> bool {
    object::at(lease, &["spec", "holderIdentity"]).is_some_and(|holder| holder == "")
}

/// Whether a lease is another agent's. What no agent of ours has written is told by the machine in the Node.
fn claim(lease: &Value, node: Option<&Value>, id: &str, machine: &Machine) -> Option<Claim> {
    let info = |key| node.map(|node| object::text(node, &["status", "nodeInfo", key])).unwrap_or_default();
    let by = match holder(lease) {
        Some(holder) if holder == id => return None,
        Some(holder) => format!("agent {holder} on machine {:?}", info("machineID")),
        None if node.is_none() || is_released(lease) => return None,
        None if info("machineID") == machine.machine_id && info("systemUUID") == machine.system_uuid => {
            return None;
        }
        None => format!("machine {:?}", info("machineID")),
    };
    let unknown =
        |c: &Value| object::text(c, &["type"]) == "Ready" && object::text(c, &["status"]) == "Unknown";
    if node.is_some_and(|node| object::items(node, &["status", "conditions"]).any(unknown)) {
        return None;
    }
    let seconds = object::at(lease, &["spec", "leaseDurationSeconds"]).and_then(Value::as_u64);
    let good_for = Duration::from_secs(seconds.unwrap_or(LEASE_SECONDS.unsigned_abs()));
    Some(Claim { by, renewed: object::text(lease, &["spec", "renewTime"]).to_owned(), good_for })
}

/// An instant with its microseconds, as a `MicroTime` is written.
fn micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed_by(lease: &Value, node: Option<&Value>) -> Option<String> {
        let machine = Machine { machine_id: "m".into(), system_uuid: "s".into(), ..Machine::default() };
        claim(lease, node, "me", &machine).map(|claim| claim.by)
    }

    #[test]
    fn whose_name_it_is() {
        let lease =
            |agent: &str| json!({"metadata": {"annotations": {AGENT: agent}}, "spec": {"renewTime": "t"}});
        let bare = json!({"spec": {"renewTime": "t"}});
        let node = |machine: &str, ready: &str| {
            json!({"status": {"nodeInfo": {"machineID": machine, "systemUUID": "s"},
                "conditions": [{"type": "Ready", "status": ready}]}})
        };
        assert_eq!(claimed_by(&lease("me"), Some(&node("x", "True"))), None);
        assert!(claimed_by(&lease("you"), Some(&node("m", "True"))).is_some());
        assert!(claimed_by(&lease("you"), None).is_some());
        assert_eq!(claimed_by(&lease("you"), Some(&node("m", "Unknown"))), None, "it is known to be dead");
        assert_eq!(claimed_by(&bare, Some(&node("m", "True"))), None, "another program on this machine");
        assert!(claimed_by(&bare, Some(&node("x", "True"))).unwrap().contains("\"x\""));
        assert_eq!(claimed_by(&bare, None), None);
        let released = json!({"spec": {"renewTime": "t", "holderIdentity": ""}});
        assert_eq!(claimed_by(&released, Some(&node("x", "True"))), None);
    }

    #[test]
    fn instants_have_microseconds() {
        assert_eq!(micro(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
