//! The CRI v1 server: sandboxes, containers and images behind `<run>/cri.sock`.
//!
//! [`Server::open`] opens the image store and [`Server::run`] serves until told to stop. Containers outlive it.
#![forbid(unsafe_code)]

pub mod config;
mod error;
mod host;
mod layers;
mod lifecycle;
pub mod monitor;
mod plan;
mod record;
pub mod seccomp;
mod server;

pub use config::{Config, Runtime};
pub use server::{Server, ServerError, run};
