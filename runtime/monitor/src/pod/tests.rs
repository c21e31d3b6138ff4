//! The state machine: tables of what follows from what, and laws that hold however events come.

use super::*;
use proptest::prelude::*;
use proto_node::monitor::{ContainerStatus, Create, Event as Told, Exec, Overlay};

fn create(id: &str) -> Create {
    Create {
        container: id.into(),
        bundle: format!("/b/{id}").into(),
        runtime: Runtime::BuiltIn,
        overlay: Overlay { lower: vec![], upper: "/u".into(), work: "/w".into() },
        log_path: None,
        terminal: false,
        stdin: false,
        stdin_once: false,
    }
}

/// A pod whose clock shows how many events it has seen, in seconds.
#[derive(Default)]
struct Tested {
    pod: Pod,
    seconds: u32,
}

impl Tested {
    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.seconds += 1;
        let now = Now { wall: i64::from(self.seconds), uptime: Duration::from_secs(u64::from(self.seconds)) };
        self.pod.step(now, event)
    }

    fn ask(&mut self, conn: Conn, request: Request) -> Vec<Effect> {
        self.step(Event::Asked { conn, request, descriptors: 3 })
    }

    fn done(&mut self, job: Job, report: Report) -> Vec<Effect> {
        self.step(Event::JobDone { job, result: Ok(report) })
    }

    fn failed(&mut self, job: Job) -> Vec<Effect> {
        self.step(Event::JobDone { job, result: Err(Failure::new(ErrorKind::Internal, "no")) })
    }

    fn ended(&mut self, pid: u32, exit_code: i32) -> Vec<Effect> {
        self.step(Event::Ended { pid, exit_code })
    }

    /// With a running container `a`, process 100.
    fn running() -> Self {
        let mut pod = Self::default();
        pod.ask(1, Request::Create(create("a")));
        pod.done(1, created(100));
        pod.ask(2, Request::Start { container: "a".into() });
        pod.done(2, Report::Done);
        assert!(matches!(pod.pod.containers["a"].phase, Phase::Running { pid: 100, .. }));
        pod
    }
}

fn created(pid: u32) -> Report {
    Report::Created { pid, shares_pid: false, oom_file: None }
}

fn exec(timeout_ms: Option<u64>) -> Request {
    Request::Exec(Exec { container: "a".into(), process: serde_json::json!({}), timeout_ms })
}

fn a() -> String {
    "a".into()
}

/// Who is told what, shortened.
fn told(effects: &[Effect]) -> Vec<(Conn, String)> {
    let replies = effects.iter().filter_map(|effect| match effect {
        Effect::Reply { conn, response, .. } => Some((*conn, response)),
        _ => None,
    });
    replies
        .map(|(conn, response)| match response {
            Response::Error { kind, .. } => (conn, format!("{kind:?}")),
            Response::Exited(exit) => (conn, format!("Exited {}", exit.exit_code)),
            Response::Event(Told::Exited { exit, .. }) => (conn, format!("Event {}", exit.exit_code)),
            Response::Created { pid } => (conn, format!("Created {pid}")),
            Response::ExecStarted { pid } => (conn, format!("Started {pid}")),
            other => (conn, format!("{other:?}")),
        })
        .collect()
}

fn jobs(effects: &[Effect]) -> Vec<(Job, Work)> {
    let jobs = effects.iter().filter_map(|effect| match effect {
        Effect::Run { job, work, .. } => Some((*job, work.clone())),
        _ => None,
    });
    jobs.collect()
}

fn exit(exit_code: i32, finished_at: i64) -> ExitRecord {
    exit_record(exit_code, finished_at)
}

