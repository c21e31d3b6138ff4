//! Requests byte for byte, over TLS: a client that may do everything wrong.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use client::Config;
use lab::Control;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// How long an answer may take under a loaded machine before it counts as missing.
const ANSWER: Duration = Duration::from_secs(60);

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A way to one server, with one certificate or none.
#[derive(Clone)]
pub(crate) struct Raw {
    address: String,
    tls: Arc<ClientConfig>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Panics unless a refusal comes as a `Status` that says what its code says.
    pub(crate) fn assert_status(&self, what: &str) {
        let status = self.json();
        let told = (status["kind"].as_str(), status["status"].as_str(), status["code"].as_u64());
        assert_eq!(
            told,
            (Some("Status"), Some("Failure"), Some(self.code.into())),
            "{what}: {}",
            self.text()
        );
        assert!(status["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {}", self.text());
    }

    pub(crate) fn text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!(
            "{}\n{}",
            self.head.lines().next().unwrap_or_default(),
            body.chars().take(600).collect::<String>()
        )
    }
}

impl Raw {
    /// The administrator.
    pub(crate) fn admin(control: &Control) -> Self {
        Self::with(&Config::load(&control.kubeconfig(), None).unwrap())
    }

    /// With what a kubeconfig says; its token is not used.
    pub(crate) fn with(config: &Config) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(config.authority.as_deref().unwrap()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots);
        let tls = match &config.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().unwrap();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key).unwrap()).unwrap()
            }
        };
        let address = config.server.strip_prefix("https://").unwrap().to_owned();
        Self { address, tls: Arc::new(tls) }
    }

    /// Without TLS.
    pub(crate) fn bare(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        stream.set_write_timeout(Some(ANSWER)).unwrap();
        stream
    }

    pub(crate) fn connect(&self) -> Stream {
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(self.tls.clone(), name).unwrap(), self.bare())
    }

    /// Sends bytes and reads until the server hangs up; `None` when it does so without a word.
    pub(crate) fn send(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // A server that has heard enough may hang up; what it said comes all the same.
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        finish(stream)
    }

    /// A whole request.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = head(method, path, headers);
        if !body.is_empty() || method != "GET" {
            request += &format!("content-length: {}\r\n", body.len());
        }
        let request = [request.as_bytes(), b"connection: close\r\n\r\n", body].concat();
        self.send(&request).unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }
}

/// The head of a request, without the empty line at its end.
pub(crate) fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{lines}")
}

/// Reads an answer up to the end of the connection.
pub(crate) fn finish(mut stream: Stream) -> Option<Answer> {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!late, "no answer, and no end: {}", String::from_utf8_lossy(&bytes));
    }
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let mut body = bytes.split_off(end + 4);
    if head.contains("transfer-encoding: chunked") {
        body = unchunk(&body);
    }
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { code, head, body })
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let length = std::str::from_utf8(&bytes[..end]).ok().and_then(|t| usize::from_str_radix(t, 16).ok());
        let Some(chunk) = length.filter(|l| *l > 0).and_then(|l| bytes.get(end + 2..end + 2 + l)) else {
            break;
        };
        body.extend_from_slice(chunk);
        bytes = bytes.get(end + 2 + chunk.len() + 2..).unwrap_or_default();
    }
    body
}
