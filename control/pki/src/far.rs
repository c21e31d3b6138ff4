//! TLS towards others: we show a certificate, and look at theirs when the handshake is done.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::certificate::{Certificate, issuer};
use crate::key::{self, Key};
use crate::{Error, Identity};

/// Who stands behind a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The cluster: it names the server, and its time is now.
    Cluster,
    /// Somebody else, perhaps the server itself: nothing of it was checked but that the server has its key.
    Foreign,
}

/// Checks serving certificates against a set of authorities.
#[derive(Debug)]
pub(crate) struct Servers {
    verifier: Arc<WebPkiServerVerifier>,
    /// The names under which the authorities sign.
    subjects: Vec<Vec<u8>>,
}

impl Servers {
    pub(crate) fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let (mut roots, mut subjects) = (RootCertStore::empty(), Vec::new());
        for authority in authorities {
            roots.add(authority.clone()).map_err(Error::Tls)?;
            subjects.push(Certificate::from_der(authority)?.subject);
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let verifier = verifier.map_err(|e| Error::Certificate { why: e.to_string() })?;
        Ok(Self { verifier, subjects })
    }

    pub(crate) fn check(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: Timestamp,
    ) -> Result<Standing, Error> {
        let bad = |why: String| Error::Certificate { why };
        let (first, others) = chain.split_first().ok_or_else(|| bad("there is none".into()))?;
        let last = others.last().unwrap_or(first);
        if !self.subjects.contains(&issuer(last)?) {
            return Ok(Standing::Foreign);
        }
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let checked = self.verifier.verify_server_cert(first, others, name, &[], now);
        checked.map(|_| Standing::Cluster).map_err(|e| bad(e.to_string()))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// TLS towards servers whose certificates the caller looks at: nothing may be sent before. HTTP/1.1.
///
/// # Errors
/// When the identity is of no use.
pub fn client(identity: Option<&Identity>) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Later(provider)));
    let mut config = match identity {
        Some(identity) => {
            let chain = key::certificates(&identity.certificate)?;
            let key = Key::from_pem(&identity.key)?;
            builder.with_client_auth_cert(chain, key.der()).map_err(Error::Tls)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct Later(Arc<CryptoProvider>);

impl ServerCertVerifier for Later {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
