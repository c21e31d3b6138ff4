//! The embedded engine: an append-only log, and now and then a snapshot in place of its oldest part.
//!
//! A directory holds `lock`, the newest `snapshot-N` and the segments `log-N` behind it. One group of transactions
//! is one frame, one write and one `fdatasync`; the next frame is written only after that. So a frame that is not
//! whole was never acknowledged, if nothing whole is behind it: it is left out. If something is, an acknowledged
//! part of the log is damaged, and the store refuses to start. A segment is never written to by a later process:
//! each start, and each recovery from a failed write, begins a new one, whose header says which revision it follows.

mod codec;
pub(crate) mod disk;
#[doc(hidden)]
pub mod fuzz;
mod recover;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{CommitError, Event, Range, watch::Shared};
use codec::{Encoder, File as FileKind, HEADER, Kind};
use disk::{Disk, File};

pub(crate) use codec::Header;
pub(crate) use recover::{open, random};

/// A segment grows by this part of its final size at once, in zeros: so most appends change no metadata, and
/// `fdatasync` writes only data.
const GROWTH: u64 = 16;

/// What is wrong with a directory or a file of the store.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The kernel refused.
    #[error("{}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another process works with the directory.
    #[error("{} is in use by another process", .path.display())]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the log does not begin as one of this store.
    #[error("{} is not a part of this store's log: {reason}; restore a backup into another directory", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The log is damaged in front of writes that were acknowledged.
    #[error(
        "{} is damaged at byte {at}: the acknowledged writes of revisions {} to {last} cannot be read. Restore a \
         backup into another directory; or, to give these writes up, cut the file there (`truncate -s {at}`) and \
         remove the files of the log behind it",
        .path.display(), .first
    )]
    Log {
        /// The file.
        path: PathBuf,
        /// Where the first unreadable byte is.
        at: u64,
        /// The first revision that is lost.
        first: i64,
        /// The last revision that is known to have been written.
        last: i64,
    },
    /// Files of the log are missing.
    #[error("in front of {} the log lacks revisions {first} to {last}: a file is missing", .path.display())]
    Gap {
        /// The file behind the gap.
        path: PathBuf,
        /// The first missing revision.
        first: i64,
        /// The last missing revision.
        last: i64,
    },
    /// A snapshot or backup is damaged.
    #[error("the snapshot {} is damaged at byte {at}: {reason}; restore a backup into another directory", .path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Why nothing could be appended.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no room.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Anything else.
    #[error("the disk refuses writes: {0}")]
    ReadOnly(String),
}

impl Failure {
    fn new(path: &std::path::Path, error: &io::Error) -> Failure {
        let reason = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Failure::Full(reason)
            }
            _ => Failure::ReadOnly(reason),
        }
    }

    pub(crate) fn answer<I>(&self) -> CommitError<I> {
        match self {
            Failure::Full(reason) => CommitError::Full { reason: reason.clone() },
            Failure::ReadOnly(reason) => CommitError::ReadOnly { reason: reason.clone() },
        }
    }
}

/// A segment that is on the disk.
#[derive(Clone, Debug)]
struct Segment {
    number: u64,
    /// The revision before its first frame.
    after: i64,
    /// How much of the disk it takes.
    size: u64,
}

/// The segment that is appended to.
struct Tail {
    file: Box<dyn File>,
    name: String,
    at: u64,
}

/// The log, open for appending.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    store: u64,
    /// All segments, oldest first; the last one is the tail's, if there is a tail.
    segments: Vec<Segment>,
    /// The revision of the snapshot; 1 without one.
    base: i64,
    tail: Option<Tail>,
    /// The last revision that is durable.
    last: i64,
    encoder: Encoder,
    failed: Option<(Failure, Instant)>,
    snapshot: Option<JoinHandle<io::Result<i64>>>,
    /// Where a segment ends, in bytes.
    segment: u64,
    retry: Duration,
}

