//! A container's streams: from its pipes or terminal into its log and to the clients attached to it, and from one
//! of them into its stdin. Nothing here blocks: the container waits for nobody but its log.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use proto_node::monitor::Create;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::attach::Attached;
use crate::log::{Line, LogFile, Stream, timestamp};
use crate::pod::Conn;
use crate::worker::Stdio;

/// What is read at once.
const CHUNK: usize = 16 * 1024;
/// What is read from one stream before the others have their turn.
const TURN: usize = 8 * CHUNK;
/// What is read at most after the container's end: all that a pipe can hold.
const DRAIN: usize = 1024 * 1024;

/// The monitor's ends of one container's streams.
#[derive(Debug)]
pub(crate) struct Streams {
    terminal: Option<OwnedFd>,
    /// stdout, stderr.
    outputs: [Option<OwnedFd>; 2],
    stdin: Option<OwnedFd>,
    lines: [Line; 2],
    log: Option<LogFile>,
    attached: Vec<Attached>,
    /// Read from a client, not yet taken by the container.
    pending: Vec<u8>,
    takes_stdin: bool,
    stdin_once: bool,
    /// Its stdin ends when the pending input is written.
    closing: bool,
    /// Where the kernel counts the container's OOM kills.
    pub(crate) oom_file: Option<std::path::PathBuf>,
}

impl Streams {
    /// The streams of a container to be made: ours, and those for its process.
    ///
    /// # Errors
    /// When its log cannot be opened, with the path.
    pub(crate) fn open(create: &Create) -> Result<(Self, Stdio), String> {
        let log = create.log_path.as_deref().map(LogFile::open).transpose().map_err(|error| {
            format!("log {}: {error}", create.log_path.as_deref().unwrap_or("".as_ref()).display())
        })?;
        let mut streams = Self {
            terminal: None,
            outputs: [None, None],
            stdin: None,
            lines: [Line::default(), Line::default()],
            log,
            attached: Vec::new(),
            pending: Vec::new(),
            takes_stdin: create.stdin,
            stdin_once: create.stdin_once,
            closing: false,
            oom_file: None,
        };
        if create.terminal {
            return Ok((streams, Stdio::Terminal));
        }
        streams.pipes().map(|stdio| (streams, stdio)).map_err(|error| format!("pipes: {error}"))
    }

