//! A node joins over TLS, by a token and the hash of the authority. What approves and signs stands here for the
//! controllers that do so in a cluster.

use std::sync::Arc;
use std::time::Duration;

use agent::{IdentityFailed, Join, NodeIdentity, ServingCertificate};
use apiserver::{Bound, Config, Server};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{Cache, Client, Query};
use pki::{Csr, Signer};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::node::{Api, Node, condition, of};

/// A server that is reached over TLS, with a signer.
pub(crate) struct Served {
    pub(crate) api: Api,
    server: Arc<Server>,
    pub(crate) address: String,
    pub(crate) pin: String,
    ends: CancellationToken,
}

const TOKEN: &str = "abcdef.0123456789abcdef";

impl Served {
    pub(crate) async fn start() -> Self {
        let bound = Bound::new(Server::open(Config::in_memory()).await.unwrap()).await.unwrap();
        let (server, address) = (bound.server().clone(), bound.addresses()[0].to_string());
        let ends = CancellationToken::new();
        tokio::spawn(bound.run(ends.clone()));
        let api = Api::of(server.clone());
        api.create(
            "secrets",
            "kube-system",
            json!({"type": "bootstrap.kubernetes.io/token", "metadata": {"name": "bootstrap-token-abcdef"},
                "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef",
                    "usage-bootstrap-authentication": "true",
                    "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"}}),
        )
        .await;
        tokio::spawn(approve(api.admin().clone(), server.clone(), ends.clone()));
        let pin = pki::join::pin(&server.pki.bundle()).unwrap();
        Self { api, server, address, pin, ends }
    }

    fn join(&self, node: &str) -> Join {
        Join {
            server: self.address.clone(),
            token: TOKEN.into(),
            pins: vec![self.pin.clone()],
            node_name: node.into(),
            patience: Duration::from_secs(30),
        }
    }
}

/// Signs every request.
async fn approve(admin: Client, server: Arc<Server>, ends: CancellationToken) {
    let requests = of("certificatesigningrequests");
    while !ends.is_cancelled() {
        let all = admin.list(requests, "", Query::default()).await.unwrap();
        for request in all["items"].as_array().into_iter().flatten() {
            if request["status"]["certificate"].is_null() {
                let mut request = request.clone();
                request["status"]["conditions"] =
                    json!([{"type": "Approved", "status": "True", "reason": "Test", "message": "test"}]);
                let Ok(mut request) =
                    admin.update(requests, Some("approval"), &request, Query::default()).await
                else {
                    continue;
                };
                let text = |path: &str| request.pointer(path).unwrap().as_str().unwrap().to_owned();
                let asked = STANDARD.decode(text("/spec/request")).unwrap();
                let signer = Signer::named(&text("/spec/signerName")).unwrap();
                let usages = request["spec"]["usages"].as_array().unwrap();
                let usages: Vec<&str> = usages.iter().map(|u| u.as_str().unwrap()).collect();
                let csr = Csr::from_pem(&asked).unwrap();
                signer.check(&csr, &usages).unwrap();
                let signed = server.pki.sign(&csr, signer, None, server.now()).unwrap();
                request["status"]["certificate"] = STANDARD.encode(signed).into();
                let _ = admin.update(requests, Some("status"), &request, Query::default()).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_node_joins_by_a_token() {
    let served = Served::start().await;
    let mut node = Node::new("n1");
    let dir = node.dir.path().join("node");
    let identity = NodeIdentity::join(&dir, &served.join("n1")).await.unwrap();
    let again = NodeIdentity::join(&dir, &served.join("n1")).await.unwrap();
    let certificate = std::fs::read(dir.join("node.pem")).unwrap();
    assert_eq!(again.dir(), identity.dir());
    assert_eq!(std::fs::read(dir.join("node.pem")).unwrap(), certificate, "it is not asked for twice");
    assert!(matches!(NodeIdentity::open(&dir, "n2"), Err(IdentityFailed::Other { .. })));
    let client = Client::new(identity.config(), "agent/1").unwrap();
    let certificate = ServingCertificate::open(&dir);
    let mut serving = certificate.watch();
    let mut config = node.config(&served.api);
    let mut api = agent::Api::new(Cache::scoped(client, agent::Api::scopes("n1")));
    (api.identity, api.serving) = (Some(identity), Some(certificate));
    config.api = Some(api);
    node.run_with(config);
    served.api.until("nodes", "", "n1", |n| condition(n, "Ready") == "True").await;
    serving.wait_for(Option::is_some).await.unwrap();
    let serving = serving.borrow().clone().unwrap();
    let serving = pki::Certificate::from_pem(&serving.certificate).unwrap();
    assert_eq!(serving.names, pki::Names::new(["n1", "192.0.2.1"]));
    node.stop().await;
    served.ends.cancel();
}

#[tokio::test]
async fn a_new_certificate_is_shown_at_once() {
    let served = Served::start().await;
    let dir = tempfile::tempdir().unwrap();
    let identity = NodeIdentity::join(dir.path(), &served.join("n1")).await.unwrap();
    let client = Client::new(identity.config(), "agent/1").unwrap();
    let who = async || {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let answer = client.create(of("selfsubjectreviews"), "", &review, Query::default()).await.unwrap();
        answer["status"]["userInfo"]["username"].as_str().unwrap().to_owned()
    };
    assert_eq!(who().await, "system:node:n1");
    let other =
        served.server.pki.issue_client("system:node:n2", &["system:nodes"], served.server.now()).unwrap();
    let credentials = identity.config().credentials.clone().unwrap();
    credentials.replace(other.certificate.as_bytes(), other.key.as_bytes()).unwrap();
    assert_eq!(who().await, "system:node:n2");
    served.ends.cancel();
}

#[tokio::test]
async fn who_is_not_the_cluster_is_not_trusted() {
    let served = Served::start().await;
    let dir = tempfile::tempdir().unwrap();
    let foreign = Join { pins: vec![format!("sha256:{}", "0".repeat(64))], ..served.join("n1") };
    let error = NodeIdentity::join(dir.path(), &foreign).await.unwrap_err().to_string();
    assert!(error.contains("is not the cluster that is asked for"), "{error}");
    let unknown = Join { token: "aaaaaa.0123456789abcdef".into(), ..served.join("n1") };
    let error = NodeIdentity::join(dir.path(), &unknown).await.unwrap_err();
    assert!(matches!(error, IdentityFailed::Unknown { .. }), "{error:?}");
    let unsigned = Join { pins: Vec::new(), ..served.join("n1") };
    let error = NodeIdentity::join(dir.path(), &unsigned).await.unwrap_err().to_string();
    assert!(error.contains("does not know the token abcdef"), "{error}");
    served.ends.cancel();
}