#[test]
fn a_life() {
    let mut pod = Tested::default();
    let effects = pod.ask(1, Request::Create(create("a")));
    assert_eq!(jobs(&effects), [(1, Work::Create(Box::new(create("a"))))]);
    assert_eq!(told(&pod.done(1, created(100))), [(1, "Created 100".into())]);
    let effects = pod.ask(2, Request::Start { container: a() });
    assert_eq!(jobs(&effects), [(2, Work::Start)]);
    pod.ask(3, Request::Watch);
    pod.ask(4, Request::Wait { container: a() });
    assert_eq!(told(&pod.done(2, Report::Done)), [(2, "Done".into())]);
    let effects = pod.ended(100, 7);
    let [Effect::Finish { target, exit_code: 7, finished_at }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(target.id, "a");
    // Nobody is told before it is on disk.
    let effects = pod.step(Event::Recorded { container: a(), exit: exit(7, *finished_at) });
    assert_eq!(told(&effects), [(4, "Exited 7".into()), (3, "Event 7".into())]);
    assert_eq!(told(&pod.ask(5, Request::Wait { container: a() })), [(5, "Exited 7".into())]);
    let effects = pod.ask(6, Request::Delete { container: a() });
    assert_eq!(jobs(&effects), [(3, Work::Delete)]);
    let effects = pod.done(3, Report::Done);
    assert_eq!(effects[0], Effect::Forget { container: a() });
    assert_eq!(told(&effects), [(6, "Done".into())]);
    assert_eq!(told(&pod.ask(7, Request::Shutdown)), [(7, "Done".into())]);
}

#[test]
fn an_exit_may_come_before_its_job_reports() {
    let mut pod = Tested::default();
    pod.ask(1, Request::Create(create("a")));
    assert_eq!(pod.ended(100, 3), []);
    assert_eq!(pod.ended(50, 4), []);
    let effects = pod.done(1, created(100));
    assert_eq!(told(&effects), [(1, "Created 100".into())]);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Finish { exit_code: 3, .. })));
    // What nobody can claim any more is forgotten.
    assert!(pod.pod.unclaimed.is_empty());
    let mut pod = Tested::running();
    pod.ask(3, exec(None));
    pod.ended(101, 9);
    assert_eq!(
        told(&pod.done(3, Report::ExecStarted { pid: 101 })),
        [(3, "Started 101".into()), (3, "Exited 9".into())]
    );
    assert!(pod.pod.sessions.is_empty());
}

#[test]
fn a_failed_creation_is_swept_before_it_is_told() {
    let mut pod = Tested::default();
    pod.ask(1, Request::Create(create("a")));
    let effects = pod.failed(1);
    assert_eq!((told(&effects), jobs(&effects)), (vec![], vec![(2, Work::Delete)]));
    assert_eq!(told(&pod.ask(2, Request::Create(create("a")))), [(2, "FailedPrecondition".into())]);
    pod.ask(3, Request::Delete { container: a() });
    let effects = pod.failed(2);
    assert_eq!(told(&effects), [(1, "Internal".into()), (3, "Done".into())]);
    assert!(pod.pod.containers.is_empty());
}

#[test]
fn a_creation_is_given_up() {
    for report in [Ok(created(100)), Err(Failure::new(ErrorKind::Internal, "killed"))] {
        let mut pod = Tested::default();
        pod.ask(1, Request::Create(create("a")));
        let effects = pod.ask(2, Request::Delete { container: a() });
        assert_eq!(effects, [Effect::Abort { job: 1 }]);
        // Even if it had succeeded at that moment.
        let effects = pod.step(Event::JobDone { job: 1, result: report });
        assert_eq!(jobs(&effects), [(2, Work::Delete)]);
        pod.ended(100, 137);
        let effects = pod.done(2, Report::Done);
        assert_eq!(told(&effects), [(1, "FailedPrecondition".into()), (2, "Done".into())]);
        assert!(pod.pod.containers.is_empty() && pod.pod.unclaimed.is_empty());
    }
}

#[test]
fn a_container_may_end_while_it_is_started() {
    let mut pod = Tested::default();
    pod.ask(1, Request::Create(create("a")));
    pod.done(1, created(100));
    pod.ask(2, Request::Start { container: a() });
    pod.ended(100, 0);
    pod.step(Event::Recorded { container: a(), exit: exit(0, 4) });
    // Its deletion waits for the report.
    assert_eq!(pod.ask(3, Request::Delete { container: a() }), []);
    assert_eq!(pod.ask(4, Request::Delete { container: a() }), []);
    let effects = pod.done(2, Report::Done);
    assert_eq!((told(&effects), jobs(&effects)), (vec![(2, "Done".into())], vec![(3, Work::Delete)]));
    assert_eq!(pod.pod.status().containers["a"], ContainerStatus::Exited(exit(0, 4)));
    // One that is under way serves all who ask.
    pod.ask(5, Request::Delete { container: a() });
    let told_done = [3, 4, 5].map(|conn| (conn, "Done".to_owned()));
    assert_eq!(told(&pod.done(3, Report::Done)), told_done);
}

#[test]
fn a_start_that_fails_can_be_tried_again() {
    let mut pod = Tested::default();
    pod.ask(1, Request::Create(create("a")));
    pod.done(1, created(100));
    pod.ask(2, Request::Start { container: a() });
    assert_eq!(told(&pod.ask(3, Request::Start { container: a() })), [(3, "FailedPrecondition".into())]);
    assert_eq!(told(&pod.failed(2)), [(2, "Internal".into())]);
    assert_eq!(jobs(&pod.ask(4, Request::Start { container: a() })), [(3, Work::Start)]);
}

