//! The law of recovery over any bytes, as a fuzz target calls it: a directory is read or refused, never a panic, and
//! what was read is read again as the same.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    codec::{FRAME, File as FileKind, Frame, HEADER, Header, frame_length, seal},
    disk::{Disk, File},
    recover::recover,
    segment_name, snapshot_name,
};
use crate::{Range, State};

const STORE: u64 = 7;

/// Files in memory.
#[derive(Clone, Default)]
struct Files(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

struct Open(Vec<u8>);

impl Files {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Files {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let bytes = self.lock().get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Open(bytes)))
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn File>> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

impl File for Open {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two bytes say how many bytes are a snapshot (none: there is none), one which revision the segment follows; the
/// rest is the segment. Frames get the checksums that they need, as long as one follows the other: what lies behind
/// those is what is to be tried.
pub fn recovery(data: &[u8]) {
    let [low, high, after, rest @ ..] = data else { return };
    let (snapshot, segment) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
    let files = Files::default();
    let after = i64::from(*after);
    if !snapshot.is_empty() {
        files.lock().insert(snapshot_name(after), file(FileKind::Snapshot, after, snapshot));
    }
    files.lock().insert(segment_name(1), file(FileKind::Segment, after, segment));
    let Some(first) = read(&files) else { return };
    assert_eq!(read(&files).as_ref(), Some(&first), "a second recovery reads something else");
}

/// A key, its creation, its last change.
type Facts = (String, i64, i64);

/// What recovery makes of the files: the revision, and every key with its revisions.
fn read(files: &Files) -> Option<(i64, Vec<Facts>)> {
    let opened = recover::<()>(Arc::new(files.clone()), 1 << 20, Duration::ZERO).ok()?;
    let state: State<()> = opened.state;
    let page = state.range("", Range::default()).expect("the present is never compacted");
    let facts = page.entries.iter().map(|e| (e.key.to_string(), e.create_revision, e.mod_revision));
    Some((state.revision(), facts.collect()))
}

/// A file of a header and frames with right checksums.
fn file(kind: FileKind, after: i64, frames: &[u8]) -> Vec<u8> {
    let mut bytes = Header { store: STORE, after, time: 1 }.encode(kind).to_vec();
    bytes.extend_from_slice(frames);
    let mut at = HEADER;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| rest.len() >= FRAME) {
        let Some(padded) = frame_length(rest).filter(|padded| *padded <= rest.len()) else { break };
        seal(rest, STORE);
        debug_assert!(Frame::decode(rest, STORE).is_some());
        at += padded;
    }
    bytes
}

/// What [`recovery`] takes to try a log of these records: key, value (`None` deletes) and revision.
#[must_use]
pub fn example(records: &[(&str, Option<&[u8]>, i64)]) -> Vec<u8> {
    use super::codec::{Encoder, Kind};
    use crate::{Entry, Event};
    let mut data = vec![0, 0, 1];
    let (mut encoder, mut follows) = (Encoder::new(), 1);
    for (key, value, revision) in records {
        let bytes = bytes::Bytes::copy_from_slice(value.unwrap_or_default());
        let entry = Some(Entry::<()>::new((*key).into(), bytes, *revision, *revision, u64::MAX));
        let (entry, previous) = if value.is_some() { (entry, None) } else { (None, entry) };
        encoder.event(&Event { revision: *revision, entry, previous });
        data.extend_from_slice(encoder.finish(Kind::Data, STORE, follows, 1));
        encoder.clear();
        follows = *revision;
    }
    data.extend_from_slice(encoder.finish(Kind::End, STORE, follows, 1));
    data
}
