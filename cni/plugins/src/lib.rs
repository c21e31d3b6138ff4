//! All CNI plugins in one small program, chosen by argv[0].
//!
//! ```text
//! environment, stdin ──> Request ──> Plugin: conf ──> observe ──> plan (pure) ──> apply, undone if it fails ──> result
//! ```
//! | plugin | does |
//! |---|---|
//! | `bridge` | a veth pair between pod and bridge, gateway, masquerade |
//! | `host-local`, `static` (`fixed`) | address management; called in-process by `bridge` of the same program |
//! | `portmap` | ports of the host to the pod |
//! | `loopback` | `lo` up |
//!
//! The two tables of nf_tables, `cleat-masquerade` and `cleat-hostports`, are drawn in `nat`.
#![forbid(unsafe_code)]

mod bridge;
mod failure;
mod fixed;
mod host_local;
mod ipam;
mod links;
mod loopback;
mod nat;
mod portmap;
mod request;

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use proto_node::cni::{AddResult, Version};
use serde_json::{Value, json};

use failure::Failure;
use request::{Command, Request};

/// What every plugin can be asked for. The request it was made from is its only input but the kernel.
pub(crate) trait Plugin {
    /// Attach the container. What is done twice is done once; what fails is undone.
    fn add(&self) -> Result<AddResult, Failure>;
    /// Undo it. What is gone already, the namespace included, is no error.
    fn del(&self) -> Result<(), Failure>;
    /// Is it still as `ADD` left it?
    fn check(&self) -> Result<(), Failure>;
    /// Undo what belongs to no valid attachment.
    fn gc(&self) -> Result<(), Failure> {
        Ok(())
    }
    /// Can `ADD` be served?
    fn status(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// The plugin of that CNI name; `None`: not one of ours.
pub(crate) fn plugin<'a>(name: &str, request: &'a Request) -> Option<Result<Box<dyn Plugin + 'a>, Failure>> {
    fn boxed<'a>(plugin: Result<impl Plugin + 'a, Failure>) -> Result<Box<dyn Plugin + 'a>, Failure> {
        Ok(Box::new(plugin?))
    }
    match name {
        "bridge" => Some(boxed(bridge::Bridge::new(request))),
        "host-local" => Some(boxed(host_local::HostLocal::new(request))),
        "loopback" => Some(boxed(Ok(loopback::Loopback::new(request)))),
        "portmap" => Some(boxed(portmap::Portmap::new(request))),
        "static" => Some(boxed(fixed::Fixed::new(request))),
        _ => None,
    }
}

/// The program: reads the request, prints the answer, exits with 1 on failure.
pub fn main() -> ExitCode {
    let program = std::env::args_os().next().unwrap_or_default();
    let program = Path::new(&program).file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    if std::env::var_os("CNI_COMMAND").is_none() {
        eprintln!(
            "{program} {}: CNI plugins {}, versions 0.1.0 to {}; run by a container runtime with CNI_COMMAND set",
            env!("CARGO_PKG_VERSION"),
            cni_invoke::PLUGINS.join(", "),
            Version::NEWEST
        );
        return ExitCode::FAILURE;
    }
    let mut stdin = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut stdin);
    let answer = read
        .map_err(|source| Failure::Io { what: "read the configuration from standard input".into(), source })
        .and_then(|_| answer(&program, &|name| std::env::var(name).ok(), &stdin));
    let (text, code) = match answer {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(value)) => (value, ExitCode::SUCCESS),
        Err(failure) => (failure.to_json(version(&stdin)), ExitCode::FAILURE),
    };
    // a runtime that does not read the answer cannot be told so
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    code
}

/// The version to answer in: the request's where it can be made out.
fn version(stdin: &[u8]) -> Version {
    let conf: Option<Value> = serde_json::from_slice(stdin).ok();
    let version = conf.as_ref().and_then(|c| c.get("cniVersion")).and_then(Value::as_str);
    version.and_then(|v| v.parse().ok()).unwrap_or(Version::NEWEST)
}

/// Serves one call. `program` is argv[0]'s file name; under a name that is no plugin's the configuration's `type`
/// decides.
pub(crate) fn answer(
    program: &str,
    env: &dyn Fn(&str) -> Option<String>,
    stdin: &[u8],
) -> Result<Option<Value>, Failure> {
    let command = Command::from_env(env)?;
    if command == Command::Version {
        let supported: Vec<&str> = Version::ALL.iter().map(|v| v.as_str()).collect();
        return Ok(Some(json!({ "cniVersion": version(stdin), "supportedVersions": supported })));
    }
    let request = Request::new(command, env, stdin)?;
    let name = if cni_invoke::PLUGINS.contains(&program) { program } else { request.kind() };
    let plugin = plugin(name, &request).unwrap_or_else(|| {
        let reason = format!("{name:?} is none of {}", cni_invoke::PLUGINS.join(", "));
        Err(Failure::Config { field: "type".into(), reason })
    })?;
    run(plugin.as_ref(), &request)
}

/// Runs the command of the request.
pub(crate) fn run(plugin: &dyn Plugin, request: &Request) -> Result<Option<Value>, Failure> {
    match request.command {
        Command::Add => {
            let result = plugin.add()?;
            result.to_json(request.version).map(Some).map_err(Failure::Result)
        }
        Command::Del => plugin.del().map(|()| None),
        Command::Check => plugin.check().map(|()| None),
        Command::Gc => plugin.gc().map(|()| None),
        Command::Status => plugin.status().map(|()| None),
        Command::Version => Ok(None),
    }
}

#[cfg(test)]
mod tests;
