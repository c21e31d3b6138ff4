//! `cleat-cni`: the CNI plugin that its name, or the configuration's `type`, says.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_plugins::main()
}
