//! Images and configurations that try to reach the host. Each names the defect that other runtimes had.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::bundle::{Bundle, Runtime};

fn evil(change: impl FnOnce(&mut Bundle)) -> Bundle {
    let mut bundle = Bundle::new(Runtime::Ours);
    change(&mut bundle);
    bundle
}

/// An empty directory of the host that must stay so.
struct Untouched(tempfile::TempDir);

impl Untouched {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/tmp").unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn assert(&self) {
        assert_eq!(std::fs::read_dir(self.path()).unwrap().count(), 0, "something was made on the host");
    }
}

/// CVE-2021-30465, CVE-2024-45310: a mount target that is a symbolic link to the host.
#[test]
fn a_mount_target_that_climbs_out_stays_inside() {
    let host = Untouched::new();
    let up = format!("../../../../../../../..{}", host.path().display());
    for link in [host.path().to_str().unwrap(), up.as_str()] {
        for (destination, at) in
            [("/volume", "volume"), ("/volume/sub", "volume"), ("/a/volume/x/y", "a/volume")]
        {
            for source in ["/etc/hostname", "/etc"] {
                let mut bundle = evil(|bundle| {
                    std::fs::create_dir_all(bundle.rootfs().join("a")).unwrap();
                    symlink(link, bundle.rootfs().join(at)).unwrap();
                    bundle.mount(json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind"] }));
                });
                let said = bundle.run("cat /proc/self/mountinfo");
                assert_eq!(said.code, Some(0), "{}", said.err);
                let inside = format!(" {}", host.path().display());
                assert!(said.out.contains(&inside), "mounted where the link points to, below the root");
                host.assert();
            }
        }
    }
}

/// A dangling link in the image is followed inside, and loops end.
#[test]
fn links_that_dangle_or_loop() {
    let mut bundle = evil(|bundle| {
        symlink("/run", bundle.rootfs().join("var-run")).unwrap();
        bundle.mount(json!({ "destination": "/var-run/secrets", "type": "tmpfs", "source": "t" }));
    });
    let said = bundle.run("/bin/busybox grep -c ' /run/secrets ' /proc/self/mountinfo");
    assert_eq!(said.out, "1\n", "{}", said.err);
    let mut bundle = evil(|bundle| {
        symlink("loop", bundle.rootfs().join("loop")).unwrap();
        bundle.mount(json!({ "destination": "/loop/x", "type": "tmpfs", "source": "t" }));
    });
    let said = bundle.run("true");
    assert!(said.code != Some(0) && said.err.contains("/loop/x"), "{}", said.err);
    bundle.assert_gone();
}

/// CVE-2026-41579 and its kin: a `/dev` of the image that points elsewhere.
#[test]
fn a_dev_that_is_a_link_makes_no_node_on_the_host() {
    let host = Untouched::new();
    let mut bundle = evil(|bundle| {
        std::fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
        symlink(host.path(), bundle.rootfs().join("dev")).unwrap();
    });
    let said = bundle.run("stat -c %t:%T /dev/null");
    assert_eq!((said.code, said.out.as_str()), (Some(0), "1:3\n"), "{}", said.err);
    host.assert();
    // Without a mount on /dev nodes go into the image itself, and again not through the link.
    let mut bundle = evil(|bundle| {
        std::fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
        symlink(host.path(), bundle.rootfs().join("dev")).unwrap();
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    });
    let said = bundle.run("stat -c %t:%T /dev/null");
    assert_eq!((said.code, said.out.as_str()), (Some(0), "1:3\n"), "{}", said.err);
    host.assert();
}

/// CVE-2019-19921, CVE-2023-27561: a `/proc` or `/sys` that is a link, to fool what is written through it.
#[test]
fn a_proc_that_is_a_link_is_refused() {
    for name in ["proc", "sys"] {
        let mut bundle = evil(|bundle| {
            std::fs::remove_dir(bundle.rootfs().join(name)).unwrap();
            symlink("tmp", bundle.rootfs().join(name)).unwrap();
        });
        let said = bundle.run("true");
        assert!(said.code != Some(0) && said.err.contains("symbolic link"), "{}", said.err);
        bundle.assert_gone();
    }
}

/// CVE-2025-52881: settings go to the kernel's own procfs even when the container's is covered.
#[test]
fn a_covered_proc_does_not_swallow_settings() {
    let bundle = evil(|bundle| {
        bundle.mount(json!({ "destination": "/proc", "type": "tmpfs", "source": "t" }));
        bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "43" });
        bundle.config["linux"]["maskedPaths"] = json!([]);
        bundle.config["process"]["oomScoreAdj"] = json!(555);
    });
    bundle.create();
    let pid = bundle.pid();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "555\n");
    bundle.done("start", &[]);
}

