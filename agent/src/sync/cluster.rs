//! The pods of the API server: what of them is desired, and what is told of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_core::{DesiredPod, ObservedPod, Presence, Termination, pod, resize};
use k8s_openapi::api::core::v1::PodStatus;
use tokio::sync::mpsc;

use super::{Book, Sync};
use crate::report::Report;
use crate::source::api::{Bound, Change};

/// What the loop remembers of the API server.
pub(crate) struct Cluster {
    /// Who tells the API server.
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    /// The uids of the pods that the API has.
    bound: BTreeSet<String>,
    /// Those of them of which nothing is left on the node.
    over: BTreeSet<String>,
    /// The API has told all its pods: what it has not told nobody wants.
    pub(super) synced: bool,
}

impl Cluster {
    pub(crate) fn new(reports: mpsc::UnboundedSender<Report>) -> Self {
        Self { reports, bound: BTreeSet::new(), over: BTreeSet::new(), synced: false }
    }
}

impl Sync {
    pub(super) fn take_api(&mut self, change: Change) {
        let Some(cluster) = &mut self.cluster else { return };
        match change {
            Change::Pod(bound) => {
                cluster.bound.insert(bound.uid.clone());
                if !cluster.over.contains(&bound.uid) {
                    self.want(*bound);
                }
            }
            Change::Gone { uid, grace_seconds } => {
                cluster.bound.remove(&uid);
                cluster.over.remove(&uid);
                self.end(&uid, grace_seconds);
            }
            Change::Synced => {
                cluster.synced = true;
                let unknown = |p: &&DesiredPod| pod::is_of_api(&p.pod) && !cluster.bound.contains(&p.uid);
                let gone: Vec<_> = self.desired.pods.iter().filter(unknown).map(|p| p.uid.clone()).collect();
                for uid in gone {
                    self.end(&uid, None);
                }
                // Left-overs could not be told from wanted pods before.
                self.audit();
            }
        }
    }

    /// The API wants a pod, or has changed it.
    fn want(&mut self, bound: Bound) {
        let Bound { uid, pod, status, end } = bound;
        let now = self.effects.clock.now();
        if let Some(seen) = self.observed.pods.get_mut(&uid) {
            seen.hear(&status, now);
        }
        let known = self.desired.pods.iter_mut().find(|p| p.uid == uid);
        match known {
            Some(known) if *known.wanted.as_ref().unwrap_or(&known.pod) != pod => {
                (known.pod, known.wanted) = resize::split(&known.pod, &pod);
                self.book(&uid).dirty = true;
                self.write_soon();
            }
            Some(_) => {}
            None => {
                // Whatever a pod of this uid has left on the node, or told before, is taken over.
                let seen = ObservedPod {
                    volumes: Presence::Unknown,
                    cgroup: Presence::Unknown,
                    status: Some(own(status)),
                    ..ObservedPod::default()
                };
                self.observed.pods.insert(uid.clone(), seen);
                self.books.insert(uid.clone(), Book { urgent: true, ..Book::default() });
                let seen_at = self.effects.clock.now();
                self.desired.pods.push(DesiredPod {
                    uid: uid.clone(),
                    pod,
                    wanted: None,
                    seen_at,
                    end: None,
                });
            }
        }
        if let Some(grace_seconds) = end {
            self.end(&uid, Some(grace_seconds));
        }
    }

    /// Ends a pod, within its own grace period where none is given; of two ends the earlier one counts.
    fn end(&mut self, uid: &str, grace_seconds: Option<i64>) {
        let now = self.effects.clock.now();
        let Some(desired) = self.desired.pods.iter_mut().find(|p| p.uid == uid) else { return };
        let grace_seconds = grace_seconds.unwrap_or_else(|| pod::grace_seconds(&desired.pod));
        let end = Termination { requested_at: now, grace_seconds };
        if desired.end.is_none_or(|known| end.deadline() < known.deadline()) {
            desired.end = Some(end);
            self.book(uid).urgent = true;
        }
    }

    /// Tells the API how a pod is.
    pub(super) fn report_pod(&mut self, uid: &str) {
        let Some(cluster) = &self.cluster else { return };
        let Some(desired) = self.desired.pods.iter().find(|p| p.uid == uid) else { return };
        let Some(status) = self.observed.pods.get(uid).and_then(|seen| seen.status.clone()) else { return };
        let report = Report { uid: uid.to_owned(), pod: desired.pod.clone(), status, over: false };
        // The reporter ends after the loop.
        let _ = cluster.reports.send(report);
    }

    /// Tells the API that nothing is left of a pod.
    pub(super) fn report_over(&mut self, uid: &str) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(desired) = self.desired.pods.iter().find(|p| p.uid == uid) else { return };
        if cluster.bound.contains(uid) {
            cluster.over.insert(uid.to_owned());
        }
        let status = self.observed.pods.get(uid).and_then(|seen| seen.status.clone()).unwrap_or_default();
        let report = Report { uid: uid.to_owned(), pod: Arc::clone(&desired.pod), status, over: true };
        let _ = cluster.reports.send(report);
    }
}

/// A status without the conditions of others.
pub(super) fn own(mut status: PodStatus) -> PodStatus {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| agent_core::status::is_own(&c.type_));
    }
    status
}
