//! The cluster CA, its certificates, and signed service-account tokens.
#![forbid(unsafe_code)]

/// The cluster's authorities and keys.
#[derive(Debug)]
pub struct Pki {}
