//! Running one plugin: [`run`].

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proto_node::cni::{CniError, code};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// More than this on standard output or error is no CNI answer.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Why a plugin gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No directory holds its program.
    #[error("CNI plugin {name} is in none of {}: install it there, or set the plugin directory", join(dirs))]
    Missing {
        /// The plugin's `type`.
        name: String,
        /// Directories searched.
        dirs: Vec<PathBuf>,
    },
    /// It could not be started or spoken to.
    #[error("cannot run CNI plugin {program}")]
    Io {
        /// Its program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("CNI plugin {program} did not finish {command} within {} s and was killed", limit.as_secs_f32())]
    Timeout {
        /// Its program.
        program: PathBuf,
        /// `ADD`, `DEL`, …
        command: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// It refused, with an error in the specification's form.
    #[error("CNI plugin {name} refused {command}")]
    Refused {
        /// The plugin's `type`.
        name: String,
        /// `ADD`, `DEL`, …
        command: &'static str,
        /// Its reason.
        source: CniError,
    },
    /// It failed without saying why in the specification's form.
    #[error("CNI plugin {name} failed {command} with {status}: {output}")]
    Failed {
        /// The plugin's `type`.
        name: String,
        /// `ADD`, `DEL`, …
        command: &'static str,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// It ended well, but its result cannot be read.
    #[error("CNI plugin {name} printed no valid result for {command}: {reason}")]
    Result {
        /// The plugin's `type`.
        name: String,
        /// `ADD`, `DEL`, …
        command: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl PluginError {
    /// The CNI error code, where the plugin gave one.
    pub fn code(&self) -> Option<u32> {
        match self {
            PluginError::Refused { source, .. } => Some(source.code),
            _ => None,
        }
    }

    /// Trying again later may help, without any change of configuration.
    pub fn is_passing(&self) -> bool {
        matches!(self, PluginError::Timeout { .. }) || self.code() == Some(code::TRY_AGAIN_LATER)
    }
}

fn join(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// One call of a plugin.
pub(crate) struct Call<'a> {
    /// The plugin's `type`.
    pub(crate) name: &'a str,
    /// `ADD`, `DEL`, …
    pub(crate) command: &'static str,
    /// `CNI_*` but `CNI_COMMAND` and `CNI_PATH`.
    pub(crate) env: &'a [(&'static str, String)],
    /// The configuration, as JSON.
    pub(crate) stdin: &'a [u8],
    /// The file to be the standard input; `None`: one without a name.
    pub(crate) file: Option<&'a File>,
}

/// Runs a plugin found in the first of `dirs` that has it. Gives its standard output.
pub(crate) fn run(dirs: &[PathBuf], call: &Call<'_>, limit: Duration) -> Result<Vec<u8>, PluginError> {
    let program = find(dirs, call.name)?;
    let failed = |source| PluginError::Io { program: program.clone(), source };
    let path = std::env::join_paths(dirs).map_err(|e| failed(io::Error::other(e)))?;
    let mut command = Command::new(&program);
    command.env("CNI_COMMAND", call.command).env("CNI_PATH", path);
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_NETNS_OVERRIDE"] {
        command.env_remove(name);
    }
    command.envs(call.env.iter().map(|(k, v)| (k, v)));
    command
        .stdin(stdin(call).map_err(failed)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = spawn(&mut command).map_err(failed)?;
    let talk = talk(&mut child, Instant::now() + limit);
    if !matches!(talk, Ok(Some(_))) {
        // the group, for a plugin may have started programs of its own
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait().map_err(failed)?;
    let Some((stdout, stderr)) = talk.map_err(failed)? else {
        return Err(PluginError::Timeout { program, command: call.command, limit });
    };
    if status.success() {
        return Ok(stdout);
    }
    let name = call.name.to_owned();
    if let Ok(source) = serde_json::from_slice::<CniError>(&stdout) {
        return Err(PluginError::Refused { name, command: call.command, source });
    }
    let output = [stdout, stderr].map(|o| String::from_utf8_lossy(&o).trim().to_owned());
    let output = output.into_iter().filter(|o| !o.is_empty()).collect::<Vec<_>>().join("; ");
    let status = status.to_string();
    Err(PluginError::Failed { name, command: call.command, status, output })
}

/// Runs a plugin for another plugin, as `ipam` is run by those that make interfaces. Gives its standard output.
pub fn delegate(
    dirs: &[PathBuf],
    name: &str,
    command: &'static str,
    env: &[(&'static str, String)],
    stdin: &[u8],
    limit: Duration,
) -> Result<Vec<u8>, PluginError> {
    run(dirs, &Call { name, command, env, stdin, file: None }, limit)
}

pub(crate) fn find(dirs: &[PathBuf], name: &str) -> Result<PathBuf, PluginError> {
    let is_there = |program: &PathBuf| rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok();
    let plain = !name.is_empty() && Path::new(name).file_name().is_some_and(|f| f == name);
    let found =
        plain.then(|| dirs.iter().map(|d| d.join(name)).find(|p| p.is_file() && is_there(p))).flatten();
    found.ok_or_else(|| PluginError::Missing { name: name.to_owned(), dirs: dirs.to_vec() })
}

/// A program that is just being replaced (an upgrade) is busy for a moment.
fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..5 {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(200));
            }
            other => return other,
        }
    }
    command.spawn()
}

/// A file that reads as the configuration.
fn stdin(call: &Call<'_>) -> io::Result<Stdio> {
    let mut file = match call.file {
        Some(file) => file.try_clone()?,
        None => rustix::fs::memfd_create("cni", rustix::fs::MemfdFlags::CLOEXEC)?.into(),
    };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(call.stdin)?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads both the plugin's outputs until it ends. `None`: the deadline came first.
fn talk(child: &mut Child, deadline: Instant) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    for fd in [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    let exit = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        let mut fds = vec![PollFd::new(&exit, PollFlags::IN)];
        fds.extend(out.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(err.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let time = deadline.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&Timespec::try_from(time).map_err(io::Error::other)?)) {
            Ok(0) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let ended = !fds[0].revents().is_empty();
        drain(&mut out, &mut stdout)?;
        drain(&mut err, &mut stderr)?;
        // what a dead plugin's own children still hold open is not waited for
        if ended {
            return Ok(Some((stdout, stderr)));
        }
    }
}

/// Reads what is there, and closes the pipe at its end.
fn drain(pipe: &mut Option<impl Read>, into: &mut Vec<u8>) -> io::Result<()> {
    let mut block = [0; 4096];
    while let Some(from) = pipe {
        match from.read(&mut block) {
            Ok(0) => *pipe = None,
            Ok(n) if into.len() + n > OUTPUT_BYTES_MAX => {
                return Err(io::Error::other(format!("it printed more than {OUTPUT_BYTES_MAX} bytes")));
            }
            Ok(n) => into.extend_from_slice(&block[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
