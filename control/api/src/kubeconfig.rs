//! The kubeconfig of the cluster's administrator.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::server::Server;

/// A kubeconfig for a client certificate; `address` is the server's.
#[must_use]
pub fn text(address: &str, bundle: &str, identity: &pki::Identity) -> String {
    let code = |text: &str| STANDARD.encode(text);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: cleat\n  \
         cluster:\n    \
         server: https://{address}\n    \
         certificate-authority-data: {}\n\
         users:\n\
         - name: kubernetes-admin\n  \
         user:\n    \
         client-certificate-data: {}\n    \
         client-key-data: {}\n\
         contexts:\n\
         - name: cleat\n  \
         context:\n    \
         cluster: cleat\n    \
         user: kubernetes-admin\n\
         current-context: cleat\n",
        code(bundle),
        code(&identity.certificate),
        code(&identity.key),
    )
}

/// Where this machine reaches a server that listens on `address`.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        // Bound to all addresses, of IPv4 too.
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Writes the administrator's kubeconfig; only its owner may read it.
///
/// # Errors
/// When it cannot be written.
pub fn write(server: &Server, address: SocketAddr, path: &Path) -> Result<(), pki::Error> {
    let text = text(&reachable(address).to_string(), &server.pki.bundle(), &server.pki.admin());
    pki::replace(path, text.as_bytes(), 0o600)
}
