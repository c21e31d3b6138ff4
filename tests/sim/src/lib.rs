//! A whole cluster in one thread, under a seed and virtual time, with faults as events.
//!
//! The store and the API server are a map with a log of changes (`server`); controllers with the work before them
//! (`control::work`), the scheduler with its loop (`scheduler::placing`), agents (`agent_core::plan`) and a proxy
//! (`proxy_rules::Tables`) are the real decisions, each with a view of its own that lags (`cache`), driven step by step by
//! one pair of dice (`cluster`). What an agent's process does around its decisions is told again here (`node`).
//!
//! What goes wrong: processes crash and start, with their memory and without, nodes die and are cut off, disks are lost or
//! forgotten, clocks jump, watches break and hang; requests are refused, not answered, answered late, and made though
//! nobody was told, at once or seconds later. People update, scale, delete and make again, in a cluster where there is not
//! always room for all, and some are more important than others. One seed of four is calm: nothing goes wrong, and what
//! rolling updates promise must hold.
//!
//! After each step the `laws` are looked at, and in the end the cluster must come to rest. A seed is a run: the same seed
//! does the same again.
#![forbid(unsafe_code)]

mod cache;
mod cluster;
mod control;
mod laws;
mod node;
mod people;
mod place;
mod proxy;
mod runtime;
mod server;
mod time;

pub use cluster::{Broken, run, run_away};
