//! `cleat-monitor --dir DIR`, see `proto_node::monitor`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(flag), Some(dir), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return usage();
    };
    if flag != "--dir" {
        return usage();
    }
    match monitor::run(&PathBuf::from(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    println!("usage: cleat-monitor --dir DIR");
    ExitCode::from(2)
}
