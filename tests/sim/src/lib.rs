//! A whole cluster in one thread, under a seed and virtual time, with faults as events.
//!
//! The store and the API server are a map with a log of changes (`server`); controllers, scheduler and agents are the
//! real decisions, each with a view of its own that lags (`cache`), driven step by step by one pair of dice (`cluster`).
//! After each step the `laws` are looked at. A seed is a run: the same seed does the same again.
#![forbid(unsafe_code)]

mod cache;
mod cluster;
mod control;
mod laws;
mod node;
mod people;
mod place;
mod runtime;
mod server;
mod time;

pub use cluster::{Broken, run};
