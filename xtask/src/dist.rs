//! `cargo xtask dist`: the programs as they are shipped.

use anyhow::{Context, Result};

use crate::bench::{PROGRAMS, build};
use crate::cargo;

/// Builds the programs with the profile `dist` and prints their sizes.
pub(crate) fn run() -> Result<()> {
    build("dist")?;
    let programs = cargo::programs("dist")?;
    println!("{:<14} {:>12}  {}", "program", "bytes", programs.display());
    for program in PROGRAMS {
        let path = programs.join(program);
        let size = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        println!("{program:<14} {size:>12}");
    }
    Ok(())
}
