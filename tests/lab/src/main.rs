//! The lab's programs for `cargo xtask`: the demo's images, and the benchmarks.
#![forbid(unsafe_code)]

mod bench;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lab::demo;
use lab::image::write_archive;

const USAGE: &str = "\
lab images DIR                                  write the demo's images into DIR as OCI archives
lab bench-pod --programs DIR [--rounds N]       pod start beside Debian's containerd
lab bench-cluster --programs DIR                a whole cluster: time to Ready, memory, idle CPU
lab bench-control --programs DIR [--peer FILE]  the API server beside that of a kubeconfig, its store beside etcd
lab bench-proxy --programs DIR [--services N]   service rules beside iptables
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["images", folder] => images(Path::new(folder)),
        ["bench-pod", "--programs", programs, ref rest @ ..] => bench_pod(PathBuf::from(programs), rest),
        ["bench-control", "--programs", programs, ref rest @ ..] => bench_control(Path::new(programs), rest),
        ["bench-cluster", "--programs", programs] => bench::cluster::run(Path::new(programs)),
        ["bench-proxy", "--programs", programs, ref rest @ ..] => {
            bench::proxy::arguments(Path::new(programs), rest).and_then(bench::proxy::run)
        }
        ["bench-proxy-side", side, services] => {
            services.parse().context("how many?").and_then(|services| bench::proxy::side(side, services))
        }
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

/// Writes each image as an archive and prints the archive's path; what is there already stays.
fn images(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for named in demo::images()? {
        let name = named.reference.rsplit('/').next().unwrap_or_default().replace(':', "-");
        let path = folder.join(format!("{name}.tar"));
        write_archive(&[(named.reference, &named.image)], &path)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn bench_pod(programs: PathBuf, rest: &[&str]) -> Result<()> {
    let rounds = match rest {
        [] => 40,
        ["--rounds", number] => number.parse().with_context(|| format!("--rounds {number}"))?,
        other => bail!("unknown arguments {other:?}\n{USAGE}"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench::run(&programs, rounds))
}

fn bench_control(programs: &Path, rest: &[&str]) -> Result<()> {
    let peer = match rest {
        [] => None,
        ["--peer", kubeconfig] => Some(Path::new(kubeconfig)),
        other => bail!("unknown arguments {other:?}\n{USAGE}"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench::control::run(programs, peer))
}
