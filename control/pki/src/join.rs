//! How a node that knows nothing yet comes to trust the cluster: bootstrap tokens and the pinned digest of the
//! authority's key.

use std::fmt::Write as _;

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
