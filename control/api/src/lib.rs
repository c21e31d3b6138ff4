//! The Kubernetes API server: requests, verbs, watch, discovery, and who may do what.
#![forbid(unsafe_code)]

pub mod admin;
pub mod audit;
pub mod authn;
pub mod authorize;
pub mod bootstrap;
pub mod cached;
pub mod config;
pub mod discovery;
pub mod flow;
pub mod front;
pub mod health;
pub mod info;
pub mod kubeconfig;
pub mod metrics;
pub mod openapi;
pub mod process;
pub mod query;
pub mod random;
pub mod relay;
pub mod reply;
pub mod rest;
pub mod reviews;
pub mod route;
pub mod serve;
pub mod server;
pub mod stored;

pub use config::Config;
pub use info::RequestInfo;
pub use query::Query;
pub use serve::Bound;
pub use server::{Context, Error, Server, Store};
