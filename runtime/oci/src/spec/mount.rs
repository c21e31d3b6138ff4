//! A mount of the configuration, its options resolved.

use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;
use rustix::mount::MountAttrFlags as Attr;

use crate::error::RuntimeError;

/// A mount to make in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Absolute path in the container.
    pub(crate) destination: PathBuf,
    pub(crate) source: Source,
    /// Attributes of the mount itself.
    pub(crate) set: Attr,
    /// Attributes for it and all mounts below it.
    pub(crate) set_recursive: Attr,
    pub(crate) clear_recursive: Attr,
    /// Its propagation, and whether it reaches the mounts below too.
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// First fill it with what the image has there.
    pub(crate) copy_up: bool,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory or file of the host.
    Bind { path: PathBuf, recursive: bool },
    /// A new instance of a file system.
    FileSystem { kind: String, source: Option<String>, data: Vec<(String, Option<String>)> },
    /// The container's own cgroup.
    Cgroup,
}

/// How mount events travel (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Shared,
    Slave,
    Private,
    Unbindable,
}

impl Propagation {
    /// From `shared`, `slave`, … without the `r` of the recursive form.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "shared" => Self::Shared,
            "slave" => Self::Slave,
            "private" => Self::Private,
            "unbindable" => Self::Unbindable,
            _ => return None,
        })
    }
}

