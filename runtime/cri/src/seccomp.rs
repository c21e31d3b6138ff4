//! Seccomp profiles: the default one, and those in files.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Deserialize;

/// The largest profile read, in bytes.
const PROFILE_BYTES_MAX: u64 = 1 << 20;
const ENOSYS: u32 = 38;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// `CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}`.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// `PER_LINUX`, `PER_LINUX32`, each with and without `UNAME26`, and the query.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// What every container may call: the set that containerd's and Docker's users know.
const ALWAYS: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod \
    chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat \
    dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 \
    fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl \
    fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs \
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake \
    futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid \
    geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid \
    getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname \
    getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init \
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 \
    io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat \
    llistxattr lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat \
    lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod \
    mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive \
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv \
    msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause \
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl \
    pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 \
    read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages \
    removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction \
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity \
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl \
    semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto \
    set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid \
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat \
    shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair \
    splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo \
    tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times \
    tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat \
    utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// What a capability adds.
const BY_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr \
         move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount \
         umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// The profile `RuntimeDefault` stands for, for a container with these capabilities in its bounding set. What it does
/// not allow fails with `EPERM`; `clone3`, whose flags a filter cannot see, with `ENOSYS`.
pub fn default_profile(capabilities: &Capabilities) -> LinuxSeccomp {
    let mut rules = vec![allow(ALWAYS), allow("process_vm_readv process_vm_writev ptrace")];
    let (architectures, of_machine) = machine();
    rules.extend((!of_machine.is_empty()).then(|| allow(of_machine)));
    // AF_ALG and AF_VSOCK stay out. Each rule has one condition: two on one argument would be alternatives.
    rules.push(allow_if("socket", LinuxSeccompOperator::ScmpCmpLt, AF_ALG));
    rules.push(allow_if("socket", LinuxSeccompOperator::ScmpCmpEq, AF_ALG + 1));
    rules.push(allow_if("socket", LinuxSeccompOperator::ScmpCmpGt, AF_VSOCK));
    rules.extend(
        PERSONALITIES.map(|persona| allow_if("personality", LinuxSeccompOperator::ScmpCmpEq, persona)),
    );
    let granted = BY_CAPABILITY.iter().filter(|(capability, _)| capabilities.contains(capability));
    rules.extend(granted.map(|(_, names)| allow(names)));
    if !capabilities.contains(&Capability::SysAdmin) {
        // The mask is `value`; of what it covers nothing may be set.
        rules.push(allow_if("clone", LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NAMESPACES));
        let mut clone3 = rule("clone3", LinuxSeccompAction::ScmpActErrno, Vec::new());
        clone3.set_errno_ret(Some(ENOSYS));
        rules.push(clone3);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .architectures(architectures)
        .syscalls(rules)
        .build()
        .expect("every field of a profile has a default")
}

/// The ways to call this machine's kernel, and the calls that only it has.
fn machine() -> (Vec<Arch>, &'static str) {
    match std::env::consts::ARCH {
        "x86_64" => {
            (vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32], "arch_prctl modify_ldt")
        }
        "aarch64" => (
            vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
            "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
        ),
        _ => (vec![Arch::ScmpArchNative], ""),
    }
}

fn allow(names: &str) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow, Vec::new())
}

fn allow_if(name: &str, op: LinuxSeccompOperator, value: u64) -> LinuxSyscall {
    let argument = LinuxSeccompArgBuilder::default().index(0usize).op(op).value(value).build();
    rule(
        name,
        LinuxSeccompAction::ScmpActAllow,
        vec![argument.expect("every field of an argument has a default")],
    )
}

fn rule(names: &str, action: LinuxSeccompAction, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let rule = LinuxSyscallBuilder::default().names(names).action(action).args(args);
    rule.build().expect("every field of a rule has a default")
}

/// Why a profile file cannot be used. The container must be refused.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It cannot be read.
    #[error("seccomp profile {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is far larger than any profile.
    #[error("seccomp profile {}: larger than 1 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not OCI `linux.seccomp` as JSON.
    #[error("seccomp profile {}: {field}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where in it, as in `syscalls[3].action`.
        field: String,
        /// Why.
        source: serde_json::Error,
    },
    /// It has conditions that only Docker knows; without them its rules would allow more than they say.
    #[error("seccomp profile {}: {field} is Docker's own form, which no CRI runtime evaluates: {remedy}", path.display())]
    Docker {
        /// The file.
        path: PathBuf,
        /// What of it.
        field: String,
        /// How to write it.
        remedy: &'static str,
    },
}

