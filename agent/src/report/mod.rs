//! Tells the API server how the pods are, and when nothing is left of one that was to end.
//!
//! One task writes all of it, one request a pod at a time, and each says what differs from what the API has: what
//! changes while a request is under way is told in the next one. While the server is away nothing is lost, as only the
//! newest status counts.

mod patch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::pod;
use client::{Cache, ClientError, Event, Patch, Query};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use proto_kube::object;
use proto_kube::view::View;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{pods, pods_of};
use crate::labels;

pub(crate) use patch::between;

/// How many requests are under way at a time.
const REQUESTS_MAX: usize = 16;
/// How long a status may wait that only says that a pod is on its way: its containers often run a moment later.
const ON_ITS_WAY: Duration = Duration::from_millis(100);
/// The first and the longest pause after a request that failed.
const AGAIN_MIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// The members of a pod's status that are the node's alone, and are removed when it does not set them.
const OWNED: [&str; 10] = [
    "message",
    "reason",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "resourceClaimStatuses",
];

/// How a pod is.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) uid: String,
    pub(crate) pod: Arc<Pod>,
    pub(crate) status: PodStatus,
    /// Nothing of it is left on the node.
    pub(crate) over: bool,
}

/// A pod of which the API is told.
struct Told {
    namespace: String,
    name: String,
    /// A static pod: told to its mirror.
    mirrored: bool,
    status: Value,
    over: bool,
    /// When to look whether there is something to tell; `None`: when something happens.
    due: Option<Instant>,
    in_flight: bool,
    failures: u32,
    /// The pod as the API answered last, and the status that it was told: the cache may lag behind.
    answer: Option<(Value, Value)>,
    /// The status that it refused last: it is not told again, and the pod's end does not wait for it.
    refused: Option<Value>,
}

/// How a request ended.
type Done = (String, Value, Result<Value, ClientError>);

/// Tells the API server of pods.
pub(crate) struct Reporter {
    cache: Cache,
    node: String,
    pods: BTreeMap<String, Told>,
    requests: JoinSet<Done>,
    /// The API has told all its pods.
    synced: bool,
}

impl Reporter {
    /// Of the pods of `node`.
    pub(crate) fn new(cache: Cache, node: &str) -> Self {
        Self { cache, node: node.to_owned(), pods: BTreeMap::new(), requests: JoinSet::new(), synced: false }
    }

    /// Tells what `reports` say until there are no more of them.
    pub(crate) async fn run(mut self, mut reports: UnboundedReceiver<Report>) {
        let mut events = pods_of(&self.cache, &self.node);
        loop {
            let now = Instant::now();
            let due: Vec<String> = self.due(now).collect();
            for uid in due {
                self.act(&uid);
            }
            let next = self.pods.values().filter(|t| !t.in_flight).filter_map(|t| t.due).min();
            let free = self.requests.len() < REQUESTS_MAX;
            tokio::select! {
                report = reports.recv() => {
                    let Some(report) = report else { return };
                    self.take(report);
                    while let Ok(report) = reports.try_recv() {
                        self.take(report);
                    }
                }
                Some(event) = events.recv() => self.changed(&event),
                Some(done) = self.requests.join_next(), if !self.requests.is_empty() => {
                    if let Ok(done) = done {
                        self.done(done);
                    }
                }
                () = tokio::time::sleep_until(next.unwrap_or(now)), if next.is_some() && free => {}
            }
        }
    }

    fn due(&self, now: Instant) -> impl Iterator<Item = String> {
        let free = REQUESTS_MAX.saturating_sub(self.requests.len());
        let due = self.pods.iter().filter(move |(_, t)| !t.in_flight && t.due.is_some_and(|at| at <= now));
        due.map(|(uid, _)| uid.clone()).take(free).collect::<Vec<_>>().into_iter()
    }

