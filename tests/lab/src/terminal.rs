//! A person's terminal: programs run on it, what they print is read, keys are pressed, the window changes its size.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait;

/// How long something on the screen is waited for.
const PATIENCE_SECONDS: u64 = 90;

/// A program on a terminal of its own; both end with the value.
pub struct Terminal {
    child: Child,
    master: File,
    /// All that was ever printed.
    screen: Arc<Mutex<String>>,
    /// How much of that was looked for and found.
    read: usize,
}

impl Terminal {
    /// Runs a command on a new terminal of `rows` and `columns`, as its session's leader.
    ///
    /// # Errors
    /// There is no terminal, or no such program.
    pub fn run(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        resize(&master, rows, columns)?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        let slave = File::options().read(true).write(true).open(name)?;
        let side = || slave.try_clone().map(Stdio::from);
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        session.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        if let Some(folder) = command.get_current_dir() {
            session.current_dir(folder);
        }
        session.env("TERM", "xterm").stdin(side()?).stdout(side()?).stderr(side()?);
        let child = session.spawn().context("cannot start setsid")?;
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, printed) = (File::from(master.try_clone()?), screen.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The last of those who have the other side gives an error.
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                printed.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Ok(Self { child, master: File::from(master), screen, read: 0 })
    }

    /// Presses keys.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes()).context("the terminal")
    }

    /// Gives the window another size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        resize(&self.master, rows, columns)
    }

    /// Waits until `text` stands behind what was found last.
    ///
    /// # Errors
    /// It does not come; with all that was printed.
    pub fn sees(&mut self, text: &str) -> Result<()> {
        let from = self.read;
        let screen = self.screen.clone();
        let found = wait::until(&format!("{text:?} on the screen"), PATIENCE_SECONDS, || {
            let all = screen.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(all[from..].find(text).ok_or_else(|| all.clone()))
        })?;
        self.read = from + found + text.len();
        Ok(())
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// It does not end; with all that was printed.
    pub fn ends(&mut self) -> Result<ExitStatus> {
        let (child, screen) = (&mut self.child, &self.screen);
        wait::until("the program on the terminal to end", PATIENCE_SECONDS, || {
            let printed = || screen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Ok(child.try_wait()?.ok_or_else(printed))
        })
    }

    /// Waits for the program's end, with success.
    ///
    /// # Errors
    /// It does not end, or fails.
    pub fn succeeds(&mut self) -> Result<()> {
        let status = self.ends()?;
        if !status.success() {
            bail!("{status}: {}", self.screen.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(master: &impl std::os::fd::AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).context("the size of the terminal")
}
