//! A disk that remembers everything that was done to it, so that a test can see what a crash at any moment may
//! leave: what was synced for sure, and of the rest any part.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use super::super::disk::{Disk, File};

#[derive(Clone, Debug)]
pub(super) enum Action {
    Create { inode: usize, name: String },
    Write { inode: usize, at: usize, bytes: Vec<u8> },
    Sync { inode: usize },
    Rename { inode: usize, from: String, to: String },
    Remove { name: String },
    SyncNames,
}

/// The disk as the running process sees it, and how it came to be so.
#[derive(Clone, Default)]
pub(super) struct Model {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    actions: Vec<Action>,
    names: BTreeMap<String, usize>,
    inodes: Vec<Vec<u8>>,
    /// How many more changes succeed, and what the others meet.
    failing: Option<(usize, i32)>,
}

/// A small generator of random numbers: a test's runs must be the same every time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("64 bits") % bound
    }
}

/// What becomes of the writes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unsynced {
    /// They arrive in order, up to this many bytes.
    Prefix(usize),
    /// Each sector of 512 bytes arrives or not.
    Sectors(u64),
}

impl Model {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the disk")
    }

    /// How many actions there were.
    pub(super) fn actions(&self) -> usize {
        self.lock().actions.len()
    }

    /// From the change after next `after` ones on, all fail with this error.
    pub(super) fn fail(&self, after: usize, errno: i32) {
        self.lock().failing = Some((after, errno));
    }

    pub(super) fn heal(&self) {
        self.lock().failing = None;
    }

    /// Flips bits of one byte, as a failing disk would.
    pub(super) fn flip(&self, name: &str, at: usize) {
        let mut inner = self.lock();
        let inode = inner.names[name];
        inner.inodes[inode][at] ^= 0x41;
    }

    pub(super) fn cut(&self, name: &str, at: usize) {
        let mut inner = self.lock();
        let inode = inner.names[name];
        inner.inodes[inode].truncate(at);
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let inner = self.lock();
        inner.inodes[inner.names[name]].clone()
    }

    /// A disk with the same files and no past.
    pub(super) fn copy(&self) -> Model {
        let inner = self.lock();
        let copy = Inner { names: inner.names.clone(), inodes: inner.inodes.clone(), ..Inner::default() };
        Model { inner: Arc::new(Mutex::new(copy)) }
    }

    /// The bytes that a crash after `count` actions may lose.
    pub(super) fn unsynced(&self, count: usize) -> usize {
        let inner = self.lock();
        let mut open = BTreeMap::new();
        for action in &inner.actions[..count] {
            match action {
                Action::Write { inode, bytes, .. } => *open.entry(*inode).or_insert(0) += bytes.len(),
                Action::Sync { inode } => drop(open.remove(inode)),
                _ => {}
            }
        }
        open.values().sum()
    }

    /// What a crash after `count` actions may leave.
    pub(super) fn crashed(&self, count: usize, unsynced: Unsynced, names: u64) -> Model {
        let inner = self.lock();
        let mut image = Image::default();
        for action in &inner.actions[..count] {
            image.follow(action);
        }
        Model { inner: Arc::new(Mutex::new(image.finish(unsynced, names))) }
    }
}

#[derive(Default)]
struct Image<'a> {
    names: BTreeMap<String, usize>,
    inodes: Vec<Vec<u8>>,
    writes: Vec<(usize, usize, &'a [u8])>,
    renames: Vec<&'a Action>,
}

impl<'a> Image<'a> {
    fn follow(&mut self, action: &'a Action) {
        match action {
            Action::Write { inode, at, bytes } => self.writes.push((*inode, *at, bytes)),
            Action::Sync { inode } => {
                let synced = self.writes.extract_if(.., |(of, ..)| of == inode).collect::<Vec<_>>();
                for (inode, at, bytes) in synced {
                    write(&mut self.inodes[inode], at, bytes);
                }
            }
            Action::SyncNames => {
                for action in std::mem::take(&mut self.renames) {
                    name(&mut self.names, action);
                }
            }
            other => {
                if let Action::Create { .. } = other {
                    self.inodes.push(Vec::new());
                }
                self.renames.push(other);
            }
        }
    }

    /// Of the names that were not synced, those whose bit is set have changed.
    fn finish(mut self, unsynced: Unsynced, names: u64) -> Inner {
        for (at, action) in self.renames.iter().enumerate() {
            if names >> (at % 64) & 1 == 1 {
                name(&mut self.names, action);
            }
        }
        match unsynced {
            Unsynced::Prefix(mut left) => {
                for (inode, at, bytes) in self.writes {
                    let count = left.min(bytes.len());
                    write(&mut self.inodes[inode], at, &bytes[..count]);
                    left -= count;
                }
            }
            Unsynced::Sectors(seed) => {
                let mut random = Random(seed | 1);
                for (inode, at, bytes) in self.writes {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = bytes.len().min(from + 512 - (at + from) % 512);
                        if random.below(2) == 0 {
                            write(&mut self.inodes[inode], at + from, &bytes[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
        Inner { names: self.names, inodes: self.inodes, ..Inner::default() }
    }
}

fn write(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn name(names: &mut BTreeMap<String, usize>, action: &Action) {
    match action {
        Action::Create { inode, name } => drop(names.insert(name.clone(), *inode)),
        Action::Rename { inode, from, to } => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
        Action::Remove { name } => drop(names.remove(name)),
        Action::Write { .. } | Action::Sync { .. } | Action::SyncNames => {}
    }
}

impl Inner {
    fn act(&mut self, action: Action) -> io::Result<()> {
        if let Some((left, errno)) = &mut self.failing {
            if *left == 0 {
                // What failed may still have reached the disk, in part or whole.
                if let Action::Write { .. } = action {
                    self.actions.push(action);
                }
                return Err(io::Error::from_raw_os_error(*errno));
            }
            *left -= 1;
        }
        name(&mut self.names, &action);
        match &action {
            Action::Create { .. } => self.inodes.push(Vec::new()),
            Action::Write { inode, at, bytes } => write(&mut self.inodes[*inode], *at, bytes),
            _ => {}
        }
        self.actions.push(action);
        Ok(())
    }
}

struct Open {
    disk: Model,
    inode: usize,
}

impl Disk for Model {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let inode = self.lock().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Open { disk: self.clone(), inode }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut inner = self.lock();
        let inode = inner.inodes.len();
        inner.act(Action::Create { inode, name: name.to_owned() })?;
        Ok(Box::new(Open { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let inode = inner.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        inner.act(Action::Rename { inode, from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().act(Action::Remove { name: name.to_owned() })
    }

    fn sync(&self) -> io::Result<()> {
        self.lock().act(Action::SyncNames)
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

impl File for Open {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.disk.lock();
        let file = &inner.inodes[self.inode];
        let from = usize::try_from(offset).expect("64 bits").min(file.len());
        let count = buffer.len().min(file.len() - from);
        buffer[..count].copy_from_slice(&file[from..from + count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).expect("64 bits");
        self.disk.lock().act(Action::Write { inode: self.inode, at, bytes: bytes.to_vec() })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.lock().act(Action::Sync { inode: self.inode })
    }
}
