//! The bytes of the log and of snapshots: a header that says whose file this is, then frames.
//!
//! ```text
//! header  magic 8 | version 4 | crc 4 | store 8 | after 8 | time 8 | zeros to 64
//! frame   magic 4 | length 4 | crc 4 | kind 4 | after 8 | time 8 | records, padded with zeros to a multiple of 8
//! record  kind 1 | key length 4 | value length 4 | revision 8 | created 8 | expires 8 | key | value
//! ```
//! All numbers are little-endian. A frame is what one sync makes durable: whole transactions, that follow the
//! revision `after`. Its checksum covers the store's random number too, so that no value that a client stores can
//! pass for a frame, and no file of another store for one of this.

use crc32fast::Hasher;

use crate::{Entry, Event};

/// The size of a file's header.
pub(crate) const HEADER: usize = 64;
/// The size of a frame's header.
pub(crate) const FRAME: usize = 32;
const RECORD: usize = 33;
const VERSION: u32 = 1;
const MARK: [u8; 4] = *b"\xc1frm";
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// A part of the log.
    Segment,
    /// The whole state at one revision.
    Snapshot,
}

impl File {
    fn magic(self) -> [u8; 8] {
        match self {
            File::Segment => *b"cleatlog",
            File::Snapshot => *b"cleatsnp",
        }
    }
}

/// The beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The random number of the store.
    pub(crate) store: u64,
    /// Of a segment: the revision before its first frame. Of a snapshot: its revision.
    pub(crate) after: i64,
    /// The store's time when the file was begun.
    pub(crate) time: u64,
}

impl Header {
    pub(crate) fn encode(&self, file: File) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&file.magic());
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.store.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.after.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.time.to_le_bytes());
        let crc = crc32fast::hash(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// # Errors
    /// Why this is not such a header, in words.
    pub(crate) fn decode(bytes: &[u8], file: File) -> Result<Header, String> {
        if bytes.len() < HEADER || bytes[..8] != file.magic() {
            return Err(format!("it does not begin as a {file:?} of a cleat store does"));
        }
        let version = u32::from_le_bytes(array(&bytes[8..]));
        if version != VERSION {
            return Err(format!("its format is {version}, this program knows {VERSION}"));
        }
        if crc32fast::hash(&bytes[16..HEADER]) != u32::from_le_bytes(array(&bytes[12..])) {
            return Err("the checksum of its header is wrong".to_owned());
        }
        Ok(Header {
            store: u64::from_le_bytes(array(&bytes[16..])),
            after: i64::from_le_bytes(array(&bytes[24..])),
            time: u64::from_le_bytes(array(&bytes[32..])),
        })
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records.
    Data,
    /// Nothing more: a segment was closed in peace, or a snapshot is whole.
    End,
}

/// Frames in the making.
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new() -> Encoder {
        Encoder { bytes: vec![0; FRAME] }
    }

    /// Adds a change.
    pub(crate) fn event<I>(&mut self, event: &Event<I>) {
        match &event.entry {
            Some(entry) => self.entry(entry),
            None => self.record(DELETE, event.key(), &[], [event.revision, 0], 0),
        }
    }

    /// Adds what a key holds.
    pub(crate) fn entry<I>(&mut self, entry: &Entry<I>) {
        let revisions = [entry.mod_revision, entry.create_revision];
        self.record(PUT, &entry.key, &entry.value, revisions, entry.expires);
    }

    fn record(&mut self, kind: u8, key: &str, value: &[u8], revisions: [i64; 2], expires: u64) {
        self.bytes.push(kind);
        for length in [key.len(), value.len()] {
            let length = u32::try_from(length).expect("a transaction is far smaller than 4 GiB");
            self.bytes.extend(length.to_le_bytes());
        }
        for revision in revisions {
            self.bytes.extend(revision.to_le_bytes());
        }
        self.bytes.extend(expires.to_le_bytes());
        self.bytes.extend(key.as_bytes());
        self.bytes.extend(value);
    }

    /// How many bytes of records there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - FRAME
    }

    /// The finished frame, with its padding.
    pub(crate) fn finish(&mut self, kind: Kind, store: u64, after: i64, time: u64) -> &[u8] {
        let length = u32::try_from(self.len()).expect("a group is far smaller than 4 GiB");
        let head = &mut self.bytes[..FRAME];
        head[..4].copy_from_slice(&MARK);
        head[4..8].copy_from_slice(&length.to_le_bytes());
        head[12..16].copy_from_slice(&u32::from(kind == Kind::End).to_le_bytes());
        head[16..24].copy_from_slice(&after.to_le_bytes());
        head[24..32].copy_from_slice(&time.to_le_bytes());
        let crc = checksum(store, &self.bytes);
        self.bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        &self.bytes
    }

    /// The frame that was finished last.
    pub(crate) fn finished(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins the next frame.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(FRAME, 0);
        self.bytes.shrink_to(4 << 20);
    }
}

