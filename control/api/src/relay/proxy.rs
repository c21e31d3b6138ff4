//! Requests to pods, services and nodes themselves: which address is meant, and what a proxy adds and takes away.

use std::net::IpAddr;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Request, StatusCode};
use proto_kube::status::{Result, Status};
use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use rustls::pki_types::ServerName;
use serde_json::Value;
use stream::relay;
use tokio_rustls::TlsConnector;

use super::kubelet::{self, Kubelet};
use super::rewrite::{Links, Rewriter};
use super::{Asked, CONNECT, authority, connect, forwarded, unknown_port, until};
use crate::reply::{Body, Response, full};
use crate::rest::{Call, Objects};

const PODS: GroupResource<'static> = GroupResource { group: "", resource: "pods" };
const ENDPOINTS: GroupResource<'static> = GroupResource { group: "", resource: "endpoints" };
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// What a backend says of other origins is about itself, and would be taken to be about the API server.
const CROSS_ORIGIN: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "access-control-max-age",
];

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Backend {
    /// An address, by HTTP or HTTPS. Nobody vouches for the certificate of what listens there.
    Port { tls: bool, host: String, port: u16 },
    /// The kubelet of a node.
    Kubelet(Kubelet),
}

impl Backend {
    fn authority(&self) -> String {
        match self {
            Self::Port { host, port, .. } => authority(host, *port),
            Self::Kubelet(kubelet) => kubelet.authority(),
        }
    }
}

/// `[scheme:]name[:port]`, as a path names a pod, service or node; the port may be empty.
fn split<'a>(id: &'a str, kind: &str) -> Result<(bool, &'a str, &'a str)> {
    let bad = || Status::bad_request(format!("invalid {kind} request {id:?}"));
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return Err(bad()),
    };
    match scheme {
        _ if name.is_empty() => Err(bad()),
        "" | "http" => Ok((false, name, port)),
        "https" => Ok((true, name, port)),
        _ => Err(bad()),
    }
}

/// Whether a request may be sent there on behalf of others: not to this machine itself.
fn is_allowed(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_link_local()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local())
        }
    })
}

fn not_allowed() -> Status {
    Status::bad_request("address not allowed")
}

/// The address of a pod: the port that was named, or the first that it declares.
fn pod(view: &impl View, namespace: &str, id: &str) -> Result<Backend> {
    let (tls, name, port) = split(id, "pod")?;
    let pod = view.get(PODS, namespace, name).ok_or_else(|| Status::not_found(PODS, name))?;
    let first = || {
        let ports = object::items(&pod, &["spec", "containers"]).flat_map(|c| object::items(c, &["ports"]));
        ports.filter_map(|p| object::number(p, &["containerPort"])).find_map(|p| u16::try_from(p).ok())
    };
    let port = match port {
        "" => first().unwrap_or(if tls { 443 } else { 80 }),
        port => port.parse().map_err(|_| unknown_port(port))?,
    };
    let host = match object::text(&pod, &["status", "podIP"]) {
        "" => object::items(&pod, &["status", "podIPs"])
            .map(|ip| object::text(ip, &["ip"]))
            .next()
            .unwrap_or_default(),
        ip => ip,
    };
    if !is_allowed(host) {
        return Err(not_allowed());
    }
    Ok(Backend::Port { tls, host: host.to_owned(), port })
}

