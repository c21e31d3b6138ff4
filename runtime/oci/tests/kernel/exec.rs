//! Further processes in a container, and terminals.

use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::json;

use crate::bundle::{Bundle, Runtime, Said, all};

fn running(runtime: Runtime, change: impl FnOnce(&mut Bundle)) -> Bundle {
    let mut bundle = Bundle::new(runtime);
    change(&mut bundle);
    bundle.create();
    bundle.done("start", &[]);
    bundle
}

fn exec(bundle: &Bundle, options: &[&str], program: &[&str]) -> Said {
    bundle.command("exec", options, program).output().unwrap().into()
}

#[test]
fn a_process_joins_namespaces_and_cgroup_with_the_rights_of_the_container() {
    for runtime in all() {
        let bundle = running(runtime, |_| {});
        for kind in ["net", "ipc", "uts", "mnt", "pid", "cgroup"] {
            let link = format!("/proc/{}/ns/{kind}", bundle.pid());
            let theirs = std::fs::read_link(link).unwrap().display().to_string();
            // busybox has no readlink link here.
            let said = exec(&bundle, &[], &["/bin/busybox", "readlink", &format!("/proc/self/ns/{kind}")]);
            assert_eq!(said.out.trim(), theirs, "{runtime:?} {kind} {}", said.err);
        }
        let said = exec(&bundle, &[], &["sh", "-c", "cat /proc/self/status; cat /proc/self/cgroup"]);
        for line in [
            "CapBnd:\t00000000080004e1",
            "CapEff:\t00000000080004e1",
            "CapInh:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(said.out.contains(line), "{runtime:?} {line}: {}", said.out);
        }
        assert!(said.out.contains(bundle.cgroup().path()), "{runtime:?}: {}", said.out);
        // runc hands on what the C library has ignored in it.
        if matches!(runtime, Runtime::Ours) {
            let said = exec(&bundle, &[], &["/bin/busybox", "grep", "Sig[BI]", "/proc/self/status"]);
            assert_eq!(said.out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
        }
    }
}

#[test]
fn codes_and_failures_come_back() {
    for runtime in all() {
        let bundle = running(runtime, |_| {});
        assert_eq!(exec(&bundle, &[], &["sh", "-c", "exit 9"]).code, Some(9));
        let said = exec(&bundle, &[], &["no-such"]);
        assert!(
            said.code != Some(0) && said.err.contains("executable file not found in $PATH"),
            "{}",
            said.err
        );
        assert_ne!(exec(&bundle, &["--user", "1000x"], &["id"]).code, Some(0), "{runtime:?}");
        assert_ne!(exec(&bundle, &["--cwd", "/nowhere"], &["id"]).code, Some(0), "{runtime:?}");
        let said = exec(
            &bundle,
            &["--user", "1000:7", "--env", "A=b", "--cwd", "/tmp"],
            &["sh", "-c", "id; echo $A $PWD"],
        );
        assert!(said.out.starts_with("uid=1000(u) gid=7"), "{runtime:?} {} {}", said.out, said.err);
        assert!(said.out.ends_with("\nb /tmp\n"), "{runtime:?} {}", said.out);
    }
    let bundle = running(Runtime::Ours, |_| {});
    for bad in ["", "root", "0x1", "-1", "+1", "1:", "1:2:3", "4294967296"] {
        assert_ne!(exec(&bundle, &[&format!("--user={bad}")], &["id"]).code, Some(0), "--user {bad:?}");
    }
}

#[test]
fn a_process_file_says_everything() {
    for runtime in all() {
        let bundle = running(runtime, |_| {});
        let file = bundle.path().join("process.json");
        let process = json!({
            "user": { "uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 63 },
            "args": ["sh", "-c", "id; umask; cat /proc/self/status"], "env": ["PATH=/bin"], "cwd": "/tmp",
            "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                              "ambient": ["CAP_KILL"], "effective": ["CAP_KILL"] },
        });
        std::fs::write(&file, process.to_string()).unwrap();
        let said = exec(&bundle, &["--process", file.to_str().unwrap()], &[]);
        // runc 1.1 forgets the umask here.
        assert!(said.out.contains("0077") || runtime == Runtime::Runc, "{}", said.out);
        for line in [
            "groups=5,6",
            "CapBnd:\t0000000000000020",
            "CapAmb:\t0000000000000020",
            "CapEff:\t0000000000000020",
        ] {
            assert!(said.out.contains(line), "{runtime:?} {line}: {} {}", said.out, said.err);
        }
    }
}

#[test]
fn what_is_stopped_or_paused_takes_no_process() {
    for runtime in all() {
        let bundle = running(runtime, |_| {});
        bundle.done("pause", &[]);
        assert_ne!(exec(&bundle, &[], &["true"]).code, Some(0), "{runtime:?}");
        bundle.done("resume", &[]);
        bundle.done("kill", &["KILL"]);
        bundle.until("stopped");
        assert_ne!(exec(&bundle, &[], &["true"]).code, Some(0), "{runtime:?}");
    }
}

/// As systemd in a container does: it moves itself down, and hands its controllers on.
#[test]
fn a_container_that_divides_its_cgroup_still_takes_processes() {
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    let bundle = running(Runtime::Ours, |bundle| {
        bundle.config["process"]["capabilities"] =
            json!({ "bounding": all, "permitted": all, "effective": all });
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
        bundle.mount(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"] }));
        bundle.script(
            "cd /sys/fs/cgroup; if [ -e cgroup.procs ]; then /bin/busybox mkdir inner; echo 1 > inner/cgroup.procs; \
             echo +pids > cgroup.subtree_control; fi; : > /tmp/divided; exec sleep 1000",
        );
    });
    while !bundle.rootfs().join("tmp/divided").exists() {
        std::thread::yield_now();
    }
    let said = exec(&bundle, &[], &["echo", "joined"]);
    assert_eq!(said.out, "joined\n", "{}", said.err);
}

/// The master of a terminal that a runtime sends to a console socket.
fn receive_master(listener: &UnixListener) -> std::os::fd::OwnedFd {
    let (socket, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let buffer = &mut [rustix::io::IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(&socket, buffer, &mut control, rustix::net::RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut received = control.drain().filter_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    received.next().unwrap()
}

fn read_to_end(master: &std::os::fd::OwnedFd) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(master, &mut buffer) {
        all.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn a_terminal_is_the_containers_own_and_its_console() {
    for runtime in all() {
        let mut bundle = Bundle::new(runtime);
        bundle.config["process"]["terminal"] = json!(true);
        bundle.config["process"]["consoleSize"] = json!({ "height": 40, "width": 120 });
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        bundle.script("tty; stty size; stat -c %t:%T:%u /dev/console; echo to the console > /dev/console");
        let socket = bundle.path().join("console.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut create: Command =
            bundle.command("create", &["--console-socket", socket.to_str().unwrap()], &[]);
        let said: Said = create.output().unwrap().into();
        assert_eq!(said.code, Some(0), "{runtime:?}: {}", said.err);
        let master = receive_master(&listener);
        bundle.done("start", &[]);
        let text = read_to_end(&master);
        assert_eq!(text, "/dev/pts/0\r\n40 120\r\n88:0:1000\r\nto the console\r\n", "{runtime:?}");
    }
}

#[test]
fn a_process_gets_a_terminal_of_the_container() {
    for runtime in all() {
        let bundle = running(runtime, |_| {});
        let socket = bundle.path().join("console.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let options = ["--tty", "--detach", "--console-socket", socket.to_str().unwrap()];
        let said = exec(&bundle, &options, &["tty"]);
        assert_eq!(said.code, Some(0), "{runtime:?}: {}", said.err);
        assert_eq!(read_to_end(&receive_master(&listener)), "/dev/pts/0\r\n", "{runtime:?}");
    }
}
