//! The `cleat` program.

fn main() {}
