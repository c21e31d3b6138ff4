//! The server from outside, over TLS: who may come in, what is told to whom, how much is taken.
#![allow(clippy::unwrap_used)]

mod authn;
mod client;
mod documents;
mod life;
mod limits;
mod tokens;
