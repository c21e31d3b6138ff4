//! A container's mounts: what every container has, what its pod shares, what its configuration asks for.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use proto_cri::{ContainerConfig, Mount as Wished, MountPropagation};

use super::{Host, PlanError};

/// What a mount of the configuration turned out to be on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path, symlinks resolved.
    Path(PathBuf),
    /// A directory of an image: its share in each layer, the topmost first.
    Layers(Vec<PathBuf>),
}

/// Mount options a configuration may ask for beyond `readonly`.
const OPTIONS: &[&str] = &[
    "async",
    "atime",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "relatime",
    "ro",
    "rw",
    "strictatime",
    "suid",
    "sync",
];

/// Checks a mount before anything is touched.
pub(crate) fn validate(index: usize, mount: &Wished) -> Result<(), PlanError> {
    let invalid = |field: &str, message: String| {
        let path = &mount.container_path;
        Err(PlanError::invalid(&format!("mounts[{index}].{field}"), format!("{path:?}: {message}")))
    };
    let propagation = MountPropagation::try_from(mount.propagation);
    let path = Path::new(&mount.container_path);
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if !path.has_root() && mount.container_path.is_empty() || climbs || path == Path::new("/") {
        return invalid("container_path", "must name a path below /".to_owned());
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return invalid(
            "uidMappings",
            "needs user namespaces, which this runtime does not support".to_owned(),
        );
    }
    if let Some(option) = mount.mount_options.iter().find(|option| !OPTIONS.contains(&option.as_str())) {
        return invalid("mount_options", format!("{option:?} is not one of {}", OPTIONS.join(", ")));
    }
    if propagation.is_err() {
        return invalid("propagation", format!("unknown value {}", mount.propagation));
    }
    if mount.recursive_read_only && !mount.readonly {
        return invalid("recursive_read_only", "needs readonly".to_owned());
    }
    if mount.recursive_read_only && propagation != Ok(MountPropagation::PropagationPrivate) {
        return invalid("recursive_read_only", "needs propagation PRIVATE".to_owned());
    }
    match (&mount.image, mount.host_path.is_empty()) {
        (Some(_), false) => invalid("image", "an image and a host_path exclude each other".to_owned()),
        (Some(_), true) if !mount.readonly => invalid("readonly", "an image volume is read-only".to_owned()),
        (None, true) => invalid("host_path", "is empty".to_owned()),
        _ => Ok(()),
    }
}

fn mount(destination: &str, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(ToString::to_string).collect()));
    mount
}

/// The kernel's file systems.
fn kernel(privileged: bool) -> Vec<Mount> {
    let access = if privileged { "rw" } else { "ro" };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

/// What all containers of a pod share; the files are in the sandbox's directory.
fn shared(pod_dir: &Path, host_ipc: bool, readonly: bool) -> Vec<Mount> {
    let access = if readonly { "ro" } else { "rw" };
    let file = |to: &str, name: &str| mount(to, "bind", pod_dir.join(name), &["rbind", "rprivate", access]);
    let shm = if host_ipc { PathBuf::from("/dev/shm") } else { pod_dir.join("shm") };
    vec![
        file("/etc/hostname", "hostname"),
        file("/etc/hosts", "hosts"),
        file("/etc/resolv.conf", "resolv.conf"),
        mount("/dev/shm", "bind", shm, &["rbind", "rprivate", "rw"]),
    ]
}

/// All mounts, in the order to make them, and the propagation of the root: what the configuration mounts replaces
/// what a container has by default; `/dev` replaces everything below it too. `sources` are those of
/// `config.mounts`, in its order.
pub(crate) fn mounts(
    config: &ContainerConfig,
    sources: &[Source],
    pod_dir: &Path,
    host: &Host,
) -> (Vec<Mount>, Option<String>) {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let privileged = context.is_some_and(|context| context.privileged);
    let readonly = context.is_some_and(|context| context.readonly_rootfs);
    let host_ipc = context
        .and_then(|context| context.namespace_options.as_ref())
        .is_some_and(|options| options.ipc() == proto_cri::NamespaceMode::Node);
    let paths: Vec<PathBuf> = config.mounts.iter().map(|mount| absolute(&mount.container_path)).collect();
    let own_dev = paths.iter().any(|path| path == Path::new("/dev"));
    let mut all = kernel(privileged);
    all.extend(shared(pod_dir, host_ipc, readonly));
    all.retain(|mount| {
        let destination = mount.destination();
        !(paths.contains(destination) || own_dev && destination.starts_with("/dev"))
    });
    let mut wished: Vec<_> = config.mounts.iter().zip(sources).zip(paths).collect();
    wished.sort_by_key(|(_, path)| path.components().count());
    all.extend(wished.into_iter().map(|((wished, source), path)| bind(wished, source, path, host)));
    let propagation = config.mounts.iter().map(Wished::propagation).max_by_key(|mode| *mode as i32);
    let root = match propagation {
        Some(MountPropagation::PropagationBidirectional) => Some("rshared".to_owned()),
        Some(MountPropagation::PropagationHostToContainer) => Some("rslave".to_owned()),
        _ => None,
    };
    (all, root)
}

/// A destination as the container sees it; a relative one counts from its root.
fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path).components().collect()
}