    fn take(&mut self, report: Report) {
        let Report { uid, pod, status, over } = report;
        let now = Instant::now();
        let status = serde_json::to_value(&status).unwrap_or_default();
        let at = if over || urgent(&status) { now } else { now + ON_ITS_WAY };
        match self.pods.get_mut(&uid) {
            Some(told) => {
                told.due = Some(told.due.map_or(at, |due| due.min(at)));
                (told.status, told.over) = (status, over);
            }
            None => {
                let told = Told {
                    namespace: pod::namespace(&pod).to_owned(),
                    name: pod::name(&pod).to_owned(),
                    mirrored: !pod::is_of_api(&pod),
                    status,
                    over,
                    due: Some(at),
                    in_flight: false,
                    failures: 0,
                    answer: None,
                    refused: None,
                };
                self.pods.insert(uid, told);
            }
        }
    }

    /// The API has something new to say of a pod.
    fn changed(&mut self, event: &Event) {
        let now = Instant::now();
        let Some(value) = event.object() else {
            self.synced = true;
            self.pods.values_mut().for_each(|told| told.due = Some(told.due.unwrap_or(now)));
            return;
        };
        let (namespace, name) = (object::namespace(value), object::name(value));
        let mut of = self.pods.values_mut().filter(|t| t.name == name && t.namespace == namespace);
        of.by_ref().for_each(|told| told.due = Some(told.due.unwrap_or(now)));
    }

    /// Begins the request that a pod needs, if it needs one.
    fn act(&mut self, uid: &str) {
        let Some(told) = self.pods.get_mut(uid) else { return };
        told.due = None;
        let cached = self.cache.get(pods().group_resource(), &told.namespace, &told.name);
        let Some(target) = cached.filter(|target| told.is(uid, target)) else {
            if told.over && (self.synced || told.mirrored) {
                self.pods.remove(uid);
            }
            return;
        };
        let target = match &told.answer {
            Some((answer, _)) if version(answer) > version(&target) => answer,
            _ => &*target,
        };
        let target_uid = object::uid(target).to_owned();
        let at = (told.namespace.clone(), told.name.clone());
        let client = self.cache.client().clone();
        let (id, mut status) = (uid.to_owned(), told.status.clone());
        if !told.mirrored {
            agent_core::status::stay_ended(&target["status"], &mut status);
        }
        let settled = told.answer.as_ref().is_some_and(|(answer, told)| {
            *told == status && answer["status"] == target["status"] && object::uid(answer) == target_uid
        });
        let refused = told.refused.as_ref() == Some(&status);
        let patch = between(&target["status"], &status, &OWNED).filter(|_| !settled && !refused);
        if let Some(patch) = patch {
            let body = json!({"metadata": {"uid": target_uid}, "status": patch});
            self.requests.spawn(async move {
                let what = (pods(), at.0.as_str(), at.1.as_str());
                let result =
                    client.patch(what, Some("status"), (Patch::Strategic, &body), Query::default()).await;
                (id, status, result)
            });
        } else if told.over && !told.mirrored && object::is_terminating(target) {
            let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                "preconditions": {"uid": target_uid}});
            self.requests.spawn(async move {
                let result = client.delete(pods(), &at.0, &at.1, &options).await;
                (id, Value::Null, result)
            });
        } else {
            if told.over && told.mirrored {
                self.pods.remove(uid);
            }
            return;
        }
        if let Some(told) = self.pods.get_mut(uid) {
            told.in_flight = true;
        }
    }

    fn done(&mut self, (uid, status, result): Done) {
        let Some(told) = self.pods.get_mut(&uid) else { return };
        let now = Instant::now();
        told.in_flight = false;
        match result {
            // A delete is confirmed by the watch.
            Ok(_) if status.is_null() => told.failures = 0,
            Ok(answer) => {
                told.failures = 0;
                told.answer = Some((answer, status));
                // What was told may be old by now, and a pod that is over is still to be deleted.
                told.due = Some(told.due.unwrap_or(now));
            }
            Err(error) => {
                let at = format!("{}/{}", told.namespace, told.name);
                match error.code() {
                    // It is gone: the watch will say so.
                    Some(404) => told.due = None,
                    Some(422) if !status.is_null() => {
                        tracing::error!(pod = at, "the API server refuses the pod's status: {error}");
                        told.refused = Some(status);
                        told.due = Some(told.due.unwrap_or(now));
                    }
                    _ => {
                        told.failures += 1;
                        let pause = AGAIN_MIN.saturating_mul(1 << told.failures.min(6)).min(AGAIN_MAX);
                        tracing::debug!(pod = at, %error, "the pod's status could not be told; trying again");
                        told.due = Some(now + pause);
                    }
                }
            }
        }
    }
}

