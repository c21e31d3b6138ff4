//! Whom to trust, and who we are.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
    let Some((certificate, key)) = &config.certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unfit("client-key", &error))?;
    let chain = certificates(certificate, "client-certificate")?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unfit("client-certificate", &error))
}

fn certificates(pem: &[u8], field: &'static str) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| unfit(field, &error))
}

fn unfit(field: &'static str, why: &dyn std::fmt::Display) -> ClientError {
    ClientError::Config { field, why: why.to_string() }
}
