//! The API server driven by upstream's clients: kubectl, helm, the Python client, kube. `cargo xtask test` fetches them.
#![forbid(unsafe_code)]

pub mod transcript;
