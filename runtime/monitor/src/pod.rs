//! The life of a pod's containers and exec sessions, as a pure state machine: no descriptor, no clock, no system
//! call. The loop feeds it what happened and does what it answers.
//!
//! ```text
//!  creating ──report──> created ──Start──> running ──┐
//!     │                    └──────── process ends ───┴──> ending ──recorded──> exited ──Delete──> (gone)
//!     └─failure or abort──> sweeping ──> (gone, and the creator is told why)
//! ```
//!
//! A *job* is a worker process that drives the OCI runtime. It reports once, when it has been reaped; the process
//! it started is our child too, and may end before its job reports. Such an exit waits in `unclaimed`.

mod request;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use proto_node::monitor::{self as proto, ErrorKind, ExitRecord, Request, Response, Runtime};

/// A client's connection.
pub(crate) type Conn = u64;
/// A worker process. An exec session goes by the number of the job that starts it.
pub(crate) type Job = u64;

/// The two clocks, read once for each event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Nanoseconds since the epoch.
    pub(crate) wall: i64,
    /// Time since boot.
    pub(crate) uptime: Duration,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A client asks; so many descriptors ride along.
    Asked { conn: Conn, request: Request, descriptors: usize },
    /// A client is gone.
    HungUp { conn: Conn },
    /// A worker has been reaped, and this is what it had to say.
    JobDone { job: Job, result: Result<Report, Failure> },
    /// A process that is no worker has been reaped.
    Ended { pid: u32, exit_code: i32 },
    /// [`Effect::Finish`] has been carried out.
    Recorded { container: String, exit: ExitRecord },
    /// Time has passed.
    Tick,
}

/// What to do about it, in this order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Send a message; the terminal that this job handed over rides along.
    Reply { conn: Conn, response: Response, terminal_of: Option<Job> },
    /// Close a connection and what its client attached.
    Close { conn: Conn },
    /// Start a worker. The descriptors that came with `conn` are for it.
    Run { job: Job, target: Target, work: Work, conn: Option<Conn> },
    /// Kill a worker.
    Abort { job: Job },
    /// Signal a process that has not been reaped.
    Signal { pid: u32, signal: i32 },
    /// Drain a container's output, write its exit record, and feed back [`Event::Recorded`].
    Finish { target: Target, exit_code: i32, finished_at: i64 },
    /// Copy a container's streams from and to the descriptors of `conn`.
    Attach { conn: Conn, container: String },
    /// Set a terminal's size and answer.
    Resize { conn: Conn, container: String, width: u16, height: u16 },
    /// Open the log again and answer.
    ReopenLog { conn: Conn, container: String },
    /// Connect to the pod's loopback and answer.
    Dial { conn: Conn, port: u16 },
    /// Tell the operator.
    Note { message: String },
    /// Let go of a container's streams and log.
    Forget { container: String },
    /// End the pause process and this one.
    Quit,
}

/// A container, as its runtime wants it named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) runtime: Runtime,
}

/// What a worker is to do with its target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    Create(Box<proto::Create>),
    Start,
    /// Signal every process of the container.
    Kill {
        signal: i32,
    },
    Delete,
    Update {
        resources: serde_json::Value,
    },
    Exec {
        process: serde_json::Value,
    },
    /// Kill an exec session's process and all that it started.
    KillSession {
        pid: u32,
    },
}

/// What a worker achieved.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Report {
    Done,
    Created {
        pid: u32,
        /// It has no PID namespace of its own, so what it leaves behind outlives it.
        shares_pid: bool,
        /// Where the kernel counts its OOM kills.
        oom_file: Option<PathBuf>,
    },
    ExecStarted {
        pid: u32,
    },
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<Failure> for Response {
    fn from(failure: Failure) -> Self {
        Self::Error { kind: failure.kind, message: failure.message }
    }
}

/// All containers and sessions of one pod.
#[derive(Debug, Default)]
pub(crate) struct Pod {
    containers: BTreeMap<String, Container>,
    sessions: BTreeMap<Job, Session>,
    jobs: BTreeMap<Job, Pending>,
    jobs_begun: Job,
    /// Exit codes of processes that a running create or exec job may yet claim.
    unclaimed: BTreeMap<u32, i32>,
    watchers: BTreeSet<Conn>,
}

#[derive(Debug)]
struct Container {
    target: Target,
    terminal: bool,
    phase: Phase,
    /// A start, update or delete is under way.
    busy: bool,
    /// Told when it has ended: waiting and attached clients.
    awaiting: Vec<Conn>,
    /// Ask for its deletion once nothing else is under way.
    deleting: Vec<Conn>,
}

