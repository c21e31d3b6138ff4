//! The rules of the house that rustfmt and clippy do not know, as a test that lists all that is wrong at once,
//! each with its place and its remedy.

mod lock;
mod mask;
mod picture;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    text: String,
    remedy: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>, remedy: &str) -> Finding {
        Finding { path: path.to_owned(), line, text: text.into(), remedy: remedy.to_owned() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}: {}\n    {}", self.path, self.line, self.text, self.remedy)
    }
}

/// Checks the whole checkout, files that are not committed yet included.
pub(crate) fn run() -> Result<()> {
    let files = files(&crate::root())?;
    let mut found: Vec<Finding> =
        files.iter().flat_map(|(path, text)| check_file(path, text, &files)).collect();
    found.extend(twins(&files));
    let read = |path: &str| files.get(path).map(String::as_str).unwrap_or_default();
    let lock = lock::Lock::parse(read("Cargo.lock"));
    found.extend(lock::forbidden(&lock));
    found.extend(lock::licences(&cargo::metadata(true)?));
    found.extend(picture::check(&cargo::metadata(false)?, &lock, read("docs/architecture.md")));
    found.sort();
    for finding in &found {
        println!("{finding}");
    }
    match found.len() {
        0 => {
            println!("tidy: {} files, nothing to mend", files.len());
            Ok(())
        }
        count => bail!("tidy: {count} to mend"),
    }
}

fn check_file(path: &str, text: &str, files: &BTreeMap<String, String>) -> Vec<Finding> {
    match path.rsplit('.').next() {
        Some("rs") => source::check(path, text),
        Some("md") => links(path, text, files),
        Some("toml") if path.ends_with("/Cargo.toml") => lock::manifest(path, text),
        _ => Vec::new(),
    }
}

/// Every text file that git knows or would know, by path.
fn files(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listing = cargo::output(&mut git).context("tidy looks at the files that git knows")?;
    let mut files = BTreeMap::new();
    for path in listing.split('\0').filter(|path| !path.is_empty()) {
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.insert(path.to_owned(), text);
        }
    }
    Ok(files)
}

/// Files that say the same.
fn twins(files: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(_, text)| text.len() > 64) {
        if let Some(twin) = first.insert(text, path) {
            let text = format!("the same as {twin}");
            found.push(Finding::new(path, 1, text, "keep one, where both places can use it"));
        }
    }
    found
}

/// Links of a page to files of the repository that are not there.
fn links(path: &str, text: &str, files: &BTreeMap<String, String>) -> Vec<Finding> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let full = normal(&folder.join(target));
            let is_there = files.keys().any(|file| *file == full || file.starts_with(&format!("{full}/")));
            if !is_there {
                found.push(Finding::new(
                    path,
                    at + 1,
                    format!("the link to {target} leads nowhere"),
                    "mend it",
                ));
            }
        }
    }
    found
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(parts.pop()),
            std::path::Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            _ => {}
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn equal_files_are_found() {
        let text = "x".repeat(65);
        let found = twins(&tree(&[("a", &text), ("b", &text), ("c", "y")]));
        assert_eq!(found.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn links_lead_to_files_and_folders() {
        let files = tree(&[("docs/a.md", ""), ("src/main.rs", "")]);
        let page = "[a](a.md) [b](../src/) [c](https://x.y/z) [d](#here) [e](gone.md)";
        let found = links("docs/b.md", page, &files);
        assert_eq!(
            found.iter().map(|f| f.text.as_str()).collect::<Vec<_>>(),
            ["the link to gone.md leads nowhere"]
        );
    }
}