fn bind(wished: &Wished, source: &Source, destination: PathBuf, host: &Host) -> Mount {
    let propagation = match wished.propagation() {
        MountPropagation::PropagationPrivate => "rprivate",
        MountPropagation::PropagationHostToContainer => "rslave",
        MountPropagation::PropagationBidirectional => "rshared",
    };
    let access = match (wished.readonly, wished.recursive_read_only && host.recursive_read_only) {
        (true, true) => "rro",
        (true, false) => "ro",
        (false, _) => "rw",
    };
    let mut options: Vec<String> = Vec::new();
    let (kind, path) = match source {
        Source::Path(path) => {
            options.extend(["rbind".to_owned(), propagation.to_owned()]);
            ("bind", path.clone())
        }
        // overlayfs without a writable layer needs two layers.
        Source::Layers(layers) if layers.len() == 1 => {
            options.extend(["rbind".to_owned(), propagation.to_owned()]);
            ("bind", layers[0].clone())
        }
        Source::Layers(layers) => {
            let texts: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy()).collect();
            options.push(format!("lowerdir={}", texts.join(":")));
            ("overlay", PathBuf::from("overlay"))
        }
    };
    options.push(access.to_owned());
    options.extend(wished.mount_options.iter().cloned());
    let mut mount = Mount::default();
    mount
        .set_destination(destination)
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(path))
        .set_options(Some(options));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(path: &str) -> Wished {
        Wished { container_path: path.into(), host_path: "/host".into(), ..Default::default() }
    }

    fn planned(wished: Vec<Wished>) -> (Vec<Mount>, Option<String>) {
        let sources = vec![Source::Path("/host".into()); wished.len()];
        let config = ContainerConfig { mounts: wished, ..Default::default() };
        let host = Host { recursive_read_only: true, ..Host::default() };
        mounts(&config, &sources, Path::new("/run/pods/x"), &host)
    }

    fn destinations(mounts: &[Mount]) -> Vec<String> {
        mounts.iter().map(|mount| mount.destination().display().to_string()).collect()
    }

    #[test]
    fn configuration_replaces_defaults_and_parents_come_first() {
        let (all, root) = planned(vec![wished("/data/deep/er"), wished("/etc/hosts"), wished("data")]);
        let all = destinations(&all);
        assert_eq!(all.iter().filter(|path| *path == "/etc/hosts").count(), 1);
        let at = |path: &str| all.iter().position(|one| one == path).unwrap();
        assert!(at("/data") < at("/data/deep/er") && at("/dev/shm") < at("/data"));
        assert_eq!(root, None);
    }

    #[test]
    fn own_dev_replaces_all_below() {
        let all = destinations(&planned(vec![wished("/dev/")]).0);
        assert_eq!(all.iter().filter(|path| path.starts_with("/dev")).collect::<Vec<_>>(), ["/dev"]);
    }

    #[test]
    fn options() {
        let mut shared = wished("/a");
        shared.set_propagation(MountPropagation::PropagationBidirectional);
        let recursive = Wished { readonly: true, recursive_read_only: true, ..wished("/b") };
        let extra = Wished { mount_options: vec!["noexec".into()], ..wished("/c") };
        let (all, root) = planned(vec![shared, recursive, extra]);
        let of = |path: &str| {
            let mount = all.iter().find(|mount| mount.destination() == Path::new(path)).unwrap();
            mount.options().clone().unwrap().join(",")
        };
        assert_eq!(of("/a"), "rbind,rshared,rw");
        assert_eq!(of("/b"), "rbind,rprivate,rro");
        assert_eq!(of("/c"), "rbind,rprivate,rw,noexec");
        assert_eq!(root.as_deref(), Some("rshared"));
    }

    #[test]
    fn image_volumes() {
        let layers = |paths: &[&str]| Source::Layers(paths.iter().map(PathBuf::from).collect());
        let config = Wished { readonly: true, image: Some(Default::default()), ..wished("/v") };
        let one = bind(&config, &layers(&["/l/1"]), "/v".into(), &Host::default());
        assert_eq!((one.typ().as_deref(), one.source().as_deref()), (Some("bind"), Some(Path::new("/l/1"))));
        let two = bind(&config, &layers(&["/l/2", "/l/1"]), "/v".into(), &Host::default());
        assert_eq!(two.options().clone().unwrap(), ["lowerdir=/l/2:/l/1", "ro"]);
    }

    #[test]
    fn refusals() {
        let mut slave = Wished { readonly: true, recursive_read_only: true, ..wished("/a") };
        slave.set_propagation(MountPropagation::PropagationHostToContainer);
        let image = || Some(proto_cri::ImageSpec::default());
        for (mount, field) in [
            (wished(""), "container_path"),
            (wished("/a/../b"), "container_path"),
            (Wished { recursive_read_only: true, ..wished("/a") }, "recursive_read_only"),
            (slave, "recursive_read_only"),
            (Wished { host_path: String::new(), ..wished("/a") }, "host_path"),
            (Wished { image: image(), ..wished("/a") }, "image"),
            (Wished { image: image(), host_path: String::new(), ..wished("/a") }, "readonly"),
            (Wished { mount_options: vec!["lowerdir=/".into()], ..wished("/a") }, "mount_options"),
            (Wished { propagation: 7, ..wished("/a") }, "propagation"),
            (Wished { uid_mappings: vec![Default::default()], ..wished("/a") }, "uidMappings"),
        ] {
            let error = validate(3, &mount).unwrap_err().to_string();
            assert!(error.contains(&format!("mounts[3].{field}")), "{error} lacks {field}");
        }
        validate(0, &wished("/a")).unwrap();
    }
}
