//! The pod: as a kind, and as the template that workloads hold.

pub mod binding;
pub mod eviction;
pub mod resources;
pub mod template;

mod columns;
mod container;
pub(crate) mod default;
pub(crate) mod kind;
mod mount;
mod probe;
pub(crate) mod scheduling;
mod security;
mod status;
mod update;
pub(crate) mod volume;
pub(crate) mod warnings;

#[cfg(test)]
mod tests;
