//! The server as a client sees it: real containers on a throw-away machine, whole lives, `kill -9` at every point.

mod life;
mod node;
mod recovery;