#[derive(Debug)]
enum Phase {
    Creating {
        job: Job,
        aborted: bool,
    },
    /// Creation failed; what it left is being removed.
    Sweeping {
        failure: Failure,
    },
    Created {
        pid: u32,
        shares_pid: bool,
    },
    Running {
        pid: u32,
        shares_pid: bool,
        started_at: i64,
    },
    /// The process has ended; its record is not yet on disk.
    Ending,
    Exited(ExitRecord),
}

#[derive(Debug)]
struct Session {
    container: String,
    conn: Option<Conn>,
    pid: Option<u32>,
    deadline: Option<Duration>,
    expired: bool,
}

#[derive(Debug)]
struct Pending {
    container: String,
    kind: Kind,
    /// Those who asked for it and are still there.
    conns: Vec<Conn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    Sweep,
    Start,
    Kill,
    Update,
    Delete,
    Exec,
    KillSession { session: Job },
}

impl Pod {
    /// Takes in an event and says what to do.
    pub(crate) fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Asked { conn, request, descriptors } => {
                if let Err(failure) = self.asked(now, conn, request, descriptors, &mut effects) {
                    answer(&mut effects, conn, failure);
                }
            }
            Event::HungUp { conn } => self.hung_up(conn),
            Event::JobDone { job, result } => self.job_done(now, job, result, &mut effects),
            Event::Ended { pid, exit_code } => self.ended(now, pid, exit_code, &mut effects),
            Event::Recorded { container, exit } => self.recorded(&container, &exit, &mut effects),
            Event::Tick => {}
        }
        self.expire(now, &mut effects);
        if !self.jobs.values().any(|pending| matches!(pending.kind, Kind::Create | Kind::Exec)) {
            self.unclaimed.clear();
        }
        effects
    }

    /// When [`Event::Tick`] is due, in time since boot.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        self.sessions.values().filter(|session| !session.expired).filter_map(|session| session.deadline).min()
    }

    /// The container that a job is about.
    pub(crate) fn container_of(&self, job: Job) -> Option<&str> {
        self.jobs.get(&job).map(|pending| pending.container.as_str())
    }

    fn begin(&mut self, container: &str, kind: Kind, conn: Option<Conn>) -> Job {
        self.jobs_begun += 1;
        let pending = Pending { container: container.to_owned(), kind, conns: conn.into_iter().collect() };
        self.jobs.insert(self.jobs_begun, pending);
        self.jobs_begun
    }

    fn hung_up(&mut self, conn: Conn) {
        let gone = |other: &Conn| *other == conn;
        self.watchers.remove(&conn);
        for container in self.containers.values_mut() {
            container.awaiting.retain(|other| !gone(other));
            container.deleting.retain(|other| !gone(other));
        }
        self.jobs.values_mut().for_each(|pending| pending.conns.retain(|other| !gone(other)));
        // The session itself goes on, and so does its deadline.
        self.sessions
            .values_mut()
            .for_each(|session| session.conn = session.conn.filter(|other| !gone(other)));
    }

    fn job_done(&mut self, now: Now, job: Job, result: Result<Report, Failure>, effects: &mut Vec<Effect>) {
        let Some(Pending { container: id, kind, mut conns }) = self.jobs.remove(&job) else { return };
        match kind {
            Kind::Create => self.create_done(now, job, &id, conns, result, effects),
            Kind::Exec => self.exec_done(now, job, result, effects),
            Kind::KillSession { session } => {
                if let Err(failure) = result {
                    effects.push(Effect::Note { message: failure.message });
                }
                self.tell_expired(session, effects);
            }
            Kind::Sweep => {
                let Some(container) = self.containers.remove(&id) else { return };
                effects.push(Effect::Forget { container: id });
                let Phase::Sweeping { failure } = container.phase else { return };
                // The first one asked for the creation, the others for the deletion.
                for conn in container.awaiting {
                    answer(effects, conn, failure.clone());
                }
                conns.into_iter().for_each(|conn| answer(effects, conn, Response::Done));
            }
            Kind::Start | Kind::Update | Kind::Delete | Kind::Kill => {
                let mut response = result.map_or_else(Response::from, |_| Response::Done);
                if let Some(container) = self.containers.get_mut(&id) {
                    container.busy &= kind == Kind::Kill;
                    let done = response == Response::Done;
                    if kind == Kind::Start
                        && done
                        && let Phase::Created { pid, shares_pid } = container.phase
                    {
                        container.phase = Phase::Running { pid, shares_pid, started_at: now.wall };
                    } else if kind == Kind::Delete && done {
                        conns.append(&mut container.deleting);
                        self.containers.remove(&id);
                        effects.push(Effect::Forget { container: id.clone() });
                    } else if kind == Kind::Kill && container.ended() {
                        response = Response::Done;
                    }
                }
                conns.into_iter().for_each(|conn| answer(effects, conn, response.clone()));
                self.delete_next(&id, effects);
            }
        }
    }

    /// Begins the deletion that had to wait for another job.
    fn delete_next(&mut self, id: &str, effects: &mut Vec<Effect>) {
        let Some(container) = self.containers.get_mut(id).filter(|container| !container.busy) else { return };
        let mut conns = std::mem::take(&mut container.deleting).into_iter();
        let Some(first) = conns.next() else { return };
        self.run(first, id, Kind::Delete, Work::Delete, effects);
        conns.for_each(|conn| self.also_tell(id, Kind::Delete, conn));
    }

    fn create_done(
        &mut self,
        now: Now,
        job: Job,
        id: &str,
        conns: Vec<Conn>,
        result: Result<Report, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let aborted = matches!(container.phase, Phase::Creating { aborted: true, .. });
        match result {
            Ok(Report::Created { pid, shares_pid, .. }) if !aborted => {
                container.phase = Phase::Created { pid, shares_pid };
                conns.into_iter().for_each(|conn| answer(effects, conn, Response::Created { pid }));
                if let Some(exit_code) = self.unclaimed.remove(&pid) {
                    self.ended(now, pid, exit_code, effects);
                }
            }
            result => {
                let failure = match result {
                    Err(failure) if !aborted => failure,
                    _ => Failure::new(
                        ErrorKind::FailedPrecondition,
                        format!("container {id} was killed while it was created"),
                    ),
                };
                container.phase = Phase::Sweeping { failure };
                container.awaiting.extend(conns.first());
                let target = container.target.clone();
                let sweep = self.begin(id, Kind::Sweep, None);
                if let Some(pending) = self.jobs.get_mut(&sweep) {
                    pending.conns.extend(conns.iter().skip(1));
                }
                debug_assert!(job < sweep, "jobs are numbered in order");
                effects.push(Effect::Run { job: sweep, target, work: Work::Delete, conn: None });
            }
        }
    }

    fn ended(&mut self, now: Now, pid: u32, exit_code: i32, effects: &mut Vec<Effect>) {
        if let Some((_, container)) =
            self.containers.iter_mut().find(|(_, container)| container.pid() == Some(pid))
        {
            let shares_pid = matches!(
                container.phase,
                Phase::Created { shares_pid: true, .. } | Phase::Running { shares_pid: true, .. }
            );
            container.phase = Phase::Ending;
            let target = container.target.clone();
            if shares_pid {
                // Nobody else ends what it left behind in the PID namespace it shares.
                let job = self.begin(&target.id, Kind::Kill, None);
                let work = Work::Kill { signal: KILL };
                effects.push(Effect::Run { job, target: target.clone(), work, conn: None });
            }
            effects.push(Effect::Finish { target, exit_code, finished_at: now.wall });
        } else if let Some(job) =
            self.sessions.iter().find(|(_, session)| session.pid == Some(pid)).map(|(job, _)| *job)
        {
            self.tell_expired(job, effects);
            let exit = exit_record(exit_code, now.wall);
            if let Some(conn) = self.sessions.remove(&job).and_then(|session| session.conn) {
                answer(effects, conn, Response::Exited(exit));
            }
        } else {
            self.unclaimed.insert(pid, exit_code);
        }
    }

    fn recorded(&mut self, id: &str, exit: &ExitRecord, effects: &mut Vec<Effect>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.phase = Phase::Exited(exit.clone());
        for conn in std::mem::take(&mut container.awaiting) {
            answer(effects, conn, Response::Exited(exit.clone()));
        }
        let event = proto::Event::Exited { container: id.to_owned(), exit: exit.clone() };
        for &conn in &self.watchers {
            effects.push(Effect::Reply { conn, response: Response::Event(event.clone()), terminal_of: None });
        }
    }
}

const KILL: i32 = 9;

impl Container {
    /// Its process, while that lives.
    fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Created { pid, .. } | Phase::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    fn ended(&self) -> bool {
        matches!(self.phase, Phase::Ending | Phase::Exited(_))
    }
}

/// The last message of a connection.
fn answer(effects: &mut Vec<Effect>, conn: Conn, response: impl Into<Response>) {
    effects.push(Effect::Reply { conn, response: response.into(), terminal_of: None });
    effects.push(Effect::Close { conn });
}

fn exit_record(exit_code: i32, finished_at: i64) -> ExitRecord {
    ExitRecord { version: proto::VERSION, exit_code, finished_at, oom_killed: false }
}

#[cfg(test)]
mod tests;
