//! `cargo xtask up`: from a fresh clone to running pods.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench::build;
use crate::cargo;

/// Builds the programs, makes the demo's images available, and becomes `cleat up` with a copy of `examples/`.
/// `arguments` go to `cleat up`; a `--data-dir` or `--run-dir` among them is used for the images too.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    if !cargo::is_root() {
        bail!("`cleat up` makes namespaces, mounts and cgroups: run `cargo xtask up` as root");
    }
    build("dev")?;
    let programs = cargo::programs("debug")?;
    let demo = programs.with_file_name("demo");
    let manifests = demo.join("manifests");
    copy_manifests(&manifests)?;
    let cleat = programs.join("cleat");
    match archives(&demo.join("images"), &programs) {
        Ok(archives) => load(&cleat, &archives, arguments)?,
        Err(error) => {
            eprintln!(
                "No images from Debian packages ({error:#}).\nThey will be pulled from docker.io instead."
            );
        }
    }
    let mut up = Command::new(cleat);
    up.args(["up", "--standalone", "--manifests"]).arg(&manifests).args(arguments);
    Err(up.exec()).context("cannot start cleat")
}

/// Copies the example pods, so that trying something out changes no file of the repository. What was changed since stays.
fn copy_manifests(to: &Path) -> Result<()> {
    let from = crate::root().join("examples");
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
        let source = entry?.path();
        let target = to.join(source.file_name().unwrap_or_default());
        if source.extension().is_some_and(|extension| extension == "yaml") && !target.exists() {
            fs::copy(&source, &target).with_context(|| target.display().to_string())?;
        }
    }
    Ok(())
}

/// The demo's images as archives, assembled by the lab from Debian packages.
fn archives(folder: &Path, programs: &Path) -> Result<Vec<PathBuf>> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        bail!("there is no apt-get");
    }
    eprintln!("Assembling the images of nginx, redis and busybox from Debian packages");
    let lab = || {
        let mut lab = Command::new(programs.join("lab"));
        lab.arg("images").arg(folder);
        cargo::output(&mut lab)
    };
    let text = match lab() {
        Ok(text) => text,
        // A fresh machine has no package lists yet.
        Err(_) => {
            cargo::run(Command::new("apt-get").args(["-qq", "update"]))?;
            lab()?
        }
    };
    Ok(text.lines().map(PathBuf::from).collect())
}

fn load(cleat: &Path, archives: &[PathBuf], arguments: &[&str]) -> Result<()> {
    let mut load = Command::new(cleat);
    load.args(["image", "load"]).args(archives);
    for pair in arguments.windows(2).filter(|pair| pair[0] == "--data-dir" || pair[0] == "--run-dir") {
        load.args(pair);
    }
    for argument in arguments.iter().filter(|a| a.starts_with("--data-dir=") || a.starts_with("--run-dir=")) {
        load.arg(argument);
    }
    cargo::run(&mut load)
}
