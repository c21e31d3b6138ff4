//! A thin client of a Kubernetes API server: kubeconfig, requests, list-watch.
#![forbid(unsafe_code)]
