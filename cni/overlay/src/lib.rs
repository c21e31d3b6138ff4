//! The network between nodes: VXLAN with static entries, or plain routes where nodes are neighbours.
#![forbid(unsafe_code)]
