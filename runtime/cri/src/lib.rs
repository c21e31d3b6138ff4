//! The CRI v1 server: sandboxes, containers and images behind `<run>/cri.sock`.
//!
//! [`Server::open`] opens the image store and [`Server::run`] serves until told to stop. Containers outlive it.
//!
//! ```text
//!   service ──> one file an RPC ──> plan (pure), lifecycle (pure)
//!                     │      └────> record: intent, before the effect
//!                     └──> monitor · image · cni-invoke · cgroup        recover: finishes or undoes at the start
//! ```
#![forbid(unsafe_code)]

pub mod config;
mod connection;
mod container_create;
mod container_exec;
mod container_remove;
mod container_start;
mod container_status;
mod container_stop;
mod container_update;
mod crash;
mod error;
mod events;
mod host;
mod image_service;
mod layers;
mod lifecycle;
mod metrics;
pub mod monitor;
mod node;
mod plan;
mod pod_watch;
mod record;
mod recover;
mod runtime_status;
mod sandbox_remove;
mod sandbox_run;
mod sandbox_status;
mod sandbox_stop;
pub mod seccomp;
mod server;
mod service;
mod session;
mod stats;
pub mod stream;
mod usage;

pub use config::{Config, Runtime};
pub use crash::CRASH_POINTS;
pub use server::{Server, ServerError, run};
