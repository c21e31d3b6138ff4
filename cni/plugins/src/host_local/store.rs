//! Leases on disk, in upstream's form.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;

const LAST: &str = "last_reserved_ip.";

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    container_id: String,
    /// Absent in files of very old plugins.
    ifname: Option<String>,
}

impl Lease {
    fn parse(text: &str) -> Lease {
        let mut lines = text.lines().map(str::trim);
        let container_id = lines.next().unwrap_or_default().to_owned();
        Lease { container_id, ifname: lines.next().map(str::to_owned) }
    }

    /// It is that attachment's.
    pub(super) fn is_of(&self, container_id: &str, ifname: &str) -> bool {
        self.container_id == container_id && self.ifname.as_deref().is_none_or(|name| name == ifname)
    }
}

/// The directory of a network's leases, locked. To hold it is to hold the lock.
pub(super) struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Makes the directory if need be, and waits for the lock.
    pub(super) fn open(dir: &Path) -> Result<Store, Failure> {
        let open = || {
            DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
            let options = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).clone();
            let lock = options.open(dir.join("lock"))?;
            loop {
                match flock(&lock, FlockOperation::LockExclusive) {
                    Err(rustix::io::Errno::INTR) => {}
                    done => break done?,
                }
            }
            Ok(lock)
        };
        let lock = open().map_err(|e| fail("lock", dir, e))?;
        Ok(Store { dir: dir.to_owned(), _lock: lock })
    }

    /// Every lease.
    pub(super) fn taken(&self) -> Result<BTreeMap<IpAddr, Lease>, Failure> {
        let mut taken = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).map_err(|e| fail("list", &self.dir, e))? {
            let entry = entry.map_err(|e| fail("list", &self.dir, e))?;
            let Some(ip) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let text = fs::read_to_string(entry.path()).map_err(|e| fail("read", &entry.path(), e))?;
            taken.insert(ip, Lease::parse(&text));
        }
        Ok(taken)
    }

    /// Writes a lease. It is there as a whole or not at all, whenever the process dies.
    pub(super) fn reserve(&self, ip: IpAddr, container_id: &str, ifname: &str) -> Result<Lease, Failure> {
        let path = self.dir.join(ip.to_string());
        let write = || {
            let draft = self.dir.join(".draft");
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
            write!(file, "{container_id}\r\n{ifname}")?;
            fs::hard_link(&draft, &path)?;
            fs::remove_file(&draft)
        };
        write().map_err(|e: io::Error| fail("write", &path, e))?;
        Ok(Lease { container_id: container_id.to_owned(), ifname: Some(ifname.to_owned()) })
    }

    /// Removes leases that `wanted` says yes to.
    pub(super) fn release(&self, wanted: impl Fn(&IpAddr, &Lease) -> bool) -> Result<(), Failure> {
        for (ip, _) in self.taken()?.iter().filter(|(ip, lease)| wanted(ip, lease)) {
            let path = self.dir.join(ip.to_string());
            fs::remove_file(&path).map_err(|e| fail("remove", &path, e))?;
        }
        Ok(())
    }

    /// The address last given from range set `at`.
    pub(super) fn last(&self, at: usize) -> Result<Option<IpAddr>, Failure> {
        let path = self.dir.join(format!("{LAST}{at}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(fail("read", &path, e)),
        }
    }

    /// Remembers it.
    pub(super) fn set_last(&self, at: usize, ip: IpAddr) -> Result<(), Failure> {
        let path = self.dir.join(format!("{LAST}{at}"));
        fs::write(&path, ip.to_string()).map_err(|e| fail("write", &path, e))
    }
}

fn fail(what: &str, path: &Path, source: io::Error) -> Failure {
    Failure::Io { what: format!("{what} {}", path.display()), source }
}
