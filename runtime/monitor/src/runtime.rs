//! The two ways to run a container. Both are called in a worker only.

pub(crate) mod builtin;
mod overlay;
pub(crate) mod program;