/// CVE-2019-16884: a volume over a part of procfs would hide the write of a security label.
#[test]
fn nothing_is_mounted_inside_proc() {
    for destination in ["/proc/self/attr", "/proc/sys/kernel", "/proc/../proc/acpi", "/link/self"] {
        let mut bundle = evil(|bundle| {
            symlink("proc", bundle.rootfs().join("link")).unwrap();
            bundle.mount(
                json!({ "destination": destination, "type": "bind", "source": "/tmp", "options": ["bind"] }),
            );
        });
        let said = bundle.run("true");
        assert!(
            said.code != Some(0) && said.err.contains("inside a proc file system"),
            "{destination}: {}",
            said.err
        );
        bundle.assert_gone();
    }
    let mut harmless = evil(|bundle| {
        let source = "/etc/hostname";
        bundle.mount(
            json!({ "destination": "/proc/uptime", "type": "bind", "source": source, "options": ["bind"] }),
        );
    });
    assert_eq!(harmless.run("cat /proc/uptime").out, std::fs::read_to_string("/etc/hostname").unwrap());
}

/// CVE-2025-31133: a `/dev/null` that is not the device must not be what masks.
#[test]
fn a_false_dev_null_masks_nothing() {
    let mut bundle = evil(|bundle| {
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        symlink("/proc/sys/kernel/core_pattern", bundle.rootfs().join("dev/null")).unwrap();
    });
    let said = bundle.run("true");
    assert!(said.code != Some(0) && said.err.contains("/dev/null"), "{}", said.err);
    bundle.assert_gone();
    // Through a directory of the host that the container may write, as the volume of a race would be.
    let mut bundle = evil(|bundle| {
        let directory = bundle.path().join("evil-dev");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("null"), "").unwrap();
        bundle.mount(
            json!({ "destination": "/dev", "type": "bind", "source": directory, "options": ["bind"] }),
        );
    });
    let said = bundle.run("true");
    assert!(said.code != Some(0) && said.err.contains("not the device"), "{}", said.err);
}

/// Masked and read-only paths that are links are followed inside the container only.
#[test]
fn masked_links_stay_inside() {
    let host = Untouched::new();
    let mut bundle = evil(|bundle| {
        symlink(host.path(), bundle.rootfs().join("secret")).unwrap();
        symlink("/etc", bundle.rootfs().join("config")).unwrap();
        bundle.config["linux"]["maskedPaths"] = json!(["/secret", "/config"]);
        bundle.config["linux"]["readonlyPaths"] = json!(["/secret"]);
    });
    assert_eq!(bundle.run("ls /etc; echo end").out, "end\n");
    host.assert();
}

/// CVE-2025-52565: a `/dev/console` or `/dev/pts` prepared by the image.
#[test]
fn a_false_console_or_ptmx_is_refused() {
    let mut bundle = evil(|bundle| {
        bundle.config["process"]["terminal"] = json!(true);
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/dev/pts");
        mounts.push(
            json!({ "destination": "/dev/pts", "type": "bind", "source": "/tmp", "options": ["bind"] }),
        );
    });
    let said = bundle.run("true");
    assert!(said.code != Some(0) && said.err.contains("/dev/pts/ptmx"), "{}", said.err);
    bundle.assert_gone();
}

