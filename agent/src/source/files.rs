//! The directory of manifests, watched by inotify and read again now and then in case that missed something.
//!
//! A file that is being written is left alone until its writer closes it; one that has not been touched for a moment
//! is taken as complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::pod;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::UnboundedSender;

use super::{Manifest, Problem, Update, manifest};
use crate::clock::Clock;
use crate::sync::Happening;

/// How often the directory is read without being told to.
const RESCAN: Duration = Duration::from_secs(20);
/// How long nobody may have touched a file that nobody was seen to close.
const SETTLED: Duration = Duration::from_millis(500);

/// What identifies the content of a file without reading it.
type Stamp = (u64, u64, i64, i64);

/// Device and inode.
type Identity = (u64, u64);

fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// A file as it was last read.
#[derive(Debug, Clone, Default)]
struct Known {
    stamp: Stamp,
    manifests: Vec<Manifest>,
    problems: Vec<Problem>,
}

/// Reads and watches a directory.
pub(crate) struct Files {
    dir: PathBuf,
    node: String,
    clock: Clock,
    known: BTreeMap<PathBuf, Known>,
    /// The watch, and the directory it is on: another may have taken its name.
    watch: Option<(Receiver, Identity)>,
}

impl Files {
    pub(crate) fn new(dir: &Path, node: &str, clock: Clock) -> Self {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        Self { dir, node: node.to_owned(), clock, known: BTreeMap::new(), watch: None }
    }

    /// Tells the loop all pods, and again whenever they change, for ever.
    pub(crate) async fn run(mut self, happenings: UnboundedSender<Happening>) {
        let mut last = None;
        let mut closed = BTreeSet::new();
        loop {
            self.rewatch();
            let (update, unsettled) = self.scan(&closed);
            if last.as_ref() != Some(&update) {
                last = Some(update.clone());
                if happenings.send(Happening::Source(update)).is_err() {
                    return;
                }
            }
            let pause = if unsettled { SETTLED } else { RESCAN };
            closed = self.changed(pause).await;
        }
    }

    /// Watches the directory that has the name now. Not every file system tells that a watched one is gone.
    fn rewatch(&mut self) {
        let there = identity(&self.dir).ok();
        if self.watch.as_ref().map(|(_, on)| *on) != there {
            self.watch = there.and_then(|on| Some((watch(&self.dir).ok()?, on)));
        }
    }

    /// Waits until something changes or the pause is over; returns the files that were closed or moved here.
    async fn changed(&mut self, pause: Duration) -> BTreeSet<PathBuf> {
        let Some((watch, _)) = &self.watch else {
            tokio::time::sleep(pause.min(Duration::from_secs(1))).await;
            return BTreeSet::new();
        };
        let mut buffer = [0; 8192];
        let read = async {
            loop {
                watch.readable().await?;
                match watch.try_read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return result,
                }
            }
        };
        let changes = match tokio::time::timeout(pause, read).await {
            Ok(Ok(length)) => parse(&self.dir, &buffer[..length]),
            Ok(Err(_)) => Changes { lost: true, ..Changes::default() },
            Err(_) => Changes::default(),
        };
        if changes.lost {
            self.watch = None;
        }
        changes.complete.into_iter().collect()
    }

    /// Reads what has changed. Also says whether a file is still being written.
    fn scan(&mut self, closed: &BTreeSet<PathBuf>) -> (Update, bool) {
        let files = match list(&self.dir) {
            Ok(files) => files,
            Err(error) => return (self.unreadable(&error), false),
        };
        self.known.retain(|path, _| files.contains_key(path));
        let (mut unsettled, mut broken) = (false, BTreeSet::new());
        for (path, (stamp, age)) in &files {
            if self.known.get(path).is_some_and(|known| known.stamp == *stamp) {
                continue;
            }
            if *age < SETTLED && !closed.contains(path) {
                unsettled = true;
                broken.insert(path.clone());
                continue;
            }
            self.known.insert(path.clone(), self.read(path, *stamp));
        }
        (self.update(broken), unsettled)
    }

    fn read(&self, path: &Path, stamp: Stamp) -> Known {
        let (manifests, problems) = match fs::read_to_string(path) {
            Ok(text) => manifest::read(path, &text, &self.node, self.clock.now()),
            Err(error) => (Vec::new(), vec![whole(path, format!("cannot be read: {error}"))]),
        };
        Known { stamp, manifests, problems }
    }

    /// All that is known, each pod name once.
    fn update(&self, mut broken: BTreeSet<PathBuf>) -> Update {
        let mut update = Update::default();
        let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
        for (path, known) in &self.known {
            for manifest in &known.manifests {
                let name = pod::full_name(&manifest.pod);
                if let Some(other) = names.get(&name) {
                    let text = format!(
                        "metadata.name: Duplicate value: another pod of this name is in {}: rename one of them",
                        other.display()
                    );
                    let pod = &manifest.pod;
                    let short = pod::name(pod).trim_end_matches(&format!("-{}", self.node)).to_owned();
                    let problem = whole(path, text);
                    update.problems.push(Problem {
                        namespace: pod::namespace(pod).into(),
                        name: short,
                        ..problem
                    });
                    continue;
                }
                names.insert(name, path.clone());
                update.manifests.push(manifest.clone());
            }
            if !known.problems.is_empty() {
                broken.insert(path.clone());
                update.problems.extend(known.problems.iter().cloned());
            }
        }
        update.broken = broken;
        update
    }

    /// A directory that cannot be read says nothing about its pods: all stay.
    fn unreadable(&self, error: &io::Error) -> Update {
        let mut update = self.update(self.known.keys().cloned().collect());
        update.broken.insert(self.dir.clone());
        update.problems.push(whole(
            &self.dir,
            format!("cannot be read: {error}: create the directory, or name another by --manifests"),
        ));
        update
    }
}

