//! The Kubernetes API server: requests, verbs, watch, discovery, and who may do what.
#![forbid(unsafe_code)]
