//! The public conformance texts of Kubernetes as cases of our own. A case bears the name of its text, and is given a
//! namespace of its own in a cluster of two nodes that all cases of a test program share.
//!
//! `cargo test -p conformance` runs all; `cargo test -p conformance --test node -- Probing` those whose name contains the
//! word; `-- --table` prints the state of every text instead.
#![forbid(unsafe_code)]

mod bed;
mod operations;
mod pod;
mod run;
pub mod socat;

pub use bed::{Bed, Found, PATIENCE, condition, of};
pub use operations::{discovered, holds, operations, seen};
pub use pod::{FOREVER, allocatable, container, pod, with, with_container, with_spec};
pub use run::run;

use std::pin::Pin;

use anyhow::Result;

/// What becomes of a case.
pub type Verdict = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// One conformance text, rebuilt.
pub struct Case {
    /// The name that the public list gives it.
    pub name: &'static str,
    /// Whether it has the cluster to itself: it taints nodes, fills them, or counts what is there.
    pub alone: bool,
    /// Shows what the text demands.
    pub run: fn(Bed) -> Verdict,
}

/// A list of [`Case`]s: `"name" => path::to::async_fn`, with `alone` before those that need the cluster to themselves.
/// The functions are `async fn(Bed) -> anyhow::Result<()>`.
#[macro_export]
macro_rules! cases {
    (@is alone) => { true };
    (@is) => { false };
    ($($name:literal => $($alone:ident)? | $run:expr),* $(,)?) => {
        &[$($crate::Case {
            name: $name,
            alone: $crate::cases!(@is $($alone)?),
            run: |bed| Box::pin($run(bed)),
        }),*]
    };
}
