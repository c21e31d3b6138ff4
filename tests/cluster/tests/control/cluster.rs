//! An API server in memory, and who runs against it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{Config, Server};
use client::{Cache, Client, Local, Patch, Query};
use proto_kube::object::{self, items, text};
use proto_kube::resource::{self, Resource};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn of(plural: &str) -> &'static Resource {
    let found =
        resource::all().iter().find(|r| r.plural == plural && (r.group.is_empty() || r.version == "v1"));
    found.unwrap()
}

/// An API server in memory.
pub(crate) struct Cluster {
    server: Arc<Server>,
    pub(crate) admin: Client,
}

/// What stands between a component and the server.
pub(crate) type Between = Arc<dyn Fn(Local) -> Local + Send + Sync>;

/// A running set of controllers with a scheduler.
pub(crate) struct Control {
    running: JoinHandle<Result<(), control::Error>>,
    pub(crate) stop: CancellationToken,
    pub(crate) metrics: control::Metrics,
}

impl Control {
    /// Lets it end in order.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// Ends it where it stands.
    pub(crate) fn kill(self) {
        self.running.abort();
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let server = Server::open(Config::in_memory()).await.unwrap();
        let local = apiserver::front::local(&server, "admin", &["system:masters"]);
        Self { server, admin: Client::local(local, "tests/1") }
    }

    /// The server, as a user that the bootstrap policy knows; or with all rights, for the cache.
    fn client(server: &Arc<Server>, name: &'static str, between: Option<&Between>) -> Client {
        const ALL: &str = "system:authenticated";
        let local = match name {
            "" => apiserver::front::local(server, "cache", &["system:masters", ALL]),
            "kube-scheduler" | "kube-controller-manager" => {
                apiserver::front::local(server, &format!("system:{name}"), &[ALL])
            }
            controller => {
                let user = format!("system:serviceaccount:kube-system:{controller}");
                apiserver::front::local(
                    server,
                    &user,
                    &["system:serviceaccounts", "system:serviceaccounts:kube-system", ALL],
                )
            }
        };
        Client::local(between.map_or(local.clone(), |between| between(local)), "control/1")
    }

    pub(crate) fn control(&self, identity: &str, leader_election: bool) -> Control {
        self.control_behind(identity, leader_election, None)
    }

    pub(crate) fn control_behind(
        &self,
        identity: &str,
        leader_election: bool,
        between: Option<Between>,
    ) -> Control {
        let server = self.server.clone();
        let cache = Cache::new(Self::client(&server, "", between.as_ref()));
        let client_of = Arc::new(move |name| Self::client(&server, name, between.as_ref()));
        let metrics = control::Metrics::default();
        let config = control::Config {
            leader_election,
            metrics: metrics.clone(),
            ..control::Config::new(cache, client_of, identity.to_owned())
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(control::run(config, stop.clone()));
        Control { running, stop, metrics }
    }

    pub(crate) async fn create(&self, plural: &str, namespace: &str, object: Value) -> Value {
        let resource = of(plural);
        let mut object = object;
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind.into();
        let begun = tokio::time::Instant::now();
        loop {
            // The service account of a new namespace may not be there yet.
            match self.admin.create(resource, namespace, &object, Query::default()).await {
                Ok(made) => return made,
                Err(error) => assert!(error.code() == Some(403) && begun.elapsed() < PATIENCE, "{error:#?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A node that is ready, and nothing more than an object.
    pub(crate) async fn node(&self, name: &str, cpu: &str, labels: Value) {
        let mut meta = json!({"name": name, "labels": labels});
        meta["labels"]["kubernetes.io/hostname"] = name.into();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let amounts = json!({"cpu": cpu, "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"});
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": now, "lastTransitionTime": now});
        let status = json!({"allocatable": amounts, "capacity": amounts, "conditions": [ready]});
        // In one step, as agents do: nobody sees it without room.
        self.create("nodes", "", json!({"metadata": meta, "status": status})).await;
    }

    pub(crate) async fn patch(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Value {
        let place = (of(plural), namespace, name);
        self.admin.patch(place, subresource, (Patch::Merge, patch), Query::default()).await.unwrap()
    }

    pub(crate) async fn list(&self, plural: &str) -> Vec<Value> {
        let list = self.admin.list(of(plural), "", Query::default()).await.unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until an object is as wanted.
    pub(crate) async fn until(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let begun = tokio::time::Instant::now();
        loop {
            match self.admin.get(of(plural), namespace, name).await {
                Ok(object) if wanted(&object) => return object,
                found if begun.elapsed() > PATIENCE => panic!("{plural} {name} never got there: {found:#?}"),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until the objects of a resource are as wanted.
    pub(crate) async fn until_all(&self, plural: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let begun = tokio::time::Instant::now();
        loop {
            let all = self.list(plural).await;
            if wanted(&all) {
                return all;
            }
            assert!(begun.elapsed() < PATIENCE, "{plural} never got there: {all:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many pods have nodes; gives how many are on each.
    pub(crate) async fn bound(&self, count: usize) -> BTreeMap<String, usize> {
        let pods = self
            .until_all("pods", |pods| pods.iter().filter(|pod| !node_of(pod).is_empty()).count() >= count);
        let mut nodes = BTreeMap::new();
        for pod in pods.await {
            *nodes.entry(node_of(&pod).to_owned()).or_default() += 1;
        }
        nodes
    }

    /// Waits until the scheduler has said of a pod why it has no node.
    pub(crate) async fn refused(&self, name: &str, wanted: impl Fn(&str) -> bool) {
        let says = |pod: &Value| {
            items(pod, &["status", "conditions"])
                .any(|c| c["type"] == "PodScheduled" && wanted(text(c, &["message"])))
        };
        self.until("pods", "default", name, says).await;
    }
}

pub(crate) fn node_of(pod: &Value) -> &str {
    object::text(pod, &["spec", "nodeName"])
}

/// A pod that asks for so much of a core.
pub(crate) fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}},
    ]}})
}

pub(crate) fn deployment(name: &str, replicas: u32, cpu: &str) -> Value {
    let mut template = pod("", cpu);
    template["metadata"] = json!({"labels": {"app": name}});
    let selector = json!({"matchLabels": {"app": name}});
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": selector, "template": template}})
}