#[test]
fn what_shares_a_pid_namespace_is_killed_with_its_first_process() {
    let mut pod = Tested::default();
    pod.ask(1, Request::Create(create("a")));
    pod.done(1, Report::Created { pid: 100, shares_pid: true, oom_file: None });
    let effects = pod.ended(100, 0);
    assert_eq!(jobs(&effects), [(2, Work::Kill { signal: KILL })]);
    assert!(matches!(effects[1], Effect::Finish { .. }));
}

#[test]
fn signals() {
    let kill = |signal, all| Request::Kill { container: a(), signal, all };
    let mut pod = Tested::running();
    let effects = pod.ask(3, kill(15, false));
    assert_eq!(effects[0], Effect::Signal { pid: 100, signal: 15 });
    assert_eq!(told(&effects), [(3, "Done".into())]);
    assert_eq!(jobs(&pod.ask(4, kill(9, true))), [(3, Work::Kill { signal: 9 })]);
    pod.ended(100, 137);
    // The runtime finds nobody to kill any more: no error.
    assert_eq!(told(&pod.failed(3)), [(4, "Done".into())]);
    let effects = pod.ask(5, kill(9, false));
    assert_eq!(told(&effects), [(5, "Done".into())]);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Signal { .. })));
    for signal in [0, -1, 65] {
        assert_eq!(told(&pod.ask(6, kill(signal, false))), [(6, "InvalidArgument".into())]);
    }
}

#[test]
fn a_session_out_of_time() {
    // Events come a second apart, so this ends in time for the deadline.
    let mut pod = Tested::running();
    pod.ask(3, exec(Some(1_500)));
    assert_eq!(pod.pod.wake_at(), Some(Duration::from_millis(6_500)));
    pod.done(3, Report::ExecStarted { pid: 101 });
    let effects = pod.step(Event::Tick);
    assert_eq!((told(&effects), jobs(&effects)), (vec![], vec![(4, Work::KillSession { pid: 101 })]));
    assert_eq!(pod.pod.wake_at(), None);
    assert_eq!(told(&pod.ended(101, 137)), [(3, "DeadlineExceeded".into())]);
    assert_eq!(told(&pod.done(4, Report::Done)), []);
    assert!(pod.pod.sessions.is_empty());
    // Its process cannot be killed: it is told all the same.
    let mut pod = Tested::running();
    pod.ask(3, exec(Some(1_500)));
    pod.done(3, Report::ExecStarted { pid: 101 });
    pod.step(Event::Tick);
    assert_eq!(told(&pod.done(4, Report::Done)), [(3, "DeadlineExceeded".into())]);
    assert_eq!(told(&pod.ended(101, 137)), []);
    // It does not even start in time; when it does, it is killed.
    let mut pod = Tested::running();
    pod.ask(3, exec(Some(500)));
    assert_eq!(told(&pod.step(Event::Tick)), [(3, "DeadlineExceeded".into())]);
    assert_eq!(jobs(&pod.done(3, Report::ExecStarted { pid: 101 })), [(4, Work::KillSession { pid: 101 })]);
}

#[test]
fn what_a_state_refuses() {
    let mut pod = Tested::default();
    let requests = || {
        [
            Request::Start { container: a() },
            Request::Kill { container: a(), signal: 9, all: false },
            Request::Delete { container: a() },
            Request::Wait { container: a() },
            exec(None),
            Request::Attach { container: a() },
            Request::Resize { container: a(), width: 1, height: 1 },
            Request::ReopenLog { container: a() },
            Request::Update { container: a(), resources: serde_json::json!({}) },
            Request::Shutdown,
        ]
    };
    let answers = |pod: &mut Tested| -> String {
        let answer = |request| match told(&pod.ask(1, request)).first() {
            None => '.',
            Some((_, told)) if told == "NotFound" => 'n',
            Some((_, told)) if told == "FailedPrecondition" => 'f',
            Some((_, told)) if told == "Done" => 'd',
            Some((_, told)) if told.starts_with("Exited") => 'e',
            Some((_, told)) => panic!("{told}"),
        };
        requests().map(answer).into_iter().collect()
    };
    //                                  start, kill, delete, wait, exec, attach, resize, reopen, update, shutdown
    assert_eq!(answers(&mut pod), "nndnnnnnnd");
    pod.ask(1, Request::Create(create("a")));
    assert_eq!(answers(&mut pod), "fd..fff.ff");
    assert_eq!(answers(&mut Tested::running()), "fdf..df..f");
    let mut pod = Tested::running();
    pod.ended(100, 0);
    pod.step(Event::Recorded { container: a(), exit: exit(0, 4) });
    assert_eq!(answers(&mut pod), "fd.efff.fd");
}

/// One arbitrary thing that happens.
#[derive(Debug, Clone)]
enum Happening {
    Ask(Request),
    HangUp(usize),
    Report { job: usize, succeeds: bool },
    End(usize),
    Tick,
}

