//! What a configuration asks for, seen from inside the container.

use serde_json::{Value, json};

use crate::bundle::{Bundle, Runtime, all};

/// Runs a script in a container of each runtime; its output must be `expected`.
fn check(change: impl Fn(&mut Bundle), script: &str, expected: &str) {
    for runtime in all() {
        check_with(runtime, &change, script, expected);
    }
}

fn check_with(runtime: Runtime, change: &impl Fn(&mut Bundle), script: &str, expected: &str) {
    let mut bundle = Bundle::new(runtime);
    change(&mut bundle);
    let said = bundle.run(script);
    assert_eq!(said.out, expected, "{runtime:?} {script}: {}", said.err);
}

fn process(name: &'static str, value: Value) -> impl Fn(&mut Bundle) {
    move |bundle| bundle.config["process"][name] = value.clone()
}

fn linux(name: &'static str, value: Value) -> impl Fn(&mut Bundle) {
    move |bundle| bundle.config["linux"][name] = value.clone()
}

#[test]
fn names_users_and_directories() {
    let nothing = |_: &mut Bundle| {};
    check(nothing, "hostname; id -u; echo $HOME; cat /proc/self/comm", "inside\n0\n/root\ncat\n");
    let user = json!({ "uid": 1000, "gid": 7, "additionalGids": [5, 6], "umask": 23 });
    check(process("user", user), "id; umask; echo $HOME", "uid=1000(u) gid=7 groups=5,6\n0027\n/home/u\n");
    check(process("user", json!({ "uid": 4321, "gid": 1 })), "echo $HOME; umask", "/\n0022\n");
    check(process("cwd", json!("/made/for/it")), "echo $PWD", "/made/for/it\n");
    // An image's WORKDIR /root works for any user.
    let private = |bundle: &mut Bundle| {
        std::fs::create_dir(bundle.rootfs().join("root")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(bundle.rootfs().join("root"), mode).unwrap();
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 7 });
        bundle.config["process"]["cwd"] = json!("/root");
    };
    check(private, "cd /; echo runs", "runs\n");
    check(process("env", json!(["PATH=/bin", "A=b c", "HOME=/x"])), "echo $A $HOME", "b c /x\n");
}

#[test]
fn namespaces_are_new_unless_named() {
    let mut bundle = Bundle::new(Runtime::Ours);
    let said = bundle.run("for n in net ipc uts mnt pid; do /bin/busybox readlink /proc/self/ns/$n; done");
    for (link, kind) in said.out.lines().zip(["net", "ipc", "uts", "mnt", "pid"]) {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(link, own.to_str().unwrap());
    }
    // Its own loopback is up.
    check(|_| {}, "cat /sys/class/net/lo/operstate /sys/class/net/lo/flags", "unknown\n0x9\n");
    // Those of another container, as in a pod.
    for runtime in all() {
        let sandbox = Bundle::new(runtime);
        sandbox.create();
        let pid = sandbox.pid();
        let mut bundle = Bundle::new(runtime);
        for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
            let kind = namespace["type"].as_str().unwrap().to_owned();
            if kind != "mount" {
                let link = if kind == "network" { "net" } else { &kind };
                namespace["path"] = json!(format!("/proc/{pid}/ns/{link}"));
            }
        }
        let said =
            bundle.run("for n in net ipc uts pid; do /bin/busybox readlink /proc/self/ns/$n; done; echo $$");
        let mut lines = said.out.lines();
        for kind in ["net", "ipc", "uts", "pid"] {
            let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            assert_eq!(lines.next(), theirs.to_str(), "{runtime:?} {kind}: {}", said.err);
        }
        assert_ne!(lines.next(), Some("1"), "{runtime:?}: a PID of the shared namespace");
    }
}

