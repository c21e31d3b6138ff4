//! The part of etcd's v3 API (`etcdserverpb`) that the store speaks: messages and clients, generated from
//! `rpc.proto` at build time.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#![forbid(unsafe_code)]

tonic::include_proto!("etcdserverpb");
