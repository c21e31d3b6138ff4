//! The API server driven by real clients: kubectl, helm, kube, etcd.
#![forbid(unsafe_code)]