impl Told {
    /// Whether an object of the API is this pod, or the mirror of it.
    fn is(&self, uid: &str, object: &Value) -> bool {
        match self.mirrored {
            false => object::uid(object) == uid,
            true => object::annotations(object).any(|(k, v)| k == labels::CONFIG_MIRROR && v == uid),
        }
    }
}

/// Whether a status says more than that the pod is on its way.
fn urgent(status: &Value) -> bool {
    if object::text(status, &["phase"]) != "Pending" || object::at(status, &["reason"]).is_some() {
        return true;
    }
    let lists = ["initContainerStatuses", "containerStatuses"];
    lists.iter().flat_map(|list| object::items(status, &[list])).any(|container| {
        let reason = object::text(container, &["state", "waiting", "reason"]);
        object::at(container, &["state", "waiting"]).is_none()
            || !matches!(reason, "ContainerCreating" | "PodInitializing")
    })
}

/// How new an object is.
fn version(object: &Value) -> u64 {
    object::text(object, &["metadata", "resourceVersion"]).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;
    use client::{Client, Local};
    use http::{Method, Request, Response};
    use http_body_util::{BodyExt, Full};

    use super::*;

    /// An API server with one pod that is to end, which refuses every status; it tells the methods that it is asked.
    fn refusing(asked: Arc<Mutex<Vec<Method>>>) -> Local {
        Arc::new(move |request: Request<Full<Bytes>>| {
            asked.lock().unwrap().push(request.method().clone());
            let watched = request.uri().query().is_some_and(|query| query.contains("watch"));
            let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "1",
                "deletionTimestamp": "2026-01-01T00:00:00Z"}});
            let (code, body) = match *request.method() {
                Method::PATCH => (422, json!({"kind": "Status", "code": 422})),
                Method::DELETE => (200, pod),
                _ => (200, json!({"metadata": {"resourceVersion": "1"}, "items": [pod]})),
            };
            Box::pin(async move {
                if watched {
                    std::future::pending::<()>().await;
                }
                let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
                Response::builder().status(code).body(body.boxed_unsync()).unwrap()
            })
        })
    }

    #[tokio::test]
    async fn a_refused_status_does_not_keep_a_pod() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let cache = Cache::new(Client::local(refusing(asked.clone()), "test"));
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(Reporter::new(cache, "n").run(receiver));
        let meta = json!({"name": "p", "namespace": "d", "uid": "u",
            "annotations": {"kubernetes.io/config.source": "api"}});
        let pod: Pod = serde_json::from_value(json!({"metadata": meta})).unwrap();
        let status = PodStatus { phase: Some("Failed".into()), ..PodStatus::default() };
        sender.send(Report { uid: "u".into(), pod: Arc::new(pod), status, over: true }).unwrap();
        let deleted = async {
            while !asked.lock().unwrap().contains(&Method::DELETE) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), deleted).await.unwrap();
        task.abort();
        let patches = asked.lock().unwrap().iter().filter(|method| **method == Method::PATCH).count();
        assert_eq!(patches, 1, "what was refused is not told again");
    }
}
