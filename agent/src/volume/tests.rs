//! Volumes on a real file system; those that mount need root and a mount namespace of their own.

use std::os::unix::fs::{MetadataExt, symlink};

use agent_core::Node;
use agent_core::data::{Data, Kind, Objects, Reference, Unread};
use agent_core::volume::Tokens;
use serde_json::{Value, json};

use super::*;

struct Lab {
    dir: tempfile::TempDir,
    pod: Pod,
    node: Node,
    objects: Objects,
}

impl Lab {
    fn new(volumes: Value, mounts: Value) -> Self {
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "labels": {"a": "b"}},
            "spec": {"volumes": volumes, "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["x", "y"]}],
                "containers": [{"name": "c", "terminationMessagePath": "/dev/end", "volumeMounts": mounts}]}});
        let pod = crate::decode::pod(pod).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { dir, pod, node: Node::default(), objects: Objects::default() }
    }

    fn pod_dir(&self) -> PodDir {
        PodDir(self.dir.path().join("u"))
    }

    fn prepare(&self) -> Result<(), String> {
        let tokens = Tokens::new();
        let facts = Facts { pod: &self.pod, uid: "u", pod_ips: &[], node: &self.node };
        let sources = Sources { objects: &self.objects, tokens: &tokens };
        let prepared = prepare(&self.pod_dir(), &Made { facts, sources, now: Timestamp::UNIX_EPOCH });
        let failed = prepared.map_err(|e| e.to_string())?.failed;
        failed.first().map_or(Ok(()), |(_, error)| Err(error.to_string()))
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
            domain: "cluster.local",
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
    // What a container made of it stays when volumes are written anew.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o1700)).unwrap();
    lab.prepare().unwrap();
    assert!(path.join("kept").exists());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o1700);
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
        Lab::new(source, json!([])).prepare()
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
fn files_of_objects_lie_in_memory_and_change_at_once() {
    alone(|| {
        let items = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 256},
            {"path": "sub/uid", "fieldRef": {"fieldPath": "metadata.uid"}}]);
        let volumes = json!([{"name": "d", "downwardAPI": {"items": items}},
            {"name": "m", "configMap": {"name": "m"}}, {"name": "s", "secret": {"secretName": "s"}}]);
        let mounts = json!([{"name": "m", "mountPath": "/m"}, {"name": "m", "mountPath": "/one", "subPath": "k"},
            {"name": "s", "mountPath": "/m/secret/here"}]);
        let mut lab = Lab::new(volumes, mounts);
        lab.pod.spec.as_mut().unwrap().security_context =
            serde_json::from_value(json!({"fsGroup": 7})).unwrap();
        let hold = |lab: &mut Lab, text: &str| {
            for (kind, name) in [(Kind::ConfigMap, "m"), (Kind::Secret, "s")] {
                let data = [("k".to_owned(), text.as_bytes().to_vec())].into();
                let data = std::sync::Arc::new(Data { data, ..Data::default() });
                lab.objects.0.insert(Reference::new(kind, name), Ok(data));
            }
        };
        hold(&mut lab, "old");
        lab.prepare().unwrap();
        let at = |kind: &str, name: &str| lab.pod_dir().volume(kind, name);
        let [labels, map, secret] =
            [at("downward-api", "d").join("labels"), at("configmap", "m"), at("secret", "s").join("k")];
        assert_eq!(fs::read_to_string(&labels).unwrap(), "a=\"b\"");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "old");
        let meta = fs::metadata(&labels).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.gid()), (0o440, 7), "the group may read");
        assert!(is_mount_point(secret.parent().unwrap()).unwrap() && !is_mount_point(&map).unwrap());
        assert!(map.join("secret/here").is_dir(), "something is mounted onto it");
        let mounts = lab.mounts().unwrap();
        assert!(mounts[..3].iter().all(|m| m.readonly));
        assert_eq!(fs::read_to_string(&mounts[1].host_path).unwrap(), "old");
        hold(&mut lab, "new");
        lab.prepare().unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "new");
        assert_eq!(fs::read_to_string(&mounts[1].host_path).unwrap(), "old", "a subPath stays as it was");
        assert_eq!(fs::read_to_string(&lab.mounts().unwrap()[1].host_path).unwrap(), "new");
        lab.objects.0.insert(Reference::new(Kind::Secret, "s"), Err(Unread::Unknown("away".into())));
        lab.prepare().unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "new", "what is known last counts");
        lab.objects.0.insert(Reference::new(Kind::Secret, "s"), Err(Unread::NotFound));
        assert_eq!(lab.prepare().unwrap_err(), "secret \"s\" not found");
        teardown(&lab.pod_dir()).unwrap();
        assert!(!lab.pod_dir().0.exists());
    });
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
            ("near/file", true),
            ("near/../../x", false),
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
