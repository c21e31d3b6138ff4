//! Processes run in a running container.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use proto_node::monitor::{ErrorKind, Exec, Request, Response, Runtime};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::fixture::{Connection, Options, Pod, pipe, process, read_all, read_until, until};
use crate::with_both_runtimes;

with_both_runtimes! {
    streams_and_exit_code
    a_terminal_comes_along
    the_time_is_over
    the_time_is_over_for_a_family
    it_goes_on_without_its_client
    a_signal_ends_it
    refusals
    it_ends_with_its_container
    twenty_at_once
}

const IDLE: &str = "while :; do sleep 1000; done";

fn null() -> OwnedFd {
    fs::File::open("/dev/null").unwrap().into()
}

fn started(connection: &Connection) -> u32 {
    match connection.response() {
        Response::ExecStarted { pid } => pid,
        other => panic!("{other:?}"),
    }
}

fn streams_and_exit_code(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", IDLE, &Options::default());
    let ((stdin, ours), (out, out_theirs), (err, err_theirs)) = (pipe(), pipe(), pipe());
    let script = "read word; echo out $word; echo err >&2; exit 9";
    let session = pod.exec("a", script, None, [stdin.as_fd(), out_theirs.as_fd(), err_theirs.as_fd()]);
    drop((stdin, out_theirs, err_theirs));
    started(&session);
    rustix::io::write(&ours, b"word\n").unwrap();
    assert_eq!(session.exited().exit_code, 9);
    assert_eq!((read_all(out), read_all(err)), ("out word\n".into(), "err\n".into()));
    assert_eq!(pod.log("a"), [""; 0]);
}

fn a_terminal_comes_along(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", IDLE, &Options::default());
    let process = process(&["/bin/sh", "-c", "tty; read line; stty size; exit 4"], true);
    let session = pod.ask(&Request::Exec(Exec { container: "a".into(), process, timeout_ms: None }));
    let (response, mut descriptors) = session.response_with();
    assert!(matches!(response, Response::ExecStarted { .. }), "{response:?}");
    let master = descriptors.pop().expect("the terminal's master");
    read_until(&master, "/dev/pts/");
    tcsetwinsize(&master, Winsize { ws_col: 111, ws_row: 22, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    rustix::io::write(&master, b"\n").unwrap();
    read_until(&master, "22 111");
    assert_eq!(session.exited().exit_code, 4);
}

fn the_time_is_over(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", IDLE, &Options::default());
    let null = null();
    let session = pod.exec("a", "sleep 1000", Some(300), [null.as_fd(), null.as_fd(), null.as_fd()]);
    let pid = started(&session);
    let Response::Error { kind, .. } = session.response() else { panic!() };
    assert_eq!(kind, ErrorKind::DeadlineExceeded);
    until("the end of the process", || linux::stat::of(pid).is_err());
    // In time.
    let session = pod.exec("a", "exit 3", Some(60_000), [null.as_fd(), null.as_fd(), null.as_fd()]);
    started(&session);
    assert_eq!(session.exited().exit_code, 3);
}

fn the_time_is_over_for_a_family(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let container = pod.run("a", IDLE, &Options::default());
    let (null, (out, theirs)) = (null(), pipe());
    let script = "sleep 1001 & (sleep 1002 & sleep 1003) & setsid sleep 1004 & echo all; sleep 1005";
    let session = pod.exec("a", script, Some(1_000), [null.as_fd(), theirs.as_fd(), null.as_fd()]);
    drop(theirs);
    let pid = started(&session);
    read_until(&out, "all");
    let Response::Error { kind, .. } = session.response() else { panic!() };
    assert_eq!(kind, ErrorKind::DeadlineExceeded);
    until("the end of the family", || linux::stat::of(pid).is_err());
    // The pipe's last writer is gone.
    assert_eq!(read_all(out), "");
    assert!(linux::stat::of(container).is_ok());
}

fn it_goes_on_without_its_client(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", IDLE, &Options::default());
    let (null, (out, theirs)) = (null(), pipe());
    let (stdin, ours) = pipe();
    let session = pod.exec("a", "read word; echo $word", None, [stdin.as_fd(), theirs.as_fd(), null.as_fd()]);
    drop((theirs, stdin));
    started(&session);
    drop(session);
    pod.status();
    rustix::io::write(&ours, b"still\n").unwrap();
    assert_eq!(read_all(out), "still\n");
}

fn a_signal_ends_it(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", IDLE, &Options::default());
    let null = null();
    let session = pod.exec("a", "kill -9 $$", None, [null.as_fd(), null.as_fd(), null.as_fd()]);
    started(&session);
    assert_eq!(session.exited().exit_code, 137);
}

fn refusals(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let null = null();
    let ask = |id: &str, program: &str, descriptors: usize| {
        let exec = Exec { container: id.into(), process: process(&[program], false), timeout_ms: None };
        let given = [null.as_fd(), null.as_fd(), null.as_fd()];
        match pod.ask_with(&Request::Exec(exec), &given[..descriptors]).response() {
            Response::Error { kind, message } => (kind, message),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask("a", "/bin/sh", 3).0, ErrorKind::NotFound);
    pod.create(&pod.container("a", IDLE, &Options::default()));
    assert_eq!(ask("a", "/bin/sh", 3).0, ErrorKind::FailedPrecondition);
    pod.done(&Request::Start { container: "a".into() });
    assert_eq!(ask("a", "/bin/sh", 2).0, ErrorKind::InvalidArgument);
    let (_, message) = ask("a", "/bin/none", 3);
    assert!(message.contains("/bin/none"), "{message}");
    let exec = Exec { container: "a".into(), process: serde_json::json!({"args": 7}), timeout_ms: None };
    let given = [null.as_fd(), null.as_fd(), null.as_fd()];
    let response = pod.ask_with(&Request::Exec(exec), &given).response();
    assert!(matches!(response, Response::Error { .. }), "{response:?}");
}

fn it_ends_with_its_container(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", IDLE, &Options::default());
    let null = null();
    let session = pod.exec("a", IDLE, None, [null.as_fd(), null.as_fd(), null.as_fd()]);
    started(&session);
    pod.kill("a", 9);
    assert_eq!(pod.wait("a").exit_code, 137);
    assert_eq!(session.exited().exit_code, 137);
}

fn twenty_at_once(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", IDLE, &Options::default());
    let null = null();
    let sessions: Vec<_> = (0..20)
        .map(|number| {
            pod.exec("a", &format!("exit {number}"), None, [null.as_fd(), null.as_fd(), null.as_fd()])
        })
        .collect();
    for (session, number) in sessions.iter().zip(0..) {
        started(session);
        assert_eq!(session.exited().exit_code, number);
    }
}
