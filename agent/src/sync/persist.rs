//! When checkpoints are written: what decides about effects before the next effect, statuses now and then.

use agent_core::DesiredPod;
use k8s_openapi::api::core::v1::PodStatus;

use super::Sync;
use crate::checkpoint::{Checkpoint, VERSION};
use crate::decode;

impl Sync {
    /// Writes what must be on disk now; the statuses too when `all` or their time has come.
    pub(super) async fn flush(&mut self, all: bool) {
        let due = all || self.write_at.is_some_and(|at| at <= tokio::time::Instant::now());
        if due {
            self.write_at = None;
        }
        let mut writes = Vec::new();
        for pod in &self.desired.pods {
            let Some(book) = self.books.get_mut(&pod.uid) else { continue };
            if !(book.urgent || due && book.dirty) {
                continue;
            }
            (book.urgent, book.dirty) = (false, false);
            let checkpoint = checkpoint(pod, self.observed.pods.get(&pod.uid));
            if book.written.as_ref() != Some(&checkpoint) {
                book.written = Some(checkpoint.clone());
                writes.push(checkpoint);
            }
        }
        if writes.is_empty() {
            return;
        }
        let checkpoints = self.effects.checkpoints.clone();
        let write = move || {
            for checkpoint in &writes {
                checkpoints.write(checkpoint).map_err(|error| (checkpoint.uid.clone(), error))?;
                linux::crash::point("agent.checkpoint.written");
            }
            Ok(())
        };
        let result: Result<(), (String, _)> = match tokio::task::spawn_blocking(write).await {
            Ok(result) => result,
            Err(error) => return tracing::error!("writing checkpoints: {error}"),
        };
        if let Err((uid, error)) = result {
            // The pods go on; what a crash would lose is written as soon as the disk takes it.
            tracing::error!(pod.uid = %uid, "{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
            for book in self.books.values_mut() {
                (book.written, book.dirty) = (None, true);
            }
            self.write_at = Some(tokio::time::Instant::now() + super::STATUS_WRITE);
        }
    }
}

fn checkpoint(pod: &DesiredPod, seen: Option<&agent_core::ObservedPod>) -> Checkpoint {
    Checkpoint {
        version: VERSION,
        uid: pod.uid.clone(),
        seen_at: pod.seen_at,
        end: pod.end.map(|end| (end.requested_at, end.grace_seconds)),
        pod: decode::value(&pod.pod, recorded(pod, seen)),
        health: seen.map(|s| s.health.clone()).unwrap_or_default(),
        hooks: seen.map(|s| s.hooks.clone()).unwrap_or_default(),
    }
}

/// The status as we told it, and beside it the conditions that others have set: readiness gates stay open over a
/// restart.
fn recorded(pod: &DesiredPod, seen: Option<&agent_core::ObservedPod>) -> Option<PodStatus> {
    let mut status = seen.and_then(|s| s.status.clone());
    if let Some(others) = pod.pod.status.as_ref().and_then(|s| s.conditions.clone()) {
        status.get_or_insert_default().conditions.get_or_insert_default().extend(others);
    }
    status
}
