//! Volumes on a real file system; those that mount need root and a mount namespace of their own.

use std::os::unix::fs::{MetadataExt, symlink};

use agent_core::Node;
use serde_json::{Value, json};

use super::*;

struct Lab {
    dir: tempfile::TempDir,
    pod: Pod,
    node: Node,
}

impl Lab {
    fn new(volumes: Value, mounts: Value) -> Self {
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "labels": {"a": "b"}},
            "spec": {"volumes": volumes, "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["x", "y"]}],
                "containers": [{"name": "c", "terminationMessagePath": "/dev/end", "volumeMounts": mounts}]}});
        let pod = crate::decode::pod(pod).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), pod, node: Node::default() }
    }

    fn pod_dir(&self) -> PodDir {
        PodDir(self.dir.path().join("u"))
    }

    fn prepare(&self) -> Result<(), VolumeFailed> {
        prepare(&self.pod_dir(), &Facts { pod: &self.pod, uid: "u", pod_ips: &[], node: &self.node })
    }

    fn mounts(&self) -> Result<Vec<proto_cri::Mount>, VolumeFailed> {
        let ips = ["10.0.0.7".to_owned()];
        let environment = [("SUB".to_owned(), "from-env".to_owned())];
        container_mounts(&ContainerMounts {
            dir: &self.pod_dir(),
            pod: &self.pod,
            spec: &pod::containers(&self.pod)[0],
            attempt: 3,
            pod_ips: &ips,
            environment: &environment,
        })
    }
}

/// Runs a test in a thread with a mount namespace of its own; nothing it mounts is left.
fn alone(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare_mounts();
        test();
    });
    thread.join().unwrap();
}

fn unshare_mounts() {
    let flags = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    linux::fork::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
    rustix::mount::mount_change("/", flags).unwrap();
}

#[test]
fn empty_dirs_are_for_everybody_and_kept() {
    let lab = Lab::new(
        json!([{"name": "v", "emptyDir": {}}]),
        json!([{"name": "v", "mountPath": "/v", "readOnly": true}]),
    );
    lab.prepare().unwrap();
    let path = lab.pod_dir().volume("empty-dir", "v");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);
    fs::write(path.join("kept"), "").unwrap();
    lab.prepare().unwrap();
    assert!(path.join("kept").exists());
    let mounts = lab.mounts().unwrap();
    assert_eq!((mounts[0].container_path.as_str(), mounts[0].readonly), ("/v", true));
    assert_eq!(Path::new(&mounts[0].host_path), path);
    let hosts = mounts.iter().find(|m| m.container_path == "/etc/hosts").unwrap();
    let text = fs::read_to_string(&hosts.host_path).unwrap();
    assert!(text.contains("10.0.0.7\tp\n") && text.contains("192.0.2.9\tx\ty\n"), "{text}");
    let message = mounts.iter().find(|m| m.container_path == "/dev/end").unwrap();
    assert_eq!(fs::metadata(&message.host_path).unwrap().mode() & 0o777, 0o666);
    teardown(&lab.pod_dir()).unwrap();
    teardown(&lab.pod_dir()).unwrap();
    assert!(!lab.pod_dir().0.exists());
}

#[test]
fn host_paths_are_what_their_type_says() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let check = |path: &Path, kind: &str| {
        let source = json!([{"name": "v", "hostPath": {"path": path, "type": kind}}]);
        Lab::new(source, json!([])).prepare().map_err(|e| e.to_string())
    };
    for (path, kind, good) in [
        (root.path(), "Directory", true),
        (root.path(), "File", false),
        (&file, "File", true),
        (&file, "Directory", false),
        (&file, "Socket", false),
        (Path::new("/dev/null"), "CharDevice", true),
        (Path::new("/dev/null"), "BlockDevice", false),
        (&root.path().join("new-dir"), "DirectoryOrCreate", true),
        (&root.path().join("new-file"), "FileOrCreate", true),
        (&root.path().join("none"), "File", false),
    ] {
        let result = check(path, kind);
        assert_eq!(result.is_ok(), good, "{} {kind}: {result:?}", path.display());
    }
    let text = check(&root.path().join("none"), "Directory").unwrap_err();
    assert!(
        text.contains("hostPath volume \"v\"") && text.contains("is not a directory: create it"),
        "{text}"
    );
    assert!(root.path().join("new-dir").is_dir() && root.path().join("new-file").is_file());
}

