//! Containers on this machine's kernel: the binary `cleat-oci` as root, with a busybox root file system. The cases that
//! apply to any runtime are run by Debian's runc too, which tests the tests.
#![allow(clippy::unwrap_used)]

mod bundle;
mod containerd;
mod exec;
mod inside;
mod lifecycle;
mod malicious;
mod unified;
