//! The default seccomp profile, compiled and loaded into this kernel.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use oci_spec::runtime::{Capabilities, Capability};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};

/// Runs `work` under the default profile, in a thread that takes the filter with it.
fn confined<T: Send + 'static>(capabilities: Capabilities, work: impl FnOnce() -> T + Send + 'static) -> T {
    let program =
        oci::seccomp::compile(&cri::seccomp::default_profile(&capabilities)).expect("the profile compiles");
    assert!(program.instructions.len() < 1000, "{} instructions", program.instructions.len());
    let thread = std::thread::spawn(move || {
        linux::seccomp::load(&program.instructions, program.flags).expect("the filter loads");
        work()
    });
    thread.join().expect("the confined thread panicked")
}

#[test]
fn ordinary_programs_work() {
    confined(Capabilities::new(), || {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "text").unwrap();
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7, "clone3 falls back to clone");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let output =
            Command::new("sh").args(["-c", "ls / | sort | head -1; date; sleep 0"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    });
}

#[test]
fn what_escapes_is_denied() {
    confined(Capabilities::new(), || {
        let alg = socket(AddressFamily::from_raw(38), SocketType::SEQPACKET, None);
        assert_eq!(alg.unwrap_err(), Errno::PERM);
        let vsock = socket(AddressFamily::from_raw(40), SocketType::STREAM, None);
        assert_eq!(vsock.unwrap_err(), Errno::PERM);
        assert_eq!(
            rustix::mount::mount("none", "/", "none", rustix::mount::MountFlags::BIND, None),
            Err(Errno::PERM)
        );
        let unshare = Command::new("unshare").args(["--user", "true"]).output().unwrap();
        assert!(String::from_utf8_lossy(&unshare.stderr).contains("not permitted"), "{unshare:?}");
    });
}

#[test]
fn a_capability_opens_its_calls() {
    confined(Capabilities::from([Capability::SysAdmin]), || {
        let unshare = Command::new("unshare").args(["--mount", "true"]).status().unwrap();
        assert!(unshare.success());
    });
}
