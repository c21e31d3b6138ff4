//! What a node should do next: a pure function of desired and observed pods.
//!
//! [`plan()`] has one law: what it returns, applied, makes it return nothing, until time passes ([`Plan::wake_at`]) or
//! the world changes. Nothing here reads a clock, a file or a socket, so nothing here fails for their reasons.
#![forbid(unsafe_code)]

mod action;
pub mod admit;
pub mod backoff;
pub mod data;
pub mod defaults;
mod desired;
pub mod env;
pub mod event;
pub mod image;
mod observed;
mod plan;
pub mod pod;
pub mod probe;
pub mod quantity;
pub mod resize;
pub mod resources;
pub mod service;
pub mod status;
pub mod time;
pub mod validate;
pub mod volume;

pub use action::{Action, Object, PodAction, Wait};
pub use desired::{Desired, DesiredPod, Termination};
pub use observed::{
    Container, Exit, Failure, Health, HookState, Hooks, Image, Node, Observed, ObservedPod, Presence,
    Sandbox, State, Verdict,
};
pub use plan::{Plan, PodView, plan};
