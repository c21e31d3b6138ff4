//! The part of etcd's v3 API that the store speaks.
#![allow(missing_docs, clippy::all, clippy::pedantic)]
#![forbid(unsafe_code)]
