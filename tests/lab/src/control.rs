//! A built `cleat control` on a free port of the loopback, with its state in a folder of its own, and upstream's clients
//! pointed at it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{programs, pypi, wait};

/// How long it may take until it answers, under a loaded machine.
const READY_SECONDS_MAX: u64 = 60;

/// A control plane; killed, and its folder removed, on drop.
pub struct Control {
    folder: TempDir,
    arguments: Vec<String>,
    child: Child,
}

impl Control {
    /// Starts one with an empty store and waits until it is ready.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// [`Control::start`] with more arguments for `cleat control`.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, arguments)
    }

    /// [`Control::start_with`] on what a folder holds: the state is in its `data`.
    pub fn start_in(folder: TempDir, arguments: &[&str]) -> Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let child = spawn(folder.path(), &arguments)?;
        let mut control = Self { folder, arguments, child };
        control.wait_ready()?;
        Ok(control)
    }

    /// [`Control::start`] with its state on a file system of so many MiB, that ends with the process.
    ///
    /// # Errors
    /// Without root, which the mount needs.
    pub fn start_on_disk_of(mebibytes: u32) -> Result<Self> {
        if fs::metadata("/proc/self")?.uid() != 0 {
            bail!("a small disk is mounted for this test: run it as root");
        }
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$1\" && shift && exec \"$@\""));
        command.arg("sh").arg(data).arg(programs::debug()?.join("cleat"));
        let child = serve(command, folder.path(), &[])?;
        let mut control = Self { folder, arguments: Vec::new(), child };
        control.wait_ready()?;
        Ok(control)
    }

    /// The data directory of [`Control::start_on_disk_of`], seen from outside; gone when the process is.
    #[must_use]
    pub fn small_disk(&self) -> PathBuf {
        let path = self.folder.path().join("data");
        Path::new("/proc")
            .join(self.pid().to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(&path))
    }

    /// Kills it as a power cut would, and starts it again on the same state.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.child = spawn(self.folder.path(), &self.arguments)?;
        self.wait_ready()
    }

    /// Kills it at once.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its state, its log and what tests write lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs a command of `cleat` on its data directory and gives what it prints.
    ///
    /// # Errors
    /// When it fails; with what it says.
    pub fn cleat(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(programs::debug()?.join("cleat"));
        command.args(arguments).arg("--data-dir").arg(self.folder().join("data")).current_dir(self.folder());
        let output = feed(&mut command, "")?;
        if !output.status.success() {
            bail!("cleat {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A client of it: a program that reads `KUBECONFIG` and keeps its caches in the folder.
    #[must_use]
    pub fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        command.env("KUBECONFIG", self.kubeconfig()).current_dir(self.folder.path());
        command
    }

    /// Runs kubectl and gives what it prints.
    ///
    /// # Errors
    /// When it fails; with what it says.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// [`Control::kubectl`] with something on its standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.kubectl_output(arguments, input)?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs kubectl, whatever comes of it.
    pub fn kubectl_output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut kubectl = self.client(&pypi::kubectl()?);
        feed(kubectl.args(arguments), input)
    }

    /// What kubectl says when it fails.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn kubectl_refused(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.kubectl_output(arguments, input)?;
        if output.status.success() {
            bail!("kubectl {} succeeded: {}", arguments.join(" "), String::from_utf8_lossy(&output.stdout));
        }
        Ok(String::from_utf8(output.stderr)?.trim().to_owned())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let ready = wait::until("the control plane is ready", READY_SECONDS_MAX, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("cleat control ended with {status}");
            }
            if !self.kubeconfig().exists() {
                return Ok(Err("no kubeconfig".to_owned()));
            }
            Ok(self.kubectl(&["get", "--raw", "/readyz"]).map(drop).map_err(|error| format!("{error:#}")))
        });
        ready.with_context(|| format!("its log:\n{}", self.log()))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn spawn(folder: &Path, arguments: &[String]) -> Result<Child> {
    serve(Command::new(programs::debug()?.join("cleat")), folder, arguments)
}

/// Starts `command`, which takes the arguments of `cleat`.
fn serve(mut command: Command, folder: &Path, arguments: &[String]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    // Of the run before: its port may be another's by now.
    let kubeconfig = folder.join("admin.kubeconfig");
    if kubeconfig.exists() {
        fs::remove_file(&kubeconfig)?;
    }
    command.args(["control", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
    command.arg("--kubeconfig").arg(&kubeconfig).args(arguments);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cleat control")
}

/// Runs a command with a text on its standard input, and collects what it prints.
pub fn feed(command: &mut Command, input: &str) -> Result<Output> {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| name.clone())?;
    let mut stdin = child.stdin.take().context("made above")?;
    let writer = std::thread::spawn({
        let input = input.to_owned();
        // A program that does not read its input to the end is free to do so.
        move || drop(stdin.write_all(input.as_bytes()))
    });
    let output = child.wait_with_output().with_context(|| name)?;
    let _ = writer.join();
    Ok(output)
}
