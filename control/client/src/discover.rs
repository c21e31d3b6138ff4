//! Learning whom to trust of a cluster of which only an address is known, and a token or the hash of its authority.
//!
//! The cluster says it in the ConfigMap `kube-public/cluster-info`, which anybody may read, as with kubeadm. It is
//! fetched from whoever answers, checked, and fetched again from one whom that makes trustworthy.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::Value;

use crate::request::{Client, ClientError};
use crate::{Config, tls};

const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
const AGENT: &str = concat!("cleat-discover/", env!("CARGO_PKG_VERSION"));

/// Why a cluster cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// There is nothing to know it by.
    #[error("to trust {server}, a token or the hash of its authority is needed")]
    Unpinned {
        /// The address.
        server: String,
    },
    /// It does not say what it is.
    #[error("{server} does not tell about its cluster (ConfigMap kube-public/cluster-info)")]
    Silent {
        /// The address.
        server: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// What it says is not understood.
    #[error("{server} tells of its cluster what cannot be understood: {why}")]
    Malformed {
        /// The address.
        server: String,
        /// What is wrong.
        why: String,
    },
    /// It has another authority.
    #[error(
        "{server} is not the cluster that is asked for: the hash of its authority is {found}, not {wanted}"
    )]
    Foreign {
        /// The address.
        server: String,
        /// The hashes of its authorities.
        found: String,
        /// The hashes asked for.
        wanted: String,
    },
    /// It does not know the token.
    #[error(
        "{server} does not know the token {id}, or it has expired: make another with `cleat token create`"
    )]
    Token {
        /// The address.
        server: String,
        /// The public part of the token.
        id: String,
    },
}

/// Fetches the authority of the cluster at `server` (`HOST:PORT` or a URL). It has to have one of the hashes in `pins`
/// (`sha256:HEX` of its public key, as kubeadm prints it), and to be signed by `token` where the cluster signs for that
/// token. Without pins it has to be signed. The result has no credentials yet.
///
/// # Errors
/// See [`DiscoverError`].
pub async fn discover(server: &str, pins: &[String], token: Option<&str>) -> Result<Config, DiscoverError> {
    let server = match server.contains("://") {
        true => server.trim_end_matches('/').to_owned(),
        false => format!("https://{server}"),
    };
    if pins.is_empty() && token.is_none() {
        return Err(DiscoverError::Unpinned { server });
    }
    let config = Config { server: server.clone(), namespace: "default".into(), ..Config::default() };
    let silent = |source| DiscoverError::Silent { server: server.clone(), source };
    let anyone = Client::over(&config, tls::trusting_anyone(), AGENT).map_err(silent)?;
    let told = anyone.call(http::Method::GET, CLUSTER_INFO, None).await.map_err(silent)?;
    let first = Claim { server: &server, told: &told };
    let trusted = first.pinned(&first.signed(token, pins.is_empty())?, pins)?;
    let config = Config { authority: Some(trusted), ..config };
    // Whoever answers now has a certificate of the authority; what he says beside it can be believed, too.
    let known = Client::new(&config, AGENT).map_err(silent)?;
    let told = known.call(http::Method::GET, CLUSTER_INFO, None).await.map_err(silent)?;
    let authority = Claim { server: &server, told: &told }.authority()?;
    Ok(Config { authority: Some(authority), ..config })
}

/// What a server tells of its cluster.
struct Claim<'a> {
    server: &'a str,
    told: &'a Value,
}

