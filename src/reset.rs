//! `cleat reset`: everything that cleat has ever made on this machine goes, and a look at the machine proves it.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::args::Reset;
use crate::daemon;
use crate::down;
use crate::output::{GREEN, paint};
use crate::paths::Paths;

/// How long other nodes may take to take the pods over.
const GIVE_AWAY: Duration = Duration::from_secs(60);
/// What our tables in the kernel are named after.
const TABLES: &str = "cleat";

pub(crate) async fn run(reset: Reset) -> anyhow::Result<()> {
    daemon::require_root()?;
    let paths = Paths::resolve(&reset.dirs)?;
    if !reset.yes && !sure(&paths)? {
        bail!("nothing was changed");
    }
    let ended = down::end(&paths, &reset.dirs, &reset.runtime, GIVE_AWAY).await?;
    println!("{ended} pods ended");
    for dir in folders(&paths) {
        remove(&dir)?;
    }
    let left = look(&paths)?;
    if left.is_empty() {
        println!("{}", paint("nothing is left: no process, mount, link, table, cgroup or file", GREEN));
        return Ok(());
    }
    bail!("still there:\n  {}", left.join("\n  "))
}

/// Asks, where there is somebody to answer.
fn sure(paths: &Paths) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("this removes {} with all objects of the cluster: say --yes", paths.data.display());
    }
    print!("Remove {} with all pods, images and objects of the cluster? [y/N] ", paths.data.display());
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn folders(paths: &Paths) -> Vec<PathBuf> {
    vec![paths.run.clone(), paths.logs.clone(), paths.data.clone()]
}

/// Removes a tree, but never what is mounted in it.
fn remove(dir: &Path) -> anyhow::Result<()> {
    let mounts = mounts_below(&fs::read_to_string("/proc/self/mountinfo")?, dir);
    if let Some(first) = mounts.first() {
        bail!("{first} is still mounted: unmount it and run `cleat reset` again");
    }
    match linux::remove::tree(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The mount points below a directory.
fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    // The kernel writes blanks and backslashes in octal.
    let plain = |point: &str| point.replace("\\040", " ").replace("\\134", "\\");
    points.map(plain).filter(|point| Path::new(point).starts_with(dir)).collect()
}

/// What of us is still there, a line each.
fn look(paths: &Paths) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for dir in folders(paths).iter().filter(|dir| dir.exists()) {
        left.push(format!("directory {}", dir.display()));
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    for dir in folders(paths) {
        left.extend(mounts_below(&mountinfo, &dir).into_iter().map(|point| format!("mount {point}")));
    }
    left.extend(monitors(&paths.run));
    let links = netlink::route::Route::open()?.links()?;
    let ours = links.iter().filter(|link| link.name.starts_with("cleat"));
    left.extend(ours.map(|link| format!("link {}", link.name)));
    let tables = netlink::nft::Nft::open()?.tables()?;
    let ours = tables.iter().filter(|table| table.starts_with(TABLES));
    left.extend(ours.map(|table| format!("nf_tables table {table}")));
    left.extend(cgroups());
    Ok(left)
}

/// Monitors of pods, whose directories are below ours.
fn monitors(run: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<&str> =
            line.split(|b| *b == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
        let is_monitor = words.first().is_some_and(|name| name.ends_with("cleat-monitor"));
        if is_monitor && words.iter().any(|word| Path::new(word).starts_with(run)) {
            found.push(format!("process {} ({})", entry.file_name().display(), words.join(" ").trim()));
        }
    }
    found
}

/// Cgroups of pods.
fn cgroups() -> Vec<String> {
    let own = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let roots =
        own.map(|entry| entry.path().join("kubepods")).chain([PathBuf::from("/sys/fs/cgroup/kubepods")]);
    let mut found: Vec<String> =
        roots.filter(|dir| dir.is_dir()).map(|dir| format!("cgroup {}", dir.display())).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_point() {
        let info = "1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /d/run\\040x/shm rw - tmpfs t rw\n3 1 0:6 / /data rw - tmpfs t rw\n";
        assert_eq!(mounts_below(info, Path::new("/d")), ["/d/run x/shm"]);
        assert!(mounts_below(info, Path::new("/dat")).is_empty());
    }
}
