//! A throw-away machine: own net, mount, pid, uts, ipc and cgroup namespaces, fresh `/proc`, `/sys` and `/run`, and
//! the cgroup hierarchies as if it were alone. Its first process reaps; when the value is dropped all its processes are
//! killed, and with them go its mounts, links and namespaces. What a product leaves in it is seen by
//! [`crate::Snapshot`] while it stands.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::debian::output;
use crate::http::{self, Answer};
use crate::wait;

/// A cgroup hierarchy of the real machine.
struct Hierarchy {
    /// Where it is mounted.
    mount: PathBuf,
    /// The machine's own cgroup in it.
    cgroup: PathBuf,
    /// Controllers of version 1, e.g. `cpu,cpuacct`; `None` is version 2.
    controllers: Option<String>,
}

/// A throw-away machine.
pub struct Machine {
    name: String,
    /// `unshare`; its death kills the machine's first process.
    keeper: Child,
    /// The machine's first process, as seen from outside.
    init: u32,
    hierarchies: Vec<Hierarchy>,
    folder: tempfile::TempDir,
}

impl Machine {
    /// A new machine with only a loopback link. Needs root.
    pub fn new() -> Result<Machine> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lab-{}-{number}", std::process::id());
        let folder = tempfile::Builder::new().prefix("lab-").tempdir().context("temporary folder")?;
        let hierarchies = hierarchies(&name)?;
        let errors = folder.path().join("errors");
        let mut unshare = Command::new("sh");
        unshare.stderr(File::create(&errors)?);
        unshare.arg("-c").arg(script(&name, &hierarchies)).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut keeper = unshare.spawn().context("cannot start sh")?;
        let mut line = String::new();
        let stdout = keeper.stdout.take().context("the keeper has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let mut machine = Machine { name, keeper, init: 0, hierarchies, folder };
        if line != "ready\n" {
            bail!("the machine {} did not come up: {}", machine.name, fs::read_to_string(&errors)?);
        }
        machine.init = child_of(machine.keeper.id()).context("the machine has no first process")?;
        Ok(machine)
    }

    /// A folder of the real machine that is removed with this one.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The machine's first process, as seen from outside.
    #[must_use]
    pub fn init(&self) -> u32 {
        self.init
    }

    /// The machine's own cgroups, one in each hierarchy, as seen from outside.
    pub fn cgroups(&self) -> impl Iterator<Item = &Path> {
        self.hierarchies.iter().map(|h| h.cgroup.as_path())
    }

    /// A command that will run inside the machine.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Into the machine's cgroups too: outside of them a process would see its own as "/../..".
        const JOIN: &str = "for f in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do \
             if [ -e \"${f%/*}/init\" ]; then f=${f%/*}/init/cgroup.procs; fi; \
             if [ -e \"$f\" ]; then echo 0 > \"$f\"; fi; done; exec \"$@\"";
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init.to_string());
        command
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--", "sh", "-c", JOIN, "sh"]);
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a program inside the machine to its end and gives what it prints.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("no program")?;
        output(self.command(program).args(arguments)).with_context(|| words.join(" "))
    }

    /// Starts a program inside the machine that is killed when the value is dropped.
    pub fn spawn(&self, mut command: Command) -> Result<Process> {
        let child = command.spawn().context("cannot start nsenter")?;
        let outer = child.id();
        let mut process = Process { child, pid: 0 };
        let inner = wait::until("a program to start in the machine", 10, || {
            if let Some(status) = process.child.try_wait()? {
                bail!("the program ended at once with {status}");
            }
            Ok(child_of(outer).ok_or_else(|| "nsenter has no child yet".to_owned()))
        });
        process.pid = inner?;
        Ok(process)
    }

    /// Runs `work` on a thread in the machine's network namespace; sockets it makes stay there.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.init))?;
        let enter = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            anyhow::Ok(work())
        };
        thread::scope(|scope| scope.spawn(enter).join().map_err(|_| anyhow!("the thread panicked"))?)
    }

    /// An HTTP GET from inside the machine.
    pub fn get(&self, server: SocketAddr, path: &str) -> Result<Answer> {
        self.in_network(|| http::get(server, path))?
    }

    /// Joins two machines by a veth pair called `link` at both ends, with an address (`192.0.2.1/24`) each.
    pub fn join(&self, link: &str, address: &str, other: &Machine, other_address: &str) -> Result<()> {
        let target = other.init.to_string();
        // By pid, so run in this machine's network but the real pid namespace.
        let mut add = Command::new("nsenter");
        add.args(["--target", &self.init.to_string(), "--net", "ip", "link", "add", link, "type", "veth"]);
        output(add.args(["peer", "name", link, "netns", &target]))?;
        for (machine, address) in [(self, address), (other, other_address)] {
            machine.run(&["ip", "addr", "add", address, "dev", link, "nodad"])?;
            machine.run(&["ip", "link", "set", link, "up"])?;
        }
        Ok(())
    }

    /// The processes of the machine but its first, as seen from outside.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.init);
        let (mut found, mut open): (Vec<u32>, Vec<(u32, u32)>) = (Vec::new(), Vec::new());
        for pid in pids() {
            match parent(pid) {
                // Those that were sent in from outside, and the machine's own.
                _ if own.is_some() && namespace(pid) == own => found.push(pid),
                Some(parent) => open.push((pid, parent)),
                None => {}
            }
        }
        // Containers are in pid namespaces below the machine's.
        let mut at = 0;
        while at < found.len() {
            let known = found[at];
            found.extend(open.iter().filter(|(_, parent)| *parent == known).map(|(pid, _)| *pid));
            at += 1;
        }
        found.retain(|pid| *pid != self.init);
        found
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // unshare reaps it and ends. Without a first process there is no more than unshare.
        let killed = match i32::try_from(self.init).ok().and_then(Pid::from_raw) {
            Some(init) => kill_process(init, Signal::KILL).map_err(Into::into),
            None => self.keeper.kill(),
        };
        if let Err(error) = killed {
            eprintln!("{}: cannot be killed: {error}", self.name);
        }
        let _status = self.keeper.wait();
        for hierarchy in &self.hierarchies {
            let removed = wait::until_true("the machine's cgroups to empty", 10, || {
                remove_cgroups(&hierarchy.cgroup);
                !hierarchy.cgroup.exists()
            });
            if let Err(error) = removed {
                eprintln!("{}: {error:#}", hierarchy.cgroup.display());
            }
        }
    }
}

