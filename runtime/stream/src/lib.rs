//! Exec, attach and port-forward on the wire, as Kubernetes' clients, API servers, kubelets and runtimes speak them to
//! each other: the channels of a session over SPDY/3.1 and over websockets, from either side, and from one to the other.
//!
//! ```text
//!   GET or POST …
//!   Upgrade: SPDY/3.1    [v4. v3. v2.]channel.k8s.io · portforward.k8s.io
//!   Upgrade: websocket   [v5. v4.]channel.k8s.io, [v4.]base64.channel.k8s.io, none · SPDY/3.1+portforward.k8s.io
//!                        [base64.]binary.k8s.io, none: a body, to whoever cannot read it otherwise
//!
//!   serve     offer ──> session::Channels | forward::Forward          what the far end of all relays does
//!   relay     a request on a connection of its own; what it upgrades to is copied, or translated
//!   client    runs a session
//! ```
//! A transport has one task that reads and one that writes. A channel holds a few messages; when it is full the
//! reader waits, and so does the peer: no queue grows.
#![forbid(unsafe_code)]

mod channel;
mod negotiate;
mod offer;
mod status;
mod websocket;

pub mod client;
pub mod forward;
pub mod relay;
pub mod session;
pub mod spdy;

#[cfg(test)]
mod tests;

pub use channel::{CHUNK, Gone, Headers, Inlet, Outlet, Side};
pub use offer::{Answer, Offer, Refusal, Work};
pub use session::{Channels, Report, TerminalSize, Wishes};
