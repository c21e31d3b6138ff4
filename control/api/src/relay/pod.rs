//! Logs of and sessions with the containers of a pod.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use proto_kube::field::{self, Path};
use proto_kube::status::{Result, Status};
use proto_kube::view::View as _;
use proto_kube::{Gvk, object};
use serde_json::{Value, json};
use stream::relay::{self, Session};
use stream::{Offer, Wishes};

use super::kubelet::{self, Kubelet};
use super::{Asked, forwarded, until};
use crate::query::{Query, encode};
use crate::reply::{Response, full};
use crate::rest::{Call, Objects};

/// So much of a node's refusal is read, in bytes.
const REFUSAL: usize = 50_000;

fn pod(call: &Call<'_>) -> Result<std::sync::Arc<Value>> {
    let name = call.path_name();
    let found = Objects(&call.server.store).get(call.group_resource(), call.namespace, name);
    found.ok_or_else(|| Status::not_found(call.group_resource(), name))
}

/// The container that is meant: the one that was named, or the only one.
fn container(pod: &Value, wanted: &str) -> Result<String> {
    let name = object::name(pod);
    let of = |list| object::items(pod, &["spec", list]).map(|c| object::text(c, &["name"]));
    // In the order in which upstream tells them.
    let all: Vec<&str> =
        of("initContainers").chain(of("containers")).chain(of("ephemeralContainers")).collect();
    if !wanted.is_empty() {
        return match all.contains(&wanted) {
            true => Ok(wanted.to_owned()),
            false => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        };
    }
    match of("containers").collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

/// What is asked of the kubelet for what was asked of us about a log.
fn log_options(query: &Query, pod: &str) -> Result<String> {
    let (tail, limit) = (query.number("tailLines")?, query.number("limitBytes")?);
    let since = query.number("sinceSeconds")?;
    let (time, stream) =
        (query.text("sinceTime"), query.get("stream").filter(|s| !s.is_empty()).unwrap_or("All"));
    let both = since.is_some() && !time.is_empty();
    let (more, streams) = ("must be greater than 0", ["All", "Stderr", "Stdout"]);
    let invalid = |name, value: i64, why: &str| field::Error::invalid(&Path::new(name), value, why);
    let forbidden = |why: &str| field::Error::forbidden(&Path::new(""), why);
    let errors: Vec<field::Error> = [
        tail.filter(|n| *n < 0).map(|n| invalid("tailLines", n, "must be greater than or equal to 0")),
        limit.filter(|n| *n < 1).map(|n| invalid("limitBytes", n, more)),
        both.then(|| forbidden("at most one of `sinceTime` or `sinceSeconds` may be specified")),
        since.filter(|n| !both && *n < 1).map(|n| invalid("sinceSeconds", n, more)),
        (!streams.contains(&stream))
            .then(|| field::Error::not_supported(&Path::new("stream"), stream, &streams)),
        (stream != "All" && tail.is_some())
            .then(|| forbidden("`tailLines` and specific `stream` are mutually exclusive for now")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !errors.is_empty() {
        return Err(Status::invalid(&Gvk::new("v1", "PodLogOptions"), pod, &errors));
    }
    if !time.is_empty() && time.parse::<jiff::Timestamp>().is_err() {
        let why = format!("unable to parse query parameter sinceTime: parsing time {time:?} as RFC 3339");
        return Err(Status::bad_request(why));
    }
    let mut asked = format!("stream={stream}");
    for flag in ["follow", "previous", "timestamps"].into_iter().filter(|flag| query.flag(flag)) {
        asked += &format!("&{flag}=true");
    }
    for (name, number) in [("tailLines", tail), ("limitBytes", limit), ("sinceSeconds", since)] {
        if let Some(number) = number {
            asked += &format!("&{name}={number}");
        }
    }
    if !time.is_empty() {
        asked += &format!("&sinceTime={}", encode(time));
    }
    Ok(asked)
}

/// Answers with the log of a container, over a websocket if one is asked for; of a pod without a node there is none.
pub(super) async fn log(call: &Call<'_>, mut asked: Asked) -> Result<Response> {
    let name = call.path_name();
    let pod = pod(call)?;
    let options = log_options(&call.ctx.query, name)?;
    let container = container(&pod, call.ctx.query.text("container"))?;
    let node = object::text(&pod, &["spec", "nodeName"]);
    if node.is_empty() {
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let kubelet = kubelet::of(call, node)?;
    let path = format!("/containerLogs/{}/{name}/{}?{options}", call.namespace, encode(&container));
    let found = kubelet.get(call.server, &path).await?;
    if !(200..=206).contains(&found.status().as_u16()) {
        return Err(refusal(found, call, name).await);
    }
    let body = until(found.into_body(), call.server.ends.clone());
    if let (Some(near), Ok(offer @ Offer::WebSocket { .. })) =
        (asked.upgrade.take(), Offer::read(call.headers))
    {
        let refused = |refusal: stream::Refusal| Status::bad_request(refusal.text);
        let (answer, work) = offer.body(near, body).map_err(refused)?;
        tokio::spawn(work);
        return Ok(answer.map(full));
    }
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// What a kubelet's refusal becomes here.
async fn refusal(found: Response, call: &Call<'_>, name: &str) -> Status {
    let code = found.status().as_u16();
    let mut body = found.into_body();
    let mut text: Vec<u8> = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        text.extend_from_slice(&frame.into_data().unwrap_or_else(|_| Bytes::new()));
        if text.len() > REFUSAL {
            break;
        }
    }
    text.truncate(REFUSAL);
    let text = String::from_utf8_lossy(&text);
    let (reason, message) = match code {
        400 => return Status::bad_request(text),
        500 => return Status::internal(text),
        401 => ("Unauthorized", "the server has asked for the client to provide credentials"),
        403 => ("Forbidden", text.trim_end()),
        404 => ("NotFound", "the server could not find the requested resource"),
        422 => ("Invalid", "the server rejected our request due to an error in our request"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
    };
    let resource = format!("{}/{}", call.resource.plural, call.subresource());
    Status {
        code,
        reason,
        message: format!("{message} ( {resource} {name})"),
        details: json!({"kind": resource, "name": name}),
        token: String::new(),
    }
}

/// Answers an exec, attach or port-forward.
pub(super) async fn session(call: &Call<'_>, mut asked: Asked) -> Result<Response> {
    // A websocket begins with a GET; what it does is no reading.
    if call.ctx.info.verb != "create" {
        call.authorize("create")?;
    }
    let (query, name, kind) = (&call.ctx.query, call.path_name(), call.subresource());
    let pod = pod(call)?;
    let forwards = kind == "portforward";
    let container = if forwards { String::new() } else { container(&pod, query.text("container"))? };
    let node = object::text(&pod, &["spec", "nodeName"]);
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let kubelet = kubelet::of(call, node)?;
    let near = asked.upgrade.take().filter(|_| relay::is_upgrade(call.headers));
    let near = near.ok_or_else(|| Status::bad_request("Upgrade request required"))?;
    let (path, session) = match forwards {
        true => {
            let ports: Vec<&str> =
                query.all("ports").flat_map(|p| p.split(',')).filter(|p| !p.is_empty()).collect();
            if let Some(bad) = ports.iter().find(|p| p.parse::<u16>().is_err()) {
                return Err(super::unknown_port(bad));
            }
            let query = if ports.is_empty() { String::new() } else { format!("?port={}", ports.join(",")) };
            (format!("/portForward/{}/{name}{query}", call.namespace), Session::PortForward)
        }
        false => {
            let wishes = wishes(query);
            let asked = options(wishes, query.all("command").filter(|_| kind == "exec"));
            (
                format!("/{kind}/{}/{name}/{}?{asked}", call.namespace, encode(&container)),
                Session::Command(wishes),
            )
        }
    };
    relayed(call, &kubelet, &path, asked, near, session).await
}

async fn relayed(
    call: &Call<'_>,
    kubelet: &Kubelet,
    path: &str,
    asked: Asked,
    near: hyper::upgrade::OnUpgrade,
    session: Session,
) -> Result<Response> {
    let failed = |why: String| Status::unknown(format!("error dialing backend: {why}"));
    let uri = format!("https://{}{path}", kubelet.authority());
    let mut request = Request::new(full(""));
    *request.uri_mut() = uri.parse().map_err(|_| failed(format!("invalid URL {uri:?}")))?;
    *request.method_mut() = asked.method;
    *request.headers_mut() = forwarded(call.headers);
    request.headers_mut().remove(http::header::HOST);
    request.headers_mut().remove(http::header::CONTENT_LENGTH);
    let far = kubelet.dial(call.server).await.map_err(failed)?;
    let is_new = Offer::read(call.headers).is_ok_and(|offer| offer.is_new());
    let answered = if is_new && !kubelet.websockets {
        relay::translate(far, request, near, session).await
    } else {
        relay::forward(far, request, Some(near)).await
    };
    answered.map_err(|error| failed(error.to_string()))
}

/// The streams that were asked for.
fn wishes(query: &Query) -> Wishes {
    let wish = |name: &str| query.flag(name);
    Wishes { stdin: wish("stdin"), stdout: wish("stdout"), stderr: wish("stderr"), tty: wish("tty") }
}

/// The same as kubelets name them.
fn options<'a>(wishes: Wishes, command: impl Iterator<Item = &'a str>) -> String {
    let flags =
        [("input", wishes.stdin), ("output", wishes.stdout), ("error", wishes.stderr), ("tty", wishes.tty)];
    let flags = flags.into_iter().filter(|(_, wished)| *wished).map(|(name, _)| format!("{name}=1"));
    flags.chain(command.map(|word| format!("command={}", encode(word)))).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_container() {
        let named = |names: &[&str]| names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>();
        let pod = |names: &[&str]| {
            json!({"metadata": {"name": "p"}, "spec": {"containers": named(names),
                "initContainers": named(&["i"]), "ephemeralContainers": named(&["e"])}})
        };
        let said = |names: &[&str], wanted| container(&pod(names), wanted).map_err(|s| s.message);
        assert_eq!(said(&["a"], ""), Ok("a".to_owned()));
        assert_eq!(said(&["a", "b"], "e"), Ok("e".to_owned()));
        assert_eq!(said(&["a"], "x"), Err("container x is not valid for pod p".to_owned()));
        let choose = "a container name must be specified for pod p, choose one of: [i a b e]";
        assert_eq!(said(&["a", "b"], ""), Err(choose.to_owned()));
        assert_eq!(said(&[], ""), Err("a container name must be specified for pod p".to_owned()));
    }

    #[test]
    fn what_of_a_log() {
        let asked = |query: &str| log_options(&Query::parse(query), "p").map_err(|s| (s.code, s.message));
        assert_eq!(asked(""), Ok("stream=All".to_owned()));
        assert_eq!(
            asked("follow=true&previous=false&timestamps=1&tailLines=0&limitBytes=9&container=c&stream="),
            Ok("stream=All&follow=true&timestamps=true&tailLines=0&limitBytes=9".to_owned())
        );
        assert_eq!(
            asked("sinceTime=2026-11-21T10:00:00%2B01:00"),
            Ok("stream=All&sinceTime=2026-11-21T10%3A00%3A00%2B01%3A00".to_owned())
        );
        for (query, part) in [
            ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
            ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=1&sinceTime=2026-11-21T10:00:00Z", "at most one of `sinceTime` or `sinceSeconds`"),
            (
                "stream=Both",
                "stream: Unsupported value: \"Both\": supported values: \"All\", \"Stderr\", \"Stdout\"",
            ),
            ("stream=Stdout&tailLines=1", "`tailLines` and specific `stream` are mutually exclusive for now"),
        ] {
            let (code, message) = asked(query).unwrap_err();
            assert!(code == 422 && message.contains(part), "{query}: {message}");
            assert!(message.starts_with("PodLogOptions \"p\" is invalid: "), "{message}");
        }
        assert_eq!(asked("sinceTime=yesterday").unwrap_err().0, 400);
        assert_eq!(asked("tailLines=x").unwrap_err().0, 400);
    }

    #[test]
    fn streams_are_named_as_kubelets_name_them() {
        let query = Query::parse(
            "stdin=true&stdout=1&stderr=false&tty=true&command=sh&command=-c&command=&command=a%26b",
        );
        let command = query.all("command");
        assert_eq!(
            options(wishes(&query), command),
            "input=1&output=1&tty=1&command=sh&command=-c&command=&command=a%26b"
        );
    }
}