/// The address of one of a service's endpoints that are pods; `pick` chooses among so many.
fn service(
    view: &impl View,
    namespace: &str,
    id: &str,
    mut pick: impl FnMut(usize) -> usize,
) -> Result<Backend> {
    let services = GroupResource { group: "", resource: "services" };
    let (tls, name, port) = split(id, "service")?;
    // What has a number is a port of the service, whose endpoints know it by name.
    let port = match port.parse::<i64>() {
        Ok(number) => {
            let service =
                view.get(services, namespace, name).ok_or_else(|| Status::not_found(services, name))?;
            let found = object::items(&service, &["spec", "ports"])
                .find(|p| object::number(p, &["port"]) == Some(number));
            let why = || Status::unavailable(format!("no service port {number} found for service {name:?}"));
            object::text(found.ok_or_else(why)?, &["name"]).to_owned()
        }
        Err(_) => port.to_owned(),
    };
    let endpoints = view.get(ENDPOINTS, namespace, name).ok_or_else(|| Status::not_found(ENDPOINTS, name))?;
    let none = |of: &str| Status::unavailable(format!("no endpoints available for service {of:?}"));
    let subsets: Vec<&Value> = object::items(&endpoints, &["subsets"]).collect();
    if subsets.is_empty() {
        return Err(none(name));
    }
    let first = pick(subsets.len());
    for at in 0..subsets.len() {
        let subset = subsets[(first + at) % subsets.len()];
        let mut ports = object::items(subset, &["ports"]).filter(|p| object::text(p, &["name"]) == port);
        let Some(number) = ports.find_map(|p| u16::try_from(object::number(p, &["port"])?).ok()) else {
            continue;
        };
        let addresses: Vec<&Value> = object::items(subset, &["addresses"]).collect();
        let first = if addresses.is_empty() { 0 } else { pick(addresses.len()) };
        for at in 0..addresses.len() {
            let address = addresses[(first + at) % addresses.len()];
            if is_pods(view, address) {
                let host = object::text(address, &["ip"]).to_owned();
                return Ok(Backend::Port { tls, host, port: number });
            }
        }
    }
    Err(none(id))
}

/// Whether an endpoint's address is that of the pod it names: who may write endpoints may not have us call anybody.
fn is_pods(view: &impl View, address: &Value) -> bool {
    let target = |key| object::text(address, &["targetRef", key]);
    let ip = object::text(address, &["ip"]);
    let Some(pod) = view.get(PODS, target("namespace"), target("name")) else { return false };
    object::items(&pod, &["status", "podIPs"]).any(|p| object::text(p, &["ip"]) == ip)
        || object::text(&pod, &["status", "podIP"]) == ip
}

/// A node's kubelet, or another port of the node.
async fn node(call: &Call<'_>, id: &str) -> Result<Backend> {
    let (tls, name, port) = split(id, "node")?;
    let kubelet = kubelet::of(call, name)?;
    let found = tokio::net::lookup_host((kubelet.host.clone(), kubelet.port)).await;
    let mut addresses = found.map_err(|error| Status::bad_request(error.to_string()))?;
    if !addresses.all(|address| is_allowed(&address.ip().to_string())) {
        return Err(not_allowed());
    }
    match port {
        "" => Ok(Backend::Kubelet(kubelet)),
        port => match port.parse().map_err(|_| unknown_port(port))? {
            port if port == kubelet.port => Ok(Backend::Kubelet(kubelet)),
            port => Ok(Backend::Port { tls, host: kubelet.host, port }),
        },
    }
}

/// A path up to and with its `proxy`, and what follows, both as they were sent.
fn cut(path: &str) -> (&str, &str) {
    let namespaced = path.split('/').filter(|p| !p.is_empty()).nth(2) == Some("namespaces");
    let last = if namespaced { 6 } else { 4 };
    let (mut at, mut seen) = (0, 0);
    for part in path.split_inclusive('/') {
        let name = part.trim_end_matches('/');
        if !name.is_empty() {
            if seen == last {
                return path.split_at(at + name.len());
            }
            seen += 1;
        }
        at += part.len();
    }
    (path, "")
}