/// Reads a profile for `Localhost`: OCI `linux.seccomp` as JSON. Unknown fields are skipped, as upstream does.
///
/// # Errors
/// [`ProfileError`].
pub fn read_profile(path: &Path) -> Result<LinuxSeccomp, ProfileError> {
    let read = |source| ProfileError::Read { path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(read)?;
    if !meta.is_file() {
        return Err(read(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    if meta.len() > PROFILE_BYTES_MAX {
        return Err(ProfileError::TooLarge { path: path.to_owned() });
    }
    parse_profile(path, &std::fs::read(path).map_err(read)?)
}

/// The part of Docker's dialect that changes what a rule means.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dialect {
    arch_map: Option<serde_json::Value>,
    #[serde(default)]
    syscalls: Option<Vec<DialectRule>>,
}

#[derive(Deserialize)]
struct DialectRule {
    includes: Option<serde_json::Value>,
    excludes: Option<serde_json::Value>,
}

fn parse_profile(path: &Path, text: &[u8]) -> Result<LinuxSeccomp, ProfileError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let profile: LinuxSeccomp =
        serde_path_to_error::deserialize(&mut json).map_err(|error| ProfileError::Parse {
            path: path.to_owned(),
            field: error.path().to_string(),
            source: error.into_inner(),
        })?;
    let whole = |source| ProfileError::Parse { path: path.to_owned(), field: ".".to_owned(), source };
    json.end().map_err(whole)?;
    let dialect: Dialect = serde_json::from_slice(text).map_err(whole)?;
    let docker = |field, remedy| ProfileError::Docker { path: path.to_owned(), field, remedy };
    if says_something(dialect.arch_map.as_ref()) {
        return Err(docker("archMap".to_owned(), "list the architectures in \"architectures\""));
    }
    for (index, rule) in dialect.syscalls.iter().flatten().enumerate() {
        for (name, value) in [("includes", &rule.includes), ("excludes", &rule.excludes)] {
            if says_something(value.as_ref()) {
                let remedy = "keep the rule without it, or remove the rule";
                return Err(docker(format!("syscalls[{index}].{name}"), remedy));
            }
        }
    }
    Ok(profile)
}

fn says_something(value: Option<&serde_json::Value>) -> bool {
    use serde_json::Value;
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(fields)) => fields.values().any(|field| says_something(Some(field))),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(profile: &LinuxSeccomp) -> Vec<&str> {
        profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names).map(String::as_str).collect()
    }

    #[test]
    fn capabilities_add_calls() {
        let none = default_profile(&Capabilities::new());
        for absent in
            ["mount", "unshare", "setns", "bpf", "reboot", "keyctl", "io_uring_setup", "userfaultfd"]
        {
            assert!(!names(&none).contains(&absent), "{absent}");
        }
        assert!(names(&none).len() >= 370, "{}", names(&none).len());
        let clone3 = |profile: &LinuxSeccomp| {
            let rules = profile.syscalls().as_ref().unwrap();
            rules
                .iter()
                .filter(|rule| rule.names().contains(&"clone3".to_owned()))
                .map(LinuxSyscall::action)
                .collect::<Vec<_>>()
        };
        assert_eq!(clone3(&none), [LinuxSeccompAction::ScmpActErrno]);
        let admin = default_profile(&Capabilities::from([Capability::SysAdmin, Capability::SysBoot]));
        assert!(names(&admin).contains(&"mount") && names(&admin).contains(&"reboot"));
        assert_eq!(clone3(&admin), [LinuxSeccompAction::ScmpActAllow]);
    }

    #[test]
    fn reads_what_upstream_reads() {
        let text = br#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "comment": "unknown",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_MIPS64N32"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {}},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args":
                    [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
        let profile = parse_profile(Path::new("/p.json"), text).unwrap();
        assert_eq!(names(&profile), ["read", "clone"]);
    }

    #[test]
    fn names_the_file_the_field_and_the_remedy() {
        let long = r#"{"defaultAction": "SCMP_ACT_ALLOW"} x"#;
        for (text, part) in [
            (r#"{"defaultAction": "SCMP_ACT_PERMIT"}"#, "/p.json: defaultAction"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": 3}]}"#,
                "syscalls[0].action",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "x"}]}"#,
                "archMap is Docker's",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls":
                    [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#,
                "syscalls[0].includes is Docker's",
            ),
            ("", "/p.json: ."),
            (long, "/p.json: ."),
        ] {
            let error = parse_profile(Path::new("/p.json"), text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(
            read_profile(Path::new("/nowhere/p.json")).unwrap_err().to_string().contains("/nowhere/p.json")
        );
    }
}
