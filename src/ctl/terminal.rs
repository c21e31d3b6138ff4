//! The user's terminal while a command has it.

use std::os::fd::BorrowedFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use stream::TerminalSize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// The terminal in raw mode; as it was again when dropped.
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    pub(super) fn enter(terminal: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The terminal's size now and after each change.
pub(super) fn sizes() -> std::io::Result<mpsc::Receiver<TerminalSize>> {
    let mut changes = signal(SignalKind::window_change())?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok(size) = tcgetwinsize(std::io::stdin()) {
            let size = TerminalSize { width: size.ws_col, height: size.ws_row };
            if sender.send(size).await.is_err() || changes.recv().await.is_none() {
                return;
            }
        }
    });
    Ok(receiver)
}