/// Answers a request to a pod, service or node.
pub(super) async fn answer(call: &Call<'_>, mut asked: Asked, body: Body) -> Result<Response> {
    let (id, view) = (call.path_name(), Objects(&call.server.store));
    let backend = match call.resource.plural {
        "pods" => pod(&view, call.namespace, id)?,
        "services" => service(&view, call.namespace, id, |many| fastrand::usize(..many))?,
        _ => node(call, id).await?,
    };
    let path = asked.uri.path().to_owned();
    let (prefix, rest) = cut(&path);
    let query = asked.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let near = asked.upgrade.take().filter(|_| relay::is_upgrade(call.headers));
    if rest.is_empty() && near.is_none() && matches!(asked.method, Method::GET | Method::HEAD) {
        return Ok(moved(&format!("{prefix}/{query}")));
    }
    let rest = if rest.is_empty() { "/" } else { rest };
    let uri = format!("http://{}{rest}{query}", backend.authority());
    let failed = |why: String| Status::unavailable(format!("error trying to reach service: {why}"));
    let mut request = Request::new(body);
    *request.uri_mut() = uri.parse().map_err(|_| Status::bad_request(format!("invalid URL {uri:?}")))?;
    *request.method_mut() = asked.method.clone();
    *request.headers_mut() = headers(call.headers, &asked, &path);
    let links =
        Links::new(prefix, &backend.authority(), asked.uri.authority().map(|a| a.as_str()), call.headers);
    let upgrading = near.is_some();
    let response = send(call, &backend, request, near).await.map_err(failed)?;
    if upgrading && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    Ok(returned(response, links).map(|body| until(body, call.server.ends.clone())))
}

async fn send(
    call: &Call<'_>,
    backend: &Backend,
    request: Request<Body>,
    near: Option<hyper::upgrade::OnUpgrade>,
) -> std::result::Result<Response, String> {
    let answered = match backend {
        Backend::Kubelet(kubelet) => {
            let far = kubelet.dial(call.server).await?;
            relay::forward(far, request, near).await
        }
        Backend::Port { tls: false, host, port } => {
            relay::forward(connect(host, *port).await?, request, near).await
        }
        Backend::Port { tls: true, host, port } => {
            let socket = connect(host, *port).await?;
            let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
            let tls = pki::client(None).map_err(|e| e.to_string())?;
            let shaking = tokio::time::timeout(CONNECT, TlsConnector::from(tls).connect(name, socket)).await;
            let far = shaking.map_err(|_| "net/http: TLS handshake timeout".to_owned())?;
            relay::forward(far.map_err(|e| format!("tls: {e}"))?, request, near).await
        }
    };
    answered.map_err(|error| error.to_string())
}

/// What a backend hears: nothing that was meant for this server, but for whom and as what it is asked.
fn headers(own: &HeaderMap, asked: &Asked, path: &str) -> HeaderMap {
    let mut headers = forwarded(own);
    if let Some(host) = asked.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
        // HTTP/2 has the host in the URI.
        headers.entry(http::header::HOST).or_insert(host);
    }
    let before = own.get_all(FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned);
    let hops: Vec<String> = before.chain(asked.client.map(|client| client.ip().to_string())).collect();
    if let Ok(value) = HeaderValue::from_str(&hops.join(", "))
        && !hops.is_empty()
    {
        headers.insert(FORWARDED_FOR, value);
    }
    if let Ok(value) = HeaderValue::from_str(path) {
        headers.insert(FORWARDED_URI, value);
    }
    // Links are rewritten in text, which is not to be compressed then.
    let accept = own.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        headers.remove(http::header::ACCEPT_ENCODING);
    }
    headers
}

/// A backend's answer, its links leading back through here.
fn returned(mut response: Response, links: Links) -> Response {
    for name in CROSS_ORIGIN {
        response.headers_mut().remove(name);
    }
    if let Some(location) = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()) {
        if let Ok(location) = HeaderValue::from_str(&links.rewrite(location)) {
            response.headers_mut().insert(LOCATION, location);
        }
        return response;
    }
    let media = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let is_html = media.split(';').next().unwrap_or_default().trim() == "text/html";
    if !is_html || response.headers().contains_key(http::header::CONTENT_ENCODING) {
        return response;
    }
    response.headers_mut().remove(http::header::CONTENT_LENGTH);
    response.map(|body| Rewriter::new(links).over(body))
}

fn moved(to: &str) -> Response {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

#[cfg(test)]
mod tests;