fn segment_name(number: u64) -> String {
    format!("log-{number:010}")
}

/// How the snapshot of a revision is called.
pub(crate) fn snapshot_name(revision: i64) -> String {
    format!("snapshot-{revision:020}")
}

impl Log {
    /// Makes events durable, as one frame. After a failure nothing is tried for a while.
    pub(crate) fn append<I>(&mut self, events: &[Event<I>], time: u64) -> Result<(), Failure> {
        self.encoder.clear();
        for event in events {
            self.encoder.event(event);
        }
        self.attempt(time)?;
        self.last = events.last().map_or(self.last, |event| event.revision);
        Ok(())
    }

    /// After a failure: finds out whether the disk takes writes again, with a frame of no events.
    pub(crate) fn probe(&mut self, time: u64) {
        self.encoder.clear();
        if self.failed.is_some() && self.attempt(time).is_err() {
            tracing::debug!("the disk still refuses writes");
        }
    }

    /// Whether there is something to look after soon: a failing disk, or a snapshot that is being written.
    pub(crate) fn busy(&self) -> bool {
        self.failed.is_some() || self.snapshot.is_some()
    }

    /// Writes what is encoded, unless the disk has just failed.
    fn attempt(&mut self, time: u64) -> Result<(), Failure> {
        if let Some((failure, when)) = &self.failed
            && when.elapsed() < self.retry
        {
            return Err(failure.clone());
        }
        let Err(error) = self.write(Kind::Data, time) else {
            if self.failed.take().is_some() {
                tracing::info!("the store can be written to again");
            }
            return Ok(());
        };
        let name = self.tail.take().map_or_else(|| segment_name(self.next()), |tail| tail.name);
        let failure = Failure::new(&self.disk.path(&name), &error);
        if self.failed.is_none() {
            tracing::error!(%failure, "the store refuses writes until the disk takes them again");
        }
        self.failed = Some((failure.clone(), Instant::now()));
        Err(failure)
    }