impl Claim<'_> {
    fn malformed(&self, why: impl Into<String>) -> DiscoverError {
        DiscoverError::Malformed { server: self.server.to_owned(), why: why.into() }
    }

    fn kubeconfig(&self) -> Result<&str, DiscoverError> {
        self.told["data"]["kubeconfig"].as_str().ok_or_else(|| self.malformed("there is no kubeconfig in it"))
    }

    /// The authorities, in PEM.
    fn authority(&self) -> Result<Vec<u8>, DiscoverError> {
        let file: Value =
            serde_saphyr::from_str(self.kubeconfig()?).map_err(|error| self.malformed(error.to_string()))?;
        let data = file["clusters"][0]["cluster"]["certificate-authority-data"].as_str();
        let data = data.ok_or_else(|| self.malformed("its kubeconfig names no authority"))?;
        STANDARD.decode(data.trim()).map_err(|error| self.malformed(error.to_string()))
    }

    /// The authorities, if the token has signed them; without its signature when that is not `needed`.
    fn signed(&self, token: Option<&str>, needed: bool) -> Result<Vec<u8>, DiscoverError> {
        let Some(token) = token else { return self.authority() };
        let (id, secret) = token.split_once('.').unwrap_or((token, ""));
        let unknown = || DiscoverError::Token { server: self.server.to_owned(), id: id.to_owned() };
        match self.told["data"][format!("jws-kubeconfig-{id}")].as_str() {
            Some(signature) if is_signed(self.kubeconfig()?, signature, secret) => self.authority(),
            None if !needed => self.authority(),
            _ => Err(unknown()),
        }
    }

    /// Those of the authorities that are pinned; all of them without pins.
    fn pinned(&self, authority: &[u8], pins: &[String]) -> Result<Vec<u8>, DiscoverError> {
        let text = String::from_utf8_lossy(authority);
        let all = pki::key::certificates(&text).map_err(|error| self.malformed(error.to_string()))?;
        if pins.is_empty() {
            return Ok(authority.to_vec());
        }
        let plain = |pin: &str| pin.trim_start_matches("sha256:").to_lowercase();
        let wanted: Vec<String> = pins.iter().map(|pin| plain(pin)).collect();
        let (mut trusted, mut found) = (String::new(), Vec::new());
        for certificate in all {
            let pem = pki::key::pem("CERTIFICATE", &certificate);
            let pin = pki::join::pin(&pem).map_err(|error| self.malformed(error.to_string()))?;
            if wanted.contains(&plain(&pin)) {
                trusted += &pem;
            }
            found.push(pin);
        }
        if trusted.is_empty() {
            let (server, found) = (self.server.to_owned(), found.join(", "));
            return Err(DiscoverError::Foreign { server, found, wanted: pins.join(", ") });
        }
        Ok(trusted.into_bytes())
    }
}

/// Whether a detached JWS (RFC 7515, appendix F; HS256) is that of `content` by `secret`.
fn is_signed(content: &str, signature: &str, secret: &str) -> bool {
    let mut parts = signature.split('.');
    let (Some(header), Some(""), Some(mac), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let read: Option<Value> =
        URL_SAFE_NO_PAD.decode(header).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if read.is_none_or(|header| header["alg"] != "HS256") {
        return false;
    }
    let Ok(mac) = URL_SAFE_NO_PAD.decode(mac) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    hmac::verify(&key, message.as_bytes(), &mac).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sign(content: &str, secret: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"abcdef"}"#);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
    }

    fn authority() -> String {
        pki::Pki::open(None, pki::Names::default(), jiff::Timestamp::now()).unwrap().bundle()
    }

    fn told(authority: &str, secret: Option<&str>) -> Value {
        let data = STANDARD.encode(authority);
        let kubeconfig = format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {data}\n    server: https://x\n  name: \"\"\ncontexts: null\nusers: null\n"
        );
        let mut map = json!({"data": {"kubeconfig": kubeconfig}});
        if let Some(secret) = secret {
            map["data"]["jws-kubeconfig-abcdef"] = sign(&kubeconfig, secret).into();
        }
        map
    }

    #[test]
    fn signatures_are_upstreams() {
        assert!(is_signed("content", &sign("content", "secret"), "secret"));
        assert!(!is_signed("other", &sign("content", "secret"), "secret"));
        assert!(!is_signed("content", &sign("content", "secret"), "guess"));
        for wrong in ["", "..", "a.b.c", "e30..e30"] {
            assert!(!is_signed("content", wrong, "secret"), "{wrong}");
        }
    }

    #[test]
    fn a_cluster_is_known_by_its_pin_and_its_token() {
        let (ours, other) = (authority(), authority());
        let pin = vec![pki::join::pin(&ours).unwrap()];
        let token = Some("abcdef.0123456789abcdef");
        let check = |told: &Value, pins: &[String], token: Option<&str>| {
            let claim = Claim { server: "s", told };
            claim.pinned(&claim.signed(token, pins.is_empty())?, pins)
        };
        let bare = told(&ours, None);
        assert_eq!(check(&bare, &pin, token).unwrap(), ours.as_bytes());
        let upper = vec![pin[0].trim_start_matches("sha256:").to_uppercase()];
        assert!(check(&bare, &upper, None).is_ok());
        assert!(matches!(check(&bare, &[], token), Err(DiscoverError::Token { .. })));
        assert!(check(&told(&ours, Some("0123456789abcdef")), &[], token).is_ok());
        assert!(matches!(check(&told(&ours, Some("guess")), &pin, token), Err(DiscoverError::Token { .. })));
        assert!(matches!(check(&told(&other, None), &pin, None), Err(DiscoverError::Foreign { .. })));
        // An authority that was slipped in beside the pinned one is not trusted.
        let both = told(&format!("{other}{ours}"), None);
        assert_eq!(check(&both, &pin, None).unwrap(), ours.as_bytes());
    }
}
