//! The small text files of the cgroup file system.

use std::io;
use std::path::Path;

use super::CgroupError;

/// Writes a file that exists, in one system call.
pub(super) fn write(directory: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = directory.join(file);
    let opened = std::fs::OpenOptions::new().write(true).open(&path);
    opened
        .and_then(|mut opened| io::Write::write_all(&mut opened, value.as_bytes()))
        .map_err(|source| CgroupError::io(format!("write {value:?} to"), &path, source))
}

/// Whether an error is one of the kernel's error numbers.
pub(super) fn is(error: &CgroupError, number: rustix::io::Errno) -> bool {
    matches!(error, CgroupError::Io { source, .. } if source.raw_os_error() == Some(number.raw_os_error()))
}

pub(super) fn read(directory: &Path, file: &str) -> Result<String, CgroupError> {
    let path = directory.join(file);
    std::fs::read_to_string(&path).map_err(|source| CgroupError::io("read", &path, source))
}

/// As [`read`]; empty when the file or the cgroup is not there (`ENODEV` too: it was removed while open).
pub(super) fn read_or_empty(directory: &Path, file: &str) -> Result<String, CgroupError> {
    match read(directory, file) {
        Err(error) if is(&error, rustix::io::Errno::NOENT) || is(&error, rustix::io::Errno::NODEV) => {
            Ok(String::new())
        }
        other => other,
    }
}

/// The number in a file that holds one; `None` when it is not there, or says `max`.
pub(super) fn number(directory: &Path, file: &str) -> Result<Option<u64>, CgroupError> {
    Ok(read_or_empty(directory, file)?.trim().parse().ok())
}

/// The number behind a key in a file of `key number` lines; 0 when it is not there.
pub(super) fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// Makes one directory; one that exists is no error.
pub(super) fn make(directory: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(directory) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::io("make", directory, source))
        }
        _ => Ok(()),
    }
}
