//! The server as a client sees it: real containers on a throw-away machine, whole lives, `kill -9` at every point.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod life;
mod node;
mod recovery;