    /// Why the last write failed, if it did.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failed.as_ref().map(|(failure, _)| failure)
    }

    fn write(&mut self, kind: Kind, time: u64) -> io::Result<()> {
        let frame = self.encoder.finish(kind, self.store, self.last, time);
        let length = frame.len() as u64;
        let full = |tail: &Tail| tail.at > HEADER as u64 && tail.at + length > self.segment;
        if self.tail.as_ref().is_none_or(full) {
            self.begin(time)?;
        }
        let (Some(tail), Some(segment)) = (&mut self.tail, self.segments.last_mut()) else {
            return Err(io::Error::other("the new segment is missing"));
        };
        // One zero behind the frame at least: a reader finds its end.
        let needed = tail.at + length + codec::FRAME as u64;
        if needed > segment.size {
            let size = needed + self.segment / GROWTH;
            grow(&mut *tail.file, segment.size, size)?;
            segment.size = size;
        }
        let frame = self.encoder.finished();
        linux::crash::point("store-append-before");
        tail.file.write_at(frame, tail.at)?;
        linux::crash::point("store-append-written");
        tail.file.sync()?;
        linux::crash::point("store-append-synced");
        tail.at += length;
        Ok(())
    }

    fn next(&self) -> u64 {
        self.segments.last().map_or(1, |segment| segment.number + 1)
    }

    /// Begins a segment: it has its name only when its header is durable.
    fn begin(&mut self, time: u64) -> io::Result<()> {
        self.tail = None;
        let number = self.next();
        let (name, temporary) = (segment_name(number), format!("{}.tmp", segment_name(number)));
        let begun = self.begin_as(&name, &temporary, time);
        if begun.is_err() {
            // If neither name is there, nothing is lost; if the new one is, it is an empty part of the log.
            let _ = self.disk.remove(&temporary);
        }
        let file = begun?;
        self.segments.push(Segment { number, after: self.last, size: HEADER as u64 + self.segment / GROWTH });
        self.tail = Some(Tail { file, name, at: HEADER as u64 });
        Ok(())
    }

    fn begin_as(&self, name: &str, temporary: &str, time: u64) -> io::Result<Box<dyn File>> {
        let header = Header { store: self.store, after: self.last, time };
        let mut file = self.disk.create(temporary)?;
        file.write_at(&header.encode(FileKind::Segment), 0)?;
        grow(&mut *file, HEADER as u64, HEADER as u64 + self.segment / GROWTH)?;
        file.sync()?;
        linux::crash::point("store-segment-written");
        self.disk.rename(temporary, name)?;
        linux::crash::point("store-segment-named");
        self.disk.sync()?;
        Ok(file)
    }

    /// Replaces the part of the log that nobody can read back any more by a snapshot, once that part outweighs what
    /// lives. The snapshot is written by a thread of its own; this only starts it, and later clears up behind it.
    pub(crate) fn shrink<I: Send + Sync + 'static>(&mut self, shared: &Arc<Shared<I>>, time: u64) {
        if self.snapshot.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        self.settle();
        let inner = shared.read();
        let (oldest, live) = (inner.state.compacted(), inner.state.live() as u64);
        let behind = self.segments.windows(2).filter(|pair| pair[1].after <= oldest);
        let behind: u64 = behind.map(|pair| pair[0].size).sum();
        if behind < live.max(self.segment) || oldest <= self.base || self.failed.is_some() {
            return;
        }
        let entries = inner.state.range("", Range { at: Some(oldest), ..Range::default() });
        drop(inner);
        let Ok(page) = entries else { return };
        let (disk, header) = (self.disk.clone(), Header { store: self.store, after: page.revision, time });
        let write = move || {
            snapshot::write(&*disk, &snapshot_name(header.after), header, &page.entries)?;
            Ok(header.after)
        };
        match thread::Builder::new().name("store-snapshot".into()).spawn(write) {
            Ok(thread) => self.snapshot = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "no thread for a snapshot; the log grows until there is one")
            }
        }
    }

    /// Waits for a snapshot that is being written, and removes what it replaces.
    pub(crate) fn settle(&mut self) {
        let Some(thread) = self.snapshot.take() else { return };
        match thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread has panicked"))) {
            Ok(revision) => self.clear(revision),
            Err(error) => tracing::warn!(%error, "no snapshot was written; the log grows until one is"),
        }
    }

    /// Removes what a snapshot replaces: segments whose successor follows no later revision, and older snapshots.
    fn clear(&mut self, revision: i64) {
        let mut names: Vec<String> = match self.base {
            old if old < revision && old > 1 => vec![snapshot_name(old)],
            _ => Vec::new(),
        };
        let covered = self.segments.windows(2).take_while(|pair| pair[1].after <= revision).count();
        names.extend(self.segments.drain(..covered).map(|segment| segment_name(segment.number)));
        self.base = revision;
        for name in names {
            if let Err(error) = self.disk.remove(&name) {
                tracing::warn!(%error, file = name, "an old file of the store stays");
            }
            linux::crash::point("store-clear");
        }
    }

    /// Ends the log in peace: the next start can tell a damaged end from one that was being written.
    pub(crate) fn close(&mut self, time: u64) {
        self.settle();
        if self.tail.is_some() {
            self.encoder.clear();
            if let Err(error) = self.write(Kind::End, time) {
                tracing::warn!(%error, "the store's log could not be closed");
            }
        }
        self.tail = None;
    }
}

/// Writes zeros from one end of a file to the next.
fn grow(file: &mut dyn File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut at = from;
    while at < to {
        let step = (to - at).min(ZEROS.len() as u64);
        file.write_at(&ZEROS[..usize::try_from(step).unwrap_or(ZEROS.len())], at)?;
        at += step;
    }
    Ok(())
}