#[test]
fn rights_are_those_listed() {
    let status =
        "cat /proc/self/status | while read k v; do case $k in Cap*|NoNew*|Seccomp:) echo $k $v;; esac; done";
    let zero = "0000000000000000";
    let expected = |inh: &str, prm: &str, eff: &str, bnd: &str, amb: &str, nnp: &str| {
        let line = |name: &str, bits: &str| format!("{name}: {:0>16}\n", bits);
        line("CapInh", inh)
            + &line("CapPrm", prm)
            + &line("CapEff", eff)
            + &line("CapBnd", bnd)
            + &line("CapAmb", amb)
            + &format!("NoNewPrivs: {nnp}\nSeccomp: 0\n")
    };
    check(|_| {}, status, &expected(zero, "80004e1", "80004e1", "80004e1", zero, "1"));
    let ambient = |bundle: &mut Bundle| {
        let kill = json!(["CAP_KILL"]);
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        bundle.config["process"]["noNewPrivileges"] = json!(false);
        bundle.config["process"]["capabilities"] = json!({ "bounding": kill, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill });
    };
    check(ambient, status, &expected("20", "20", "20", "20", "20", "0"));
    let plain_user =
        |bundle: &mut Bundle| bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    check(plain_user, status, &expected(zero, zero, zero, "80004e1", zero, "1"));
    check_with(
        Runtime::Ours,
        &|bundle: &mut Bundle| drop(bundle.config["process"].as_object_mut().unwrap().remove("capabilities")),
        status,
        &expected(zero, zero, zero, zero, zero, "1"),
    );
    let all = |bundle: &mut Bundle| {
        // More than this machine's root has: what it lacks is left out.
        let all = json!(["CAP_SYS_RESOURCE", "CAP_KILL"]);
        bundle.config["process"]["capabilities"] =
            json!({ "bounding": all, "permitted": all, "effective": all });
    };
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let permitted = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    let bits = u64::from_str_radix(permitted, 16).unwrap() & (1 << 24 | 1 << 5);
    let bits = format!("{bits:x}");
    check_with(Runtime::Ours, &all, status, &expected(zero, &bits, &bits, &bits, zero, "1"));
}

#[test]
fn limits_of_the_process() {
    let rlimits = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }, { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
    check(process("rlimits", rlimits), "ulimit -n; ulimit -Hn; ulimit -c", "100\n200\n0\n");
    check(process("oomScoreAdj", json!(321)), "cat /proc/self/oom_score_adj", "321\n");
    // Out of reach without CAP_SYS_RESOURCE: clamped, not refused.
    let far = |bundle: &mut Bundle| {
        bundle.config["process"]["oomScoreAdj"] = json!(-998);
        bundle.config["process"]["rlimits"] =
            json!([{ "type": "RLIMIT_NOFILE", "soft": 999_999, "hard": 1_000_000 }]);
    };
    check_with(Runtime::Ours, &far, "echo runs", "runs\n");
    let personality = json!({ "domain": "LINUX32" });
    check_with(Runtime::Ours, &linux("personality", personality), "/bin/busybox uname -m", "i686\n");
    check_with(
        Runtime::Ours,
        &process("scheduler", json!({ "policy": "SCHED_BATCH", "nice": 5 })),
        "/bin/busybox cut -d' ' -f19,41 /proc/self/stat",
        "5 3\n",
    );
    let idle = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 4 });
    check_with(Runtime::Ours, &process("ioPriority", idle), "/bin/busybox ionice -p $$", "idle\n");
}

#[test]
fn devices_are_the_usual_ones_and_no_others_open() {
    check(
        |_| {},
        "cd /dev; echo $(ls)",
        "console fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n"
            .replace("console ", "")
            .as_str(),
    );
    check(
        |_| {},
        "stat -c '%n %F %t:%T %a' /dev/null /dev/tty; echo x > /dev/null; /bin/busybox head -c 3 /dev/zero | /bin/busybox wc -c",
        "/dev/null character special file 1:3 666\n/dev/tty character special file 5:0 666\n3\n",
    );
    // The node can be made, but not opened.
    check(
        |_| {},
        "/bin/busybox mknod /dev/mem c 1 1 && (cat /dev/mem 2>&1)",
        "cat: can't open '/dev/mem': Operation not permitted\n",
    );
    let kmsg = |bundle: &mut Bundle| {
        bundle.config["linux"]["devices"] = json!([
            { "path": "/dev/kmsg0", "type": "c", "major": 1, "minor": 11, "fileMode": 438, "uid": 7, "gid": 8 },
            { "path": "/dev/sub/pipe", "type": "p", "major": 0, "minor": 0, "fileMode": 384 },
        ]);
        let all = json!(["CAP_SYSLOG"]);
        bundle.config["process"]["capabilities"] =
            json!({ "bounding": all, "permitted": all, "effective": all });
        let rules = bundle.config["linux"]["resources"]["devices"].as_array_mut().unwrap();
        rules.push(json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }));
    };
    check(
        kmsg,
        "stat -c '%F %t:%T %a %u:%g' /dev/kmsg0 /dev/sub/pipe; : < /dev/kmsg0 && echo open; (: > /dev/kmsg0) 2>/dev/null || echo closed",
        "character special file 1:b 666 7:8\nfifo 0:0 600 0:0\nopen\nclosed\n",
    );
}

