//! Logs, terminals and attached clients.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use proto_node::monitor::{ErrorKind, Request, Response, Runtime};

use crate::fixture::{Connection, Options, Pod, pipe, read_all, read_until, until};
use crate::with_both_runtimes;

with_both_runtimes! {
    a_long_line_comes_in_parts
    a_log_is_rotated
    a_terminal
    an_attached_client_talks_to_a_shell
    stdin_once_ends_with_its_giver
    stdin_stays_open_for_the_next
    much_input_is_not_lost
    a_client_that_does_not_read_holds_up_nobody
    a_grandchild_that_keeps_the_pipe_does_not_hold_up_the_exit
    no_log_at_all
    output_of_a_container_without_readers_is_kept
}

struct Client {
    connection: Connection,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

fn attach(pod: &Pod, id: &str) -> Client {
    let ((stdin_theirs, stdin), (stdout, stdout_theirs), (stderr, stderr_theirs)) = (pipe(), pipe(), pipe());
    let given = [stdout_theirs.as_fd(), stderr_theirs.as_fd(), stdin_theirs.as_fd()];
    let connection = pod.ask_with(&Request::Attach { container: id.into() }, &given);
    assert_eq!(connection.response(), Response::Done);
    Client { connection, stdin: Some(stdin), stdout, stderr }
}

fn write(fd: &OwnedFd, text: &[u8]) {
    fs::File::from(fd.try_clone().unwrap()).write_all(text).unwrap();
}

fn start(pod: &Pod, id: &str) {
    pod.done(&Request::Start { container: id.into() });
}

fn a_long_line_comes_in_parts(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", "head -c 40000 /dev/zero | busybox tr '\\0' x; echo", &Options::default());
    assert_eq!(pod.wait("a").exit_code, 0);
    let log: Vec<_> = pod.log("a").iter().map(|entry| (entry[..8].to_owned(), entry.len() - 9)).collect();
    let entry = |tag: &str, length: usize| (format!("stdout {tag}"), length);
    assert_eq!(log, [entry("P", 16384), entry("P", 16384), entry("F", 7232)]);
}

fn a_log_is_rotated(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", "echo one; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo two", &Options::default());
    pod.log_has("a", "one");
    let old = pod.log_path("a.old");
    fs::rename(pod.log_path("a"), &old).unwrap();
    pod.done(&Request::ReopenLog { container: "a".into() });
    assert_eq!(fs::read_to_string(pod.log_path("a")).unwrap(), "");
    fs::create_dir_all(pod.bundle("a").join("upper/tmp")).unwrap();
    let root = format!("/proc/{}/root/tmp/go", pid_of(&pod, "a"));
    fs::write(root, "").unwrap();
    pod.wait("a");
    assert_eq!(pod.log("a"), ["stdout F two"]);
    assert!(fs::read_to_string(old).unwrap().ends_with("stdout F one\n"));
}

fn pid_of(pod: &Pod, id: &str) -> u32 {
    match pod.status().containers[id] {
        proto_node::monitor::ContainerStatus::Running { pid, .. } => pid,
        ref other => panic!("{other:?}"),
    }
}

fn a_terminal(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let options = Options { terminal: true, stdin: true, ..Options::default() };
    pod.run("a", "tty; read line; stty size; echo got $line; exit 2", &options);
    pod.log_has("a", "/dev/pts/0");
    pod.done(&Request::Resize { container: "a".into(), width: 123, height: 45 });
    let client = attach(&pod, "a");
    write(client.stdin.as_ref().unwrap(), b"word\n");
    read_until(&client.stdout, "got word");
    assert_eq!(client.connection.exited().exit_code, 2);
    assert_eq!(read_all(client.stderr), "");
    let log = pod.log("a");
    assert_eq!(log, ["stdout F /dev/pts/0", "stdout F word", "stdout F 45 123", "stdout F got word"]);
    let (kind, _) = pod.refused(&Request::Resize { container: "a".into(), width: 1, height: 1 });
    assert_eq!(kind, ErrorKind::FailedPrecondition);
}

fn an_attached_client_talks_to_a_shell(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let options = Options { stdin: true, ..Options::default() };
    pod.create(&pod.container("a", "exec sh", &options));
    // Before it is started, so that nothing is missed.
    let (one, two) = (attach(&pod, "a"), attach(&pod, "a"));
    start(&pod, "a");
    write(one.stdin.as_ref().unwrap(), b"echo to both; echo errors >&2; exit 6\n");
    for client in [one, two] {
        assert_eq!(client.connection.exited().exit_code, 6);
        assert_eq!(
            (read_all(client.stdout), read_all(client.stderr)),
            ("to both\n".into(), "errors\n".into())
        );
    }
}

fn stdin_once_ends_with_its_giver(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let options = Options { stdin: true, stdin_once: true, ..Options::default() };
    for (id, hang_up) in [("a", true), ("b", false)] {
        pod.run(id, "cat; echo end", &options);
        let mut client = attach(&pod, id);
        write(client.stdin.as_ref().unwrap(), b"text\n");
        read_until(&client.stdout, "text\n");
        // Both the end of what it gives and its leaving end the container's stdin.
        if hang_up {
            drop(client);
        } else {
            client.stdin = None;
            read_until(&client.stdout, "end\n");
        }
        assert_eq!(pod.wait(id).exit_code, 0);
        assert_eq!(pod.log(id), ["stdout F text", "stdout F end"]);
    }
}

fn stdin_stays_open_for_the_next(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", "read one; echo $one; read two; echo $two", &Options { stdin: true, ..Options::default() });
    for word in ["first", "second"] {
        let client = attach(&pod, "a");
        write(client.stdin.as_ref().unwrap(), format!("{word}\n").as_bytes());
        read_until(&client.stdout, word);
    }
    assert_eq!(pod.wait("a").exit_code, 0);
}

fn much_input_is_not_lost(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let options = Options { stdin: true, stdin_once: true, ..Options::default() };
    pod.run("a", "sleep 0.2; busybox wc -c", &options);
    let mut client = attach(&pod, "a");
    let stdin = client.stdin.take().unwrap();
    let writer = std::thread::spawn(move || write(&stdin, &vec![b'x'; 1_000_000]));
    writer.join().unwrap();
    assert_eq!(pod.wait("a").exit_code, 0);
    assert_eq!(pod.log("a"), ["stdout F 1000000"]);
}

fn a_client_that_does_not_read_holds_up_nobody(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.create(&pod.container("a", "head -c 3000000 /dev/zero; echo end", &Options::default()));
    let client = attach(&pod, "a");
    start(&pod, "a");
    assert_eq!(pod.wait("a").exit_code, 0);
    let log = fs::read(pod.log_path("a")).unwrap();
    assert_eq!(log.iter().filter(|byte| **byte == 0).count(), 3_000_000);
    let got = read_all(client.stdout).len();
    assert!((1..3_000_000).contains(&got), "{got}");
}

fn a_grandchild_that_keeps_the_pipe_does_not_hold_up_the_exit(runtime: Runtime) {
    // In a PID namespace of its own it would be killed with the container's first process.
    let pod = Pod::with(runtime, |config| config.shared_pid = true);
    let options = Options { shared_pid: true, ..Options::default() };
    let marker = format!("sleep {}", 100_000 + std::process::id());
    let pid = pod.run("a", &format!("{marker} & echo $$; echo tail"), &options);
    assert_eq!(pod.wait("a").exit_code, 0);
    assert_eq!(pod.log("a").last().unwrap(), "stdout F tail");
    assert_ne!(pod.log("a")[0], "stdout F 1", "{pid} is not the first of the pod's PID namespace");
    // And what it left behind is killed, as nobody else would do that.
    let running = || {
        fs::read_dir("/proc").unwrap().any(|entry| {
            let line = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").trim() == marker
        })
    };
    until("the end of the grandchild", || !running());
}

fn no_log_at_all(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let mut create = pod.container("a", "head -c 1000000 /dev/zero", &Options::default());
    create.log_path = None;
    pod.create(&create);
    start(&pod, "a");
    assert_eq!(pod.wait("a").exit_code, 0);
    pod.done(&Request::ReopenLog { container: "a".into() });
    assert!(!pod.log_path("a").exists());
    let mut create = pod.container("b", "true", &Options::default());
    create.log_path = Some(pod.dir.path().join("none/b.log"));
    let (kind, message) = pod.refused(&Request::Create(create));
    assert_eq!(kind, ErrorKind::Internal);
    assert!(message.contains("none/b.log"), "{message}");
}

fn output_of_a_container_without_readers_is_kept(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.run("a", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done", &Options::default());
    assert_eq!(pod.wait("a").exit_code, 0);
    let expected: Vec<String> = (0..20_000).map(|number| format!("stdout F line {number}")).collect();
    assert_eq!(pod.log("a"), expected);
}
