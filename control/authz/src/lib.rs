//! Who may do what: RBAC, the node authorizer and the bootstrap policy, as functions of objects that are handed in.
//!
//! A server asks in upstream's order: [`node::Graph`] first, then [`rbac::Policy`]. The first that allows or denies
//! decides; when none has an opinion the request is refused with [`Attributes::forbidden`].
#![forbid(unsafe_code)]

mod attributes;
pub mod bootstrap;
pub mod node;
pub mod rbac;

pub use attributes::{Attributes, Decision};

/// Members may do everything, whatever the policy says: the way in when the policy itself is broken.
pub const MASTERS: &str = "system:masters";