#[test]
fn the_downward_api_is_files_behind_a_link() {
    let items = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 256},
        {"path": "sub/uid", "fieldRef": {"fieldPath": "metadata.uid"}}]);
    let lab = Lab::new(json!([{"name": "v", "downwardAPI": {"items": items}}]), json!([]));
    lab.prepare().unwrap();
    lab.prepare().unwrap();
    let path = lab.pod_dir().volume("downward-api", "v");
    assert_eq!(fs::read_to_string(path.join("labels")).unwrap(), "a=\"b\"");
    assert_eq!(fs::metadata(path.join("labels")).unwrap().mode() & 0o777, 0o400);
    assert_eq!(fs::read_to_string(path.join("sub/uid")).unwrap(), "u");
    assert!(fs::symlink_metadata(path.join("..data")).unwrap().is_symlink());
}

#[test]
fn memory_is_a_mount_that_goes() {
    alone(|| {
        let source = json!([{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
        let lab = Lab::new(source, json!([]));
        lab.prepare().unwrap();
        lab.prepare().unwrap();
        let path = lab.pod_dir().volume("empty-dir", "v");
        assert_eq!(mounts_below(&lab.pod_dir().0).unwrap(), [fs::canonicalize(&path).unwrap()]);
        let size = rustix::fs::statvfs(&path).unwrap();
        assert_eq!(size.f_blocks * size.f_frsize, 1 << 20);
        teardown(&lab.pod_dir()).unwrap();
        assert!(!lab.pod_dir().0.exists());
    });
}

#[test]
fn sub_paths_do_not_climb_out() {
    alone(|| {
        let root = tempfile::tempdir().unwrap();
        let volume = json!([{"name": "v", "hostPath": {"path": root.path()}}]);
        let mount = |sub: &str| json!([{"name": "v", "mountPath": "/v", "subPath": sub}]);
        fs::create_dir(root.path().join("there")).unwrap();
        fs::write(root.path().join("there/file"), "inside").unwrap();
        symlink("/etc", root.path().join("link")).unwrap();
        symlink("there", root.path().join("near")).unwrap();
        for (sub, good) in [
            ("there", true),
            ("there/file", true),
            ("new/deep", true),
            ("../x", false),
            ("link", false),
            ("link/passwd", false),
            ("near/file", false),
            ("/etc", false),
        ] {
            let lab = Lab::new(volume.clone(), mount(sub));
            lab.prepare().unwrap();
            let mounts = lab.mounts();
            assert_eq!(mounts.is_ok(), good, "{sub}: {mounts:?}");
            if sub == "there/file" {
                assert_eq!(fs::read_to_string(&mounts.unwrap()[0].host_path).unwrap(), "inside");
                // A second attempt at the container finds it bound already.
                assert!(lab.mounts().is_ok());
            }
            teardown(&lab.pod_dir()).unwrap();
        }
        assert!(root.path().join("new/deep").is_dir());
        assert_eq!(
            fs::read_to_string(root.path().join("there/file")).unwrap(),
            "inside",
            "teardown keeps the volume"
        );
        let by_env = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(SUB)"}]);
        let lab = Lab::new(volume, by_env);
        lab.prepare().unwrap();
        lab.mounts().unwrap();
        assert!(root.path().join("from-env").is_dir());
        teardown(&lab.pod_dir()).unwrap();
    });
}

#[test]
fn mount_points_are_unescaped() {
    assert_eq!(unescape(r"/a\040b\134c"), PathBuf::from(r"/a b\c"));
    assert_eq!(unescape(r"/a\x"), PathBuf::from(r"/a\x"));
}
