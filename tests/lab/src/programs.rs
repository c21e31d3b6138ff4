//! Where the workspace's programs are, built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

/// The workspace's target directory: the one this very program was built into.
pub fn target() -> Result<PathBuf> {
    let program = std::env::current_exe().context("/proc/self/exe")?;
    let found = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists() && !dir.ends_with("debug"));
    found.map(Path::to_path_buf).with_context(|| format!("{} lies in no target directory", program.display()))
}

/// The folder with `cleat`, `cleat-oci`, `cleat-monitor` and `cleat-cni`, up to date. The first call of a process
/// lets cargo build them, in the profile and with the features that `cargo xtask test` uses.
pub fn debug() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(|text| anyhow!(text))
}

fn build() -> Result<PathBuf> {
    let target = target()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg("build").args(["--quiet", "--workspace", "--bins"]);
    // ring's build script looks at these and would build it, and all that stands on it, anew.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    let output = cargo.arg("--target-dir").arg(&target).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the programs do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(target.join("debug"))
}
