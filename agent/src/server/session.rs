//! Exec, attach, port-forward and run: the CRI server gives a URL, and the client's connection goes on to it.

use std::collections::HashMap;

use http::{Method, Request, Response, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;
use proto_cri as cri;
use stream::relay::{self, Session};
use stream::{Offer, Wishes};
use tokio::net::TcpStream;

use super::reply::{Body, Refused, text};
use super::{Server, pairs};
use crate::cri::{CALL, within};
use crate::labels;

/// What a URL is wanted for.
enum Wanted {
    Exec(cri::ExecRequest),
    Attach(cri::AttachRequest),
    PortForward(cri::PortForwardRequest),
}

/// Answers below `/exec`, `/attach`, `/portForward` and `/run`, with or without the pod's uid in the path.
pub(super) async fn answer(
    server: &Server,
    parts: &[&str],
    mut request: Request<Body>,
) -> Result<Response<Body>, Refused> {
    let (kind, namespace, pod, uid, container) = match *parts {
        [kind @ "portForward", namespace, pod] => (kind, namespace, pod, "", ""),
        [kind @ "portForward", namespace, pod, uid] => (kind, namespace, pod, uid, ""),
        [kind, namespace, pod, container] => (kind, namespace, pod, "", container),
        [kind, namespace, pod, uid, container] => (kind, namespace, pod, uid, container),
        _ => return Err(Refused::new(StatusCode::NOT_FOUND, "404: Page Not Found")),
    };
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"));
    }
    let missing = || Refused::new(StatusCode::NOT_FOUND, "pod does not exist");
    let entry = server.pod(namespace, pod).filter(|entry| uid.is_empty() || entry.uid == uid);
    let uid = entry.ok_or_else(missing)?.uid;
    let query = pairs(request.uri().query().unwrap_or_default());
    let wishes = wishes(&query);
    let wanted = match kind {
        "portForward" => Wanted::PortForward(cri::PortForwardRequest {
            pod_sandbox_id: sandbox(server, &uid, namespace, pod).await?,
            port: ports(&query, &request)?,
        }),
        "run" => return run(server, &uid, container, &query).await,
        kind => {
            one_of_the_streams(wishes)?;
            let container_id = id(server, &uid, container).await?;
            let Wishes { stdin, stdout, stderr, tty } = wishes;
            let cmd = all(&query, "command").map(str::to_owned).collect();
            match kind {
                "exec" => Wanted::Exec(cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr }),
                _ => Wanted::Attach(cri::AttachRequest { container_id, stdin, tty, stdout, stderr }),
            }
        }
    };
    let near: Option<OnUpgrade> = request.extensions_mut().remove();
    let near = near.filter(|_| relay::is_upgrade(request.headers()));
    let near = near.ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "Upgrade request required"))?;
    relayed(server, &wanted, wishes, request, near).await
}

/// Carries the client's connection on to the CRI server. One that does not know today's websockets gets them translated.
async fn relayed(
    server: &Server,
    wanted: &Wanted,
    wishes: Wishes,
    request: Request<Body>,
    near: OnUpgrade,
) -> Result<Response<Body>, Refused> {
    let broken = |error: hyper::Error| Refused::internal(format!("error dialing backend: {error}"));
    let is_new = Offer::read(request.headers()).is_ok_and(|offer| offer.is_new());
    let (parts, _) = request.into_parts();
    let again = |uri: Uri| {
        let mut request = Request::new(relay::full(""));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = parts.headers.clone();
        for name in [http::header::AUTHORIZATION, http::header::HOST, http::header::CONTENT_LENGTH] {
            request.headers_mut().remove(name);
        }
        request
    };
    let (far, uri) = open(server, wanted).await?;
    let answered = relay::forward(far, again(uri), Some(near.clone())).await.map_err(broken)?;
    if !is_new || !matches!(answered.status(), StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) {
        return Ok(answered);
    }
    let session = match wanted {
        Wanted::PortForward(_) => Session::PortForward,
        Wanted::Exec(_) | Wanted::Attach(_) => Session::Command(wishes),
    };
    // The URL was good for one request.
    let (far, uri) = open(server, wanted).await?;
    relay::translate(far, again(uri), near, session).await.map_err(broken)
}

