//! Links, addresses, routes, neighbours, nf_tables and conntrack over netlink: blocking, without tokio, C or the
//! programs `ip`, `nft`, `conntrack`.
//!
//! | module | kernel's family |
//! |---|---|
//! | [`route`] | rtnetlink, encoded by `netlink-packet-route` |
//! | [`nft`], [`conntrack`] | nfnetlink, encoded here: no crate covers nf_tables' maps and NAT |
//! | [`netns`] | none: threads in other network namespaces |
#![forbid(unsafe_code)]

mod attr;
pub mod conntrack;
pub mod netns;
pub mod nft;
pub mod route;
mod socket;

pub use socket::{NetlinkError, Refusal};