/// A process inside a machine; killed on drop.
pub struct Process {
    child: Child,
    pid: u32,
}

impl Process {
    /// Its pid, as seen from outside.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no pid")?;
        kill_process(pid, signal).context("kill")
    }

    /// Waits for its end, at most so long.
    pub fn wait(&mut self, seconds: u64) -> Result<std::process::ExitStatus> {
        let child = &mut self.child;
        wait::until("a process to end", seconds, || Ok(child.try_wait()?.ok_or_else(|| "it runs".to_owned())))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _already_gone = self.signal(Signal::KILL);
            let _already_gone = self.child.kill();
        }
        let _status = self.child.wait();
    }
}

/// Makes the machine's cgroups.
fn hierarchies(name: &str) -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let mut found = Vec::new();
    for line in mounts.lines() {
        let (left, right) = line.split_once(" - ").unwrap_or_default();
        let mount = PathBuf::from(left.split(' ').nth(4).unwrap_or_default());
        let mut fields = right.split(' ');
        let kind = fields.next().unwrap_or_default();
        let options = fields.nth(1).unwrap_or_default();
        if kind != "cgroup" && kind != "cgroup2" {
            continue;
        }
        let controllers: Vec<&str> = options.split(',').filter(|o| *o != "rw").collect();
        let key = if kind == "cgroup" { controllers.join(",") } else { String::new() };
        let path = own.lines().find_map(|l| l.split_once(':')?.1.strip_prefix(&format!("{key}:/")));
        let cgroup = mount.join(path.unwrap_or_default()).join(name);
        fs::create_dir(&cgroup).with_context(|| format!("{}: needs root", cgroup.display()))?;
        if key == "cpuset" {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(cgroup.join(file), fs::read_to_string(cgroup.with_file_name(file))?)?;
            }
        }
        found.push(Hierarchy { mount, cgroup, controllers: (kind == "cgroup").then_some(key) });
    }
    Ok(found)
}

/// The shell script that becomes the machine.
fn script(name: &str, hierarchies: &[Hierarchy]) -> String {
    let mut outer = String::from("set -eu\n");
    let mut inner = format!(
        "set -eu\nhostname {name}\nip link set lo up\nmount -t sysfs sysfs /sys\nmount -t tmpfs -o mode=755 tmpfs /run\n"
    );
    let is_v1 = hierarchies.iter().any(|h| h.controllers.is_some());
    if is_v1 {
        inner += "mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup\n";
    }
    for Hierarchy { mount, cgroup, controllers } in hierarchies {
        let mount = mount.display();
        outer += &format!("echo 0 > {}/cgroup.procs\n", cgroup.display());
        inner += &format!("mkdir -p {mount}\n");
        inner += &match controllers {
            Some(named) if named.starts_with("name=") => {
                format!("mount -t cgroup -o none,{named} cgroup {mount}\n")
            }
            Some(controllers) => format!("mount -t cgroup -o {controllers} cgroup {mount}\n"),
            // A cgroup of version 2 that has children with controllers must hold no process itself.
            None => format!(
                "mount -t cgroup2 cgroup2 {mount}\nmkdir {mount}/init\necho 0 > {mount}/init/cgroup.procs\n"
            ),
        };
    }
    inner += "echo ready\nexec >/dev/null\nwhile :; do sleep 3600 & wait $!; done\n";
    outer += "exec unshare --net --mount --uts --ipc --cgroup --pid --fork --kill-child --mount-proc \
              --propagation private sh -c \"$INNER\"\n";
    format!("INNER=$(cat <<'END'\n{inner}END\n)\n{outer}")
}

fn remove_cgroups(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _busy_until_its_processes_are_gone = fs::remove_dir(folder);
}

/// The first child of a process that has one thread.
fn child_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}