/// An option that changes attributes: its name, what it sets and what it clears.
const ATTRIBUTES: [(&str, Attr, Attr); 15] = [
    ("ro", Attr::MOUNT_ATTR_RDONLY, Attr::empty()),
    ("rw", Attr::empty(), Attr::MOUNT_ATTR_RDONLY),
    ("nosuid", Attr::MOUNT_ATTR_NOSUID, Attr::empty()),
    ("suid", Attr::empty(), Attr::MOUNT_ATTR_NOSUID),
    ("nodev", Attr::MOUNT_ATTR_NODEV, Attr::empty()),
    ("dev", Attr::empty(), Attr::MOUNT_ATTR_NODEV),
    ("noexec", Attr::MOUNT_ATTR_NOEXEC, Attr::empty()),
    ("exec", Attr::empty(), Attr::MOUNT_ATTR_NOEXEC),
    ("nodiratime", Attr::MOUNT_ATTR_NODIRATIME, Attr::empty()),
    ("diratime", Attr::empty(), Attr::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", Attr::MOUNT_ATTR_NOSYMFOLLOW, Attr::empty()),
    ("symfollow", Attr::empty(), Attr::MOUNT_ATTR_NOSYMFOLLOW),
    ("noatime", Attr::MOUNT_ATTR_NOATIME, Attr::MOUNT_ATTR__ATIME),
    ("relatime", Attr::empty(), Attr::MOUNT_ATTR__ATIME),
    ("strictatime", Attr::MOUNT_ATTR_STRICTATIME, Attr::MOUNT_ATTR__ATIME),
];

/// The options known here, for the features document; every attribute also has its recursive form (`rro`).
pub(crate) const MOUNT_OPTIONS: [&str; 30] = [
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "lazytime",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nosuid",
    "nosymfollow",
    "private",
    "rbind",
    "relatime",
    "ro",
    "rprivate",
    "rro",
    "rshared",
    "rslave",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// What a masked directory and a masked path are mounted with.
pub(crate) fn masked_options() -> Attr {
    Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC
}

impl Mount {
    pub(crate) fn of(mount: &oci::Mount, bundle: &Path) -> Result<Self, RuntimeError> {
        let refuse = |field: &str, problem: &str| {
            Err(RuntimeError::spec(format!("{field} ({})", mount.destination().display()), problem))
        };
        let mapped = |all: &Option<Vec<_>>| all.as_ref().is_some_and(|all| !all.is_empty());
        if mapped(mount.uid_mappings()) || mapped(mount.gid_mappings()) {
            return refuse("uidMappings", "idmapped mounts are not supported yet; remove the mappings");
        }
        // The spec asks for an absolute path and 1.0 runtimes took a relative one as below the root.
        let destination = Path::new("/").join(mount.destination());
        let options = Options::of(mount.options().as_deref().unwrap_or_default())?;
        let kind = mount.typ().as_deref().unwrap_or_default();
        let source = if options.bind || kind == "bind" || kind == "rbind" {
            let Some(source) = mount.source().as_ref().filter(|source| !source.as_os_str().is_empty()) else {
                return refuse("source", "a bind mount needs one");
            };
            if let Some((name, _)) = options.data.first() {
                return refuse("options", &format!("{name:?} means nothing to a bind mount; remove it"));
            }
            Source::Bind { path: bundle.join(source), recursive: options.recursive || kind == "rbind" }
        } else {
            match kind {
                "" | "none" => return refuse("type", "missing; name a file system, or bind"),
                "cgroup" | "cgroup2" => Source::Cgroup,
                kind => Source::FileSystem {
                    kind: kind.to_owned(),
                    source: mount.source().as_ref().map(|source| source.to_string_lossy().into_owned()),
                    data: options.data,
                },
            }
        };
        if options.copy_up && !matches!(&source, Source::FileSystem { kind, .. } if kind == "tmpfs") {
            return refuse("options", "tmpcopyup is for tmpfs only");
        }
        Ok(Self {
            destination,
            source,
            set: options.set,
            set_recursive: options.set_recursive,
            clear_recursive: options.clear_recursive,
            propagation: options.propagation,
            copy_up: options.copy_up,
        })
    }

    /// Whether terminals can come from here.
    pub(crate) fn is_devpts(&self) -> bool {
        self.destination == Path::new("/dev/pts")
            && match &self.source {
                Source::FileSystem { kind, .. } => kind == "devpts",
                Source::Bind { .. } => true,
                Source::Cgroup => false,
            }
    }
}

#[derive(Debug)]
struct Options {
    bind: bool,
    recursive: bool,
    copy_up: bool,
    set: Attr,
    set_recursive: Attr,
    clear_recursive: Attr,
    propagation: Option<(Propagation, bool)>,
    data: Vec<(String, Option<String>)>,
}

impl Options {
    fn of(options: &[String]) -> Result<Self, RuntimeError> {
        let mut all = Self {
            bind: false,
            recursive: false,
            copy_up: false,
            set: Attr::empty(),
            set_recursive: Attr::empty(),
            clear_recursive: Attr::empty(),
            propagation: None,
            data: Vec::new(),
        };
        for option in options {
            all.add(option)?;
        }
        Ok(all)
    }

    fn add(&mut self, option: &str) -> Result<(), RuntimeError> {
        let attribute = |name: &str| ATTRIBUTES.iter().find(|(own, ..)| *own == name);
        match option {
            "" | "defaults" | "async" | "norelatime" | "nostrictatime" | "nolazytime" | "atime"
            | "silent" | "loud" => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "tmpcopyup" => self.copy_up = true,
            "remount" => {
                return Err(RuntimeError::spec(
                    "options",
                    "remount: a container's mounts are new; remove it",
                ));
            }
            "idmap" | "ridmap" => {
                return Err(RuntimeError::spec(
                    "options",
                    "idmapped mounts are not supported yet; remove idmap",
                ));
            }
            name => {
                let plain = name.strip_prefix('r').filter(|plain| !plain.is_empty());
                if let Some((_, set, clear)) = attribute(name) {
                    self.set = self.set.difference(*clear).union(*set);
                } else if let Some((_, set, clear)) = plain.and_then(attribute) {
                    self.set_recursive = self.set_recursive.difference(*clear).union(*set);
                    self.clear_recursive = self.clear_recursive.difference(*set).union(*clear);
                } else if let Some(propagation) = Propagation::of(name) {
                    self.propagation = Some((propagation, false));
                } else if let Some(propagation) = plain.and_then(Propagation::of) {
                    self.propagation = Some((propagation, true));
                } else {
                    let (key, value) = match name.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (name, None),
                    };
                    self.data.push((key.to_owned(), value));
                }
            }
        }
        Ok(())
    }
}
