//! From what the source wants, what checkpoints remember and what is left over to what is desired.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use agent_core::event::Event;
use agent_core::{DesiredPod, ObservedPod, Presence, Termination, pod};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Book, Sync};
use crate::checkpoint::Checkpoint;
use crate::decode;
use crate::events::Subject;
use crate::observe::Found;
use crate::source::api::foreign;
use crate::source::{FILE, Update};

impl Sync {
    /// Takes up the pods that were recorded before this start.
    pub(crate) fn restore(&mut self, checkpoints: Vec<Checkpoint>) {
        for checkpoint in checkpoints {
            let uid = checkpoint.uid.clone();
            let pod = match decode::own_pod(checkpoint.pod.clone()) {
                Ok(pod) => pod,
                Err(problem) => {
                    tracing::error!(pod.uid = %uid, "checkpoint without a pod: {problem}");
                    continue;
                }
            };
            let end = checkpoint
                .end
                .map(|(requested_at, grace_seconds)| Termination { requested_at, grace_seconds });
            let seen = ObservedPod {
                status: pod.status.clone().map(super::cluster::own),
                health: checkpoint.health.clone(),
                hooks: checkpoint.hooks.clone(),
                volumes: Presence::Unknown,
                cgroup: Presence::Unknown,
                ..ObservedPod::default()
            };
            let status = pod.status.as_ref().and_then(foreign);
            let pod = Arc::new(Pod { status, ..pod });
            self.desired.pods.push(DesiredPod {
                uid: uid.clone(),
                pod,
                wanted: None,
                seen_at: checkpoint.seen_at,
                end,
            });
            self.observed.pods.insert(uid.clone(), seen);
            self.books.insert(uid, Book { written: Some(checkpoint), ..Book::default() });
        }
    }

    pub(super) fn take_source(&mut self, update: Update) {
        let first = self.source.is_none();
        self.report(&update);
        self.source = Some(update);
        self.reconcile_source();
        if first {
            // Left-overs could not be told from wanted pods before.
            self.audit();
        }
    }

    /// Tells new problems, each once.
    fn report(&mut self, update: &Update) {
        let problems: BTreeSet<_> = update.problems.iter().cloned().collect();
        for problem in problems.difference(&self.reported) {
            let subject = Subject {
                namespace: problem.namespace.clone(),
                name: problem.name.clone(),
                uid: String::new(),
            };
            self.effects.events.record(&subject, Event::new(true, "FailedValidation", &problem.to_string()));
        }
        self.reported = problems;
    }

    /// Begins what is wanted and not there, ends what is there and not wanted.
    pub(super) fn reconcile_source(&mut self) {
        let Some(update) = self.source.take() else { return };
        let now = self.effects.clock.now();
        let named: BTreeSet<String> = update.manifests.iter().map(|m| pod::full_name(&m.pod)).collect();
        let wanted: BTreeSet<&str> = update.manifests.iter().map(|m| m.uid.as_str()).collect();
        let cluster = self.cluster.is_some();
        let ours = |p: &&mut DesiredPod| p.end.is_none() && !(cluster && pod::is_of_api(&p.pod));
        for desired in self.desired.pods.iter_mut().filter(ours) {
            let file = pod::annotation(&desired.pod, FILE).map(PathBuf::from).unwrap_or_default();
            let doubtful =
                update.broken.contains(&file) || file.parent().is_some_and(|dir| update.broken.contains(dir));
            let kept = doubtful && !named.contains(&pod::full_name(&desired.pod));
            if wanted.contains(desired.uid.as_str()) || kept {
                continue;
            }
            let grace_seconds = pod::grace_seconds(&desired.pod);
            desired.end = Some(Termination { requested_at: now, grace_seconds });
            self.books.entry(desired.uid.clone()).or_default().urgent = true;
        }
        for manifest in &update.manifests {
            if self.desired.pods.iter().any(|p| p.uid == manifest.uid) {
                continue;
            }
            let (uid, pod) = (manifest.uid.clone(), manifest.pod.clone());
            // Whatever a pod of this uid has left in an earlier life is taken over.
            let seen = ObservedPod {
                volumes: Presence::Unknown,
                cgroup: Presence::Unknown,
                ..ObservedPod::default()
            };
            self.observed.pods.insert(uid.clone(), seen);
            self.books.insert(uid.clone(), Book { urgent: true, ..Book::default() });
            self.desired.pods.push(DesiredPod { uid, pod, wanted: None, seen_at: now, end: None });
        }
        self.source = Some(update);
    }

    /// A pod of which only the runtime knows is ended.
    pub(super) fn adopt(&mut self, uid: &str, found: &Found) {
        let now = self.effects.clock.now();
        tracing::info!(pod.uid = %uid, "ending pod {}/{}, which nobody wants", found.namespace, found.name);
        let names: BTreeSet<&str> = found.containers.iter().map(|c| c.name.as_str()).collect();
        let containers =
            names.into_iter().map(|name| Container { name: name.into(), ..Container::default() });
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(found.name.clone()),
                namespace: Some(found.namespace.clone()),
                uid: Some(uid.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { containers: containers.collect(), ..PodSpec::default() }),
            status: None,
        };
        let grace_seconds = found.grace_seconds.unwrap_or(pod::GRACE_SECONDS);
        let end = Some(Termination { requested_at: now, grace_seconds });
        let seen =
            ObservedPod { volumes: Presence::Unknown, cgroup: Presence::Unknown, ..ObservedPod::default() };
        self.observed.pods.insert(uid.to_owned(), seen);
        self.books.insert(uid.to_owned(), Book { urgent: true, ..Book::default() });
        self.desired.pods.push(DesiredPod {
            uid: uid.to_owned(),
            pod: Arc::new(pod),
            wanted: None,
            seen_at: now,
            end,
        });
    }
}
