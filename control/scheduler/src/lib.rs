//! Which node a pod goes to, and why not to the others: a pure function of the cluster as it is. [`schedule`] is the
//! function; [`Snapshot`] is the cluster, kept up pod by pod; [`queue`] says which pod is next, and when one that fits
//! nowhere is worth another look; [`placing`] is the loop around them.
#![forbid(unsafe_code)]

mod amounts;
mod filter;
mod near;
pub mod placing;
mod pod;
mod preempt;
pub mod queue;
mod schedule;
mod score;
mod select;
mod snapshot;
mod spread;
mod volume;

pub use amounts::Amounts;
pub use filter::{Filter, Reason};
pub use pod::Pod;
pub use preempt::Preemption;
pub use schedule::{Decision, Refusal, rank, schedule};
pub use snapshot::{Node, Snapshot};
