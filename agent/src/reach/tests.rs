//! Probes against servers on loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// Serves canned answers, one a connection, and returns what was asked.
async fn serve(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            asked.push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (port, task)
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

async fn probe(action: &HTTPGetAction) -> Answer {
    let cri = Cri::lazy(std::path::Path::new("/nowhere"));
    let spec = Spec { name: "c".into(), ..Spec::default() };
    http_get(&place(&cri, &spec), action, LIMIT).await
}

fn place<'a>(cri: &'a Cri, spec: &'a Spec) -> Place<'a> {
    Place { cri, id: "i", spec, ip: Some("127.0.0.1".parse().unwrap()) }
}

fn action(port: u16, path: &str) -> HTTPGetAction {
    HTTPGetAction { path: Some(path.into()), port: IntOrString::Int(port.into()), ..HTTPGetAction::default() }
}

#[tokio::test]
async fn statuses() {
    for (status, ok) in
        [("200 OK", true), ("204 No Content", true), ("399 Odd", true), ("400 Bad", false), ("503 No", false)]
    {
        let (port, asked) = serve(vec![response(status, "", "body")]).await;
        let answer = probe(&action(port, "healthz")).await;
        assert_eq!(answer.ok(), ok, "{status}: {answer:?}");
        if !ok {
            assert!(answer.text.contains(&format!("statuscode: {}", &status[..3])), "{answer:?}");
        }
        let asked = asked.await.unwrap().remove(0).to_lowercase();
        assert!(asked.starts_with("get /healthz http/1.1\r\n"), "{asked}");
        assert!(
            asked.contains(&format!("host: 127.0.0.1:{port}\r\n"))
                && asked.contains("user-agent: kube-probe/"),
            "{asked}"
        );
    }
}

/// A hook has done its work when somebody has answered.
#[tokio::test]
async fn a_hook_takes_any_answer() {
    let cri = Cri::lazy(std::path::Path::new("/nowhere"));
    let spec = Spec { name: "c".into(), ..Spec::default() };
    for status in ["200 OK", "404 Not Found", "503 No"] {
        let (port, _) = serve(vec![response(status, "", "")]).await;
        let answer = http_call(&place(&cri, &spec), &action(port, "/"), LIMIT).await;
        assert!(answer.ok(), "{status}: {answer:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert!(!http_call(&place(&cri, &spec), &action(port, "/"), LIMIT).await.ok());
}

#[tokio::test]
async fn headers_are_given_and_may_replace_ours() {
    let (port, asked) = serve(vec![response("200 OK", "", "")]).await;
    let header = |name: &str, value: &str| k8s_openapi::api::core::v1::HTTPHeader {
        name: name.into(),
        value: value.into(),
    };
    let http_headers = Some(vec![header("Host", "example.test"), header("X-A", "1")]);
    assert!(probe(&HTTPGetAction { http_headers, ..action(port, "/") }).await.ok());
    let asked = asked.await.unwrap().remove(0).to_lowercase();
    assert!(asked.contains("host: example.test\r\n") && asked.contains("x-a: 1\r\n"), "{asked}");
    assert_eq!(asked.matches("host:").count(), 1);
}

#[tokio::test]
async fn redirects_are_followed_at_home_only() {
    let (port, asked) =
        serve(vec![response("302 Found", "Location: /next\r\n", ""), response("500 No", "", "")]).await;
    assert!(!probe(&action(port, "/")).await.ok());
    assert!(asked.await.unwrap()[1].starts_with("GET /next "));
    let (port, _) = serve(vec![response("302 Found", "Location: http://192.0.2.1/\r\n", "")]).await;
    let answer = probe(&action(port, "/")).await;
    assert!(answer.ok() && answer.text.starts_with("Probe terminated redirects"), "{answer:?}");
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cri = Cri::lazy(std::path::Path::new("/nowhere"));
    let ports = vec![k8s_openapi::api::core::v1::ContainerPort {
        name: Some("web".into()),
        container_port: port.into(),
        ..Default::default()
    }];
    let spec = Spec { name: "c".into(), ports: Some(ports), ..Spec::default() };
    let place = place(&cri, &spec);
    let named = |name: &str| TCPSocketAction { host: None, port: IntOrString::String(name.into()) };
    assert!(tcp(&place, &named("web"), LIMIT).await.ok());
    assert!(tcp(&place, &named("none"), LIMIT).await.text.contains("has no port"));
    drop(listener);
    let answer = tcp(&place, &named("web"), LIMIT).await;
    assert!(!answer.ok() && answer.text.contains("refused"), "{answer:?}");
    let answer = grpc(&place, &GRPCAction { port: port.into(), ..Default::default() }, LIMIT).await;
    assert!(!answer.ok() && answer.text.contains("health rpc failed"), "{answer:?}");
    assert!(!exec(&place, &ExecAction { command: Some(vec!["x".into()]) }, LIMIT).await.ok());
}

#[tokio::test]
async fn https_takes_any_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = rcgen::generate_simple_self_signed(vec!["anybody.test".into()]).unwrap();
    let certificate = vec![key.cert.der().clone()];
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(certificate, private).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(response("200 OK", "", "").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    });
    let https = HTTPGetAction { scheme: Some("HTTPS".into()), ..action(port, "/") };
    let answer = probe(&https).await;
    assert!(answer.ok(), "{answer:?}");
}

/// A health service that serves `good` and nothing else.
#[derive(Clone)]
struct Health;

impl tonic::server::UnaryService<HealthCheckRequest> for Health {
    type Response = HealthCheckResponse;
    type Future = std::future::Ready<Result<tonic::Response<HealthCheckResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<HealthCheckRequest>) -> Self::Future {
        let status = if request.get_ref().service == "good" { SERVING } else { 2 };
        std::future::ready(Ok(tonic::Response::new(HealthCheckResponse { status })))
    }
}

#[tokio::test]
async fn grpc_health() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async {
                let codec = tonic_prost::ProstCodec::<HealthCheckResponse, HealthCheckRequest>::default();
                let reply =
                    tonic::server::Grpc::new(codec).unary(Health, request.map(tonic::body::Body::new)).await;
                Ok::<_, std::convert::Infallible>(reply)
            });
            let executor = hyper_util::rt::TokioExecutor::new();
            let connection = hyper::server::conn::http2::Builder::new(executor)
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    let cri = Cri::lazy(std::path::Path::new("/nowhere"));
    let spec = Spec::default();
    let place = Place { cri: &cri, id: "i", spec: &spec, ip: Some("127.0.0.1".parse().unwrap()) };
    let check = |service: &str| GRPCAction { port: port.into(), service: Some(service.into()), mode: None };
    assert!(grpc(&place, &check("good"), LIMIT).await.ok());
    let answer = grpc(&place, &check("bad"), LIMIT).await;
    assert!(!answer.ok() && answer.text.contains("service unhealthy"), "{answer:?}");
}
