//! The Kubernetes API server: requests, verbs, watch, discovery, and who may do what.
#![forbid(unsafe_code)]

pub mod config;
pub mod info;
pub mod query;
pub mod random;
pub mod reply;
pub mod rest;
pub mod reviews;
pub mod server;
pub mod stored;

pub use config::Config;
pub use info::RequestInfo;
pub use query::Query;
pub use server::{Context, Server, Store};
