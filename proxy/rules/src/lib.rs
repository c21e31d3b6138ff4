//! Services and EndpointSlices as flat packet rules, as pure functions.
//!
//! ```text
//! objects ──change──> ServiceMap ──compile──> Ruleset ──diff──> Batch        what the kernel is told
//!                                               └────simulate──> Verdict     what it will do with a packet
//! ```
//! A [`Ruleset`] is the table of one IP family: sets and maps with one element a frontend or endpoint, and a few chains,
//! one a policy's *shape* ([`Shape`]), never one a service. [`Tables`] does the same a change at a time, and gives the
//! same rules: that is a property test.
#![forbid(unsafe_code)]

mod decide;
mod diff;
mod frame;
mod model;
mod pick;
mod ruleset;
mod shape;
mod simulate;
mod stale;
mod tables;

pub use decide::{Claim, Stays};
pub use diff::{Batch, Change, diff};
pub use frame::{LocalTraffic, Node, NodePorts};
pub use model::{Endpoint, Port, Service, ServiceMap, ServiceName, Slice};
pub use pick::Target;
pub use ruleset::{
    Base, Chain, Data, Elements, Family, Field, Hook, Key, Kind, Op, Part, Reject, Rule, Ruleset, SetName,
    Verdict,
};
pub use shape::Shape;
pub use simulate::{Learned, Outcome, Packet, simulate, walk};
pub use stale::{Flow, UdpServices};
pub use tables::{Tables, compile};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
