//! The cluster CA, its certificates, and signed service-account tokens.
#![forbid(unsafe_code)]
