//! The parent of a pod's containers.

fn main() {}
