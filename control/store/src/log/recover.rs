//! From the files of a directory back to the state, with the recent past.

use std::{io, path::Path, sync::Arc, time::Duration};

use super::{
    Damage, Log, Segment,
    codec::{self, Encoder, FRAME, File as FileKind, Frame, HEADER, Header, Kind},
    disk::{Disk, File, Folder},
    segment_name, snapshot,
};
use crate::{State, state::Pending};

/// A log that was opened, and what it held.
pub(crate) struct Opened<I> {
    pub(crate) log: Log,
    pub(crate) state: State<I>,
    /// The latest store's time in the log.
    pub(crate) time: u64,
}

/// Takes a directory over and reads it.
///
/// # Errors
/// Another process holds it, the kernel refuses, or acknowledged writes are not readable.
pub(crate) fn open<I>(path: &Path, segment: u64, retry: Duration) -> Result<Opened<I>, Damage> {
    let folder = Folder::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => Damage::Held { path: path.to_owned() },
        _ => Damage::Io { path: path.to_owned(), source },
    })?;
    recover(Arc::new(folder), segment, retry)
}

/// Reads what a disk holds.
pub(super) fn recover<I>(disk: Arc<dyn Disk>, segment: u64, retry: Duration) -> Result<Opened<I>, Damage> {
    let names = disk.names().map_err(|source| Damage::Io { path: disk.path(""), source })?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        disk.remove(name).map_err(|source| Damage::Io { path: disk.path(name), source })?;
    }
    let (base, old) = base(&*disk, &names)?;
    let (header, state) = base.unwrap_or_else(|| (None, State::new(1, [])));
    let mut reader = Reader {
        disk: &*disk,
        store: header.map(|header| header.store),
        time: header.map_or(0, |header| header.time),
        state,
    };
    let base = reader.state.revision();
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| name.strip_prefix("log-")?.parse().ok()).collect();
    numbers.sort_unstable();
    let mut heads = Vec::new();
    for number in numbers {
        let (file, header) = reader.head(number)?;
        let size =
            file.size().map_err(|source| Damage::Io { path: disk.path(&segment_name(number)), source })?;
        heads.push((file, Segment { number, after: header.after, size }));
    }
    for (at, (file, segment)) in heads.iter().enumerate() {
        let next = heads.get(at + 1).map(|(_, next)| next.after);
        if next.is_none_or(|next| next > base) {
            reader.segment(&**file, segment, next)?;
        }
    }
    let store = match reader.store {
        Some(store) => store,
        None => random().map_err(|source| Damage::Io { path: disk.path(""), source })?,
    };
    let Reader { state, time, .. } = reader;
    let mut log = Log {
        store,
        segments: heads.into_iter().map(|(_, segment)| segment).collect(),
        base,
        tail: None,
        last: state.revision(),
        encoder: Encoder::new(),
        failed: None,
        snapshot: None,
        segment,
        retry,
        disk,
    };
    log.clear(base);
    for name in old {
        // It is tried again at the next start.
        let _ = log.disk.remove(&name);
    }
    Ok(Opened { log, state, time })
}

/// A random number that marks the files of a new store.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(bytes))
}

type Base<I> = Option<(Option<Header>, State<I>)>;

/// Reads the newest snapshot, if there is one, and names the older ones, which a crash has left.
fn base<I>(disk: &dyn Disk, names: &[String]) -> Result<(Base<I>, Vec<String>), Damage> {
    let is_snapshot =
        |name: &&String| name.strip_prefix("snapshot-").is_some_and(|number| number.parse::<i64>().is_ok());
    let mut old: Vec<String> = names.iter().filter(is_snapshot).cloned().collect();
    old.sort_unstable();
    let Some(newest) = old.pop() else { return Ok((None, old)) };
    let (header, state) = snapshot::read(disk, &newest)?;
    Ok((Some((Some(header), state)), old))
}

struct Reader<'d, I> {
    disk: &'d dyn Disk,
    store: Option<u64>,
    time: u64,
    state: State<I>,
}

impl<I> Reader<'_, I> {
    /// Opens a segment; all must be of one store.
    fn head(&mut self, number: u64) -> Result<(Box<dyn File>, Header), Damage> {
        let path = self.disk.path(&segment_name(number));
        let io = |source| Damage::Io { path: path.clone(), source };
        let file = self.disk.open(&segment_name(number)).map_err(io)?;
        let mut head = [0; HEADER];
        let count = file.read_at(&mut head, 0).map_err(io)?;
        let header = Header::decode(&head[..count], FileKind::Segment);
        let header = header.map_err(|reason| Damage::Foreign { path: path.clone(), reason })?;
        if *self.store.get_or_insert(header.store) != header.store {
            return Err(Damage::Foreign { path, reason: "it belongs to another store".to_owned() });
        }
        self.time = self.time.max(header.time);
        Ok((file, header))
    }

    /// Replays a segment. `next` is the revision that the next segment follows: what is behind that was given up.
    fn segment(&mut self, file: &dyn File, segment: &Segment, next: Option<i64>) -> Result<(), Damage> {
        let path = self.disk.path(&segment_name(segment.number));
        let io = |source| Damage::Io { path: path.clone(), source };
        if segment.after > self.state.revision() {
            let (first, last) = (self.state.revision() + 1, segment.after);
            return Err(Damage::Gap { path, first, last });
        }
        let (mut at, mut follows, mut buffer) = (HEADER as u64, segment.after, Vec::new());
        loop {
            snapshot::read_frame(file, at, &mut buffer).map_err(io)?;
            let frame = self.store.and_then(|store| Frame::decode(&buffer, store));
            let Some(frame) = frame.filter(|frame| frame.after == follows) else { break };
            if frame.kind == Kind::End || next.is_some_and(|next| frame.after >= next) {
                return Ok(());
            }
            self.time = self.time.max(frame.time);
            let Some(last) = self.frame(&frame) else { break };
            follows = last;
            at += buffer.len() as u64;
        }
        let last = match next {
            Some(next) => Some(next).filter(|next| *next > self.state.revision()),
            None => self.behind(file, at, follows).map_err(io)?,
        };
        match last {
            Some(last) => Err(Damage::Log { path, at, first: follows + 1, last }),
            None => Ok(()),
        }
    }

    /// Replays a frame, as far as it is newer than the state. Answers its last revision.
    fn frame(&mut self, frame: &Frame<'_>) -> Option<i64> {
        let (mut pending, mut last) = (Pending::new(&self.state), frame.after);
        for record in codec::records(frame.records) {
            let record = record.ok()?;
            let whole = record.revision == last || record.revision == last + 1;
            if !whole || record.revision == frame.after {
                return None;
            }
            last = record.revision;
            if last > self.state.revision() {
                pending.replay(record.key, record.put, record.revision);
            }
        }
        let events = pending.events;
        self.state.publish(&events, frame.time);
        Some(last)
    }

    /// Looks behind an unreadable frame for one that is whole and later: then what cannot be read was acknowledged.
    /// Answers the last revision that is known of.
    fn behind(&self, file: &dyn File, at: u64, follows: i64) -> io::Result<Option<i64>> {
        let Some(store) = self.store else { return Ok(None) };
        let size = usize::try_from(file.size()?.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut rest = vec![0; size];
        let count = file.read_at(&mut rest, at)?;
        rest.truncate(count);
        let mut last = None;
        for start in (8..rest.len().saturating_sub(FRAME)).step_by(8) {
            let frame = Frame::decode(&rest[start..], store).filter(|frame| frame.after >= follows);
            last = last.max(frame.map(|frame| frame.after));
        }
        Ok(last)
    }
}