/// Gives the frame that `bytes` begin with, and that must be there in its full length, the checksum that it needs.
pub(super) fn seal(bytes: &mut [u8], store: u64) {
    let length = FRAME + u32::from_le_bytes(array(&bytes[4..])) as usize;
    let crc = checksum(store, &bytes[..length]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// The checksum of a frame whose header is followed by its records.
fn checksum(store: u64, frame: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&store.to_le_bytes());
    hasher.update(&frame[..8]);
    hasher.update(&frame[12..]);
    hasher.finalize()
}

/// A frame as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    /// The revision that it follows.
    pub(crate) after: i64,
    /// The store's time of its writing.
    pub(crate) time: u64,
    pub(crate) records: &'a [u8],
}

/// The length of a frame with its padding, from its header; `None` when this is no header of a frame.
pub(crate) fn frame_length(head: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(array(head.get(4..8)?));
    (head[..4] == MARK).then(|| (FRAME + length as usize).next_multiple_of(8))
}

impl<'a> Frame<'a> {
    /// Reads the frame that `bytes` begin with; `None` when it is not whole.
    pub(crate) fn decode(bytes: &'a [u8], store: u64) -> Option<Frame<'a>> {
        let padded = frame_length(bytes)?;
        let length = FRAME + u32::from_le_bytes(array(&bytes[4..])) as usize;
        if bytes.len() < padded || checksum(store, &bytes[..length]) != u32::from_le_bytes(array(&bytes[8..]))
        {
            return None;
        }
        let kind = if bytes[12] == 0 { Kind::Data } else { Kind::End };
        let (after, time) =
            (i64::from_le_bytes(array(&bytes[16..])), u64::from_le_bytes(array(&bytes[24..])));
        Some(Frame { kind, after, time, records: &bytes[FRAME..length] })
    }
}

/// A change as it was read.
pub(crate) struct Record<'a> {
    pub(crate) key: &'a str,
    pub(crate) revision: i64,
    /// Value, create revision and deadline; `None`: the key was deleted.
    pub(crate) put: Option<(&'a [u8], i64, u64)>,
}

/// The records of a frame, in order. Ends early, with an `Err`, where they make no sense.
pub(crate) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, ()>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = record(&mut bytes);
        if record.is_none() {
            bytes = &[];
        }
        Some(record.ok_or(()))
    })
}

fn record<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let (head, rest) = bytes.split_at_checked(RECORD)?;
    let length = |at: usize| u32::from_le_bytes(array(&head[at..])) as usize;
    let (key, rest) = rest.split_at_checked(length(1))?;
    let (value, rest) = rest.split_at_checked(length(5))?;
    let number = |at: usize| i64::from_le_bytes(array(&head[at..]));
    let put = match head[0] {
        PUT => Some((value, number(17), u64::from_le_bytes(array(&head[25..])))),
        DELETE => None,
        _ => return None,
    };
    *bytes = rest;
    Some(Record { key: std::str::from_utf8(key).ok()?, revision: number(9), put })
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("the slice has N bytes")
}
