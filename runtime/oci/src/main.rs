//! `cleat-oci`: an OCI runtime with runc's command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    oci::cli::main(std::env::args().skip(1).collect())
}
