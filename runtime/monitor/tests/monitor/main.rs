//! Real monitors with real containers, as root: each test has a pod of its own and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod fixture;
mod lifecycle;
mod pod;
mod sessions;
mod streams;

use proto_node::monitor::Runtime;

/// Debian's runc, by its command line.
fn runc() -> Runtime {
    Runtime::Program { path: "/usr/sbin/runc".into() }
}

/// Runs each of these tests with both runtimes.
#[macro_export]
macro_rules! with_both_runtimes {
    ($($(#[doc = $text:literal])* $name:ident)*) => {
        mod builtin {
            $(#[test] fn $name() { super::$name(proto_node::monitor::Runtime::BuiltIn); })*
        }
        mod runc {
            $(#[test] fn $name() { super::$name($crate::runc()); })*
        }
    };
}