#[test]
fn mounts_have_their_options() {
    let options = "cat /proc/self/mountinfo | while read a b c d at opts rest; do case $at in /m*) echo $at $opts;; esac; done";
    for runtime in all() {
        let host = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::write(host.path().join("file"), "text").unwrap();
        let mut bundle = Bundle::new(runtime);
        let source = host.path().to_str().unwrap();
        for (at, mount_options) in [
            ("/m1", json!(["rbind", "rprivate", "ro", "nosuid", "nodev", "noexec"])),
            ("/m2/deep", json!(["bind", "rw"])),
            ("/m3", json!(["rbind", "noatime"])),
        ] {
            bundle.mount(
                json!({ "destination": at, "type": "bind", "source": source, "options": mount_options }),
            );
        }
        let file = format!("{source}/file");
        bundle.mount(
            json!({ "destination": "/m4/file", "type": "bind", "source": file, "options": ["bind", "ro"] }),
        );
        bundle.mount(json!({ "destination": "/m5", "type": "tmpfs", "source": "x", "options": ["mode=700", "size=64k", "ro"] }));
        let said = bundle.run(&format!("{options}; cat /m4/file /m1/file; echo x > /m2/deep/new && echo written; (echo x > /m1/new) 2>&1; stat -c %a /m5"));
        assert_eq!(
            said.out,
            "/m1 ro,nosuid,nodev,noexec,relatime\n/m2/deep rw,relatime\n/m3 rw,noatime\n/m4/file ro,relatime\n\
             /m5 ro,relatime\ntexttextwritten\n/bin/sh: can't create /m1/new: Read-only file system\n700\n",
            "{runtime:?}: {}",
            said.err
        );
        assert!(host.path().join("new").exists());
    }
}

#[test]
fn a_recursive_read_only_mount_reaches_what_is_below() {
    let mut bundle = Bundle::new(Runtime::Ours);
    bundle.mount(
        json!({ "destination": "/host", "type": "bind", "source": "/dev", "options": ["rbind", "rro"] }),
    );
    let said = bundle.run("(echo x > /host/shm/x) 2>&1; cat /proc/self/mountinfo | while read a b c d at opts rest; do case $at in /host*) echo ${opts%%,*};; esac; done");
    assert!(
        said.out.contains("Read-only file system") && !said.out.contains("rw"),
        "{} {}",
        said.out,
        said.err
    );
}

#[test]
fn a_tmpfs_can_begin_with_what_the_image_has() {
    for runtime in all() {
        let mut bundle = Bundle::new(runtime);
        std::fs::create_dir_all(bundle.rootfs().join("data/sub")).unwrap();
        std::fs::write(bundle.rootfs().join("data/sub/file"), "from the image\n").unwrap();
        std::os::unix::fs::chown(bundle.rootfs().join("data/sub/file"), Some(7), Some(8)).unwrap();
        std::os::unix::fs::symlink("sub/file", bundle.rootfs().join("data/link")).unwrap();
        bundle.mount(json!({ "destination": "/data", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "mode=755"] }));
        let said = bundle.run("cat /data/link; stat -c %u:%g /data/sub/file; echo new > /data/sub/file");
        assert_eq!(said.out, "from the image\n7:8\n", "{runtime:?} {}", said.err);
        assert_eq!(
            std::fs::read_to_string(bundle.rootfs().join("data/sub/file")).unwrap(),
            "from the image\n"
        );
    }
}

#[test]
fn what_is_masked_or_read_only_is_so() {
    check(
        |_| {},
        "cat /proc/keys /proc/timer_list; ls /sys/firmware; (echo x > /sys/firmware/x) 2>/dev/null || echo closed",
        "closed\n",
    );
    check(
        |_| {},
        "(echo 1 > /proc/sys/kernel/shm_rmid_forced) 2>&1",
        "/bin/sh: can't create /proc/sys/kernel/shm_rmid_forced: Read-only file system\n",
    );
    let readonly = |bundle: &mut Bundle| bundle.config["root"]["readonly"] = json!(true);
    check(
        readonly,
        "(echo x > /x) 2>&1; echo x > /dev/shm/x && cat /dev/shm/x",
        "/bin/sh: can't create /x: Read-only file system\nx\n",
    );
    let readonly_dev = |bundle: &mut Bundle| {
        let options = json!(["nosuid", "mode=755", "ro"]);
        bundle.config["mounts"][1]["options"] = options;
    };
    check(
        readonly_dev,
        "(echo x > /dev/x) 2>&1; echo x > /dev/null && echo fine",
        "/bin/sh: can't create /dev/x: Read-only file system\nfine\n",
    );
}