/// CVE-2024-21626: a working directory that leads through a descriptor to the host.
#[test]
fn a_working_directory_outside_is_refused() {
    for number in 3..20 {
        let mut bundle =
            evil(|bundle| bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}")));
        let said = bundle.run("ls ..");
        assert!(
            said.code != Some(0) && said.err.contains("process.cwd"),
            "{number}: {} {}",
            said.out,
            said.err
        );
    }
    let bundle = evil(|_| {});
    bundle.create();
    bundle.done("start", &[]);
    for number in 3..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let said = bundle.command("exec", &["--cwd", &cwd], &["ls", ".."]).output().unwrap();
        assert!(!said.status.success(), "{number}: {}", String::from_utf8_lossy(&said.stdout));
    }
}

/// CVE-2019-5736: the runtime's own binary cannot be opened for writing from inside, not even by its first process.
#[test]
fn the_runtime_cannot_be_overwritten() {
    let mut bundle = evil(|bundle| {
        // The interpreter is the runtime itself, as in the published attack.
        std::fs::write(bundle.rootfs().join("bin/evil"), "#!/proc/self/exe\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bundle.rootfs().join("bin/evil"), mode).unwrap();
    });
    bundle.args(&["/bin/evil"]);
    let said = bundle.call("run", &[]);
    assert_ne!(said.code, Some(0));
    // What a waiting first process runs from is a read-only mount.
    let bundle = evil(|_| {});
    bundle.create();
    let exe = format!("/proc/{}/exe", bundle.pid());
    let error = std::fs::OpenOptions::new().write(true).open(exe).unwrap_err();
    assert!([Some(30), Some(26)].contains(&error.raw_os_error()), "{error}");
}

/// CVE-2016-9962: a process of the container cannot look into one of ours that is on its way into it.
#[test]
fn a_process_on_its_way_is_not_dumpable() {
    use std::os::unix::fs::MetadataExt;
    let bundle = evil(|bundle| bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    bundle.create();
    let of = |file: &str| format!("/proc/{}/{file}", bundle.pid());
    // It is that user already; but to its peers its descriptors are root's, as those of no dumpable process are.
    assert!(std::fs::read_to_string(of("status")).unwrap().contains("Uid:\t1000\t1000"));
    assert_eq!(std::fs::metadata(of("fd")).unwrap().uid(), 0);
}

/// What this runtime cannot apply it refuses, by name, and leaves nothing.
#[test]
fn nothing_is_dropped_in_silence() {
    let cases = [
        ("/linux/intelRdt", json!({ "closID": "x" })),
        ("/linux/uidMappings", json!([{ "hostID": 1, "containerID": 0, "size": 1 }])),
        ("/linux/mountLabel", json!("label")),
        ("/linux/timeOffsets", json!({ "monotonic": { "secs": 1 } })),
        ("/process/apparmorProfile", json!("some-profile")),
        ("/process/selinuxLabel", json!("label")),
        ("/linux/resources/network", json!({ "classID": 5 })),
        ("/linux/resources/rdma", json!({ "mlx": { "hcaHandles": 1 } })),
        ("/linux/resources/unified", json!({ "memory.high": "1" })),
        ("/linux/sysctl", json!({ "kernel.panic": "1" })),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x" })),
        ("/linux/cgroupsPath", json!("system.slice:cleat:x")),
        ("/mounts/0/options", json!(["idmap"])),
        ("/mounts/0/uidMappings", json!([{ "hostID": 1, "containerID": 0, "size": 1 }])),
    ];
    for (pointer, value) in cases {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let mut bundle = evil(|bundle| bundle.config.pointer_mut(parent).unwrap()[field] = value.clone());
        let said = bundle.run("true");
        assert_ne!(said.code, Some(0), "{pointer}");
        let named = said.err.contains(field) || field == "options" || field == "unified";
        assert!(named, "{pointer}: {}", said.err);
        bundle.assert_gone();
    }
}
