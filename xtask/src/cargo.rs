//! Running cargo and other programs, and what cargo says about the workspace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A `cargo` command in the workspace root. What the cargo that runs us says about our own package is taken away: ring's
/// build script looks at it, and would build itself and all that stands on it anew at each change between the two.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root()).args(arguments);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs a command to its end; an exit code other than 0 is an error that tells the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if status.success() { Ok(()) } else { bail!("`{line}` ended with {status}") }
}

/// Runs a command and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` did not print UTF-8"))
}

/// `cargo metadata`: the workspace's own packages, or with `dependencies` all that is linked on Linux.
pub(crate) fn metadata(dependencies: bool) -> Result<Value> {
    let scope: &[&str] = if dependencies {
        &["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]
    } else {
        &["--no-deps"]
    };
    let text = output(cargo(&["metadata", "--format-version", "1", "--quiet"]).args(scope))?;
    serde_json::from_str(&text).context("cargo metadata")
}

/// The folder of the built programs, e.g. `target/debug`.
pub(crate) fn programs(profile: &str) -> Result<PathBuf> {
    let metadata = metadata(false)?;
    let target = metadata["target_directory"].as_str().context("cargo metadata: no target_directory")?;
    Ok(Path::new(target).join(profile))
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0\t")))
}

/// The command line.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}
