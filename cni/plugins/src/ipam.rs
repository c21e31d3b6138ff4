//! Calling the plugin that manages addresses: in this process where it is the same program, else by exec.

use std::path::Path;
use std::time::Duration;

use cni_invoke::delegate;
use proto_node::cni::AddResult;
use serde_json::Value;

use crate::failure::Failure;
use crate::request::{Command, Request};

/// A plugin that manages addresses answers at once; `dhcp` needs some rounds on the wire.
const LIMIT: Duration = Duration::from_secs(45);

/// The configuration's `ipam.type`; empty: addresses are not managed.
pub(crate) fn kind(request: &Request) -> &str {
    request.conf.pointer("/ipam/type").and_then(Value::as_str).unwrap_or_default()
}

/// Runs a command of the plugin that `ipam.type` names. `ADD` gives a result with at least one address.
pub(crate) fn run(request: &Request, command: Command) -> Result<AddResult, Failure> {
    let kind = &kind(request).to_owned();
    if kind.is_empty() {
        return Ok(AddResult::default());
    }
    let mut request = request.clone();
    request.command = command;
    let request = &request;
    let value = match crate::plugin(kind, request).filter(|_| is_this_program(request, kind)) {
        Some(plugin) => crate::run(plugin?.as_ref(), request)?,
        None => exec(request, kind)?,
    };
    let Some(value) = value.filter(|_| command == Command::Add) else { return Ok(AddResult::default()) };
    let result = AddResult::from_json(&value).map_err(Failure::Result)?;
    if result.ips.is_empty() {
        return Err(Failure::Exhausted(format!("IPAM plugin {kind} gave no address")));
    }
    Ok(result)
}

/// The first program of that name on `CNI_PATH` is this one. The test suite's own program stands for it.
fn is_this_program(request: &Request, kind: &str) -> bool {
    let Ok(this) = std::fs::canonicalize("/proc/self/exe") else { return false };
    let found = request.path.iter().map(|dir| dir.join(kind)).find(|p| p.is_file());
    found.is_some_and(|p| is_same(&p, &this))
}

fn is_same(program: &Path, this: &Path) -> bool {
    std::fs::canonicalize(program).is_ok_and(|p| p == this)
}

fn exec(request: &Request, kind: &str) -> Result<Option<Value>, Failure> {
    let args = request.args.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(";");
    let env = [
        ("CNI_CONTAINERID", request.container_id.clone()),
        ("CNI_NETNS", request.netns.clone()),
        ("CNI_IFNAME", request.ifname.clone()),
        ("CNI_ARGS", args),
    ];
    let stdin = request.conf.to_string();
    let output = delegate(&request.path, kind, request.command.as_str(), &env, stdin.as_bytes(), LIMIT)?;
    if request.command != Command::Add {
        return Ok(None);
    }
    let path = || format!("the result of IPAM plugin {kind}");
    serde_json::from_slice(&output).map(Some).map_err(|source| Failure::Decode { path: path(), source })
}
