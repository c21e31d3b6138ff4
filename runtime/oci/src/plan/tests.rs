//! The order of steps, defaults and fallbacks.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::spec::check;

fn host() -> Host {
    Host {
        unified: false,
        capabilities: u64::MAX >> 23,
        last_capability: 40,
        hard_limits: [1000; 16],
        oom_score_adj: 0,
    }
}

fn config(value: &Value) -> Config {
    check(serde_json::from_value(value.clone()).unwrap(), Path::new("/bundle")).unwrap()
}

fn full() -> Value {
    json!({
        "ociVersion": "1.2.0", "root": { "path": "rootfs", "readonly": true }, "hostname": "h",
        "process": {
            "user": { "uid": 5, "gid": 6 }, "args": ["/bin/true"], "cwd": "/w", "noNewPrivileges": true,
            "terminal": true, "oomScoreAdj": -500, "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 5000, "hard": 6000 }],
            "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
                              "ambient": ["CAP_KILL"] },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc" },
            { "destination": "/dev", "type": "tmpfs", "options": ["ro"] },
            { "destination": "/dev/pts", "type": "devpts" },
        ],
        "linux": {
            "namespaces": [
                { "type": "mount" }, { "type": "uts" }, { "type": "cgroup" }, { "type": "network" },
                { "type": "pid", "path": "/proc/7/ns/pid" }, { "type": "ipc", "path": "/proc/7/ns/ipc" },
            ],
            "sysctl": { "net.core.somaxconn": "1" }, "maskedPaths": ["/proc/keys"], "readonlyPaths": ["/proc/sys"],
            "rootfsPropagation": "rslave",
            "seccomp": { "defaultAction": "SCMP_ACT_ALLOW" },
        },
    })
}

fn steps(value: &Value, host: &Host) -> Vec<Step> {
    plan(&config(value), host, "id").unwrap()
}

fn position(steps: &[Step], what: impl Fn(&Action) -> bool) -> usize {
    steps.iter().position(|step| what(&step.action)).unwrap()
}

#[test]
fn the_order_is_what_security_needs() {
    let steps = steps(&full(), &host());
    let at = |action: Action| position(&steps, |one| *one == action);
    let order = [
        at(Action::MakeCgroup),
        position(&steps, |action| matches!(action, Action::Limit(_))),
        at(Action::JoinNamespace(LinuxNamespaceType::Pid, "/proc/7/ns/pid".into())),
        at(Action::Spawn(flag::NEWNS | flag::NEWUTS | flag::NEWNET)),
        at(Action::JoinCgroup),
        at(Action::NewCgroupNamespace),
        at(Action::JoinNamespace(LinuxNamespaceType::Ipc, "/proc/7/ns/ipc".into())),
        at(Action::CloneSources),
        at(Action::CutPropagation),
        at(Action::MountRoot),
        position(&steps, |action| matches!(action, Action::Mount(_))),
        position(&steps, |action| matches!(action, Action::MakeNode(_))),
        position(&steps, |action| matches!(action, Action::OpenTerminal { .. })),
        at(Action::BindConsole),
        at(Action::RuntimeHooks),
        at(Action::ContainerHooks),
        at(Action::PivotRoot),
        at(Action::Sysctl("net/core/somaxconn".into(), "1".into())),
        at(Action::MakeDirectory("/w".into())),
        at(Action::ReadonlyMount("/dev".into())),
        at(Action::ReadonlyRoot),
        at(Action::ReadonlyPath("/proc/sys".into())),
        at(Action::MaskPath("/proc/keys".into())),
        at(Action::NoNewPrivileges),
        at(Action::EnterDirectory("/w".into())),
        position(&steps, |action| matches!(action, Action::DropBounding(_))),
        position(&steps, |action| matches!(action, Action::User { .. })),
        position(&steps, |action| matches!(action, Action::Capabilities(_))),
        at(Action::WorkingDirectory("/w".into())),
        at(Action::FindProgram),
        at(Action::AwaitStart),
        at(Action::StartHooks),
        at(Action::CloseOnExec),
        at(Action::Seccomp),
        at(Action::Execute),
    ];
    assert!(order.is_sorted(), "{order:?} in {steps:#?}");
    assert_eq!(order.last(), Some(&(steps.len() - 1)));
}

