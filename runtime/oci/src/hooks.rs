//! Runs hooks: programs of the configuration that get the container's state on standard input.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oci_spec::runtime::{Hook, State};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::{During, RuntimeError};

/// Runs hooks in order; the first that fails ends it. Each is given `state`.
pub(crate) fn run(kind: &str, hooks: Option<&Vec<Hook>>, state: &State) -> Result<(), RuntimeError> {
    let hooks = hooks.map(Vec::as_slice).unwrap_or_default();
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).during(|| "state as JSON")?;
    for (index, hook) in hooks.iter().enumerate() {
        one(hook, &state)
            .map_err(|error| error.of(format!("hooks.{kind}[{index}] {}", hook.path().display())))?;
    }
    Ok(())
}

/// Runs hooks whose failure changes nothing: each failure is said on standard error.
pub(crate) fn run_all(kind: &str, hooks: Option<&Vec<Hook>>, state: &State) {
    for hook in hooks.into_iter().flatten() {
        if let Err(error) = run(kind, Some(&vec![hook.clone()]), state) {
            let _ = writeln!(std::io::stderr(), "warning: {error}");
        }
    }
}

fn one(hook: &Hook, state: &[u8]) -> Result<(), RuntimeError> {
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(arguments);
    }
    command.env_clear();
    let environment = hook.env().iter().flatten().filter_map(|one| one.split_once('='));
    command.envs(environment);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().during(|| "start")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read it.
        let _ = stdin.write_all(state);
    }
    let ended =
        match hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0) {
            Some(seconds) => ends_within(&child, Duration::from_secs(seconds))?,
            None => true,
        };
    if !ended {
        child.kill().during(|| "kill")?;
        child.wait().during(|| "wait")?;
        return Err(RuntimeError::kernel("did not end within its timeout"));
    }
    let output = child.wait_with_output().during(|| "wait")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(RuntimeError::kernel(format!("{}: {}", output.status, said.trim())))
}

fn ends_within(child: &Child, time: Duration) -> Result<bool, RuntimeError> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| RuntimeError::kernel("process id out of range"))?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).during(|| "pidfd")?;
    let time = Timespec::try_from(time).during(|| "timeout")?;
    let ready =
        rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&time)).during(|| "poll")?;
    Ok(ready > 0)
}