/// A connection to the URL that the CRI server gives.
async fn open(server: &Server, wanted: &Wanted) -> Result<(TcpStream, Uri), Refused> {
    let mut runtime = server.effects.cri.runtime.clone();
    let url = match wanted {
        Wanted::Exec(request) => within(CALL, runtime.exec(request.clone())).await?.url,
        Wanted::Attach(request) => within(CALL, runtime.attach(request.clone())).await?.url,
        Wanted::PortForward(request) => within(CALL, runtime.port_forward(request.clone())).await?.url,
    };
    let failed =
        |why: &dyn std::fmt::Display| Refused::internal(format!("error dialing backend: {url}: {why}"));
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(&error))?;
    let address = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let socket = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let _ = socket.set_nodelay(true);
    Ok((socket, uri))
}

/// Runs a command to its end.
async fn run(
    server: &Server,
    uid: &str,
    container: &str,
    query: &[(String, String)],
) -> Result<Response<Body>, Refused> {
    let container_id = id(server, uid, container).await?;
    let cmd: Vec<String> =
        all(query, "cmd").next().unwrap_or_default().split(' ').map(str::to_owned).collect();
    let request = cri::ExecSyncRequest { container_id, cmd: cmd.clone(), timeout: 0 };
    let mut answered = server.effects.cri.runtime.clone().exec_sync(request).await?.into_inner();
    answered.stdout.append(&mut answered.stderr);
    if answered.exit_code != 0 {
        let (said, code) = (String::from_utf8_lossy(&answered.stdout), answered.exit_code);
        return Err(Refused::internal(format!("command '{}' exited with {code}: {said}", cmd.join(" "))));
    }
    Ok(text(relay::full(answered.stdout)))
}

/// All running containers with these labels.
pub(super) async fn running(
    server: &Server,
    label_selector: HashMap<String, String>,
) -> Result<Vec<cri::Container>, Refused> {
    let state = Some(cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning.into() });
    let filter = cri::ContainerFilter { state, label_selector, ..Default::default() };
    let request = cri::ListContainersRequest { filter: Some(filter) };
    let list = within(CALL, server.effects.cri.runtime.clone().list_containers(request)).await?;
    Ok(list.containers.into_iter().filter(|c| c.labels.contains_key(labels::POD_UID)).collect())
}

/// The id of a running container.
async fn id(server: &Server, uid: &str, container: &str) -> Result<String, Refused> {
    let selector = [(labels::POD_UID, uid), (labels::CONTAINER_NAME, container)];
    let found = running(server, selector.map(|(k, v)| (k.to_owned(), v.to_owned())).into()).await?;
    let newest = found.into_iter().max_by_key(|c| c.metadata.as_ref().map_or(0, |m| m.attempt));
    newest.map(|c| c.id).ok_or_else(|| Refused::internal(format!("container not found ({container:?})")))
}

/// The id of a pod's sandbox.
async fn sandbox(server: &Server, uid: &str, namespace: &str, pod: &str) -> Result<String, Refused> {
    let state = Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() });
    let label_selector = [(labels::POD_UID.to_owned(), uid.to_owned())].into();
    let filter = cri::PodSandboxFilter { state, label_selector, ..Default::default() };
    let request = cri::ListPodSandboxRequest { filter: Some(filter) };
    let list = within(CALL, server.effects.cri.runtime.clone().list_pod_sandbox(request)).await?;
    let newest = list.items.into_iter().max_by_key(|s| s.metadata.as_ref().map_or(0, |m| m.attempt));
    newest.map(|s| s.id).ok_or_else(|| Refused::internal(format!("pod not found (\"{pod}_{namespace}\")")))
}

fn all<'a>(query: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    query.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The streams that were asked for; a terminal has one output.
fn wishes(query: &[(String, String)]) -> Wishes {
    let wish = |name: &str| all(query, name).next().is_some_and(|v| v == "1" || v == "true");
    let tty = wish("tty");
    Wishes { stdin: wish("input"), stdout: wish("output"), stderr: wish("error") && !tty, tty }
}

fn one_of_the_streams(wishes: Wishes) -> Result<(), Refused> {
    if wishes.stdin || wishes.stdout || wishes.stderr {
        return Ok(());
    }
    Err(Refused::new(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr"))
}

/// The ports that a request names, in its query or, as old clients do, in headers.
fn ports(query: &[(String, String)], request: &Request<Body>) -> Result<Vec<i32>, Refused> {
    let headers = request.headers().get_all("port").iter().filter_map(|v| v.to_str().ok());
    let named = all(query, "port").chain(headers).flat_map(|value| value.split(','));
    let bad =
        |port: &str| Refused::new(StatusCode::BAD_REQUEST, format!("unable to parse {port:?} as a port"));
    let port = |port: &str| match port.trim().parse::<u16>() {
        Ok(number @ 1..) => Ok(i32::from(number)),
        _ => Err(bad(port)),
    };
    named.filter(|port| !port.is_empty()).map(port).collect()
}
