//! TLS towards a probed container. Nobody has vouched for its certificate and none is asked for: the probe wants to
//! know whether the container answers, not who it is.

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| Arc::new(client::trusting_anyone()));

/// Speaks TLS over a connection.
pub(crate) async fn connect(stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
    TlsConnector::from(CONFIG.clone()).connect(name, stream).await
}