fn happening() -> impl Strategy<Value = Happening> {
    let id = prop_oneof![Just("a".to_owned()), Just("b".to_owned())];
    let request = (id, 0..13_u8).prop_map(|(container, kind)| match kind {
        0 | 1 => Request::Create(create(&container)),
        2 | 3 => Request::Start { container },
        4 => Request::Kill { container, signal: 9, all: false },
        5 => Request::Kill { container, signal: 9, all: true },
        6 => Request::Delete { container },
        7 => Request::Wait { container },
        8 => Request::Exec(Exec { container, process: serde_json::json!({}), timeout_ms: Some(3_000) }),
        9 => Request::Exec(Exec { container, process: serde_json::json!({}), timeout_ms: None }),
        10 => Request::Attach { container },
        11 => Request::Update { container, resources: serde_json::json!({}) },
        _ => Request::Watch,
    });
    prop_oneof![
        6 => request.prop_map(Happening::Ask),
        1 => (0..8_usize).prop_map(Happening::HangUp),
        6 => (0..8_usize, prop::bool::weighted(0.8)).prop_map(|(job, succeeds)| Happening::Report { job, succeeds }),
        3 => (0..8_usize).prop_map(Happening::End),
        1 => Just(Happening::Tick),
    ]
}

/// A world that does what the pod says, and checks that it says nothing impossible.
#[derive(Default)]
struct World {
    tested: Tested,
    open: BTreeSet<Conn>,
    conns: Conn,
    /// Workers, with the process each will report.
    workers: BTreeMap<Job, (Work, u32)>,
    processes: BTreeSet<u32>,
    pids: u32,
}

impl World {
    fn feed(&mut self, event: Event) {
        for effect in self.tested.step(event) {
            match effect {
                Effect::Reply { conn, .. } => {
                    assert!(self.open.contains(&conn), "a reply to a closed connection")
                }
                Effect::Close { conn } => assert!(self.open.remove(&conn), "closed twice"),
                Effect::Run { job, work, .. } => {
                    if matches!(work, Work::Create(_) | Work::Exec { .. }) {
                        self.pids += 1;
                        self.processes.insert(self.pids);
                    }
                    assert!(self.workers.insert(job, (work, self.pids)).is_none(), "a job number used twice");
                }
                Effect::Abort { job } => assert!(self.workers.contains_key(&job), "no such worker"),
                Effect::Signal { pid, .. } => {
                    assert!(self.processes.contains(&pid), "a signal to a reaped process")
                }
                Effect::Finish { target, exit_code, finished_at } => {
                    self.feed(Event::Recorded { container: target.id, exit: exit(exit_code, finished_at) });
                }
                _ => {}
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Ask(request) => {
                self.conns += 1;
                self.open.insert(self.conns);
                self.feed(Event::Asked { conn: self.conns, request, descriptors: 3 });
            }
            Happening::HangUp(at) => {
                if let Some(conn) = self.open.iter().nth(at).copied() {
                    self.open.remove(&conn);
                    self.feed(Event::HungUp { conn });
                }
            }
            Happening::Report { job: at, succeeds } => {
                let Some(job) = self.workers.keys().nth(at).copied() else { return };
                let (work, pid) = self.workers.remove(&job).unwrap();
                let report = match work {
                    Work::Create(_) => created(pid),
                    Work::Exec { .. } => Report::ExecStarted { pid },
                    _ => Report::Done,
                };
                let result = if succeeds { Ok(report) } else { Err(Failure::new(ErrorKind::Internal, "no")) };
                self.feed(Event::JobDone { job, result });
            }
            Happening::End(at) => {
                if let Some(pid) = self.processes.iter().nth(at).copied() {
                    self.processes.remove(&pid);
                    self.feed(Event::Ended { pid, exit_code: 0 });
                }
            }
            Happening::Tick => self.feed(Event::Tick),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_everybody_is_answered(happenings in prop::collection::vec(happening(), 0..60)) {
        let mut world = World::default();
        happenings.into_iter().for_each(|happening| world.happen(happening));
        // Everything comes to its end: workers report, processes end, deadlines pass.
        for _ in 0..20 {
            while !world.workers.is_empty() {
                world.happen(Happening::Report { job: 0, succeeds: true });
            }
            while !world.processes.is_empty() {
                world.happen(Happening::End(0));
            }
            world.happen(Happening::Tick);
        }
        let pod = &world.tested.pod;
        prop_assert!(pod.jobs.is_empty() && pod.sessions.is_empty() && pod.unclaimed.is_empty());
        prop_assert!(pod.containers.values().all(|container| container.ended() && !container.busy));
        prop_assert_eq!(&world.open, &pod.watchers, "only those who watch are still connected");
    }
}