    fn pipes(&mut self) -> io::Result<Stdio> {
        let stdin = if self.takes_stdin {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            ioctl_fionbio(&ours, true)?;
            self.stdin = Some(ours);
            theirs
        } else {
            std::fs::File::open("/dev/null")?.into()
        };
        let output = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            ioctl_fionbio(&ours, true)?;
            Ok((ours, theirs))
        };
        let ((stdout, stdout_theirs), (stderr, stderr_theirs)) = (output()?, output()?);
        self.outputs = [Some(stdout), Some(stderr)];
        Ok(Stdio::Fds([stdin, stdout_theirs, stderr_theirs]))
    }

    /// Takes over the master of the container's terminal.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd) {
        // A master that cannot be made non-blocking would hold up the pod; there is no such terminal.
        if ioctl_fionbio(&master, true).is_ok() {
            self.terminal = Some(master);
        }
    }

    /// The master of its terminal.
    pub(crate) fn terminal(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref()
    }

    /// What the container may have written to.
    pub(crate) fn output(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match stream {
            Stream::Stdout => self.terminal.as_ref().or(self.outputs[0].as_ref()),
            Stream::Stderr => self.outputs[1].as_ref(),
        }
        .map(AsFd::as_fd)
    }

    /// The container's stdin, when something waits to be written to it.
    pub(crate) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.sink().filter(|_| !self.pending.is_empty())
    }

    /// The clients whose stdin is wanted now.
    pub(crate) fn client_inputs(&self) -> impl Iterator<Item = (Conn, BorrowedFd<'_>)> {
        let wanted = self.pending.is_empty() && self.sink().is_some();
        self.attached.iter().filter(move |_| wanted).filter_map(|client| Some((client.conn, client.stdin()?)))
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        let sink = if self.takes_stdin { self.terminal.as_ref().or(self.stdin.as_ref()) } else { None };
        sink.map(AsFd::as_fd)
    }

    /// Moves what the container has written, up to a fair share. Answers what the operator should know.
    pub(crate) fn pump(&mut self, stream: Stream, now: i64) -> Option<String> {
        self.copy(stream, now, TURN)
    }

    /// Moves what a container that has ended left in its pipes, and ends its last lines.
    pub(crate) fn drain(&mut self, now: i64) -> Option<String> {
        let note = self.copy(Stream::Stdout, now, DRAIN);
        let note = self.copy(Stream::Stderr, now, DRAIN).or(note);
        self.flush(now).or(note)
    }

    /// Ends the lines that are not finished.
    pub(crate) fn flush(&mut self, now: i64) -> Option<String> {
        let (time, mut entries) = (timestamp(now), Vec::new());
        self.lines[0].flush(Stream::Stdout, &time, &mut entries);
        self.lines[1].flush(Stream::Stderr, &time, &mut entries);
        self.log.as_mut().filter(|_| !entries.is_empty())?.write(&entries)
    }

    fn copy(&mut self, stream: Stream, now: i64, most: usize) -> Option<String> {
        let (mut chunk, mut entries, mut moved, mut note) = ([0; CHUNK], Vec::new(), 0, None);
        let time = timestamp(now);
        while moved < most {
            let Some(output) = self.output(stream) else { break };
            let length = match rustix::io::read(output, &mut chunk) {
                Ok(length) if length > 0 => length,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                // A terminal whose last user is gone says EIO.
                Ok(_) | Err(_) => {
                    self.close_output(stream);
                    break;
                }
            };
            moved += length;
            let bytes = &chunk[..length];
            self.attached.iter_mut().for_each(|client| client.give(stream, bytes));
            if let Some(log) = &mut self.log {
                self.lines[stream as usize].push(stream, &time, bytes, &mut entries);
                if !entries.is_empty() {
                    note = log.write(&entries).or(note);
                    entries.clear();
                }
            }
        }
        note
    }

    fn close_output(&mut self, stream: Stream) {
        if stream == Stream::Stdout {
            self.terminal = None;
        }
        self.outputs[stream as usize] = None;
        self.attached.iter_mut().for_each(|client| client.end(stream));
    }

    /// Takes in a client.
    pub(crate) fn attach(&mut self, client: Attached) {
        self.attached.push(client);
    }

    /// A client is gone. With `stdin_once` the container's stdin ends with the first that gave it.
    pub(crate) fn detach(&mut self, conn: Conn) {
        let Some(at) = self.attached.iter().position(|client| client.conn == conn) else { return };
        if self.attached.remove(at).gave_stdin {
            self.input_ended();
        }
    }

    /// Reads from a client's stdin what the container takes next.
    pub(crate) fn read_client(&mut self, conn: Conn) {
        let Some(client) = self.attached.iter_mut().find(|client| client.conn == conn) else { return };
        let Some(stdin) = client.stdin() else { return };
        let mut chunk = [0; CHUNK / 4];
        match rustix::io::read(stdin, &mut chunk) {
            Ok(length) if length > 0 => {
                self.pending.extend_from_slice(&chunk[..length]);
                self.write_input();
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => {
                client.end_stdin();
                self.input_ended();
            }
        }
    }

    /// Gives the container what it will take of its pending input.
    pub(crate) fn write_input(&mut self) {
        let Some(sink) = self.sink() else { return };
        match rustix::io::write(sink, &self.pending) {
            Ok(written) if written == self.pending.len() => self.pending = Vec::new(),
            Ok(written) => drop(self.pending.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The container has closed its stdin: nobody's input is wanted any more.
            Err(_) => {
                self.pending = Vec::new();
                self.stdin = None;
                self.takes_stdin = false;
            }
        }
        self.close_input();
    }

    /// The end of a client's stdin is passed on only where stdin is given once. A terminal has no end to pass on.
    fn input_ended(&mut self) {
        self.closing |= self.stdin_once;
        self.close_input();
    }

    fn close_input(&mut self) {
        if self.closing && self.pending.is_empty() {
            self.stdin = None;
        }
    }

    /// Opens the log again.
    pub(crate) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), LogFile::reopen)
    }
}