#[test]
fn a_filter_without_no_new_privileges_comes_before_the_rights_go() {
    let mut value = full();
    value["process"]["noNewPrivileges"] = json!(false);
    let steps = steps(&value, &host());
    let filter = position(&steps, |action| *action == Action::Seccomp);
    assert!(filter < position(&steps, |action| matches!(action, Action::DropBounding(_))));
}

#[test]
fn what_the_host_cannot_give_is_clamped() {
    let mut host = host();
    let clamped = steps(&full(), &host);
    assert!(clamped.contains(&Action::OomScoreAdj(-500).into()));
    host.capabilities = 1 << 5;
    let clamped = steps(&full(), &host);
    assert!(clamped.contains(&Action::OomScoreAdj(0).into()));
    assert!(clamped.contains(&Action::ResourceLimit { resource: 7, soft: 1000, hard: 1000 }.into()));
    // An ambient capability that is not inheritable is none.
    let sets = Capabilities { bounding: 32, effective: 32, permitted: 32, inheritable: 0, ambient: 0 };
    assert!(clamped.contains(&Action::Capabilities(sets).into()));
    assert!(clamped.contains(&Action::DropBounding((1 << 41) - 1 - 32).into()));
}

#[test]
fn on_v2_the_clone_joins_and_the_path_has_a_default() {
    let host = Host { unified: true, ..host() };
    assert!(!steps(&full(), &host).contains(&Action::JoinCgroup.into()));
    assert_eq!(cgroup_path(&config(&full()), "id"), "/cleat/id");
    let mut value = full();
    value["linux"]["cgroupsPath"] = json!("relative/path");
    assert_eq!(cgroup_path(&config(&value), "id"), "/relative/path");
}

#[test]
fn devices_start_closed_and_the_default_ones_are_open() {
    let limits = create_limits(None).unwrap();
    let rules = limits.devices.unwrap();
    assert!(!rules[0].allow && rules[0].kind == DeviceKind::All);
    assert!(
        rules.iter().any(|rule| rule.allow && (rule.major, rule.minor) == (Some(1), Some(3)) && rule.write)
    );
    let everything = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
    let limits = create_limits(Some(&serde_json::from_value(everything).unwrap())).unwrap();
    assert_eq!(limits.devices.unwrap().len(), 2);
}

#[test]
fn a_node_falls_back_to_the_hosts_and_a_bound_dev_is_left_alone() {
    let nodes: Vec<Step> = steps(&full(), &host())
        .into_iter()
        .filter(|step| matches!(step.action, Action::MakeNode(_)))
        .collect();
    assert_eq!(nodes.len(), 6);
    assert!(nodes.iter().all(|step| matches!(step.fallback, Some(Action::BindNode(_)))));
    let mut value = full();
    value["mounts"][1] = json!({ "destination": "/dev", "source": "/dev", "options": ["rbind"] });
    let steps = steps(&value, &host());
    assert!(!steps.iter().any(|step| matches!(step.action, Action::MakeNode(_) | Action::Link { .. })));
}

proptest! {
    /// Everything the caller does to the host can be undone, and every step after the clone is the container's own.
    #[test]
    fn every_effect_on_the_host_has_its_undo(unified: bool, terminal: bool, no_new_privileges: bool, namespaces in 0..16_u8) {
        let mut value = full();
        value["process"]["terminal"] = json!(terminal);
        value["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let all = [("cgroup", 1), ("ipc", 2), ("network", 4), ("pid", 8)];
        let mut list = vec![json!({ "type": "mount" }), json!({ "type": "uts" })];
        list.extend(all.iter().filter(|(_, bit)| namespaces & bit != 0).map(|(kind, _)| json!({ "type": kind })));
        value["linux"]["namespaces"] = json!(list);
        value["linux"]["sysctl"] = json!({});
        let steps = steps(&value, &Host { unified, ..host() });
        for step in &steps {
            match step.action {
                Action::MakeCgroup => prop_assert_eq!(step.undo, Some(Undo::RemoveCgroup)),
                Action::Spawn(_) => prop_assert_eq!(step.undo, Some(Undo::KillInit)),
                Action::Limit(_) | Action::JoinCgroup => {}
                _ => prop_assert_eq!(step.action.side(), Side::Init),
            }
        }
        prop_assert_eq!(&steps.last().unwrap().action, &Action::Execute);
        prop_assert_eq!(&plan(&config(&value), &Host { unified, ..host() }, "id").unwrap(), &steps);
    }
}