#[test]
fn sysctls_and_names_of_its_own_namespaces() {
    let sysctl = json!({ "net.ipv4.ip_unprivileged_port_start": "42", "kernel.shm_rmid_forced": "1" });
    check(
        linux("sysctl", sysctl),
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced",
        "42\n1\n",
    );
    check_with(
        Runtime::Ours,
        &|bundle: &mut Bundle| bundle.config["domainname"] = json!("domain"),
        "cat /proc/sys/kernel/domainname",
        "domain\n",
    );
}

#[test]
fn its_cgroup_can_be_shown() {
    let cgroup = |bundle: &mut Bundle| {
        bundle.mount(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }));
        bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 77 });
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
    };
    check(
        cgroup,
        "cd /sys/fs/cgroup; [ -d pids ] && cd pids; cat pids.max; (echo 5 > pids.max) 2>/dev/null || echo closed; \
         /bin/busybox grep -E ':pids:|^0::' /proc/self/cgroup | /bin/busybox sed 's/.*://' | /bin/busybox sort -u",
        "77\nclosed\n/\n",
    );
}

#[test]
fn a_seccomp_profile_holds_with_and_without_new_privileges() {
    for privileges in [true, false] {
        let change = |bundle: &mut Bundle| {
            bundle.config["process"]["noNewPrivileges"] = json!(privileges);
            bundle.config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 111 }],
            });
        };
        check(
            change,
            "/bin/busybox mkdir /tmp/x 2>&1; /bin/busybox grep Seccomp: /proc/self/status",
            "mkdir: can't create directory '/tmp/x': Connection refused\nSeccomp:\t2\n",
        );
    }
}

#[test]
fn nothing_of_the_host_is_open() {
    for runtime in all() {
        let mut bundle = Bundle::new(runtime);
        bundle.script(
            "for fd in /proc/self/fd/*; do case $fd in */[0-2]) ;; *) /bin/busybox readlink $fd;; esac; done",
        );
        // Held open by the caller, and not to be handed on.
        let leak = std::fs::File::open("/").unwrap();
        let leak = rustix::io::fcntl_dupfd_cloexec(&leak, 30).unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let said = bundle.call("run", &[]);
        assert_eq!(said.out.replace("/proc", ""), "", "{runtime:?}");
    }
}

#[test]
fn mounts_reach_the_container_or_the_host_as_asked() {
    for (propagation, host_to_container, container_to_host) in
        [("rprivate", false, false), ("rslave", true, false), ("rshared", true, true)]
    {
        let mut bundle = Bundle::new(Runtime::Ours);
        let host = bundle.path().join("shared");
        std::fs::create_dir_all(host.join("from-host")).unwrap();
        std::fs::create_dir_all(host.join("from-container")).unwrap();
        let mounted = Mounted::shared(&host);
        let all = json!(["CAP_SYS_ADMIN"]);
        bundle.config["process"]["capabilities"] =
            json!({ "bounding": all, "permitted": all, "effective": all });
        bundle.mount(
            json!({ "destination": "/m", "type": "bind", "source": host, "options": ["rbind", propagation] }),
        );
        bundle.create();
        bundle.done("start", &[]);
        let inner = Mounted::tmpfs(&host.join("from-host"));
        let count = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
        let inside = bundle.done("exec", &["cat", "/proc/self/mountinfo"]).out;
        assert_eq!(count(&inside, "/m/from-host ") == 1, host_to_container, "{propagation}");
        bundle.done("exec", &["mount", "-t", "tmpfs", "x", "/m/from-container"]);
        let outside = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(count(&outside, "shared/from-container ") == 1, container_to_host, "{propagation}");
        if container_to_host {
            drop(Mounted(host.join("from-container")));
        }
        drop(inner);
        bundle.done("kill", &["KILL"]);
        bundle.until("stopped");
        drop(mounted);
    }
}

/// A mount of the host, gone with the value.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn shared(path: &std::path::Path) -> Self {
        rustix::mount::mount_bind(path, path).unwrap();
        rustix::mount::mount_change(path, rustix::mount::MountPropagationFlags::PRIVATE).unwrap();
        rustix::mount::mount_change(path, rustix::mount::MountPropagationFlags::SHARED).unwrap();
        Self(path.to_owned())
    }

    fn tmpfs(path: &std::path::Path) -> Self {
        rustix::mount::mount("x", path, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
