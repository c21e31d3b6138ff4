//! What is printed: states, lists, help, an example configuration.

use std::io::Write;
use std::path::Path;

use oci_spec::runtime::Spec;
use serde::Serialize;

use super::arguments::{Command, Given};
use super::log::rfc3339;
use crate::error::{During, RuntimeError};
use crate::state::OCI_VERSION;
use crate::{operate, spec};

fn print(text: &str) -> Result<(), RuntimeError> {
    std::io::stdout().write_all(text.as_bytes()).during(|| "standard output")
}

/// Prints a document.
pub(super) fn json(value: &impl Serialize) -> Result<(), RuntimeError> {
    let text = serde_json::to_string_pretty(value).during(|| "JSON")?;
    print(&format!("{text}\n"))
}

pub(super) fn version() {
    let _ = print(&format!("cleat-oci version {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), OCI_VERSION));
}

pub(super) fn help(commands: &[Command]) {
    let mut text =
        "cleat-oci: an OCI runtime\n\nusage: cleat-oci [--root DIR] [--log FILE] [--log-format text|json] \
                    COMMAND [OPTION...]\n\n"
            .to_owned();
    for command in commands {
        text += &format!("  {:<9} {:<26} {}\n", command.name, command.operands, command.about);
    }
    let _ = print(&text);
}

pub(super) fn usage(command: &Command) {
    let mut text = format!(
        "usage: cleat-oci {} [OPTION...] {}\n\n{}\n\n",
        command.name, command.operands, command.about
    );
    for option in command.options {
        let dashed = |name: &&str| if name.len() == 1 { format!("-{name}") } else { format!("--{name}") };
        let names: Vec<String> = option.names.iter().map(dashed).collect();
        text += &format!("  {}{}\n", names.join(", "), if option.value { " VALUE" } else { "" });
    }
    let _ = print(&text);
}

/// A container as runc lists it: the state of the spec, and when it was made.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    state: oci_spec::runtime::State,
    rootfs: String,
    created: String,
    owner: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<bool>,
}

fn listed(root: &Path, id: &str) -> Result<Listed, RuntimeError> {
    let (record, spec, status) = operate::look(root, id)?;
    let rootfs = spec.root().as_ref().map(|root| record.bundle.join(root.path()).display().to_string());
    Ok(Listed {
        state: record.state(&spec, status)?,
        rootfs: rootfs.unwrap_or_default(),
        created: rfc3339(i64::try_from(record.created_at).unwrap_or(0)),
        owner: "root",
        paused: Some(record.cgroup()?.frozen().unwrap_or(false)).filter(|paused| *paused),
    })
}

/// The state as a document, where a paused container says so in its status, as runc's does.
fn document(listed: &Listed) -> Result<serde_json::Value, RuntimeError> {
    let mut value = serde_json::to_value(listed).during(|| "state as JSON")?;
    if listed.paused == Some(true) && listed.state.pid().is_some() {
        value["status"] = "paused".into();
    }
    // runc and those who read it expect a number.
    if value["pid"].is_null() {
        value["pid"] = 0.into();
    }
    Ok(value)
}

pub(super) fn state(root: &Path, id: &str) -> Result<(), RuntimeError> {
    json(&document(&listed(root, id)?)?)
}

pub(super) fn list(root: &Path, given: &Given) -> Result<(), RuntimeError> {
    // One that goes meanwhile is not listed.
    let ids = crate::state::ids(root)?;
    let all: Vec<Listed> = ids.iter().filter_map(|id| listed(root, id).ok()).collect();
    if given.on("quiet") {
        return print(&all.iter().map(|one| format!("{}\n", one.state.id())).collect::<String>());
    }
    let documents = all.iter().map(document).collect::<Result<Vec<_>, _>>()?;
    if given.value("format") == Some("json") {
        return json(&documents);
    }
    let mut text = format!("{:<40} {:>8} {:<9} {:<21} {}\n", "ID", "PID", "STATUS", "CREATED", "BUNDLE");
    for (one, document) in all.iter().zip(&documents) {
        let status = document["status"].as_str().unwrap_or_default();
        let (id, bundle) = (one.state.id(), one.state.bundle().display());
        text += &format!("{id:<40} {:>8} {status:<9} {:<21} {bundle}\n", document["pid"], one.created);
    }
    print(&text)
}

pub(super) fn processes(root: &Path, given: &Given) -> Result<(), RuntimeError> {
    let id = given.id()?;
    let (record, ..) = operate::look(root, id)?;
    let pids = record.cgroup()?.pids().during(|| format!("container {id}"))?;
    if given.value("format") == Some("json") {
        return json(&pids);
    }
    let mut text = format!("{:>8} {:>8} {:<5} {}\n", "PID", "PPID", "STATE", "COMMAND");
    for pid in pids {
        let Ok(stat) = linux::stat::of(pid) else { continue };
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = command.replace('\0', " ");
        text += &format!("{pid:>8} {:>8} {:<5} {}\n", stat.parent, stat.state, command.trim());
    }
    print(&text)
}

/// Writes an example configuration into a bundle that has none.
pub(super) fn example(bundle: &Path) -> Result<(), RuntimeError> {
    let file = bundle.join(spec::CONFIG_FILE);
    let mut example = Spec::default();
    example.set_version(OCI_VERSION.to_owned());
    let text = serde_json::to_string_pretty(&example).during(|| "JSON")?;
    let written = std::fs::File::create_new(&file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.during(|| format!("write {}", file.display()))
}
