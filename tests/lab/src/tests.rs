//! The lab itself, on the real kernel.

use std::fs;
use std::net::SocketAddr;

use serde_json::json;

use crate::debian::Debian;
use crate::image::{Image, Tree, write_layout};
use crate::registry::{Fault, docker_registry};
use crate::{Machine, Registry, Snapshot, demo, wait};

fn snapshot(machine: &Machine) -> Snapshot {
    Snapshot::take(machine, &[machine.folder()], |_| true).unwrap()
}

#[test]
fn a_machine_is_alone_and_leaves_nothing() {
    let machine = Machine::new().unwrap();
    let name = machine.run(&["hostname"]).unwrap();
    assert!(name.starts_with("lab-"), "{name}");
    assert_eq!(machine.run(&["cat", "/proc/1/comm"]).unwrap(), "sh\n");
    let cgroups: Vec<_> = machine.cgroups().map(std::path::Path::to_path_buf).collect();
    let own = machine.run(&["cat", "/proc/self/cgroup"]).unwrap();
    assert!(own.lines().all(|l| l.ends_with(":/") || l.ends_with(":/init")), "{own}");
    let (init, folder) = (machine.init(), machine.folder().to_path_buf());
    drop(machine);
    assert!(!fs::exists(format!("/proc/{init}/ns")).unwrap() && !folder.exists());
    assert!(cgroups.iter().all(|cgroup| !cgroup.exists()), "{cgroups:?}");
}

#[test]
fn a_snapshot_sees_what_can_leak() {
    let machine = Machine::new().unwrap();
    let before = snapshot(&machine);
    assert_eq!(before.leaked(&snapshot(&machine)), Vec::<String>::new());
    machine.run(&["sh", "-c", "mkdir /run/m && mount -t tmpfs leak /run/m"]).unwrap();
    machine.run(&["ip", "link", "add", "leak0", "type", "veth", "peer", "name", "leak1"]).unwrap();
    machine.run(&["nft", "add table inet leak"]).unwrap();
    machine.run(&["sh", "-c", "for d in /sys/fs/cgroup/*/; do mkdir $d/leak; done"]).unwrap();
    fs::write(machine.folder().join("leak"), "").unwrap();
    let mut sleep = machine.command("unshare");
    sleep.args(["--net", "sleep", "77"]);
    let _process = machine.spawn(sleep).unwrap();
    wait::until_true("the process to be seen", 5, || {
        snapshot(&machine).expect("network namespace", "net:").is_ok()
    })
    .unwrap();
    let text = before.leaked(&snapshot(&machine)).join("\n");
    for part in
        ["mount: /run/m (tmpfs)", "link: leak0", "rule: table inet leak", "/leak", "process: sleep 77"]
    {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(
        text.contains("cgroup: ") && text.contains("network namespace: net:[") && text.contains("file: ")
    );
}

#[test]
fn machines_reach_each_other() {
    let (one, two) = (Machine::new().unwrap(), Machine::new().unwrap());
    one.join("wire", "192.0.2.1/24", &two, "192.0.2.2/24").unwrap();
    let listener = two.in_network(|| std::net::TcpListener::bind("192.0.2.2:80")).unwrap().unwrap();
    let server = listener.local_addr().unwrap();
    one.in_network(|| std::net::TcpStream::connect(server)).unwrap().unwrap();
}

#[test]
fn the_registry_serves_and_misbehaves() {
    let machine = Machine::new().unwrap();
    let registry = Registry::start(&machine).unwrap();
    let mut tree = Tree::default();
    tree.file("a", 0o644, "a".repeat(1000));
    let image = Image::new(&[&tree], &json!({})).unwrap();
    registry.push("team/app", "1", &image);
    let get = |path: &str| machine.get(registry.address(), path);
    assert_eq!(get("/v2/").unwrap().status, 200);
    assert_eq!(get("/v2/team/app/manifests/1").unwrap().body.as_bytes(), image.manifest.bytes);
    assert_eq!(get("/v2/team/app/manifests/2").unwrap().status, 404);
    let config = format!("/v2/team/app/blobs/{}", image.config.digest);
    registry.fault(&image.config.digest, Fault::Corrupt);
    assert_ne!(get(&config).unwrap().body.as_bytes(), image.config.bytes);
    registry.fault(&image.config.digest, Fault::HangUp);
    assert!(get(&config).unwrap().body.len() < image.config.bytes.len());
    registry.heal();
    assert_eq!(get(&config).unwrap().body.as_bytes(), image.config.bytes);
}

#[test]
fn debians_registry_serves_what_was_stored() {
    let machine = Machine::new().unwrap();
    let image = Image::new(&[&Tree::default()], &json!({})).unwrap();
    let _registry = docker_registry(&machine, 5000, &[("team/app:1", &image)]).unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], 5000));
    let manifest = machine.get(server, "/v2/team/app/manifests/1").unwrap();
    assert_eq!((manifest.status, manifest.body.as_bytes()), (200, &image.manifest.bytes[..]));
    let blob = machine.get(server, &format!("/v2/team/app/blobs/{}", image.config.digest)).unwrap();
    assert_eq!(blob.body.as_bytes(), image.config.bytes);
}

#[test]
fn programs_bring_their_libraries() {
    let mut tree = Tree::default();
    Debian::open().unwrap().program(&mut tree, "nginx", "usr/sbin/nginx").unwrap();
    for library in ["libc.so.6", "ld-linux-x86-64.so.2", "libssl.so.3", "libcrypto.so.3", "libpcre2-8.so.0"] {
        assert!(tree.contains(&format!("usr/lib/x86_64-linux-gnu/{library}")), "{library}");
    }
}

/// The images are good when their programs run from their own files alone.
#[test]
fn the_demo_images_run() {
    let machine = Machine::new().unwrap();
    for named in demo::images().unwrap() {
        let name = named.reference.rsplit('/').next().unwrap();
        let root = machine.folder().join(name);
        fs::create_dir(&root).unwrap();
        write_layout(&[(named.reference, &named.image)], &machine.folder().join("layout")).unwrap();
        for layer in &named.image.layers {
            let file = machine.folder().join("layer.tar.gz");
            fs::write(&file, &layer.bytes).unwrap();
            machine.run(&["tar", "-xzf", file.to_str().unwrap(), "-C", root.to_str().unwrap()]).unwrap();
        }
        let test = match name {
            "nginx:1.22" => "nginx -v 2>&1",
            "redis:7.0" => "redis-server --version && redis-cli --version",
            _ => "ls /bin/sh && id",
        };
        machine.run(&["chroot", root.to_str().unwrap(), "/bin/sh", "-c", test]).unwrap();
    }
}
