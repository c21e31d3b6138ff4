//! TLS as the API server speaks it.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::{
    ConfigBuilder, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

use crate::certificate::Certificate;
use crate::key::{self, Key};
use crate::{Error, Identity};

/// Takes whatever certificate a client shows, once the client has proved that it holds the key. Whether the certificate
/// is worth anything is decided for each request, where a refusal is a proper 401 and an expiry during a long connection
/// is seen.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ClientCertVerifier for Any {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The configuration of a server with a certificate; HTTP/2 and HTTP/1.1.
pub(crate) fn server(chain: Vec<CertificateDer<'static>>, key: &Key) -> Result<Arc<ServerConfig>, Error> {
    let mut config = asking()?.with_single_cert(chain, key.der()).map_err(Error::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The configuration of a server that shows `identity`. Clients may show a certificate, which nobody has checked yet:
/// see [`Clients`].
///
/// # Errors
/// When the identity is of no use.
pub fn serve(identity: &Identity) -> Result<Arc<ServerConfig>, Error> {
    server(key::certificates(&identity.certificate)?, &Key::from_pem(&identity.key)?)
}

fn asking() -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, Error> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?;
    Ok(builder.with_client_cert_verifier(Arc::new(Any(provider))))
}

/// Checks client certificates against a set of authorities.
#[derive(Debug)]
pub struct Clients(Arc<dyn ClientCertVerifier>);

impl Clients {
    /// Takes those that one of these stands behind.
    ///
    /// # Errors
    /// When one of them is of no use.
    pub fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone()).map_err(Error::Tls)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        Ok(Self(verifier.map_err(|e| Error::Certificate { why: e.to_string() })?))
    }

    /// Reads the certificate a client has shown (the first of `chain`), if an authority of ours stands behind it and
    /// its time is now.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Certificate, Error> {
        let bad = |why: String| Error::Certificate { why };
        let (first, others) = chain.split_first().ok_or_else(|| bad("there is none".into()))?;
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self.0.verify_client_cert(first, others, now).map_err(|e| bad(e.to_string()))?;
        Certificate::from_der(first)
    }
}
