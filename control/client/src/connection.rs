//! A connection of its own, for what is no request and answer.

use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::request::ClientError;
use crate::{Config, tls};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// What carries bytes.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection to a server, on which nothing has been said yet, for HTTP/1.1 and what follows an upgrade.
pub struct Connection {
    /// The bytes.
    pub socket: Box<dyn Bytes>,
    /// `host[:port]`, and the path before that of the API where the server has one.
    pub authority: String,
    /// Credentials, and who we are.
    pub headers: HeaderMap,
}

impl Connection {
    /// Connects to the server of `config` as a client that calls itself `agent`.
    ///
    /// # Errors
    /// When it cannot be reached, or is not who it should be.
    pub async fn open(config: &Config, agent: &str) -> Result<Self, ClientError> {
        let unfit = |field, why: &dyn std::fmt::Display| ClientError::Config { field, why: why.to_string() };
        let broken = |source: std::io::Error| ClientError::Connection {
            server: config.server.clone(),
            source: source.into(),
        };
        let (scheme, rest) = config.server.split_once("://").unwrap_or(("https", &config.server));
        let uri: http::Uri = format!("{scheme}://{rest}").parse().map_err(|e| unfit("server", &e))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect((host.as_str(), port)));
        let socket = connecting.await.unwrap_or_else(|_| Err(late())).map_err(broken)?;
        socket.set_nodelay(true).map_err(broken)?;
        let socket: Box<dyn Bytes> = if scheme == "http" {
            Box::new(socket)
        } else {
            let mut tls = tls::client_config(config)?;
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = config.server_name.clone().unwrap_or(host);
            let name = ServerName::try_from(name).map_err(|e| unfit("tls-server-name", &e))?;
            let shaking = TlsConnector::from(std::sync::Arc::new(tls)).connect(name, socket);
            let shaken = tokio::time::timeout(CONNECT, shaking).await.unwrap_or_else(|_| Err(late()));
            Box::new(shaken.map_err(broken)?)
        };
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_str(agent).map_err(|e| unfit("user agent", &e))?);
        if let Some(token) = &config.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|e| unfit("token", &e))?;
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self { socket, authority: rest.trim_end_matches('/').to_owned(), headers })
    }
}
