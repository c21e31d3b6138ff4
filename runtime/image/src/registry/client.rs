//! HTTP for registries: connections and TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::hosts::Tls;
use super::{Patience, RegistryError};

pub(super) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// What a read of a connection takes at most.
const READ_BYTES_MAX: usize = 64 << 10;
const IDLE: Duration = Duration::from_secs(30);
/// Where distributions keep the authorities they trust.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A client that trusts, and shows, what `tls` says. HTTP/1.1 only: layers come side by side on connections of their
/// own, instead of sharing the flow control of one.
pub(super) fn client(tls: &Tls, patience: &Patience) -> Result<HttpClient, RegistryError> {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(patience.connect));
    http.set_nodelay(true);
    http.enforce_http(false);
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls_config(tls)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).http1_max_buf_size(READ_BYTES_MAX);
    Ok(builder.build(https))
}

fn tls_config(tls: &Tls) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(Path::new("TLS"), e.to_string()))?;
    let builder = match tls.skip_verify {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        false => builder.with_root_certificates(roots(&tls.ca)?),
    };
    let Some((certificate, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let key = key.as_ref().unwrap_or(certificate);
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, e.to_string()))?;
    builder
        .with_client_auth_cert(certificates(certificate)?, private)
        .map_err(|e| wrong(certificate, e.to_string()))
}

/// The authorities of the system (built-in ones where it has none), and those of `files`.
fn roots(files: &[PathBuf]) -> Result<RootCertStore, RegistryError> {
    let mut roots = RootCertStore::empty();
    if let Some(bundle) = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists()) {
        roots.add_parsable_certificates(certificates(bundle)?);
    }
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for file in files {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|e| wrong(file, e.to_string()))?;
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let text = fs::read(file).map_err(|e| wrong(file, e.to_string()))?;
    CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|e| wrong(file, e.to_string()))
}

fn wrong(path: &Path, reason: String) -> RegistryError {
    RegistryError::Config { path: path.to_owned(), reason }
}

/// `skip_verify`: takes whatever certificate the server shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
