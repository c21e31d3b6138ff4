//! A program as a sealed copy in memory: nobody who gets hold of it can change it (CVE-2019-5736), and an upgrade on
//! disk does not touch it.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// How often a copy is made anew. The kernel refuses to seal one whose pages somebody looks at just then, be it only
/// its own housekeeping on a busy machine.
const TRIES: usize = 20;

/// Copies the program that `file` is open on, from its beginning.
///
/// # Errors
/// It cannot be read, or there is no memory for it.
pub fn copy(name: &str, file: &mut File) -> io::Result<OwnedFd> {
    let mut tries = 1;
    loop {
        file.rewind()?;
        match copy_once(name, file) {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) && tries < TRIES => {
                tries += 1
            }
            done => return done,
        }
    }
}

fn copy_once(name: &str, file: &mut File) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know that a memfd may be executed unless told otherwise.
    let copy = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags))?;
    let mut copy = File::from(copy);
    io::copy(file, &mut copy)?;
    fchmod(&copy, Mode::from_raw_mode(0o500))?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}
