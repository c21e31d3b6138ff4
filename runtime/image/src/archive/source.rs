//! The members of an archive, by name: of a tar file, which is scanned once, or of a directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::EntryType;

use super::LoadError;
use crate::store::disk;
use crate::unpack::{Entries, decompress};

const LINKS_MAX: u32 = 10;

/// Where an archive's members are read from.
pub(super) enum Source {
    Tar { file: Arc<File>, members: HashMap<String, Member> },
    Directory(PathBuf),
}

pub(super) enum Member {
    /// Offset and size.
    Data(u64, u64),
    /// Another member's name: archives of old docker share layers so.
    Link(String),
}

/// A member's content, and its size.
pub(super) type Stream = (Box<dyn Read + Send>, u64);

impl Source {
    /// Opens an archive. What cannot be sought in (a pipe, a compressed tar) is first copied into `scratch`.
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<Source, LoadError> {
        let failed = |source| LoadError::Read { archive: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Ok(Source::Directory(path.to_owned()));
        }
        let mut head = [0; 4];
        let seekable = metadata.is_file() && file.read_at(&mut head, 0).is_ok();
        if !seekable || matches!(head, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
            let copy = scratch.join("archive");
            let mut plain = decompress(BufReader::new(file)).map_err(failed)?;
            file = File::options().read(true).write(true).create_new(true).open(&copy).map_err(failed)?;
            copy_all(&mut plain, &mut file, path, &copy)?;
        }
        file.rewind().map_err(failed)?;
        let members =
            scan(&file).map_err(|source| LoadError::Malformed { archive: path.to_owned(), source })?;
        Ok(Source::Tar { file: Arc::new(file), members })
    }

    /// A member as a stream, with its size; `None` if there is no such member.
    pub(super) fn member(&self, name: &str) -> io::Result<Option<Stream>> {
        let mut name = clean(name);
        match self {
            Source::Directory(root) => match File::open(root.join(name)) {
                Ok(file) => {
                    let size = file.metadata()?.len();
                    Ok(Some((Box::new(file), size)))
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            },
            Source::Tar { file, members } => {
                for _ in 0..LINKS_MAX {
                    match members.get(&name) {
                        Some(Member::Data(offset, size)) => {
                            let section = Section { file: file.clone(), at: *offset, left: *size };
                            return Ok(Some((Box::new(section), *size)));
                        }
                        Some(Member::Link(target)) => name.clone_from(target),
                        None => return Ok(None),
                    }
                }
                Ok(None)
            }
        }
    }
}

fn copy_all(from: &mut dyn Read, to: &mut File, archive: &Path, copy: &Path) -> Result<(), LoadError> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = from
            .read(&mut buffer)
            .map_err(|source| LoadError::Read { archive: archive.to_owned(), source })?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).map_err(disk::failed("write", copy))?;
    }
}

fn scan(file: &File) -> Result<HashMap<String, Member>, crate::unpack::UnpackError> {
    let mut entries = Entries::new(BufReader::new(file));
    let mut members = HashMap::new();
    while let Some(entry) = entries.next()? {
        let name = clean(&entry.name());
        let target = String::from_utf8_lossy(&entry.link);
        let member = match entry.kind {
            EntryType::Regular => Member::Data(entries.position(), entry.size),
            EntryType::Link => Member::Link(clean(&target)),
            EntryType::Symlink => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                Member::Link(clean(&format!("{directory}/{target}")))
            }
            _ => continue,
        };
        members.insert(name, member);
    }
    Ok(members)
}

/// A name without `.`, `..` and leading slashes; it cannot lead out of the archive.
fn clean(name: &str) -> String {
    let mut components = Vec::new();
    for component in name.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            other => components.push(other),
        }
    }
    components.join("/")
}

/// A part of a file. Several are read side by side.
struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
