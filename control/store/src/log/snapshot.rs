//! A file with everything that a store holds at one revision: the base of the log, and the form of a backup.

use std::{io, sync::Arc};

use super::{
    Damage,
    codec::{self, Encoder, FRAME, File as FileKind, Frame, HEADER, Header, Kind},
    disk::{Disk, File},
};
use crate::{Entry, State};

/// About how many bytes of entries one frame holds.
const CHUNK: usize = 1 << 20;
/// No frame is larger: what says otherwise is damaged.
const LARGEST: usize = 64 << 20;

/// Writes a snapshot under `name`: whole and durable when this returns, or not there at all.
pub(crate) fn write<I>(
    disk: &dyn Disk,
    name: &str,
    header: Header,
    entries: &[Arc<Entry<I>>],
) -> io::Result<u64> {
    let temporary = format!("{name}.tmp");
    let written = write_as(disk, &temporary, header, entries);
    let written = written.and_then(|size| {
        linux::crash::point("store-snapshot-written");
        disk.rename(&temporary, name)?;
        linux::crash::point("store-snapshot-named");
        disk.sync()?;
        Ok(size)
    });
    if written.is_err() {
        // What is left of it is removed at the next start at the latest.
        let _ = disk.remove(&temporary);
    }
    written
}

fn write_as<I>(disk: &dyn Disk, name: &str, header: Header, entries: &[Arc<Entry<I>>]) -> io::Result<u64> {
    let mut file = disk.create(name)?;
    file.write_at(&header.encode(FileKind::Snapshot), 0)?;
    let (mut at, mut encoder) = (HEADER as u64, Encoder::new());
    let mut flush = |encoder: &mut Encoder, kind: Kind| {
        let frame = encoder.finish(kind, header.store, header.after, header.time);
        file.write_at(frame, at)?;
        at += frame.len() as u64;
        encoder.clear();
        linux::crash::point("store-snapshot-half");
        io::Result::Ok(())
    };
    for entry in entries {
        encoder.entry(entry);
        if encoder.len() >= CHUNK {
            flush(&mut encoder, Kind::Data)?;
        }
    }
    if encoder.len() > 0 {
        flush(&mut encoder, Kind::Data)?;
    }
    flush(&mut encoder, Kind::End)?;
    file.sync()?;
    Ok(at)
}

/// Reads a snapshot back.
pub(crate) fn read<I>(disk: &dyn Disk, name: &str) -> Result<(Header, State<I>), Damage> {
    let io = |source| Damage::Io { path: disk.path(name), source };
    let file = disk.open(name).map_err(io)?;
    let damaged =
        |at: u64, reason: &str| Damage::Snapshot { path: disk.path(name), at, reason: reason.to_owned() };
    let mut head = [0; HEADER];
    let count = file.read_at(&mut head, 0).map_err(io)?;
    let header = Header::decode(&head[..count], FileKind::Snapshot).map_err(|reason| damaged(0, &reason))?;
    let (mut entries, mut at, mut buffer) = (Vec::new(), HEADER as u64, Vec::new());
    loop {
        read_frame(&*file, at, &mut buffer).map_err(io)?;
        let Some(frame) = Frame::decode(&buffer, header.store) else {
            return Err(damaged(at, "a frame is not whole"));
        };
        if frame.kind == Kind::End {
            return Ok((header, State::new(header.after, entries)));
        }
        for record in codec::records(frame.records) {
            match record {
                Ok(codec::Record { key, revision, put: Some((value, created, expires)) }) => {
                    let value = Box::<[u8]>::from(value).into();
                    entries.push(Entry::new(key.into(), value, created, revision, expires));
                }
                _ => return Err(damaged(at, "a record makes no sense")),
            }
        }
        at += buffer.len() as u64;
    }
}

/// Reads the frame at an offset into the buffer; what is not there is missing at its end.
pub(super) fn read_frame(file: &dyn File, at: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(FRAME, 0);
    let count = file.read_at(buffer, at)?;
    buffer.truncate(count);
    if let Some(length) = codec::frame_length(buffer).filter(|length| (FRAME..=LARGEST).contains(length)) {
        buffer.resize(length, 0);
        let count = file.read_at(buffer, at)?;
        buffer.truncate(count);
    }
    Ok(())
}
