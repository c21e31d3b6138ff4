//! The developer's commands: up, test, tidy, bench, dist.

fn main() {}
