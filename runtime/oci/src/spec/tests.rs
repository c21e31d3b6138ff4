//! What is refused, and how options are read.

use proptest::prelude::*;
use rustix::mount::MountAttrFlags as Attr;
use serde_json::{Value, json};

use super::*;

fn minimal() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "cwd": "/" },
        "linux": { "namespaces": [{ "type": "mount" }] },
    })
}

fn checked(config: &Value) -> Result<Config, RuntimeError> {
    check(parse(config.to_string().as_bytes())?, Path::new("/bundle"))
}

/// Sets one value; `null` removes it.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = minimal();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(field);
    } else {
        parent.insert(field.to_owned(), value);
    }
    config
}

#[test]
fn the_least_configuration_is_enough() {
    let config = checked(&minimal()).unwrap();
    assert_eq!(config.root, Path::new("/bundle/rootfs"));
    assert_eq!(config.process.umask, 0o022);
    assert_eq!(config.process.capabilities, Capabilities::default());
}

#[test]
fn properties_nobody_knows_are_ignored() {
    checked(&with("/linux/fromTheFuture", json!({ "x": 1 }))).unwrap();
}

#[test]
fn what_cannot_work_is_refused_with_its_field() {
    let cases = [
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("one"), "ociVersion"),
        ("/root", Value::Null, "root"),
        ("/process", Value::Null, "process"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!(["a\u{0}b"]), "null byte"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/env", json!(["novalue"]), "process.env"),
        ("/process/terminal", json!(true), "devpts"),
        ("/process/oomScoreAdj", json!(2000), "process.oomScoreAdj"),
        ("/process/rlimits", json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }]), "RLIMIT_CORE"),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CPU", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CPU", "soft": 1, "hard": 1 }]),
            "twice",
        ),
        ("/process/capabilities", json!({ "effective": ["CAP_KILL"] }), "process.capabilities"),
        ("/linux", Value::Null, "linux"),
        ("/linux/namespaces", json!([]), "mount namespace"),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "mount" }]), "twice"),
        ("/linux/namespaces", json!([{ "type": "mount", "path": "/proc/1/ns/mnt" }]), "mount namespace"),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "user" }]), "user namespaces"),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "network", "path": "x" }]), "absolute"),
        ("/hostname", json!("h"), "hostname"),
        ("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }), "network"),
        ("/linux/sysctl", json!({ "net..x": "1" }), "name of a sysctl"),
        ("/linux/rootfsPropagation", json!("sideways"), "rootfsPropagation"),
        ("/linux/cgroupsPath", json!("/a/../b"), "climbs"),
        ("/linux/personality", json!({ "domain": "LINUX", "flags": ["X"] }), "personality"),
        ("/mounts", json!([{ "destination": "/x" }]), "mounts[0]"),
        ("/mounts", json!([{ "destination": "/x", "type": "bind", "options": ["bind"] }]), "source"),
        ("/mounts", json!([{ "destination": "/x", "source": "/y", "options": ["bind", "size=1"] }]), "size"),
        ("/mounts", json!([{ "destination": "/x", "type": "proc", "options": ["tmpcopyup"] }]), "tmpcopyup"),
    ];
    for (pointer, value, text) in cases {
        let error = checked(&with(pointer, value.clone())).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidSpec, "{pointer}");
        assert!(error.to_string().contains(text), "{pointer} {value}: {error}");
    }
}

fn mount(value: Value) -> Mount {
    let mount = serde_json::from_value(value).unwrap();
    Mount::of(&mount, Path::new("/bundle")).unwrap()
}

#[test]
fn mount_options_become_attributes_and_data() {
    let tmpfs = mount(json!({
        "destination": "t", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "ro", "rw", "noexec", "size=1k", "huge", "rslave", "tmpcopyup"],
    }));
    assert_eq!(tmpfs.destination, Path::new("/t"));
    assert_eq!(tmpfs.set, Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC);
    assert_eq!(tmpfs.propagation, Some((Propagation::Slave, true)));
    assert!(tmpfs.copy_up);
    let data = vec![("size".to_owned(), Some("1k".to_owned())), ("huge".to_owned(), None)];
    assert_eq!(tmpfs.source, Source::FileSystem { kind: "tmpfs".into(), source: Some("tmpfs".into()), data });

    let bind = mount(
        json!({ "destination": "/b", "source": "rel", "options": ["rbind", "ro", "rro", "rnosuid", "rdev"] }),
    );
    assert_eq!(bind.source, Source::Bind { path: "/bundle/rel".into(), recursive: true });
    assert_eq!(bind.set, Attr::MOUNT_ATTR_RDONLY);
    assert_eq!(bind.set_recursive, Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOSUID);
    assert_eq!(bind.clear_recursive, Attr::MOUNT_ATTR_NODEV);
}

#[test]
fn sysctl_names_come_dotted_or_slashed() {
    for (name, path) in [
        ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
        ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
        ("net.ipv4.conf.eth0/100.forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
        ("net/ipv4/conf/eth0.100/forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
        ("../x", None),
        ("net/../x", None),
        ("", None),
    ] {
        assert_eq!(sysctl_path(name).as_deref(), path, "{name}");
    }
}

#[test]
fn limits_are_read_with_gos_zeroes() {
    let resources = json!({
        "cpu": { "shares": 0, "quota": 0, "period": 100_000, "cpus": "0-1" },
        "memory": { "limit": -1, "kernel": -1, "disableOOMKiller": false },
        "pids": { "limit": 5 },
        "devices": [{ "allow": true, "type": "c", "major": -1, "access": "rm" }],
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 }],
        "blockIO": { "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 7 }] },
    });
    let limits = limits(&serde_json::from_value(resources).unwrap()).unwrap();
    assert_eq!((limits.cpu.shares, limits.cpu.quota, limits.cpu.period), (None, None, Some(100_000)));
    assert_eq!(
        (limits.memory.limit, limits.memory.disable_oom_killer, limits.pids),
        (Some(-1), None, Some(5))
    );
    let rule = limits.devices.unwrap()[0];
    assert_eq!((rule.major, rule.read, rule.write, rule.mknod), (None, true, false, true));
    assert_eq!(limits.hugetlb["2MB"], 4);
    assert_eq!(limits.io.read_bps[0].1, 7);
}

proptest! {
    /// Whatever the text, a name of a sysctl never leads out of /proc/sys.
    #[test]
    fn no_sysctl_climbs(name in "[a./]{0,12}") {
        if let Some(path) = sysctl_path(&name) {
            prop_assert!(!path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        }
    }
}
