//! Debian packages as the source of real programs for images: downloaded by apt-get once, unpacked once, kept below
//! `target/lab`, and shared by parallel tests.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::elf;
use crate::image::Tree;

/// Where shared libraries lie in an image; the loader looks there without a cache file.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// How many times to look one level deeper for a library among the dependencies of the packages at hand.
const LEVELS_MAX: usize = 6;

/// Unpacked packages.
#[derive(Debug, Clone)]
pub struct Debian {
    folder: PathBuf,
}

impl Debian {
    /// The cache below the workspace's target directory.
    pub fn open() -> Result<Debian> {
        let folder = crate::programs::target()?.join("lab/debian");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Debian { folder })
    }

    /// The unpacked files of a package.
    pub fn package(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        let _only_one = self.lock()?;
        if !folder.exists() {
            self.unpack(name, &folder).with_context(|| format!("Debian package {name}"))?;
        }
        Ok(folder.join("files"))
    }

    fn lock(&self) -> Result<File> {
        let file = File::create(self.folder.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    fn unpack(&self, name: &str, folder: &Path) -> Result<()> {
        let work = tempfile::tempdir_in(&self.folder)?;
        let mut download = Command::new("apt-get");
        download.current_dir(work.path()).args(["-qq", "-o", "APT::Sandbox::User=root", "download", name]);
        output(&mut download).context("is the machine a Debian with package lists (apt-get update)?")?;
        let archive = fs::read_dir(work.path())?.next().context("apt-get downloaded nothing")??.path();
        let files = work.path().join("files");
        output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&files))?;
        let depends = output(Command::new("dpkg-deb").arg("-f").arg(&archive).arg("Depends"))?;
        fs::write(work.path().join("depends"), depends)?;
        fs::remove_file(&archive)?;
        fs::rename(work.keep(), folder).with_context(|| folder.display().to_string())
    }

    /// The packages that `name` depends on and that may hold shared libraries.
    fn library_packages(&self, name: &str) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.package(name)?.with_file_name("depends"))?;
        let name =
            |entry: &str| entry.split(['(', '|', ' ', '\n']).find(|w| !w.is_empty()).map(str::to_owned);
        let packages = text.split(',').filter_map(name);
        Ok(packages.filter(|p| p.starts_with("lib") || p.starts_with("zlib")).collect())
    }

    /// Puts a program of a package into `tree`, with the loader and the libraries it needs. `path` is where the package
    /// has it and where the image will.
    pub fn program(&self, tree: &mut Tree, package: &str, path: &str) -> Result<()> {
        let source = self.package(package)?.join(path);
        let bytes = fs::read(&source).with_context(|| source.display().to_string())?;
        let mut packages = vec![package.to_owned()];
        let mut wanted = needed(&bytes);
        tree.file(path, 0o755, bytes);
        for _ in 0..LEVELS_MAX {
            packages = self.deeper(&packages)?;
            wanted = self.take(tree, &packages, wanted)?;
            if wanted.is_empty() {
                return Ok(());
            }
        }
        bail!("{package}: no package within {LEVELS_MAX} levels of Depends holds {wanted:?} of {path}")
    }

    fn deeper(&self, packages: &[String]) -> Result<Vec<String>> {
        let mut all: BTreeSet<String> = packages.iter().cloned().collect();
        for package in packages {
            all.extend(self.library_packages(package)?);
        }
        Ok(all.into_iter().collect())
    }

    /// Copies the wanted libraries that the packages have; gives those still wanted, with what the copied ones need.
    fn take(
        &self,
        tree: &mut Tree,
        packages: &[String],
        wanted: BTreeSet<String>,
    ) -> Result<BTreeSet<String>> {
        let mut open: Vec<String> = wanted.into_iter().collect();
        let mut missing = BTreeSet::new();
        while let Some(library) = open.pop() {
            let path = format!("{LIBRARIES}/{library}");
            if tree.contains(&path) {
                continue;
            }
            match self.find(packages, &library)? {
                Some(bytes) => {
                    open.extend(needed(&bytes));
                    tree.file(&path, 0o755, bytes);
                }
                None => drop(missing.insert(library)),
            }
        }
        Ok(missing)
    }

    fn find(&self, packages: &[String], library: &str) -> Result<Option<Vec<u8>>> {
        for package in packages {
            let files = self.package(package)?;
            for folder in ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"] {
                let path = files.join(folder).join(library);
                if path.exists() {
                    return Ok(Some(fs::read(&path).with_context(|| path.display().to_string())?));
                }
            }
        }
        Ok(None)
    }
}

/// The libraries of a program, its loader among them.
fn needed(bytes: &[u8]) -> BTreeSet<String> {
    let needs = elf::needs(bytes);
    let loader = needs.interpreter.and_then(|path| path.rsplit('/').next().map(str::to_owned));
    needs.libraries.into_iter().chain(loader).collect()
}

/// Runs a command; its standard error stands in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
