//! Parsing by tables, and the kernel's own cgroups of this machine.

use std::process::{Child, Command, Stdio};

use super::*;

#[test]
fn mounts_of_a_hybrid_machine_are_v1_and_of_a_new_one_v2() {
    let line =
        |mount: &str, kind: &str, options: &str| format!("40 31 0:37 / {mount} rw - {kind} cgroup {options}");
    let v2 = line("/sys/fs/cgroup/unified", "cgroup2", "rw");
    let hybrid = [
        line("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
        line("/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd"),
        line("/run/elsewhere", "cgroup", "rw,memory"),
        v2.clone(),
    ];
    let Some(Hierarchies::V1(all)) = Hierarchies::parse(&hybrid.join("\n")) else { panic!("v1") };
    assert_eq!(all.len(), 2);
    assert!(all[0].has("cpu") && all[0].has("cpuacct") && !all[0].has("memory"));
    let named = [line("/sys/fs/cgroup/systemd", "cgroup", "rw,name=systemd"), v2].join("\n");
    assert_eq!(Hierarchies::parse(&named), Some(Hierarchies::V2("/sys/fs/cgroup/unified".into())));
    assert_eq!(Hierarchies::parse("27 1 254:0 / / rw - ext4 /dev/vda rw"), None);
}

#[test]
fn a_path_is_absolute_and_does_not_climb() {
    let hierarchies = Hierarchies::V2("/sys/fs/cgroup".into());
    for bad in ["", "a", "/a/../b", "a:b:c"] {
        assert!(Cgroup::of_path(&hierarchies, bad).is_err(), "{bad}");
    }
    let cgroup = Cgroup::of_path(&hierarchies, "//a/./b/").unwrap();
    assert_eq!((cgroup.path(), cgroup.directories()), ("/a/b", vec!["/sys/fs/cgroup/a/b".into()]));
}

#[test]
fn shares_become_weights_by_the_agreed_curve() {
    for (shares, weight) in
        [(0, 1), (2, 1), (102, 17), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)]
    {
        assert_eq!(v2::weight_of_shares(shares), weight, "{shares} shares");
    }
}

#[test]
fn statistics_are_read_from_the_text_of_either_version() {
    let stat =
        "cache 1\ntotal_cache 40\ntotal_rss 8\ntotal_swap 3\ntotal_inactive_file 30\ntotal_pgfault 5\n";
    let memory = v1::memory_stats(100, Some(9_223_372_036_854_771_712), stat);
    assert_eq!((memory.working_set, memory.rss, memory.cache, memory.limit), (70, 8, 40, None));
    let io = v2::io_stats(
        "254:0 rbytes=5 wbytes=6 rios=1 wios=2 dbytes=0\n8:0 rbytes=10 wbytes=0 rios=1 wios=0\n",
    );
    assert_eq!(io, IoStats { read_bytes: 15, write_bytes: 6, read_ops: 2, write_ops: 2 });
    let stall = v2::stall("some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 total=3\n");
    assert_eq!((stall.some.avg10, stall.some.total_us, stall.full.total_us), (1.5, 77, 3));
}

/// A cgroup with a process in it; both go with the value.
struct Live {
    cgroup: Cgroup,
    child: Child,
}

impl Live {
    fn new(name: &str) -> Self {
        let hierarchies = Hierarchies::read().unwrap();
        let path = format!("/cleat-test-{}-{name}/inner", std::process::id());
        let cgroup = Cgroup::of_path(&hierarchies, &path).unwrap();
        cgroup.create().unwrap();
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        cgroup.join(child.id()).unwrap();
        Self { cgroup, child }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let parent = self.cgroup.path().trim_end_matches("/inner").to_owned();
        Cgroup::of_path(&Hierarchies::read().unwrap(), &parent).unwrap().remove().unwrap();
    }
}

#[test]
fn a_cgroup_limits_freezes_kills_and_goes() {
    let mut live = Live::new("life");
    let cgroup = live.cgroup.clone();
    assert_eq!(cgroup.pids().unwrap(), [live.child.id()]);
    let mut limits = Limits { pids: Some(7), ..Limits::default() };
    limits.memory.limit = Some(64 << 20);
    limits.cpu = Cpu { quota: Some(50_000), period: Some(100_000), shares: Some(512), ..Cpu::default() };
    limits.devices = Some(vec![]);
    cgroup.limit(&limits).unwrap();
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.pids, stats.pids_limit, stats.memory.limit), (1, Some(7), Some(64 << 20)));
    // Each of these would be refused in the other order of its two writes.
    for (quota, period, memory) in [(5_000, 10_000, 256 << 20), (300_000, 1_000_000, 8 << 20)] {
        limits.cpu.quota = Some(quota);
        limits.cpu.period = Some(period);
        limits.memory.limit = Some(memory);
        limits.memory.swap = Some(memory);
        cgroup.limit(&limits).unwrap();
    }
    cgroup.freeze().unwrap();
    assert!(cgroup.frozen().unwrap());
    cgroup.thaw().unwrap();
    assert!(!cgroup.frozen().unwrap());
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
    cgroup.kill().unwrap();
    live.child.wait().unwrap();
    cgroup.remove().unwrap();
    assert!(!cgroup.exists());
    assert!(cgroup.pids().unwrap().is_empty());
    cgroup.kill().unwrap();
}

#[test]
fn a_frozen_cgroup_is_killed_too() {
    let mut live = Live::new("frozen");
    live.cgroup.freeze().unwrap();
    live.cgroup.kill().unwrap();
    live.child.wait().unwrap();
}
