//! Whether the disks have room for what a run of the tests leaves on them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// What a whole run builds into an empty target directory, in MB; with what the next build could use, and without.
const BUILD_MB: [u64; 2] = [16_000, 7_000];
/// What the nodes of the tests keep at once, in MB: images, layers, logs, stores.
const NODES_MB: u64 = 2_000;

/// # Errors
/// When the target directory's disk has no room for what is not built yet, or the temporary directory's for the nodes: a
/// full disk would be met much later, as tests that wait in vain.
pub(crate) fn check() -> Result<()> {
    let programs = cargo::programs("debug")?;
    let target = programs.parent().context("a target directory has a name")?;
    let built = size(&programs) >> 20;
    let whole = BUILD_MB[usize::from(env::var("CARGO_INCREMENTAL").is_ok_and(|value| value == "0"))];
    for (dir, needed) in
        [(target.to_path_buf(), whole.saturating_sub(built) + NODES_MB), (env::temp_dir(), NODES_MB)]
    {
        let left = left(&dir)? >> 20;
        if left < needed {
            bail!("{} has {left} MB left, and the tests need {needed} MB: make room there", dir.display());
        }
    }
    Ok(())
}

/// Bytes left on the disk of a directory, or of the nearest one above that is there.
fn left(dir: &Path) -> Result<u64> {
    let found = dir.ancestors().find(|dir| dir.exists()).with_context(|| dir.display().to_string())?;
    let disk = rustix::fs::statvfs(found).with_context(|| found.display().to_string())?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Bytes of the files below a directory; what cannot be read counts for nothing.
fn size(dir: &Path) -> u64 {
    let mut waiting: Vec<PathBuf> = vec![dir.to_path_buf()];
    let mut bytes = 0;
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(about) if about.is_dir() => waiting.push(entry.path()),
                Ok(about) => bytes += about.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_there() {
        let source = crate::root().join("xtask/src");
        assert!(size(&source) > 10_000 && size(&source.join("none")) == 0);
        assert!(left(&source.join("none/at/all")).is_ok());
    }
}
