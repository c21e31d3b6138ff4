//! Runs the controllers and the scheduler against an API server, ours or another.
#![forbid(unsafe_code)]
