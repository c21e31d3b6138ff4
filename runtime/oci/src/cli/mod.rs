//! runc's command line, so that containerd, CRI-O, podman and conmon can drive this runtime.

mod arguments;
mod console;
mod container;
mod log;
mod sealed;
mod show;
mod signal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arguments::{Command, Flag, Given, switch, valued};

use crate::error::{ErrorKind, RuntimeError};

const GLOBAL: &[Flag] = &[
    valued(&["root"]),
    valued(&["log"]),
    valued(&["log-format"]),
    valued(&["rootless"]),
    valued(&["criu"]),
    switch(&["debug"]),
    switch(&["systemd-cgroup"]),
    switch(&["help", "h"]),
    switch(&["version", "v"]),
];

const HELP: Flag = switch(&["help", "h"]);
const CREATE: [Flag; 7] = [
    valued(&["bundle", "b"]),
    valued(&["console-socket"]),
    valued(&["pid-file"]),
    switch(&["no-pivot"]),
    switch(&["no-new-keyring"]),
    valued(&["preserve-fds"]),
    HELP,
];

const RUN: [Flag; 10] = {
    let [bundle, console, pid_file, no_pivot, no_keyring, preserve, help] = CREATE;
    let (detach, keep, subreaper) = (switch(&["detach", "d"]), switch(&["keep"]), switch(&["no-subreaper"]));
    [bundle, console, pid_file, no_pivot, no_keyring, preserve, help, detach, keep, subreaper]
};

const COMMANDS: [Command; 14] = [
    command("create", "make a container; it waits to be started", "ID", &CREATE),
    command("start", "start the program of a created container", "ID", &[HELP]),
    command("run", "make and start a container", "ID", &RUN),
    Command {
        name: "exec",
        about: "run a further process in a container",
        operands: "ID PROGRAM [ARGUMENT...]",
        options: &[
            valued(&["process", "p"]),
            valued(&["console-socket"]),
            valued(&["pid-file"]),
            valued(&["cwd"]),
            valued(&["env", "e"]),
            valued(&["user", "u"]),
            valued(&["additional-gids", "g"]),
            valued(&["cap", "c"]),
            valued(&["preserve-fds"]),
            valued(&["apparmor"]),
            valued(&["process-label"]),
            switch(&["tty", "t"]),
            switch(&["detach", "d"]),
            switch(&["no-new-privs"]),
            HELP,
        ],
        own_operands: 1,
    },
    command("state", "print a container's state", "ID", &[HELP]),
    command("kill", "send a signal (TERM by default)", "ID [SIGNAL]", &[switch(&["all", "a"]), HELP]),
    command("delete", "remove a container that has ended", "ID", &[switch(&["force", "f"]), HELP]),
    command("list", "list the containers", "", &[valued(&["format", "f"]), switch(&["quiet", "q"]), HELP]),
    command("ps", "list a container's processes", "ID", &[valued(&["format", "f"]), HELP]),
    command("pause", "stop all processes of a container", "ID", &[HELP]),
    command("resume", "let them go on", "ID", &[HELP]),
    command("update", "change a container's limits", "ID", container::UPDATE),
    command("features", "print what this runtime does", "", &[HELP]),
    command("spec", "write an example config.json", "", &[valued(&["bundle", "b"]), HELP]),
];

const fn command(
    name: &'static str,
    about: &'static str,
    operands: &'static str,
    options: &'static [Flag],
) -> Command {
    Command { name, about, operands, options, own_operands: usize::MAX }
}

/// What the options before the command say.
#[derive(Debug)]
struct Global {
    root: PathBuf,
}

/// Runs a command line (without the program's name); what goes wrong is written to standard error and the log.
pub fn main(arguments: Vec<String>) -> ExitCode {
    let mut log = log::Log::default();
    match run(&arguments, &mut log) {
        Ok(code) => code,
        Err(error) => {
            log.error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String], log: &mut log::Log) -> Result<ExitCode, RuntimeError> {
    let (global, rest) = Given::read(arguments, GLOBAL, 0)?;
    *log = log::Log::open(global.value("log"), global.value("log-format"))?;
    if global.on("version") {
        show::version();
        return Ok(ExitCode::SUCCESS);
    }
    let (Some((name, rest)), false) = (rest.split_first(), global.on("help")) else {
        show::help(&COMMANDS);
        return Ok(if global.on("help") { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    };
    if name == "help" {
        show::help(&COMMANDS);
        return Ok(ExitCode::SUCCESS);
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(RuntimeError::new(
            ErrorKind::InvalidSpec,
            format!("unknown command {name:?}; see --help"),
        ));
    };
    if global.on("systemd-cgroup") {
        let text = "--systemd-cgroup: the systemd cgroup driver is not supported; use cgroupfs";
        return Err(RuntimeError::new(ErrorKind::InvalidSpec, text));
    }
    let (given, program) = Given::read(rest, command.options, command.own_operands)?;
    if given.on("help") {
        show::usage(command);
        return Ok(ExitCode::SUCCESS);
    }
    let root = PathBuf::from(global.value("root").unwrap_or("/run/cleat/oci"));
    dispatch(command.name, &Global { root }, &given, &program)
}

fn dispatch(
    name: &str,
    global: &Global,
    given: &Given,
    program: &[String],
) -> Result<ExitCode, RuntimeError> {
    let root: &Path = &global.root;
    match name {
        "create" => return container::create(root, given, false),
        "run" => return container::create(root, given, true),
        "exec" => return container::exec(root, given, program),
        "start" => crate::start(root, given.id()?)?,
        "kill" => {
            let signal = signal::number(given.operands.get(1).map_or("TERM", String::as_str))?;
            crate::kill(root, given.id()?, signal, given.on("all"))?;
        }
        "delete" => crate::delete(root, given.id()?, given.on("force"))?,
        "pause" => crate::operate::pause(root, given.id()?, true)?,
        "resume" => crate::operate::pause(root, given.id()?, false)?,
        "update" => container::update(root, given)?,
        "state" => show::state(root, given.id()?)?,
        "list" => show::list(root, given)?,
        "ps" => show::processes(root, given)?,
        "features" => show::json(&crate::features())?,
        "spec" => show::example(Path::new(given.value("bundle").unwrap_or(".")))?,
        other => return Err(RuntimeError::new(ErrorKind::InvalidSpec, format!("unknown command {other:?}"))),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
