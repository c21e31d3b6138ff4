//! Commands that make processes or change a container.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxResources, Process as OciProcess};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::arguments::{Flag, Given, switch, valued};
use super::{console, sealed};
use crate::error::{During, ErrorKind, RuntimeError};
use crate::options::{CreateOptions, ExecOptions, Parent, Process, Rootfs, Stdio};
use crate::{operate, spec};

/// The options of `update`: a file in the form of `linux.resources`, or single figures.
pub(super) const UPDATE: &[Flag] = &[
    valued(&["resources", "r"]),
    valued(&["cpu-shares", "cpu-share"]),
    valued(&["cpu-quota"]),
    valued(&["cpu-period"]),
    valued(&["cpuset-cpus"]),
    valued(&["cpuset-mems"]),
    valued(&["memory"]),
    valued(&["memory-reservation"]),
    valued(&["memory-swap"]),
    valued(&["pids-limit"]),
    switch(&["help", "h"]),
];

fn invalid(message: impl Into<String>) -> RuntimeError {
    RuntimeError::new(ErrorKind::InvalidSpec, message)
}

/// `create`, and with `start` `run`.
pub(super) fn create(root: &Path, given: &Given, start: bool) -> Result<ExitCode, RuntimeError> {
    if given.on("no-pivot") {
        return Err(invalid(
            "--no-pivot: a container without pivot_root can leave its root file system; remove it",
        ));
    }
    sealed::ensure()?;
    let id = given.id()?;
    let bundle = Path::new(given.value("bundle").unwrap_or("."));
    let config = spec::load(bundle)?;
    let socket = given.value("console-socket").filter(|socket| !socket.is_empty());
    let detached = !start || given.on("detach");
    let stdio = stdio(config.process.terminal, socket, detached)?;
    let made = crate::create(CreateOptions {
        id,
        root,
        bundle,
        rootfs: Rootfs::Spec,
        stdio,
        parent: Parent::Caller,
        preserve_fds: given.number("preserve-fds")?.unwrap_or(0),
    })?;
    let going = (|| {
        hand_over(given, &made)?;
        if start { crate::start(root, id) } else { Ok(()) }
    })();
    if let Err(error) = going {
        return crate::delete(root, id, true).and(Err(error));
    }
    if detached {
        return Ok(ExitCode::SUCCESS);
    }
    let code = foreground(&made, socket.is_none())?;
    if !given.on("keep") {
        crate::delete(root, id, true)?;
    }
    Ok(code)
}

/// A terminal needs somebody who takes its master.
fn stdio(terminal: bool, socket: Option<&str>, detached: bool) -> Result<Stdio, RuntimeError> {
    match (terminal, socket) {
        (true, None) if detached => {
            Err(invalid("a terminal needs --console-socket, unless run in the foreground"))
        }
        (true, _) => Ok(Stdio::Terminal),
        (false, Some(_)) => {
            Err(invalid("--console-socket is given, but process.terminal is false; remove one"))
        }
        (false, None) => Ok(Stdio::Inherit),
    }
}

