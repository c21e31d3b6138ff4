//! The developer's commands. `cargo xtask` without one lists them.
#![forbid(unsafe_code)]

mod bench;
mod cargo;
mod dist;
mod room;
mod schema;
mod test;
mod tidy;
mod told;
mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask up [ARGS…]     build everything and run the demo pods on this machine (root); ARGS go to `cleat up`
cargo xtask test [--quick] every check of the project; --quick leaves out what needs root
cargo xtask tidy           the rules of the house that rustfmt and clippy do not know
cargo xtask bench pod      pod start, memory and idle CPU beside Debian's containerd and runc (root)
cargo xtask bench cluster  a cluster: time to Ready of nodes, pods and Deployments, memory, idle CPU (root)
cargo xtask bench control  the API server beside upstream's where `--peer KUBECONFIG` names one, its store beside etcd
cargo xtask bench proxy    10,000 services beside iptables rules of the same (root)
cargo xtask dist           the programs as they are shipped, into target/dist, with their sizes
cargo xtask schema         the table of the Kubernetes API from its pinned packages; --check compares only
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.split_first() {
        Some((&"up", rest)) => up::run(rest),
        Some((&"test", rest)) => test::run(rest),
        Some((&"tidy", [])) => tidy::run(),
        Some((&"bench", rest)) => bench::run(rest),
        Some((&"dist", [])) => dist::run(),
        Some((&"schema", rest)) => schema::run(rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace, wherever the command was started.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}
