//! Leader election over a `Lease`, as upstream's processes do it, so that theirs and ours stand aside for each other.

use std::time::Duration;

use client::{Client, ClientError, Query};
use jiff::Timestamp;
use proto_kube::{Resource, object, resource};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long others leave the lease alone after its last renewal.
const LEASE: Duration = Duration::from_secs(15);
/// How long the holder tries to renew it before it must stop.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);
const NAMESPACE: &str = "kube-system";

/// What to do about a lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// Nobody has it: create it so.
    Create(Value),
    /// It is ours, or its holder is gone: replace it so.
    Take(Value),
    /// Somebody holds it.
    Wait,
}

/// What a candidate has seen of a lease. Clocks of other machines are not trusted: how long a lease has stood still is
/// measured here.
#[derive(Debug, Clone)]
pub struct Candidate {
    name: &'static str,
    identity: String,
    /// The `spec` last seen, and when it was new.
    seen: Option<(Value, Duration)>,
}

impl Candidate {
    /// Who wants the lease `name`.
    #[must_use]
    pub fn new(name: &'static str, identity: String) -> Self {
        Self { name, identity, seen: None }
    }

    /// What to do, given the lease as it is; `now` is the time of day, `at` one that only goes forward.
    pub fn decide(&mut self, lease: Option<&Value>, now: Timestamp, at: Duration) -> Move {
        let time = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let mut spec = json!({
            "holderIdentity": self.identity, "leaseDurationSeconds": LEASE.as_secs(),
            "acquireTime": time, "renewTime": time, "leaseTransitions": 0,
        });
        let Some(lease) = lease else {
            let metadata = json!({"namespace": NAMESPACE, "name": self.name});
            return Move::Create(json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec,
            }));
        };
        let old = &lease["spec"];
        let since = match &self.seen {
            Some((seen, since)) if seen == old => *since,
            _ => self.seen.insert((old.clone(), at)).1,
        };
        let holder = object::text(old, &["holderIdentity"]);
        let lasts = old["leaseDurationSeconds"].as_u64().map_or(LEASE, Duration::from_secs);
        if holder != self.identity && !holder.is_empty() && at < since.saturating_add(lasts) {
            return Move::Wait;
        }
        let transitions = old["leaseTransitions"].as_u64().unwrap_or_default();
        if holder == self.identity {
            spec["acquireTime"] = old["acquireTime"].clone();
            spec["leaseTransitions"] = transitions.into();
        } else {
            spec["leaseTransitions"] = (transitions + 1).into();
        }
        Move::Take(with(lease, spec))
    }

    /// The lease as its holder leaves it, for the next to take at once.
    #[must_use]
    pub fn release(&self, lease: &Value, now: Timestamp) -> Option<Value> {
        if object::text(lease, &["spec", "holderIdentity"]) != self.identity {
            return None;
        }
        let time = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let transitions = &lease["spec"]["leaseTransitions"];
        let spec = json!({
            "holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": time, "renewTime": time,
            "leaseTransitions": transitions,
        });
        Some(with(lease, spec))
    }
}

fn with(lease: &Value, spec: Value) -> Value {
    let mut lease = lease.clone();
    lease["spec"] = spec;
    lease
}

/// Works as long as the lease is held, again and again until it is told to stop. `work` ends soon after its token is
/// cancelled, and is dropped where it stands when the lease is lost.
pub(crate) async fn while_leading<F: Future<Output = ()>>(
    client: &Client,
    mut candidate: Candidate,
    stop: CancellationToken,
    mut leads: impl FnMut(bool),
    mut work: impl FnMut(CancellationToken) -> F,
) {
    let started = Instant::now();
    loop {
        loop {
            match attempt(client, &mut candidate, started).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::debug!(lease = candidate.name, %error, "cannot take the lease"),
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return,
            }
        }
        tracing::info!(lease = candidate.name, identity = candidate.identity, "leading");
        leads(true);
        let kept = {
            let work = work(stop.clone());
            tokio::select! {
                () = work => true,
                () = keep(client, &mut candidate, started) => false,
            }
        };
        leads(false);
        if kept {
            release(client, &candidate).await;
            return;
        }
        tracing::warn!(lease = candidate.name, "the lease is lost");
    }
}

/// Renews the lease until that fails for too long, or somebody else has it.
async fn keep(client: &Client, candidate: &mut Candidate, started: Instant) {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(RETRY).await;
        let left = RENEW_WITHIN.saturating_sub(renewed.elapsed());
        let begun = Instant::now();
        match tokio::time::timeout(left, attempt(client, candidate, started)).await {
            Ok(Ok(true)) => renewed = begun,
            Ok(Ok(false)) => return,
            Ok(Err(error)) => tracing::debug!(lease = candidate.name, %error, "cannot renew the lease"),
            Err(_) => {}
        }
        if renewed.elapsed() >= RENEW_WITHIN {
            return;
        }
    }
}

/// Tries once to take or renew the lease; whether it is ours now.
async fn attempt(client: &Client, candidate: &mut Candidate, started: Instant) -> Result<bool, ClientError> {
    let leases = leases();
    let found = match client.get(leases, NAMESPACE, candidate.name).await {
        Ok(lease) => Some(lease),
        Err(error) if error.code() == Some(404) => None,
        Err(error) => return Err(error),
    };
    match candidate.decide(found.as_ref(), Timestamp::now(), started.elapsed()) {
        Move::Create(lease) => client.create(leases, NAMESPACE, &lease, Query::default()).await?,
        Move::Take(lease) => client.update(leases, None, &lease, Query::default()).await?,
        Move::Wait => return Ok(false),
    };
    Ok(true)
}

async fn release(client: &Client, candidate: &Candidate) {
    let leases = leases();
    let Ok(lease) = client.get(leases, NAMESPACE, candidate.name).await else { return };
    if let Some(lease) = candidate.release(&lease, Timestamp::now()) {
        let _ = client.update(leases, None, &lease, Query::default()).await;
    }
}

fn leases() -> &'static Resource {
    resource::find("coordination.k8s.io", "v1", "leases").expect("it is in the catalogue")
}

#[cfg(test)]
mod tests;
