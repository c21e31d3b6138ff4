//! A tree as deep as no path can name, removed with little stack and few descriptors. A process of its own: the limit
//! is the process's.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LEVELS: usize = 50_000;
const STACK_BYTES: usize = 256 * 1024;
const DESCRIPTORS: u64 = 48;

/// Directories one in the other, each with a file, as a container makes them: holding the last alone.
fn dig(top: &Path) -> rustix::io::Result<()> {
    let open = |dir: &OwnedFd, name, flags| rustix::fs::openat(dir, name, flags, Mode::RWXU);
    let mut last = rustix::fs::openat(CWD, top, OFlags::DIRECTORY, Mode::empty())?;
    for level in 0..LEVELS {
        rustix::fs::mkdirat(&last, "d", Mode::RWXU)?;
        if level % 100 == 0 {
            open(&last, "file", OFlags::CREATE | OFlags::WRONLY)?;
        }
        last = open(&last, "d", OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    }
    Ok(())
}

#[test]
fn no_depth_is_too_much() {
    let limit = Rlimit { current: Some(DESCRIPTORS), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    // In memory, as disks take minutes. No folder that removes itself: it would overflow the stack where this test fails.
    let top = Path::new("/dev/shm").join(format!("cleat-deep-{}", std::process::id()));
    std::fs::create_dir(&top).unwrap();
    dig(&top).unwrap();
    let removed = {
        let top = top.clone();
        let small = std::thread::Builder::new().stack_size(STACK_BYTES);
        small.spawn(move || linux::remove::tree(&top)).unwrap().join().unwrap()
    };
    removed.unwrap();
    assert!(!top.exists());
}