fn hand_over(given: &Given, made: &Process) -> Result<(), RuntimeError> {
    if let (Some(socket), Some(terminal)) = (given.value("console-socket"), &made.terminal) {
        console::send(socket, terminal)?;
    }
    if let Some(file) = given.value("pid-file").filter(|file| !file.is_empty()) {
        // Readers poll for it: it appears complete.
        let file = Path::new(file);
        let mut new = file.as_os_str().to_owned();
        new.push(".new");
        let written = std::fs::write(&new, made.pid.to_string()).and_then(|()| std::fs::rename(&new, file));
        written.during(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Waits for a process of ours, with this terminal joined to its own; its exit code is ours.
fn foreground(made: &Process, join: bool) -> Result<ExitCode, RuntimeError> {
    if let (Some(terminal), true) = (&made.terminal, join) {
        console::join(terminal)?;
    }
    let pid = i32::try_from(made.pid).ok().and_then(Pid::from_raw).ok_or_else(|| invalid("process id"))?;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(exit_code(status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).during(|| "wait for the process"),
        }
    }
}

fn exit_code(status: WaitStatus) -> ExitCode {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}

/// `exec`
pub(super) fn exec(root: &Path, given: &Given, program: &[String]) -> Result<ExitCode, RuntimeError> {
    for refused in ["apparmor", "process-label"] {
        if given.value(refused).is_some_and(|value| !value.is_empty()) {
            return Err(invalid(format!("--{refused}: AppArmor and SELinux are not supported; remove it")));
        }
    }
    sealed::ensure()?;
    let id = given.id()?;
    let process = match given.value("process") {
        Some(file) => {
            let text = std::fs::read(file).map_err(|error| invalid(format!("--process {file}: {error}")))?;
            serde_json::from_slice(&text).map_err(|error| invalid(format!("--process {file}: {error}")))?
        }
        None => process(root, given, program)?,
    };
    let socket = given.value("console-socket").filter(|socket| !socket.is_empty());
    let detached = given.on("detach");
    let stdio = stdio(process.terminal().unwrap_or(false), socket, detached)?;
    let preserve_fds = given.number("preserve-fds")?.unwrap_or(0);
    let made = crate::exec(ExecOptions {
        id,
        root,
        process: &process,
        stdio,
        parent: Parent::Caller,
        preserve_fds,
    })?;
    if let Err(error) = hand_over(given, &made) {
        let pid = i32::try_from(made.pid).ok().and_then(Pid::from_raw);
        if let Some(pidfd) =
            pid.and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok())
        {
            let _ = linux::process::pidfd_send_signal(pidfd.as_fd(), rustix::process::Signal::KILL.as_raw());
        }
        return Err(error);
    }
    if detached { Ok(ExitCode::SUCCESS) } else { foreground(&made, socket.is_none()) }
}

/// The container's own process with another program, and what the options change.
fn process(root: &Path, given: &Given, program: &[String]) -> Result<OciProcess, RuntimeError> {
    if program.is_empty() {
        return Err(invalid("name a program to run, or a process file by --process"));
    }
    let (_, spec, _) = operate::look(root, given.id()?)?;
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(program.to_vec()));
    process.set_terminal(Some(given.on("tty")));
    if let Some(cwd) = given.value("cwd") {
        process.set_cwd(cwd.into());
    }
    if given.on("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend(given.values("env").map(str::to_owned));
    process.set_env(Some(environment));
    if let Some(user) = given.value("user") {
        let (uid, gid) = user_of(user)?;
        let mut new = oci_spec::runtime::User::default();
        new.set_uid(uid);
        new.set_gid(gid);
        process.set_user(new);
    }
    let gids = given
        .values("additional-gids")
        .map(|gid| id_of("additional-gids", gid))
        .collect::<Result<Vec<_>, _>>()?;
    if !gids.is_empty() {
        process.user_mut().set_additional_gids(Some(gids));
    }
    let added = given.values("cap").map(capability).collect::<Result<Vec<_>, _>>()?;
    if !added.is_empty() {
        let mut sets = process.capabilities().clone().unwrap_or_default();
        add(&mut sets, &added);
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}

fn id_of(option: &str, text: &str) -> Result<u32, RuntimeError> {
    // `+5` parses as a number, and means nothing here.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits);
    id.ok_or_else(|| invalid(format!("option --{option}: {text:?} is not a number; names are not looked up")))
}

/// `UID[:GID]`, nothing else: a name that is taken for 0 would be root.
fn user_of(text: &str) -> Result<(u32, u32), RuntimeError> {
    match text.split_once(':') {
        Some((uid, gid)) => Ok((id_of("user", uid)?, id_of("user", gid)?)),
        None => Ok((id_of("user", text)?, 0)),
    }
}

fn capability(name: &str) -> Result<Capability, RuntimeError> {
    let upper = name.to_ascii_uppercase();
    let upper = upper.strip_prefix("CAP_").unwrap_or(&upper);
    upper.parse().map_err(|_| invalid(format!("option --cap: {name:?} is not a capability")))
}

/// Adds to what a program gets at once; not to the inheritable ones, which would survive in a file's capabilities
/// (CVE-2022-29162).
fn add(sets: &mut LinuxCapabilities, added: &[Capability]) {
    let with = |set: &Option<oci_spec::runtime::Capabilities>| {
        Some(set.iter().flatten().copied().chain(added.iter().copied()).collect())
    };
    let (bounding, effective, permitted) =
        (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding);
    sets.set_effective(effective);
    sets.set_permitted(permitted);
}

/// `update`
pub(super) fn update(root: &Path, given: &Given) -> Result<(), RuntimeError> {
    let resources: LinuxResources = match given.value("resources") {
        Some(file) => {
            let mut text = Vec::new();
            let read = if file == "-" {
                std::io::stdin().read_to_end(&mut text)
            } else {
                std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text))
            };
            read.map_err(|error| invalid(format!("--resources {file}: {error}")))?;
            serde_json::from_slice(&text).map_err(|error| invalid(format!("--resources {file}: {error}")))?
        }
        None => {
            let number = |name: &str| given.number::<i64>(name);
            let document = serde_json::json!({
                "cpu": {
                    "shares": number("cpu-shares")?, "quota": number("cpu-quota")?, "period": number("cpu-period")?,
                    "cpus": given.value("cpuset-cpus"), "mems": given.value("cpuset-mems"),
                },
                "memory": {
                    "limit": number("memory")?, "reservation": number("memory-reservation")?,
                    "swap": number("memory-swap")?,
                },
                "pids": number("pids-limit")?.map(|limit| serde_json::json!({ "limit": limit })),
            });
            serde_json::from_value(document).map_err(|error| invalid(format!("update: {error}")))?
        }
    };
    crate::update(root, given.id()?, &resources)
}
