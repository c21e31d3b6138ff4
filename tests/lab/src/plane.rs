//! A built `cleat control` on a machine that is no node: its state, and ways to hurt it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::debian::output;
use crate::{Machine, Process, wait};

/// How large a disk of its own is, in MiB.
const DISK: u64 = 192;

/// A control plane alone.
pub struct Plane {
    process: Option<Process>,
    arguments: Vec<String>,
    programs: PathBuf,
    folder: PathBuf,
}

impl Plane {
    /// A control plane on a machine, not started yet; `arguments` are for `cleat control`.
    #[must_use]
    pub fn on(machine: &Machine, programs: PathBuf, arguments: &[&str]) -> Plane {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Plane { process: None, arguments, programs, folder: machine.folder().to_path_buf() }
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What it has printed and logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("cleat.log")).unwrap_or_default()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Starts it, and does not wait.
    pub(crate) fn start(&mut self, machine: &Machine) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("cleat.log"))?;
        let mut command = machine.command(self.programs.join("cleat"));
        command.args(["--log", "info", "control", "--data-dir"]).arg(self.data());
        command.args(&self.arguments).stdout(log.try_clone()?).stderr(log);
        self.process = Some(machine.spawn(command)?);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the control plane is not started")?;
        process.signal(Signal::KILL)?;
        process.wait(10).map(drop)
    }

    /// Gives its data directory a disk of its own. It is gone with the machine.
    pub(crate) fn use_disk(&self, machine: &Machine) -> Result<()> {
        let image = self.folder.join("disk");
        fs::File::create(&image)?.set_len(DISK << 20)?;
        fs::create_dir_all(self.data())?;
        output(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        let mut mount = machine.command("mount");
        output(mount.args(["-o", "loop"]).arg(&image).arg(self.data())).map(drop)
    }
}

/// A disk that takes no writes.
pub struct Frozen {
    machine: u32,
    disk: PathBuf,
}

impl Frozen {
    /// Freezes what is mounted at `disk` in a machine, until the value is dropped.
    pub(crate) fn new(machine: &Machine, disk: &Path) -> Result<Frozen> {
        let frozen = Frozen { machine: machine.init(), disk: disk.to_path_buf() };
        frozen.fsfreeze("--freeze")?;
        Ok(frozen)
    }

    /// From outside: whoever runs in the machine may hang on the disk.
    fn fsfreeze(&self, verb: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.machine.to_string(), "--mount", "fsfreeze", verb]).arg(&self.disk);
        output(&mut command).map(drop)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // A frozen disk outlives its machine.
        if let Err(error) = wait::until("the disk to thaw", 10, || {
            Ok(self.fsfreeze("--unfreeze").map_err(|error| format!("{error:#}")))
        }) {
            eprintln!("{}: {error:#}", self.disk.display());
        }
    }
}
