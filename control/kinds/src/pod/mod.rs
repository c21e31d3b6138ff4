//! The pod: as a kind, and as the template that workloads hold.

pub mod resources;
pub mod template;

mod container;
pub(crate) mod default;
mod probe;
pub(crate) mod scheduling;
mod security;
pub(crate) mod volume;
mod warnings;
