//! From the bytes of a layer's blob to its directory, with both its digests taken on the way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use rustix::io::Errno;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::UnpackError;
use super::entry::Entries;
use super::tree::Loose;
use super::write::Writer;
use crate::digest::{Digest, Hasher};
use crate::store::Usage;

const BUFFER_BYTES: usize = 128 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// An unpacked layer, for the caller to compare with what it should be.
#[derive(Debug)]
pub(crate) struct Verified {
    /// Digest of the tar stream.
    pub(crate) diff_id: Digest,
    /// What it takes on the disk.
    pub(crate) usage: Usage,
    /// For [`super::inherit`].
    pub(super) loose: Loose,
}

/// Unpacks a layer into a directory that is there and empty. Returns the digest of the blob, which is the first thing
/// to look at: a damaged blob fails to unpack in any way. It is `None` if the blob could not be read to its end.
pub(crate) fn unpack(
    blob: impl Read,
    hashers: (Hasher, Hasher),
    directory: &Path,
) -> (Option<Digest>, Result<Verified, UnpackError>) {
    let mut blob = Hashing { input: blob, hasher: hashers.0 };
    let outcome = unpack_tar(&mut blob, hashers.1, directory);
    let readable = !matches!(outcome, Err(UnpackError::Full { .. } | UnpackError::Write { .. }));
    let whole = readable && io::copy(&mut blob, &mut io::sink()).is_ok();
    (whole.then(|| blob.hasher.finish()), outcome)
}

fn unpack_tar(blob: &mut impl Read, hasher: Hasher, directory: &Path) -> Result<Verified, UnpackError> {
    let opened = |e: io::Error| UnpackError::write("open the directory of", String::new(), errno(&e));
    let mut writer = Writer::new(File::open(directory).map_err(opened)?.into());
    let tar = decompress(BufReader::with_capacity(BUFFER_BYTES, blob)).map_err(UnpackError::Read)?;
    let mut tar = Hashing { input: tar, hasher };
    let mut entries = Entries::new(BufReader::with_capacity(BUFFER_BYTES, &mut tar));
    while let Some(entry) = entries.next()? {
        writer.write(&entry, &mut entries)?;
    }
    drop(entries.finish()?);
    let Writer { tree, usage, .. } = writer;
    Ok(Verified { diff_id: tar.hasher.finish(), usage, loose: tree.finish()? })
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The content of a stream that is compressed by gzip or zstd, or not at all: its first bytes tell.
pub(crate) fn decompress<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    input.by_ref().take(ZSTD.len() as u64).read_to_end(&mut head)?;
    let gzip = head.starts_with(GZIP);
    let zstd = head == ZSTD || is_skippable(&head);
    let whole = io::Cursor::new(head).chain(input);
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(whole)),
        (_, true) => Box::new(Zstd::Between(whole)),
        _ => Box::new(whole),
    })
}

/// Zstandard's frames that hold no data begin with 0x184D2A50 to 0x184D2A5F.
fn is_skippable(head: &[u8]) -> bool {
    matches!(head, [low, 0x2a, 0x4d, 0x18] if low & 0xf0 == 0x50)
}

/// All frames of a zstd stream, one after the other.
enum Zstd<R: Read> {
    Between(R),
    Within(R, Box<FrameDecoder>),
    End,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Zstd::End) {
                Zstd::Between(mut input) => {
                    if input.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    *self = next_frame(input)?;
                }
                Zstd::Within(mut input, mut decoder) => {
                    while decoder.can_collect() == 0 && !decoder.is_finished() {
                        let decoded = decoder.decode_blocks(&mut input, BlockDecodingStrategy::UptoBlocks(1));
                        decoded.map_err(io::Error::other)?;
                    }
                    if decoder.can_collect() == 0 {
                        *self = Zstd::Between(input);
                        continue;
                    }
                    let read = decoder.read(buffer);
                    *self = Zstd::Within(input, decoder);
                    return read;
                }
                Zstd::End => return Ok(0),
            }
        }
    }
}

/// Begins the frame that the input stands at, or passes over it if it holds no data.
fn next_frame<R: BufRead>(mut input: R) -> io::Result<Zstd<R>> {
    let mut decoder = Box::new(FrameDecoder::new());
    match decoder.init(&mut input) {
        Ok(()) => Ok(Zstd::Within(input, decoder)),
        Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
            let skipped = io::copy(&mut input.by_ref().take(length.into()), &mut io::sink())?;
            let whole = skipped == u64::from(length);
            if whole { Ok(Zstd::Between(input)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    input: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
