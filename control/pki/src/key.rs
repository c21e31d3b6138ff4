//! P-256 key pairs, and PEM around keys and certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

use crate::Error;

/// What stands before the point in the `SubjectPublicKeyInfo` of a P-256 key.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key pair.
#[derive(Clone)]
pub struct Key {
    pkcs8: Vec<u8>,
    /// The public point, uncompressed: `04 x y`.
    point: Vec<u8>,
}

impl Key {
    /// A new key pair.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| Error::Random)?;
        Self::from_pkcs8(pkcs8.as_ref().to_vec())
    }

    /// Reads a private key in PKCS #8.
    ///
    /// # Errors
    /// When it is no P-256 key.
    pub fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &SystemRandom::new())
            .map_err(|why| Error::Key { why: why.to_string() })?;
        Ok(Self { point: pair.public_key().as_ref().to_vec(), pkcs8 })
    }

    /// Reads `BEGIN PRIVATE KEY`.
    ///
    /// # Errors
    /// When it is no P-256 key.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(key)) => Self::from_pkcs8(key.secret_pkcs8_der().to_vec()),
            Ok(_) => Err(Error::Key { why: "it is not in PKCS #8".into() }),
            Err(why) => Err(Error::Key { why: why.to_string() }),
        }
    }

    /// `BEGIN PRIVATE KEY`.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// As rustls wants it.
    #[must_use]
    pub fn der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.clone()))
    }

    /// The public key, as a `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        [&SPKI_HEAD, self.point.as_slice()].concat()
    }

    /// The public point, `04 x y`.
    pub(crate) fn point(&self) -> &[u8] {
        &self.point
    }

    /// A signature as certificates have it: a DER sequence.
    pub(crate) fn sign_der(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.sign(&ECDSA_P256_SHA256_ASN1_SIGNING, message)
    }

    /// A signature as tokens have it: the two numbers one behind the other.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.sign(&ECDSA_P256_SHA256_FIXED_SIGNING, message)
    }

    fn sign(&self, how: &'static EcdsaSigningAlgorithm, message: &[u8]) -> Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(how, &self.pkcs8, &random)
            .map_err(|why| Error::Key { why: why.to_string() })?;
        Ok(pair.sign(&random, message).map_err(|_| Error::Random)?.as_ref().to_vec())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// Bytes in PEM.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let code = STANDARD.encode(der);
    let mut rest = code.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text += line;
        text.push('\n');
        rest = tail;
    }
    text + &format!("-----END {label}-----\n")
}

/// All certificates of a PEM text.
///
/// # Errors
/// When the text is no PEM.
pub fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|why| Error::Certificate { why: why.to_string() })
}

/// SHA-256.
pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
