//! An API server and nodes to run against it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::AgentFailed;
use apiserver::{Config, Server};
use bytes::Bytes;
use client::{Cache, Client, Local, Query};
use http_body_util::{BodyExt, Full, StreamBody};
use proto_kube::resource::{self, Resource};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::fake::{Fake, Inside};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An API server in memory.
pub(crate) struct Api {
    server: Arc<Server>,
    admin: Client,
    /// What nodes are answered instead; 0: they are answered.
    away: Arc<AtomicU16>,
    /// Cancelled and replaced when what nodes watch is to break.
    cut: Arc<Mutex<CancellationToken>>,
}

pub(crate) fn of(plural: &str) -> &'static Resource {
    let of = |group: &str| resource::all().iter().find(|r| r.plural == plural && r.group == group);
    let found = of("").or_else(|| resource::all().iter().find(|r| r.plural == plural && r.version == "v1"));
    found.unwrap()
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::of(Server::open(Config::in_memory()).await.unwrap())
    }

    pub(crate) fn of(server: Arc<Server>) -> Self {
        let local = apiserver::front::local(&server, "admin", &["system:masters"]);
        let admin = Client::local(local, "tests/1");
        Self { server, admin, away: Arc::default(), cut: Arc::default() }
    }

    pub(crate) fn admin(&self) -> &Client {
        &self.admin
    }

    /// The server as a node sees it.
    pub(crate) fn cache(&self, node: &str) -> Cache {
        let name = format!("system:node:{node}");
        let local = apiserver::front::local(&self.server, &name, &["system:nodes"]);
        let (away, cut) = (self.away.clone(), self.cut.clone());
        let flaky: Local = Arc::new(move |request| {
            let (local, away, cut) =
                (local.clone(), away.load(Ordering::Relaxed), cut.lock().unwrap().clone());
            Box::pin(async move {
                if away != 0 {
                    let empty = Full::new(Bytes::from("away")).map_err(|never| match never {}).boxed_unsync();
                    return http::Response::builder().status(away).body(empty).unwrap();
                }
                local(request).await.map(|body| breakable(body, cut))
            })
        });
        Cache::scoped(Client::local(flaky, "agent/1"), agent::Api::scopes(node))
    }

    /// Nodes are answered with this code from now on, and what they watch breaks; 0 answers them again.
    pub(crate) fn answer_nodes(&self, code: u16) {
        self.away.store(code, Ordering::Relaxed);
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }

    pub(crate) async fn create(&self, plural: &str, namespace: &str, object: Value) -> Value {
        self.admin.create(of(plural), namespace, &object, Query::default()).await.unwrap()
    }

    /// Asks for the end of an object.
    pub(crate) async fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.admin.delete(of(plural), namespace, name, &Value::Null).await.unwrap();
    }

    /// Removes an object at once.
    pub(crate) async fn remove(&self, plural: &str, namespace: &str, name: &str) {
        self.admin.delete(of(plural), namespace, name, &json!({"gracePeriodSeconds": 0})).await.unwrap();
    }

    /// Waits until an object is as wanted.
    pub(crate) async fn until(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let began = tokio::time::Instant::now();
        loop {
            let found = self.admin.get(of(plural), namespace, name).await;
            match found {
                Ok(object) if wanted(&object) => return object,
                found if began.elapsed() > PATIENCE => panic!("{plural} {name} never got there: {found:#?}"),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    pub(crate) async fn gone(&self, plural: &str, namespace: &str, name: &str) {
        let began = tokio::time::Instant::now();
        while let Ok(object) = self.admin.get(of(plural), namespace, name).await {
            assert!(began.elapsed() < PATIENCE, "{plural} {name} is still there: {object:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for an event about an object.
    pub(crate) async fn event(&self, about: &str, reason: &str) -> Value {
        let began = tokio::time::Instant::now();
        loop {
            let all = self.list("events").await;
            let found = all.iter().find(|e| e["involvedObject"]["name"] == about && e["reason"] == reason);
            if let Some(event) = found {
                return event.clone();
            }
            assert!(began.elapsed() < PATIENCE, "no event {reason} about {about}: {all:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn list(&self, plural: &str) -> Vec<Value> {
        let list = self.admin.list(of(plural), "", Query::default()).await.unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }
}

/// A body that breaks when it is cut.
fn breakable(body: client::Body, cut: CancellationToken) -> client::Body {
    let frames = futures_util::stream::unfold((body, cut), |(mut body, cut)| async move {
        let frame = tokio::select! {
            biased;
            () = cut.cancelled() => Some(Err("cut".into())),
            frame = body.frame() => frame,
        };
        frame.map(|frame| (frame, (body, cut)))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// An agent with a CRI server of its own.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) fake: Fake,
    pub(crate) dir: tempfile::TempDir,
    cri: JoinHandle<()>,
    running: Option<(JoinHandle<Result<(), AgentFailed>>, CancellationToken)>,
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["run", "data", "manifests"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let fake = Fake::new(Clock);
        let socket = dir.path().join("run/cri.sock");
        let cri = tokio::spawn({
            let fake = fake.clone();
            async move { fake.listen(&socket).await }
        });
        Self { name: name.to_owned(), fake, dir, cri, running: None }
    }

    pub(crate) async fn start(api: &Api, name: &str) -> Self {
        let mut node = Self::new(name);
        node.restart(api).await;
        node
    }

    pub(crate) fn config(&self, api: &Api) -> agent::Config {
        let mut config = agent::Config::new(&self.dir.path().join("data"), &self.dir.path().join("run"));
        config.api = Some(agent::Api::new(api.cache(&self.name)));
        config.node_name.clone_from(&self.name);
        config.node_ips = vec!["192.0.2.1".parse().unwrap()];
        config.cgroup_root = String::new();
        config.manifests = Some(self.manifests());
        config
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    /// Moves a manifest of a static pod into its directory.
    pub(crate) fn manifest(&self, file: &str, pod: &Value) {
        let whole = self.dir.path().join(file);
        std::fs::write(&whole, pod.to_string()).unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(60);
        std::fs::File::options().write(true).open(&whole).unwrap().set_modified(old).unwrap();
        std::fs::rename(whole, self.manifests().join(file)).unwrap();
    }

    /// Runs it to its end.
    pub(crate) async fn run(&mut self, api: &Api) -> Result<(), AgentFailed> {
        agent::run(self.config(api), CancellationToken::new()).await
    }

    pub(crate) async fn restart(&mut self, api: &Api) {
        self.run_with(self.config(api));
    }

    pub(crate) fn run_with(&mut self, config: agent::Config) {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(agent::run(config, shutdown.clone()));
        self.running = Some((task, shutdown));
    }

    /// Ends the agent as `kill -9` would.
    pub(crate) async fn kill(&mut self) {
        let (task, _) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    pub(crate) async fn stop(mut self) {
        if let Some((task, shutdown)) = self.running.take() {
            shutdown.cancel();
            task.await.unwrap().unwrap();
        }
        self.cri.abort();
    }

    /// Waits until the runtime is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Inside) -> bool) {
        let began = tokio::time::Instant::now();
        while !wanted(&self.fake.inside()) {
            assert!(began.elapsed() < PATIENCE, "{:#?}", self.fake.inside());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends all its pods.
    pub(crate) async fn clear(&self, api: &Api) {
        for pod in api.list("pods").await {
            let (namespace, name) =
                (pod["metadata"]["namespace"].as_str().unwrap(), pod["metadata"]["name"].as_str().unwrap());
            api.delete("pods", namespace, name).await;
            api.gone("pods", namespace, name).await;
        }
        self.until(|inside| inside.sandboxes.is_empty() && inside.containers.is_empty()).await;
    }
}

/// A pod that is bound to a node.
pub(crate) fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": node, "automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i:1"}]}})
}

/// The status of a condition.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|c| c["type"] == kind).and_then(|c| c["status"].as_str()).unwrap_or("none")
}

pub(crate) fn ready(pod: &Value) -> bool {
    condition(pod, "Ready") == "True"
}
