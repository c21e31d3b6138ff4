//! The entries of a tar stream: headers, long names, extended headers and sparse files taken together.
//!
//! The fields of a header are read by the `tar` crate; the framing is done here, since pax values must not be split
//! at line ends and sparse files are to keep their holes.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::UnpackError;
use super::pax::{self, Pax};

const BLOCK: u64 = 512;
/// A name or extended header must not take more, in bytes.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// One file, directory or other object.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryType,
    /// Target of a symbolic or hard link.
    pub(crate) link: Vec<u8>,
    /// Permissions, set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since the epoch, and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Size of the file, holes included.
    pub(crate) size: u64,
    /// Where its data belongs, if it has holes: offset and length.
    pub(crate) data: Option<Vec<(u64, u64)>>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
}

impl Entry {
    /// The path for people.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Reads a tar stream entry by entry.
#[derive(Debug)]
pub(crate) struct Entries<R> {
    input: R,
    position: u64,
    /// Bytes of the current entry's data not yet read, and of the padding behind it.
    left: u64,
    padding: u64,
    global: Pax,
}

impl<R: Read> Entries<R> {
    pub(crate) fn new(input: R) -> Entries<R> {
        Entries { input, position: 0, left: 0, padding: 0, global: Pax::default() }
    }

    /// The next entry; its stored data comes from [`Entries::read_data`]. `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let (mut long_name, mut long_link, mut local) = (None, None, Pax::default());
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = field(size(&header), &header.path_bytes())?;
            match kind {
                EntryType::GNULongName => long_name = Some(self.long(size)?),
                EntryType::GNULongLink => long_link = Some(self.long(size)?),
                EntryType::XHeader | EntryType::XGlobalHeader => {
                    let pax =
                        Pax::parse(&self.content(size)?).map_err(|e| malformed(&header.path_bytes(), e))?;
                    match kind {
                        EntryType::XHeader => local = pax,
                        _ => self.global = self.global.with(pax),
                    }
                }
                _ => return self.entry(&header, long_name, long_link, &self.global.with(local)).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        pax: &Pax,
    ) -> Result<Entry, UnpackError> {
        let named = |key: &str| pax.get(key).map(<[u8]>::to_vec);
        let path = named("GNU.sparse.name").or_else(|| named("path")).or(long_name);
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let own = header.link_name_bytes().unwrap_or_default();
        let link = named("linkpath").or(long_link).unwrap_or_else(|| own.into_owned());
        let number = |key, own: io::Result<u64>| match pax.number(key) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => field(own, &path),
            Err(reason) => Err(malformed(&path, reason)),
        };
        let id = |key, own| {
            u32::try_from(number(key, own)?).map_err(|_| malformed(&path, format!("{key} too large")))
        };
        let mut kind = header.entry_type();
        if matches!(kind, EntryType::Regular | EntryType::Continuous) {
            // Before POSIX a directory was a file whose name ends with a slash.
            kind = if path.ends_with(b"/") { EntryType::Directory } else { EntryType::Regular };
        }
        let old = header.as_old();
        let stored = match kind {
            EntryType::Regular | EntryType::GNUSparse => number("size", size(header))?,
            _ => 0,
        };
        let mtime = match pax.time("mtime") {
            Some(time) => time,
            None => (header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0), 0),
        };
        let mut entry = Entry {
            kind,
            link,
            mode: field(filled(&old.mode, header.mode()), &path)? & 0o7777,
            uid: id("uid", filled(&old.uid, header.uid()))?,
            gid: id("gid", filled(&old.gid, header.gid()))?,
            mtime,
            size: stored,
            data: None,
            xattrs: pax.xattrs(),
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            path,
        };
        self.left = stored;
        self.padding = stored.wrapping_neg() % BLOCK;
        self.sparse(header, pax, &mut entry)?;
        Ok(entry)
    }

    /// Finds out about holes: GNU's own type, and pax in its three formats.
    fn sparse(&mut self, header: &Header, pax: &Pax, entry: &mut Entry) -> Result<(), UnpackError> {
        let name = entry.path.clone();
        let wrong = |reason: String| malformed(&name, reason);
        let numbered = |key| pax.number(key).map_err(wrong);
        let (map, size) = if entry.kind == EntryType::GNUSparse {
            entry.kind = EntryType::Regular;
            let gnu = header
                .as_gnu()
                .ok_or_else(|| wrong("sparse file in a header of another format".to_owned()))?;
            // The map's extension stands before the data and does not count as such.
            (Some(self.gnu_map(gnu, &name)?), Some(field(gnu.real_size(), &name)?))
        } else if numbered("GNU.sparse.major")? == Some(1) {
            (Some(self.map_in_data(&name)?), numbered("GNU.sparse.realsize")?)
        } else {
            (pax.sparse_map().map_err(wrong)?, numbered("GNU.sparse.size")?)
        };
        let Some(map) = map else { return Ok(()) };
        entry.size = size.ok_or_else(|| wrong("sparse file without a size".to_owned()))?;
        let (mut end, mut sum) = (0u64, 0u64);
        for &(offset, length) in &map {
            let next = offset.checked_add(length).filter(|&next| offset >= end && next <= entry.size);
            end = next.ok_or_else(|| wrong("the sparse map is not in order".to_owned()))?;
            sum += length;
        }
        if sum != self.left {
            return Err(wrong("the sparse map does not fit the data".to_owned()));
        }
        entry.data = Some(map);
        Ok(())
    }

    fn gnu_map(&mut self, gnu: &tar::GnuHeader, name: &[u8]) -> Result<Vec<(u64, u64)>, UnpackError> {
        let mut map = Vec::new();
        let mut add = |blocks: &[tar::GnuSparseHeader]| -> Result<(), UnpackError> {
            for block in blocks.iter().filter(|block| !block.is_empty()) {
                map.push((field(block.offset(), name)?, field(block.length(), name)?));
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut block = GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes()).map_err(UnpackError::Read)?;
            self.position += BLOCK;
            add(&block.sparse)?;
            extended = block.is_extended();
        }
        Ok(map)
    }

    /// Format 1.0: the map is text at the head of the data, filled up to whole blocks.
    fn map_in_data(&mut self, name: &[u8]) -> Result<Vec<(u64, u64)>, UnpackError> {
        let wrong = || malformed(name, "malformed sparse map".to_owned());
        let (mut numbers, mut digits, mut wanted, mut block) = (Vec::new(), Vec::new(), None, [0; 512]);
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            if self.left < BLOCK {
                return Err(wrong());
            }
            self.input.read_exact(&mut block).map_err(UnpackError::Read)?;
            self.position += BLOCK;
            self.left -= BLOCK;
            for &byte in &block {
                if wanted.is_some_and(|wanted| numbers.len() >= wanted) {
                    break;
                }
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let number = pax::number(&std::mem::take(&mut digits)).ok_or_else(wrong)?;
                match wanted {
                    None => wanted = Some(usize::try_from(number.saturating_mul(2)).map_err(|_| wrong())?),
                    Some(_) => numbers.push(number),
                }
            }
        }
        pax::pairs(&numbers).map_err(|_| wrong())
    }

    /// The next header; `None` at the end, which is a block of zeros or the end of the stream.
    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        self.skip(self.left + self.padding)?;
        (self.left, self.padding) = (0, 0);
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(UnpackError::Read(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(UnpackError::Read(e)),
            }
        }
        self.position += BLOCK;
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let sum = bytes
            .iter()
            .enumerate()
            .map(|(i, &byte)| if (148..156).contains(&i) { 32 } else { u32::from(byte) });
        let sum: u32 = sum.sum();
        if header.cksum().ok() != Some(sum) {
            let reason = format!("no tar header at byte {}", self.position - BLOCK);
            return Err(malformed(b"", reason));
        }
        Ok(Some(header))
    }

    /// The current entry's next stored bytes; 0 when there are no more.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, UnpackError> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        loop {
            match self.input.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(UnpackError::Read(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => {
                    self.left -= n as u64;
                    self.position += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(UnpackError::Read(e)),
            }
        }
    }

    /// Where in the stream the next byte of data is.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Reads what follows the archive's end, and gives the stream back.
    pub(crate) fn finish(mut self) -> Result<R, UnpackError> {
        io::copy(&mut self.input, &mut io::sink()).map_err(UnpackError::Read)?;
        Ok(self.input)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), UnpackError> {
        let skipped =
            io::copy(&mut (&mut self.input).take(bytes), &mut io::sink()).map_err(UnpackError::Read)?;
        self.position += skipped;
        // What is missing of the last padding does not matter.
        if skipped < bytes.saturating_sub(self.padding) {
            return Err(UnpackError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// The data of a header that describes the next entry.
    fn content(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > HEADER_BYTES_MAX {
            return Err(malformed(b"", format!("a header of {size} bytes")));
        }
        (self.left, self.padding) = (size, size.wrapping_neg() % BLOCK);
        let mut content = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read_data(&mut buffer)? {
                0 => return Ok(content),
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
    }

    fn long(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        let mut name = self.content(size)?;
        name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
        Ok(name)
    }
}

fn size(header: &Header) -> io::Result<u64> {
    filled(&header.as_old().size, header.entry_size())
}

/// A field that is left blank is zero.
fn filled<T: Default>(raw: &[u8], value: io::Result<T>) -> io::Result<T> {
    if raw.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(T::default()) } else { value }
}

fn malformed(entry: &[u8], reason: String) -> UnpackError {
    UnpackError::Malformed { entry: String::from_utf8_lossy(entry).into_owned(), reason }
}

fn field<T>(value: io::Result<T>, entry: &[u8]) -> Result<T, UnpackError> {
    value.map_err(|e| malformed(entry, e.to_string()))
}
