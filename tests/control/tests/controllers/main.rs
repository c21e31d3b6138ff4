//! The controllers against our API server, in one process: what they make of requests that clients send.
#![allow(clippy::unwrap_used)]

mod plane;

mod certificates;
mod endpoints;
mod life;
mod nodes;
