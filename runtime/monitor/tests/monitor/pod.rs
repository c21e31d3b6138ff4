//! What belongs to the pod as a whole: namespaces, pause, sysctls, connections to its loopback, bad starts.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;

use proto_node::monitor::{CONFIG_FILE, ErrorKind, Request, Response, Runtime};

use crate::fixture::{Options, Pod, config, start, until};
use crate::{runc, with_both_runtimes};

with_both_runtimes! {
    namespaces_and_sysctls
    a_shared_pid_namespace
    a_port_of_the_pod
}

fn inode(path: &str) -> u64 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{path}: {error}")).ino()
}

fn namespaces_and_sysctls(runtime: Runtime) {
    let pod = Pod::with(runtime, |config| {
        config.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
        config.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "7".into());
    });
    for kind in ["net", "ipc", "uts"] {
        assert_ne!(
            inode(&format!("/proc/{}/ns/{kind}", pod.state.pid)),
            inode(&format!("/proc/self/ns/{kind}"))
        );
    }
    let script = "hostname; cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start; echo $$";
    pod.run("a", script, &Options::default());
    assert_eq!(pod.wait("a").exit_code, 0);
    assert_eq!(pod.log("a"), ["stdout F pod", "stdout F 1", "stdout F 7", "stdout F 1"]);
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim(), "1024");
}

fn a_shared_pid_namespace(runtime: Runtime) {
    let pod = Pod::with(runtime, |config| config.shared_pid = true);
    let pause = pod.state.pause_pid.expect("a pause process");
    let options = Options { shared_pid: true, ..Options::default() };
    pod.run("a", "echo a > /tmp/x; while :; do sleep 1000; done", &options);
    // An orphan, which pause reaps; and a look around.
    pod.run("b", "(sleep 0.01 &); sleep 0.1; ps -o pid,user,comm | head -3; ls /proc/1/root/", &options);
    pod.wait("b");
    let log = pod.log("b");
    assert!(log.iter().any(|entry| entry.contains("1 65535") && entry.contains("pause")), "{log:?}");
    assert!(!pod.log("b").iter().any(|entry| entry.contains("proc")), "{log:?}");
    let status = fs::read_to_string(format!("/proc/{pause}/status")).unwrap();
    for (field, value) in [
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Threads", "1"),
    ] {
        let line = status.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
        assert_eq!(line.split_ascii_whitespace().nth(1), Some(value), "{line}");
    }
    assert_eq!(fs::read_dir(format!("/proc/{pause}/fd")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(format!("/proc/{pause}/root")).unwrap().count(), 0);
    let zombies = || {
        linux::stat::all()
            .unwrap()
            .iter()
            .filter(|(_, stat)| stat.parent == pause && stat.state == 'Z')
            .count()
    };
    until("no zombies", || zombies() == 0);
}

fn a_port_of_the_pod(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let (kind, _) = pod.refused(&Request::Dial { port: 8080 });
    assert_eq!(kind, ErrorKind::FailedPrecondition);
    let script = "busybox ip link set lo up
        for v6only in 0 1; do
            echo $v6only > /proc/sys/net/ipv6/bindv6only
            echo only IPv6: $v6only
            echo hello | nc -l -p 8080
        done";
    pod.run("a", script, &Options::default());
    for listening in ["only IPv6: 0", "only IPv6: 1"] {
        pod.log_has("a", listening);
        until("a connection", || {
            let (response, mut descriptors) = pod.ask(&Request::Dial { port: 8080 }).response_with();
            response == Response::Done && {
                let stream = TcpStream::from(descriptors.pop().unwrap());
                stream.set_nonblocking(false).unwrap();
                let mut text = String::new();
                (&stream).read_to_string(&mut text).unwrap();
                text == "hello\n"
            }
        });
    }
    pod.wait("a");
}

#[test]
fn a_start_that_fails_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = config(dir.path());
    wrong.sysctls.insert("kernel.core_pattern".into(), "x".into());
    let (mut child, said) = start(dir.path(), &wrong);
    assert_eq!(said, "sysctl kernel.core_pattern: it belongs to no namespace of a pod\n");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut wrong = config(dir.path());
    wrong.version = 9;
    let (mut child, said) = start(dir.path(), &wrong);
    assert!(said.contains(CONFIG_FILE) && said.contains("version 9"), "{said}");
    child.wait().unwrap();
    let mut wrong = config(dir.path());
    wrong.sysctls.insert("net.ipv4.ip_forward".into(), "words".into());
    let (mut child, said) = start(dir.path(), &wrong);
    assert!(said.contains("sysctl net.ipv4.ip_forward"), "{said}");
    child.wait().unwrap();
}

#[test]
fn one_monitor_a_directory() {
    let pod = Pod::new(runc());
    let (mut child, said) = start(pod.dir.path(), &config(pod.dir.path()));
    assert!(said.contains("another monitor works here"), "{said}");
    child.wait().unwrap();
    pod.status();
}

#[test]
fn a_directory_with_a_long_name() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let (mut child, said) = start(&deep, &config(&deep));
    assert_eq!(said, "");
    let socket = linux::packet::connect(&deep, "monitor.sock").unwrap();
    linux::packet::send(&socket, &serde_json::to_vec(&Request::Shutdown).unwrap(), &[]).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn pause_ends_with_its_monitor() {
    let dir = tempfile::tempdir().unwrap();
    let mut shared = config(dir.path());
    shared.shared_pid = true;
    let (mut child, said) = start(dir.path(), &shared);
    assert_eq!(said, "");
    let state: proto_node::monitor::MonitorState =
        serde_json::from_slice(&fs::read(dir.path().join("state.json")).unwrap()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let pause = state.pause_pid.unwrap();
    until("the end of pause", || {
        linux::stat::of(pause).is_err_and(|_| true)
            || linux::stat::of(pause).is_ok_and(|stat| stat.state == 'Z')
    });
}

#[test]
fn nonsense_hurts_nobody() {
    let pod = Pod::new(runc());
    for nonsense in [&b"{"[..], b"\xff", br#""Nothing""#, br#"{"Start":{}}"#, &[b'x'; 100_000]] {
        let socket = linux::packet::connect(pod.dir.path(), "monitor.sock").unwrap();
        linux::packet::send(&socket, nonsense, &[]).unwrap();
    }
    // Many that say nothing, and one that does.
    let silent: Vec<_> =
        (0..150).map(|_| linux::packet::connect(pod.dir.path(), "monitor.sock").unwrap()).collect();
    assert!(pod.status().containers.is_empty());
    drop(silent);
    let create = pod.container("../a", "true", &Options::default());
    assert_eq!(pod.refused(&Request::Create(create)).0, ErrorKind::InvalidArgument);
}
