//! The one loop: waits for what happens, tells the pod's state machine, and does what that answers.
//!
//! What to wait for is computed from the state before each wait (`poll(2)` over some tens of descriptors): there is
//! no registration that could outlive what it was made for.

mod effects;
mod ready;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use linux::packet;
use linux::signalfd::ChildSignal;
use proto_node::monitor::{ErrorKind, MESSAGE_BYTES_MAX, Request, Response};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::dial::Dialing;
use crate::log::Stream;
use crate::pod::{Conn, Event, Failure, Job, Now, Pod, Report};
use crate::start::raw;
use crate::stdio::Streams;
use crate::worker::Worker;

/// How long nobody is accepted after the kernel had no descriptor or memory for a connection.
const DEAF: Duration = Duration::from_millis(100);
/// Connections at a time; more wait to be accepted. With what may ride along this stays below 1024 descriptors.
const CONNECTIONS_MAX: usize = 200;

/// All that the monitor holds.
#[derive(Debug)]
pub(crate) struct EventLoop {
    oci_root: PathBuf,
    _lock: OwnedFd,
    listener: OwnedFd,
    child_signal: ChildSignal,
    pause: Option<Pid>,
    pod: Pod,
    happened: VecDeque<(Event, Option<OwnedFd>)>,
    clients: BTreeMap<Conn, Client>,
    clients_seen: Conn,
    deaf_until: Option<Duration>,
    streams: BTreeMap<String, Streams>,
    workers: BTreeMap<Job, Worker>,
    dialing: BTreeMap<Conn, Dialing>,
    quit: bool,
}

/// A connection, with one request in its life.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    asked: bool,
    descriptors: Vec<OwnedFd>,
    /// The container it is attached to.
    attached: Option<String>,
}

/// Who is ready.
#[derive(Debug)]
enum Source {
    Listener,
    Children,
    Client(Conn),
    Output(String, Stream),
    Input(String),
    ClientInput(String, Conn),
    Dialing(Conn),
}

impl EventLoop {
    pub(crate) fn new(
        oci_root: PathBuf,
        lock: OwnedFd,
        listener: OwnedFd,
        child_signal: ChildSignal,
        pause: Option<Pid>,
    ) -> Self {
        Self {
            oci_root,
            _lock: lock,
            listener,
            child_signal,
            pause,
            pod: Pod::default(),
            happened: VecDeque::new(),
            clients: BTreeMap::new(),
            clients_seen: 0,
            deaf_until: None,
            streams: BTreeMap::new(),
            workers: BTreeMap::new(),
            dialing: BTreeMap::new(),
            quit: false,
        }
    }

