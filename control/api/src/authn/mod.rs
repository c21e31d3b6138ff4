//! Who asks: client certificates, tokens, impersonation.

pub mod impersonate;
pub mod token;

use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use proto_kube::{Status, User};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::server::Server;

/// All who have proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// All who have not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The key of what names the credential in a user's extra.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: std::net::SocketAddr,
    /// The certificates that it showed.
    chain: Vec<CertificateDer<'static>>,
    /// What the first of them says, once it has been checked.
    known: Mutex<Option<Known>>,
    /// Who it is, when it is a part of this process.
    inside: Option<User>,
}

#[derive(Debug, Clone)]
struct Known {
    user: User,
    from: Timestamp,
    until: Timestamp,
}

impl Peer {
    /// A peer that showed these certificates; none are fine.
    #[must_use]
    pub fn new(address: std::net::SocketAddr, chain: Vec<CertificateDer<'static>>) -> Self {
        Self { address, chain, known: Mutex::new(None), inside: None }
    }

    /// A part of this process, which is who it says it is.
    #[must_use]
    pub fn inside(name: &str, groups: &[&str]) -> Self {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { inside: Some(known_user(name.to_owned(), groups, [])), ..Self::new(address, Vec::new()) }
    }

    /// The user of the certificate. The signature is checked once a connection, the time each time.
    fn user(&self, pki: &pki::Pki, now: Timestamp) -> Result<Option<User>, Status> {
        if let Some(user) = &self.inside {
            return Ok(Some(user.clone()));
        }
        let Some(first) = self.chain.first() else { return Ok(None) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|k| k.from <= now && now <= k.until) {
            return Ok(Some(known.user.clone()));
        }
        let certificate = pki.client(&self.chain, now).map_err(|error| {
            tracing::debug!(peer = %self.address, %error, "client certificate refused");
            Status::unauthorized()
        })?;
        let digest = hex(&Sha256::digest(first));
        let user = known_user(
            certificate.common_name,
            certificate.organizations,
            [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={digest}")])],
        );
        let (from, until) = (certificate.not_before, certificate.not_after);
        *known = Some(Known { user: user.clone(), from, until });
        Ok(Some(user))
    }
}

/// A user that has proved to be it.
pub(crate) fn known_user(
    name: String,
    mut groups: Vec<String>,
    extra: impl IntoIterator<Item = (String, Vec<String>)>,
) -> User {
    if !groups.iter().any(|g| g == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    User { name, uid: String::new(), groups, extra: extra.into_iter().collect() }
}

/// One without credentials.
pub(crate) fn anonymous() -> User {
    User { name: "system:anonymous".to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..User::default() }
}

/// Finds out who sends a request: by the certificate of its connection, else by its token. Who shows neither is
/// anonymous.
///
/// # Errors
/// 401 when what is shown is not good.
pub fn authenticate(
    server: &Server,
    peer: &Peer,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<User, Status> {
    let by_certificate = peer.user(&server.pki, now);
    if let Ok(Some(user)) = by_certificate {
        return Ok(user);
    }
    match bearer(headers) {
        Some(text) => token::authenticate(server, text, &[&server.config.issuer], now)
            .map(|(user, _)| user)
            .map_err(|why| {
                tracing::debug!(peer = %peer.address, why, "token refused");
                Status::unauthorized()
            }),
        None => by_certificate.map(|_| anonymous()),
    }
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found() {
        for (header, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("Bearer ", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, header.parse().unwrap());
            assert_eq!(bearer(&headers), expected, "{header}");
        }
    }
}
