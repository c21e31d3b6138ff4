//! Everything that a leak could leave on a machine, and the difference of two looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::{Machine, wait};

/// What stands on a machine at one moment: kind of object to its members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    objects: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Snapshot {
    /// Looks at a machine, and at what lies in `folders` of the real file system, all depths. Files for which `keep` is
    /// false are not looked at.
    pub fn take(machine: &Machine, folders: &[&Path], keep: impl Fn(&Path) -> bool) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let init = machine.init();
        snapshot.put("mount", mounts(&fs::read_to_string(format!("/proc/{init}/mountinfo"))?));
        snapshot.put("link", links(&fs::read_to_string(format!("/proc/{init}/net/dev"))?));
        snapshot.put("route", routes(&machine.run(&["ip", "route"])?));
        snapshot.put("nf_tables rule", rules(&machine.run(&["nft", "-s", "list", "ruleset"])?));
        snapshot.put("cgroup", cgroups(machine));
        let processes = machine.processes();
        snapshot.put("network namespace", namespaces(&processes, init));
        snapshot.put("process", processes.iter().filter_map(|pid| process(*pid, init)).collect());
        let mut files = BTreeSet::new();
        for folder in folders {
            walk(folder, &keep, &mut files);
        }
        snapshot.put("file", files);
        Ok(snapshot)
    }

    fn put(&mut self, kind: &'static str, members: BTreeSet<String>) {
        self.objects.insert(kind, members);
    }

    /// What is there now and was not before, a line each: what leaked.
    #[must_use]
    pub fn leaked(&self, now: &Snapshot) -> Vec<String> {
        let nothing = BTreeSet::new();
        let mut lines = Vec::new();
        for (kind, members) in &now.objects {
            let before = self.objects.get(kind).unwrap_or(&nothing);
            lines.extend(members.difference(before).map(|member| format!("{kind}: {member}")));
        }
        lines
    }

    /// Waits until nothing is there that this snapshot does not hold; what is left after so many seconds is the error.
    pub fn expect_nothing_new(&self, seconds: u64, mut take: impl FnMut() -> Result<Snapshot>) -> Result<()> {
        wait::until("nothing left behind", seconds, || {
            let leaked = self.leaked(&take()?);
            let mut text = format!("{} objects are left", leaked.len());
            for line in &leaked {
                write!(text, "\n  {line}")?;
            }
            Ok(if leaked.is_empty() { Ok(()) } else { Err(text) })
        })
    }

    /// Fails unless `kind` (as the leak lines begin) has a member that contains `part`: a check of the check, that the
    /// snapshot sees what it should see.
    pub fn expect(&self, kind: &str, part: &str) -> Result<()> {
        match self.objects.get(kind) {
            Some(members) if members.iter().any(|member| member.contains(part)) => Ok(()),
            members => bail!("no {kind} with {part:?} is there; there are {members:?}"),
        }
    }
}

fn mounts(mountinfo: &str) -> BTreeSet<String> {
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        Some(format!("{} ({})", left.split(' ').nth(4)?, right.split(' ').next()?))
    };
    mountinfo.lines().filter_map(mount).collect()
}

fn links(dev: &str) -> BTreeSet<String> {
    dev.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// Routes, without the state of their link: a bridge without ports is "linkdown" and still the same.
fn routes(text: &str) -> BTreeSet<String> {
    text.lines().map(|line| line.replace(" linkdown", "").trim().to_owned()).collect()
}

/// The rules with the table and chain they stand in, so that equal rules of two chains differ.
fn rules(ruleset: &str) -> BTreeSet<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut rules = BTreeSet::new();
    for line in ruleset.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(block) = line.strip_suffix('{') {
            path.push(block.trim());
            rules.insert(path.join(" > "));
        } else if line == "}" {
            path.pop();
        } else {
            rules.insert(format!("{} > {line}", path.join(" > ")));
        }
    }
    rules
}

fn cgroups(machine: &Machine) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<_> = machine.cgroups().map(Path::to_path_buf).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.insert(entry.path().display().to_string());
                open.push(entry.path());
            }
        }
    }
    found
}

fn namespaces(processes: &[u32], init: u32) -> BTreeSet<String> {
    let of = |pid: u32| Some(fs::read_link(format!("/proc/{pid}/ns/net")).ok()?.display().to_string());
    let own = of(init);
    processes.iter().filter_map(|pid| of(*pid)).filter(|namespace| Some(namespace) != own.as_ref()).collect()
}

/// A process by its command line; the idle `sleep` of the machine's first process is none.
fn process(pid: u32, init: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim();
    if line == "sleep 3600" && field("PPid:") == init.to_string() {
        return None;
    }
    let zombie = if field("State:").starts_with('Z') { " (zombie)" } else { "" };
    let name = if line.is_empty() { format!("[{}]", field("Name:")) } else { line };
    Some(format!("{name}{zombie}"))
}

fn walk(folder: &Path, keep: &impl Fn(&Path) -> bool, files: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !keep(&path) {
            continue;
        }
        files.insert(path.display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, keep, files);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_in_their_chain() {
        let text = "table inet cleat {\n\tchain a {\n\t\taccept\n\t}\n\tchain b {\n\t\taccept\n\t}\n}\n";
        let rules = rules(text);
        let rule = |chain: &str| format!("table inet cleat > chain {chain} > accept");
        assert!(rules.contains(&rule("a")) && rules.contains(&rule("b")), "{rules:?}");
    }
}
