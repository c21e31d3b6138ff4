//! An API server in memory with all controllers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{Bound, Config, Server, front};
use client::{Cache, Client, Patch, Query};
use proto_kube::{GroupResource, Resource, resource};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const AGENT: &str = "tests";
/// How long anything may take, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A control plane; ends with the value.
pub(crate) struct Plane {
    pub(crate) server: Arc<Server>,
    pub(crate) admin: Client,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    /// With a kubeconfig for who wants to look at it with other clients.
    pub(crate) async fn with(kubeconfig: Option<PathBuf>) -> Self {
        let config = Config { kubeconfig, dns: vec!["10.96.0.10".parse().unwrap()], ..Config::in_memory() };
        let bound = Bound::new(Server::open(config).await.unwrap()).await.unwrap();
        let server = bound.server().clone();
        let admin = local(&server, "admin", &["system:masters"]);
        let of = server.clone();
        let client_of = move |component: &'static str| match component {
            "kube-controller-manager" | "kube-scheduler" => local(&of, &format!("system:{component}"), &[]),
            controller => {
                let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
                local(&of, &format!("system:serviceaccount:kube-system:{controller}"), &groups)
            }
        };
        let cache = Cache::new(admin.clone());
        let mut control = control::Config::new(cache, Arc::new(client_of), "test".to_owned());
        control.facts.pod_cidrs = vec![("10.244.0.0/16".to_owned(), 24)];
        control.facts.root_ca = server.pki.bundle();
        let duration = Duration::from_secs(24 * 3600);
        control.signer = Some(control::Signing { pki: server.pki.clone(), duration });
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(bound.run(stop.clone()));
        let end = stop.clone();
        tasks.spawn(async move { control::run(control, end).await.unwrap() });
        Self { server, admin, stop, _tasks: tasks }
    }

    /// A client of somebody else.
    pub(crate) fn user(&self, name: &str, groups: &[&str]) -> Client {
        local(&self.server, name, groups)
    }

    pub(crate) async fn create(&self, of: (&str, &str), object: Value) -> Value {
        create(&self.admin, of, object).await.unwrap()
    }

    pub(crate) async fn get(&self, of: (&str, &str), namespace: &str, name: &str) -> Option<Value> {
        self.admin.get(find(of), namespace, name).await.ok()
    }

    pub(crate) async fn list(&self, of: (&str, &str), namespace: &str) -> Vec<Value> {
        let list = self.admin.list(find(of), namespace, Query::default()).await.unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) async fn patch(
        &self,
        of: (&str, &str),
        (namespace, name): (&str, &str),
        sub: Option<&str>,
        patch: Value,
    ) -> Value {
        let place = (find(of), namespace, name);
        self.admin.patch(place, sub, (Patch::Merge, &patch), Query::default()).await.unwrap()
    }

    pub(crate) async fn delete(&self, of: (&str, &str), namespace: &str, name: &str, options: Value) {
        self.admin.delete(find(of), namespace, name, &options).await.unwrap();
    }

    /// A node that says it is ready, with a lease that is renewed until the test ends if it `lives`.
    pub(crate) async fn node(&mut self, name: &str, lives: bool) {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        self.create(("", "nodes"), node).await;
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "Hostname", "address": name}], "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": now(), "lastTransitionTime": now()}]}});
        self.patch(("", "nodes"), ("", name), Some("status"), status).await;
        let lease = json!({"metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}});
        self.create(("coordination.k8s.io", "leases"), lease).await;
        if lives {
            let (admin, name) = (self.admin.clone(), name.to_owned());
            self._tasks.spawn(async move {
                let leases = find(("coordination.k8s.io", "leases"));
                loop {
                    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
                    let patch = json!({"spec": {"renewTime": time}});
                    let place = (leases, "kube-node-lease", name.as_str());
                    let _ = admin.patch(place, None, (Patch::Merge, &patch), Query::default()).await;
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
            });
        }
    }

    /// A pod on a node, running and ready.
    pub(crate) async fn pod(&self, namespace: &str, name: &str, node: &str, ip: &str) -> Value {
        let pod = json!({"metadata": {"name": name, "namespace": namespace, "labels": {"app": "web"}},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "i",
                "ports": [{"name": "http", "containerPort": 8080}]}]}});
        self.create(("", "pods"), pod).await;
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now()}]}});
        self.patch(("", "pods"), (namespace, name), Some("status"), status).await
    }
}

pub(crate) async fn create(
    client: &Client,
    of: (&str, &str),
    mut object: Value,
) -> Result<Value, client::ClientError> {
    let resource = find(of);
    object["apiVersion"] = resource.api_version().into();
    object["kind"] = resource.kind.into();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    client.create(resource, &namespace, &object, Query::default()).await
}

pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn find((group, resource): (&str, &str)) -> &'static Resource {
    resource::preferred(GroupResource { group, resource }).unwrap()
}

fn local(server: &Arc<Server>, user: &str, groups: &[&str]) -> Client {
    Client::local(front::local(server, user, groups), AGENT)
}

/// Waits until something is so, and gives what it was that made it so.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let wait = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}
