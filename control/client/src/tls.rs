//! Whom to trust, and who we are.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::Config;
use crate::request::ClientError;

/// The TLS side of a connection to the server of `config`.
pub(crate) fn client_config(config: &Config) -> Result<ClientConfig, ClientError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(config.authority.as_deref().unwrap_or_default(), "certificate-authority")?
    {
        roots.add(certificate).map_err(|error| unfit("certificate-authority", &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit("TLS", &error))?
        .with_root_certificates(roots);
    if let Some(credentials) = &config.credentials {
        let mut config = builder.with_client_cert_resolver(Arc::new(credentials.clone()));
        // A session that is taken up again is that of the certificate that began it.
        config.resumption = Resumption::disabled();
        return Ok(config);
    }
    let Some((certificate, key)) = &config.certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unfit("client-key", &error))?;
    let chain = certificates(certificate, "client-certificate")?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unfit("client-certificate", &error))
}

/// A certificate with its key, both in PEM.
pub(crate) fn certified_key(certificate: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, ClientError> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unfit("client-key", &error))?;
    let chain = certificates(certificate, "client-certificate")?;
    let provider = rustls::crypto::ring::default_provider();
    let both = CertifiedKey::from_der(chain, key, &provider);
    both.map(Arc::new).map_err(|error| unfit("client-certificate", &error))
}

/// TLS towards servers for which nobody vouches: they are taken as they are, if they have the key of the certificate
/// that they show. Nothing secret may be sent.
///
/// # Panics
/// When the cryptography that is built in offers no TLS.
#[must_use]
pub fn trusting_anyone() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring offers the default protocol versions");
    builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
}

/// Takes any certificate; the handshake's signatures are still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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

fn certificates(pem: &[u8], field: &'static str) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| unfit(field, &error))
}

fn unfit(field: &'static str, why: &dyn std::fmt::Display) -> ClientError {
    ClientError::Config { field, why: why.to_string() }
}
