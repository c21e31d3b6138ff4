//! The kubelet of a node: where it is, and a connection that it takes for the API server's.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Uri};
use jiff::{SignedDuration, Timestamp};
use pki::Standing;
use proto_kube::status::{Result, Status};
use proto_kube::view::View as _;
use proto_kube::{GroupResource, object};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{CONNECT, authority, connect};
use crate::reply::{Body, Response, full};
use crate::rest::{Call, Objects};
use crate::server::Server;

/// Who we are to kubelets.
const USER: &str = "kube-apiserver-kubelet-client";
/// Where a kubelet listens that does not say it.
const PORT: u16 = 10250;
/// Which address of a node is tried, the best first.
const PREFERRED: [&str; 5] = ["InternalIP", "Hostname", "ExternalIP", "InternalDNS", "ExternalDNS"];
/// What a node declares whose kubelet speaks the websockets of today's clients.
const WEBSOCKETS: &str = "ExtendWebSocketsToKubelet";
/// How long a client certificate is used before a new one is made.
const FRESH: SignedDuration = SignedDuration::from_hours(24);

/// What is kept between connections to nodes.
#[derive(Default)]
pub struct Nodes {
    tls: Mutex<Option<(Arc<ClientConfig>, Timestamp)>>,
    /// Nodes that have shown a certificate of the cluster. They are never again believed with less.
    proved: Mutex<HashSet<String>>,
}

impl Nodes {
    /// TLS with our certificate, which is made when it is first needed, and anew each day.
    fn tls(&self, pki: &pki::Pki, now: Timestamp) -> std::result::Result<Arc<ClientConfig>, pki::Error> {
        let mut kept = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, made)) = &*kept
            && now.duration_since(*made).abs() < FRESH
        {
            return Ok(config.clone());
        }
        let config = pki::client(Some(&pki.issue_client(USER, &[authz::MASTERS], now)?))?;
        *kept = Some((config.clone(), now));
        Ok(config)
    }

    /// Forgets the certificate: the authorities are new.
    pub fn forget(&self) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether a node may be believed that shows a certificate of such standing.
    fn believes(&self, node: &str, standing: Standing) -> bool {
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        match standing {
            Standing::Cluster => {
                if !proved.contains(node) {
                    proved.insert(node.to_owned());
                }
                true
            }
            Standing::Foreign => !proved.contains(node),
        }
    }
}

/// The kubelet of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kubelet {
    node: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// It speaks the websockets of today's clients.
    pub(super) websockets: bool,
}

impl Kubelet {
    /// What a `Node` says about its kubelet.
    ///
    /// # Errors
    /// 500 without an address.
    pub(super) fn of(node: &Value) -> Result<Self> {
        let addresses: Vec<(&str, &str)> = object::items(node, &["status", "addresses"])
            .map(|a| (object::text(a, &["type"]), object::text(a, &["address"])))
            .collect();
        let preferred =
            PREFERRED.iter().find_map(|kind| addresses.iter().find(|(k, a)| k == kind && !a.is_empty()));
        let Some((_, host)) = preferred else {
            let known: Vec<String> = addresses.iter().map(|(kind, a)| format!("{kind}:{a}")).collect();
            let why = format!("no preferred addresses found; known addresses: [{}]", known.join(" "));
            return Err(Status::unknown(why));
        };
        let port = object::number(node, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
        Ok(Self {
            node: object::name(node).to_owned(),
            host: (*host).to_owned(),
            port: port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(PORT),
            websockets: object::items(node, &["status", "declaredFeatures"]).any(|f| f == WEBSOCKETS),
        })
    }

    /// As `10.0.0.1:10250`.
    pub(super) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Connects. The text of a failure reaches the user.
    pub(super) async fn dial(&self, server: &Server) -> std::result::Result<TlsStream<TcpStream>, String> {
        let socket = connect(&self.host, self.port).await?;
        let now = server.now();
        let tls = server.nodes.tls(&server.pki, now).map_err(|e| e.to_string())?;
        let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
        let shaking = TlsConnector::from(tls).connect(name.clone(), socket);
        let stream = match tokio::time::timeout(CONNECT, shaking).await {
            Ok(stream) => stream.map_err(|error| format!("tls: {error}"))?,
            Err(_) => return Err("net/http: TLS handshake timeout".to_owned()),
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let standing = server.pki.serving(chain, &name, now);
        let standing = standing.map_err(|e| format!("tls: failed to verify certificate: {e}"))?;
        if !server.nodes.believes(&self.node, standing) {
            let node = &self.node;
            return Err(format!(
                "tls: failed to verify certificate: x509: certificate signed by unknown authority; \
                 node {node} has shown one of the cluster before"
            ));
        }
        Ok(stream)
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// 500 when there is no answer.
    pub(super) async fn get(&self, server: &Server, path: &str) -> Result<Response> {
        let url = format!("https://{}{path}", self.authority());
        let failed = |why: String| Status::unknown(format!("Get \"{url}\": {why}"));
        let uri: Uri = url.parse().map_err(|_| failed("invalid URL".to_owned()))?;
        let stream = self.dial(server).await.map_err(failed)?;
        let mut request: Request<Body> = Request::new(full(""));
        *request.uri_mut() = uri;
        stream::relay::forward(stream, request, None).await.map_err(|error| failed(error.to_string()))
    }
}

/// The kubelet of the node of this name.
///
/// # Errors
/// 404 without such a node, in the name of the resource asked for as upstream has it; 500 without an address.
pub(super) fn of(call: &Call<'_>, node: &str) -> Result<Kubelet> {
    let nodes = GroupResource { group: "", resource: "nodes" };
    let found = Objects(&call.server.store).get(nodes, "", node);
    Kubelet::of(&*found.ok_or_else(|| Status::not_found(call.group_resource(), node))?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(status: Value) -> Result<Kubelet> {
        Kubelet::of(&json!({"metadata": {"name": "n"}, "status": status}))
    }

    #[test]
    fn a_node_says_where_its_kubelet_is() {
        let kubelet = node(json!({
            "addresses": [{"type": "Hostname", "address": "n.example"}, {"type": "ExternalIP", "address": "1.2.3.4"},
                {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 12345}},
            "declaredFeatures": ["A", "ExtendWebSocketsToKubelet"],
        }))
        .unwrap();
        assert_eq!((kubelet.authority().as_str(), kubelet.websockets), ("10.0.0.1:12345", true));
        let kubelet = node(json!({"addresses": [{"type": "InternalIP", "address": "fd00::1"}]})).unwrap();
        assert_eq!((kubelet.authority().as_str(), kubelet.websockets), ("[fd00::1]:10250", false));
        let none = node(json!({"addresses": [{"type": "Other", "address": "x"}]})).unwrap_err();
        assert_eq!(none.message, "no preferred addresses found; known addresses: [Other:x]");
    }

    #[test]
    fn a_node_that_has_proved_itself_must_go_on_doing_so() {
        let nodes = Nodes::default();
        assert!(nodes.believes("a", Standing::Foreign));
        assert!(nodes.believes("a", Standing::Cluster));
        assert!(!nodes.believes("a", Standing::Foreign));
        assert!(nodes.believes("b", Standing::Foreign));
    }
}
