//! `cleat install`: the programs, the systemd units and the directories they expect.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::args::Install;

/// The programs, as they lie beside the running one.
const PROGRAMS: [&str; 4] = ["cleat", "cleat-monitor", "cleat-oci", "cleat-cni"];
const UNITS: [(&str, &str); 4] = [
    ("cleat.service", include_str!("../packaging/cleat.service")),
    ("cleat-control.service", include_str!("../packaging/cleat-control.service")),
    ("cleat-node.service", include_str!("../packaging/cleat-node.service")),
    ("cleat-cri.service", include_str!("../packaging/cleat-cri.service")),
];
const MANIFESTS: &str = "/etc/cleat/manifests";

/// A file to write: all are checked before the first is written.
struct File {
    target: PathBuf,
    content: Vec<u8>,
    mode: u32,
}

pub(crate) fn run(install: &Install) -> anyhow::Result<()> {
    let files = plan(install)?;
    for file in &files {
        println!("{}", file.target.display());
        if !install.dry_run {
            write(file).with_context(|| format!("writing {}", file.target.display()))?;
        }
    }
    println!("{MANIFESTS}/");
    if !install.dry_run {
        fs::create_dir_all(MANIFESTS).with_context(|| format!("making {MANIFESTS}"))?;
    }
    println!(
        "\nNext: systemctl daemon-reload && systemctl enable --now cleat for a cluster on this machine;\n\
         cleat join …, then systemctl enable --now cleat-node for a node of another. Static pods go into {MANIFESTS}."
    );
    Ok(())
}

fn plan(install: &Install) -> anyhow::Result<Vec<File>> {
    let own = std::env::current_exe().context("finding the running program")?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    let mut files = Vec::new();
    for program in PROGRAMS {
        let source = beside.join(program);
        let Ok(content) = fs::read(&source) else {
            bail!(
                "{} is missing: build all programs first (cargo build --release --workspace)",
                source.display()
            );
        };
        files.push(File { target: install.prefix.join("bin").join(program), content, mode: 0o755 });
    }
    for (unit, text) in UNITS {
        let text = text.replace("@PREFIX@", &install.prefix.display().to_string());
        files.push(File { target: install.unit_dir.join(unit), content: text.into_bytes(), mode: 0o644 });
    }
    Ok(files)
}

/// Writes beside the target and renames, so that a running program is replaced, not overwritten.
fn write(file: &File) -> std::io::Result<()> {
    if let Some(dir) = file.target.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut temporary = file.target.clone().into_os_string();
    temporary.push(".new");
    fs::write(&temporary, &file.content)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(file.mode))?;
    fs::rename(&temporary, &file.target)
}