fn whole(path: &Path, message: String) -> Problem {
    let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    Problem { file: path.to_path_buf(), document: 0, namespace: "default".into(), name, message }
}

/// Manifest files with their stamps and ages.
fn list(dir: &Path) -> io::Result<BTreeMap<PathBuf, (Stamp, Duration)>> {
    use std::os::unix::fs::MetadataExt;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        let known = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        // A file may vanish between the two looks.
        let Ok(meta) = fs::metadata(&path) else { continue };
        if hidden || !known || !meta.is_file() {
            continue;
        }
        let age = meta.modified().ok().and_then(|m| m.elapsed().ok()).unwrap_or_default();
        files.insert(path, ((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()), age));
    }
    Ok(files)
}

fn watch(dir: &Path) -> io::Result<Receiver> {
    let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let what = WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    inotify::add_watch(&fd, dir, what | WatchFlags::ONLYDIR)?;
    // To tokio an inotify descriptor is as good as a pipe: it becomes readable, and is read.
    Receiver::from_owned_fd_unchecked(fd)
}

/// What a batch of events says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// The directory itself is gone, or events were lost.
    lost: bool,
    /// Files that are complete: closed by their writer, or moved here.
    complete: Vec<PathBuf>,
}

/// Reads `struct inotify_event`s (inotify(7)).
fn parse(dir: &Path, mut bytes: &[u8]) -> Changes {
    use std::os::unix::ffi::OsStrExt;
    const HEADER: usize = 16;
    let mut changes = Changes::default();
    while let Some((header, rest)) = bytes.split_at_checked(HEADER) {
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (flags, length) = (ReadFlags::from_bits_retain(word(4)), usize::try_from(word(12)).unwrap_or(0));
        let (name, rest) = rest.split_at(length.min(rest.len()));
        let lost =
            ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED | ReadFlags::QUEUE_OVERFLOW;
        changes.lost |= flags.intersects(lost);
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
            changes.complete.push(dir.join(std::ffi::OsStr::from_bytes(name)));
        }
        bytes = rest;
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{name: c, image: i}]}\n";

    fn names(update: &Update) -> Vec<&str> {
        update.manifests.iter().map(|m| pod::name(&m.pod)).collect()
    }

    fn put(dir: &Path, file: &str, text: &str, age: Duration) -> PathBuf {
        let path = dir.join(file);
        fs::write(&path, text).unwrap();
        let written = std::time::SystemTime::now() - age;
        fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        path
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(dir.path(), "n", Clock::System);
        let none = BTreeSet::new();
        let path = put(dir.path(), "a.yaml", &POD.replace("NAME", "one"), SETTLED * 2);
        put(dir.path(), ".hidden.yaml", POD, SETTLED * 2);
        put(dir.path(), "a.yaml~", POD, SETTLED * 2);
        let (update, unsettled) = files.scan(&none);
        assert_eq!((names(&update), unsettled), (vec!["one-n"], false));
        // Its beginning is a good pod, but not the one it will be.
        put(dir.path(), "a.yaml", &POD.replace("NAME", "two"), Duration::ZERO);
        let (update, unsettled) = files.scan(&none);
        assert_eq!((names(&update), unsettled), (vec!["one-n"], true));
        assert!(update.broken.contains(&path));
        let (update, unsettled) = files.scan(&BTreeSet::from([path]));
        assert_eq!((names(&update), unsettled), (vec!["two-n"], false));
    }

    #[test]
    fn one_name_is_one_pod() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a.yaml", "b.yaml"] {
            put(dir.path(), file, &POD.replace("NAME", "same"), SETTLED * 2);
        }
        let (update, _) = Files::new(dir.path(), "n", Clock::System).scan(&BTreeSet::new());
        assert_eq!(names(&update), ["same-n"]);
        assert_eq!((update.problems.len(), update.problems[0].name.as_str()), (1, "same"));
        assert!(update.problems[0].message.contains("a.yaml: rename one of them"), "{}", update.problems[0]);
    }

    #[test]
    fn a_directory_that_is_gone_ends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        let mut files = Files::new(&path, "n", Clock::System);
        put(&path, "a.yaml", &POD.replace("NAME", "one"), SETTLED * 2);
        files.scan(&BTreeSet::new());
        drop(dir);
        let (update, _) = files.scan(&BTreeSet::new());
        assert_eq!(names(&update), ["one-n"]);
        assert!(update.broken.contains(&path) && update.problems[0].message.contains("create the directory"));
    }

    #[tokio::test]
    async fn changes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(dir.path(), "n", Clock::System);
        files.rewatch();
        let path = put(dir.path(), "a.yaml", POD, Duration::ZERO);
        assert_eq!(files.changed(RESCAN).await, BTreeSet::from([path.clone()]));
        let other = tempfile::NamedTempFile::new_in(dir.path().parent().unwrap()).unwrap();
        let moved = dir.path().join("b.yaml");
        fs::rename(other.path(), &moved).unwrap();
        assert_eq!(files.changed(RESCAN).await, BTreeSet::from([moved]));
        let path = dir.path().to_path_buf();
        drop(dir);
        files.rewatch();
        assert!(files.watch.is_none());
        fs::create_dir(&path).unwrap();
        files.rewatch();
        assert!(files.watch.is_some(), "another directory of that name");
        fs::remove_dir(&path).unwrap();
    }
}
