//! How a node that knows nothing yet comes to trust the cluster: bootstrap tokens and the pinned digest of the
//! authority's key.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;

use crate::Error;
use crate::certificate::Certificate;
use crate::key::digest;

/// Splits a bootstrap token into its public identifier and its secret: `abcdef.0123456789abcdef`. `None` if it has
/// another form.
#[must_use]
pub fn bootstrap_token(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// The signature by which who knows a bootstrap token knows that a text is from somebody else who does: RFC 7515 with
/// `HS256`, without the text, as kubeadm checks it.
#[must_use]
pub fn sign(text: &str, id: &str, secret: &str) -> String {
    let header = BASE64.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let message = format!("{header}.{}", BASE64.encode(text));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{header}..{}", BASE64.encode(hmac::sign(&key, message.as_bytes())))
}

/// The digest that pins an authority, as kubeadm prints it: `sha256:<hex of the public key's digest>`.
///
/// # Errors
/// When the text holds no certificate.
pub fn pin(certificate_pem: &str) -> Result<String, Error> {
    let certificate = Certificate::from_pem(certificate_pem)?;
    Ok(digest(&certificate.spki).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_signed_as_kubeadm_checks_it() {
        // From upstream's own test of its signer.
        let text = "Hello from the other side. I must have called a thousand times.";
        assert_eq!(
            sign(text, "joshua", "my voice is my passcode"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[test]
    fn tokens_have_their_form() {
        assert_eq!(bootstrap_token("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for wrong in [
            "",
            "abcdef",
            "abcdef.",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcde!",
        ] {
            assert_eq!(bootstrap_token(wrong), None, "{wrong}");
        }
    }
}
