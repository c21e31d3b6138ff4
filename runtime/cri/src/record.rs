//! What the server remembers of each object, on disk: `<data>/cri/{sandboxes,containers}/<id>.json`.
//!
//! A record is there before anything is done for its object, and goes last. A write is a temporary file and a
//! rename, so a server that is killed finds the old or the new record; what must outlive a power cut as well is
//! synced ([`Records::save`]), what is worthless after one is not ([`Records::note`]).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use proto_cri::{ContainerConfig, PodSandboxConfig};
use proto_node::monitor::MonitorState;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::lifecycle::{Phase, PodPhase};

/// The version of both records.
const VERSION: u32 = 1;

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pod {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) phase: PodPhase,
    pub(crate) config: PodSandboxConfig,
    pub(crate) handler: String,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    /// The first is the pod's; none with the host's network.
    pub(crate) ips: Vec<String>,
    pub(crate) monitor: Option<MonitorState>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Container {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) pod: String,
    pub(crate) phase: Phase,
    pub(crate) config: ContainerConfig,
    /// The image's id, as PullImage returns it.
    pub(crate) image: String,
    /// A name of the image, for people.
    pub(crate) image_name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Signal number.
    pub(crate) stop_signal: i32,
    pub(crate) cgroup: String,
    pub(crate) log_path: Option<PathBuf>,
    /// Nanoseconds since the epoch; 0: not yet.
    pub(crate) created_at: i64,
    pub(crate) started_at: i64,
    pub(crate) exit: Option<Exit>,
    /// The first process, while the container is created or runs.
    pub(crate) pid: Option<u32>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    /// Nanoseconds since the epoch.
    pub(crate) finished_at: i64,
    /// In one word: `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`.
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What both records have.
pub(crate) trait Record: Serialize + DeserializeOwned {
    fn id(&self) -> &str;
    fn version(&self) -> u32;
}

impl Record for Pod {
    fn id(&self) -> &str {
        &self.id
    }
    fn version(&self) -> u32 {
        self.version
    }
}

impl Record for Container {
    fn id(&self) -> &str {
        &self.id
    }
    fn version(&self) -> u32 {
        self.version
    }
}

impl Pod {
    pub(crate) fn new(id: &str, config: PodSandboxConfig, handler: &str, created_at: i64) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            phase: PodPhase::Starting,
            config,
            handler: handler.to_owned(),
            created_at,
            ips: Vec::new(),
            monitor: None,
        }
    }
}

impl Container {
    pub(crate) fn new(id: &str, pod: &str, config: ContainerConfig, created_at: i64) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            pod: pod.to_owned(),
            phase: Phase::Creating,
            config,
            image: String::new(),
            image_name: String::new(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            stop_signal: 15,
            cgroup: String::new(),
            log_path: None,
            created_at,
            started_at: 0,
            exit: None,
            pid: None,
        }
    }
}

/// The records of one kind.
#[derive(Debug)]
pub(crate) struct Records<R> {
    dir: PathBuf,
    kind: PhantomData<fn() -> R>,
}

/// Records as read at the start, and the files that could not be.
pub(crate) struct Loaded<R> {
    pub(crate) records: Vec<R>,
    pub(crate) unreadable: Vec<(PathBuf, String)>,
}

impl<R: Record> Records<R> {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), kind: PhantomData })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Writes a record that outlives a power cut.
    pub(crate) fn save(&self, record: &R) -> io::Result<()> {
        self.write(record, true)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Writes a record that outlives this process.
    pub(crate) fn note(&self, record: &R) -> io::Result<()> {
        self.write(record, false)
    }

    fn write(&self, record: &R, sync: bool) -> io::Result<()> {
        let temporary = self.dir.join(format!("{}.tmp", record.id()));
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&temporary, self.path(record.id()))
    }

    /// Forgets an object. Its absence is no error.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads all records. One of a later version is an error of the whole: an older server must not take its object
    /// for an orphan. One that is damaged is reported, and set aside as `<name>.damaged`.
    pub(crate) fn load(&self) -> io::Result<Loaded<R>> {
        let mut loaded = Loaded { records: Vec::new(), unreadable: Vec::new() };
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("tmp") => fs::remove_file(&path)?,
                Some("json") => match self.read(&path)? {
                    Ok(record) => loaded.records.push(record),
                    Err(reason) => {
                        fs::rename(&path, path.with_extension("json.damaged"))?;
                        loaded.unreadable.push((path, reason));
                    }
                },
                _ => {}
            }
        }
        Ok(loaded)
    }

    fn read(&self, path: &Path) -> io::Result<Result<R, String>> {
        let text = fs::read(path)?;
        let version = serde_json::from_slice::<serde_json::Value>(&text).ok();
        let version = version.and_then(|value| value.get("version")?.as_u64());
        if version.is_some_and(|version| version > u64::from(VERSION)) {
            let message =
                format!("{} was written by a later version of cleat; start that one", path.display());
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        match serde_json::from_slice::<R>(&text) {
            Ok(record) if record.version() == VERSION => Ok(Ok(record)),
            Ok(record) => Ok(Err(format!("version {} is not known", record.version()))),
            Err(error) => Ok(Err(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        Pod::new("ab", PodSandboxConfig { hostname: "h".into(), ..Default::default() }, "cleat", 5)
    }

    #[test]
    fn written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::<Pod>::open(dir.path()).unwrap();
        records.save(&pod()).unwrap();
        let ready = Pod { phase: PodPhase::Ready, ..pod() };
        records.note(&ready).unwrap();
        fs::write(dir.path().join("half.tmp"), "{").unwrap();
        let loaded = records.load().unwrap();
        assert_eq!((loaded.records, loaded.unreadable.len()), (vec![ready], 0));
        records.remove("ab").unwrap();
        records.remove("ab").unwrap();
        assert!(records.load().unwrap().records.is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn damaged_is_set_aside_and_later_versions_stop_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::<Pod>::open(dir.path()).unwrap();
        fs::write(dir.path().join("x.json"), "{").unwrap();
        assert_eq!(records.load().unwrap().unreadable.len(), 1);
        assert!(dir.path().join("x.json.damaged").exists());
        fs::write(dir.path().join("y.json"), r#"{"version":9}"#).unwrap();
        let error = records.load().err().unwrap();
        assert!(error.to_string().contains("later version"));
    }
}