    /// Until [`Request::Shutdown`].
    pub(crate) fn run(mut self) {
        while !self.quit {
            match self.ready() {
                Ok(sources) => sources.into_iter().for_each(|source| self.take(source)),
                // The kernel is short of memory for a moment; so is everybody else.
                Err(error) => note(&format!("poll: {error}")),
            }
            self.deaf_until = self.deaf_until.filter(|until| *until > now().uptime);
            if self.pod.wake_at().is_some_and(|at| at <= now().uptime) {
                self.happened.push_back((Event::Tick, None));
            }
            self.settle();
        }
        if let Some(pause) = self.pause {
            let _ = kill_process(pause, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pause), WaitOptions::empty());
        }
    }

    /// Feeds all that has happened to the state machine, and what follows from it.
    fn settle(&mut self) {
        while let Some((event, terminal)) = self.happened.pop_front() {
            let mut terminal = terminal;
            if let Event::JobDone { job, result: Ok(report) } = &event {
                self.made(*job, report, &mut terminal);
            }
            for effect in self.pod.step(now(), event) {
                self.carry_out(effect, &mut terminal);
            }
        }
    }

    fn take(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept(),
            Source::Children => self.reap(),
            Source::Client(conn) => self.receive(conn),
            Source::Output(container, stream) => {
                let noted =
                    self.streams.get_mut(&container).and_then(|streams| streams.pump(stream, now().wall));
                noted.into_iter().for_each(|text| note(&text));
            }
            Source::Input(container) => {
                self.streams.get_mut(&container).into_iter().for_each(Streams::write_input);
            }
            Source::ClientInput(container, conn) => {
                self.streams.get_mut(&container).into_iter().for_each(|streams| streams.read_client(conn));
            }
            Source::Dialing(conn) => {
                if let Some(dialing) = self.dialing.remove(&conn) {
                    self.dialed(conn, dialing.proceed());
                }
            }
        }
    }

    fn accept(&mut self) {
        while self.clients.len() < CONNECTIONS_MAX {
            let socket = match packet::accept(&self.listener) {
                Ok(socket) => socket,
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        note(&format!("accept: {error}"));
                        self.deaf_until = Some(now().uptime + DEAF);
                    }
                    return;
                }
            };
            self.clients_seen += 1;
            let client = Client { socket, asked: false, descriptors: Vec::new(), attached: None };
            self.clients.insert(self.clients_seen, client);
            // Its request is most often there already.
            self.receive(self.clients_seen);
        }
    }

    fn receive(&mut self, conn: Conn) {
        let Some(client) = self.clients.get_mut(&conn) else { return };
        let (request, descriptors) = match packet::receive(&client.socket, MESSAGE_BYTES_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Ok((request, descriptors)) if !request.is_empty() && !client.asked => (request, descriptors),
            // Gone, or talking out of turn.
            Ok(_) | Err(_) => {
                self.close(conn);
                self.happened.push_back((Event::HungUp { conn }, None));
                return;
            }
        };
        client.asked = true;
        match serde_json::from_slice::<Request>(&request) {
            Ok(request) => {
                let count = descriptors.len();
                client.descriptors = descriptors;
                self.happened.push_back((Event::Asked { conn, request, descriptors: count }, None));
            }
            Err(error) => {
                let failure = Failure::new(ErrorKind::InvalidArgument, format!("request: {error}"));
                self.last_reply(conn, &failure.into());
            }
        }
    }

    /// Every child that has ended: workers, containers, exec sessions, and the orphans of runtimes and sessions.
    fn reap(&mut self) {
        self.child_signal.clear();
        loop {
            let (pid, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Err(Errno::INTR) => continue,
                Ok(None) | Err(_) => return,
            };
            if let Some(job) = self.workers.iter().find(|(_, worker)| worker.pid == pid).map(|(job, _)| *job)
            {
                let Some(worker) = self.workers.remove(&job) else { continue };
                let (result, terminal) = worker.outcome();
                self.happened.push_back((Event::JobDone { job, result }, terminal));
            } else if self.pause == Some(pid) {
                note("the pause process has died, and with it the containers of its PID namespace");
                self.pause = None;
            } else {
                let event = Event::Ended { pid: raw(pid), exit_code: exit_code(status) };
                self.happened.push_back((event, None));
            }
        }
    }

    /// A runtime has made a process; its terminal goes to the container's streams, or along with the reply.
    fn made(&mut self, job: Job, report: &Report, terminal: &mut Option<OwnedFd>) {
        let Report::Created { oom_file, .. } = report else { return };
        let Some(streams) = self.pod.container_of(job).and_then(|id| self.streams.get_mut(id)) else {
            return;
        };
        streams.oom_file.clone_from(oom_file);
        if let Some(master) = terminal.take() {
            streams.set_terminal(master);
        }
    }

    fn last_reply(&mut self, conn: Conn, response: &Response) {
        self.reply(conn, response, None);
        self.close(conn);
    }

    fn reply(&mut self, conn: Conn, response: &Response, descriptor: Option<&OwnedFd>) {
        let Some(client) = self.clients.get(&conn) else { return };
        let descriptors: Vec<_> = descriptor.into_iter().map(std::os::fd::AsFd::as_fd).collect();
        let sent = match serde_json::to_vec(response) {
            Ok(message) => packet::send(&client.socket, &message, &descriptors).is_ok(),
            Err(_) => false,
        };
        // Gone, or it does not read its events: it will ask for the status when it comes back.
        if !sent {
            self.close(conn);
            self.happened.push_back((Event::HungUp { conn }, None));
        }
    }

    fn close(&mut self, conn: Conn) {
        self.dialing.remove(&conn);
        let Some(client) = self.clients.remove(&conn) else { return };
        if let Some(streams) = client.attached.and_then(|container| self.streams.get_mut(&container)) {
            streams.detach(conn);
        }
    }
}

/// 128 + signal for a process that a signal ended.
fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// Both clocks.
fn now() -> Now {
    let read = |clock| {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
        (tv_sec, tv_nsec)
    };
    let (seconds, nanoseconds) = read(ClockId::Realtime);
    let (up_seconds, up_nanoseconds) = read(ClockId::Boottime);
    Now {
        wall: seconds * 1_000_000_000 + nanoseconds,
        uptime: Duration::new(up_seconds.unsigned_abs(), u32::try_from(up_nanoseconds).unwrap_or(0)),
    }
}

/// One line for the operator, on standard error, which the CRI server keeps in a file.
fn note(text: &str) {
    eprintln!("{text}");
}
