//! CRI v1 (`runtime.v1`) at the level of Kubernetes 1.37: messages, clients and server traits,
//! generated from `api.proto` at build time.

#![allow(missing_docs, deprecated, unreachable_pub, clippy::all, clippy::pedantic)]
#![forbid(unsafe_code)]

tonic::include_proto!("runtime.v1");
