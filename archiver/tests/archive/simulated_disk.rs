//! A disk in memory that fails on demand and forgets, at a power cut, what was not synced: of each file's bytes what comes after any
//! point, and of the names that were made, changed and removed any part.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use rand::{Rng, RngExt as _};
use sealpost_archive::storage::{Storage, StoredFile, directory_of};

/// The disk; clones are the same disk.
#[derive(Clone, Default, Debug)]
pub(crate) struct SimulatedDisk {
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

/// A file on it.
#[derive(Debug)]
pub(crate) struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
}

#[derive(Default, Debug)]
struct Inner {
    inodes: Vec<Contents>,
    /// The names as everybody sees them.
    names: BTreeMap<String, usize>,
    /// The names as they are on the medium, and what was done to them since.
    durable_names: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
    directories: BTreeSet<String>,
    /// Directories that were removed. At a power cut they come back: a file that comes back needs its own.
    removed_directories: BTreeSet<String>,
    /// How many changing operations still succeed; without a number, all.
    operations_left: Option<u64>,
    failure: Option<io::ErrorKind>,
    /// The next sync fails, and only that.
    fail_next_sync: bool,
    /// How many bytes it says are free; without a number, any.
    free: Option<u64>,
    /// Syncs wait as long as this is set.
    hold_syncs: bool,
    syncs_waiting: usize,
    operations: u64,
}

#[derive(Default, Debug, Clone)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<DataChange>,
}

#[derive(Debug, Clone)]
enum DataChange {
    Append(Vec<u8>),
    Cut(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Made {
        name: String,
        inode: usize,
    },
    Renamed {
        from: String,
        to: String,
        inode: usize,
    },
    Removed {
        name: String,
        inode: usize,
    },
}

impl NameChange {
    fn directory(&self) -> &str {
        match self {
            NameChange::Made { name, .. } | NameChange::Removed { name, .. } => directory_of(name),
            NameChange::Renamed { to, .. } => directory_of(to),
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Made { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Renamed { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            NameChange::Removed { name, inode } => {
                if names.get(name) == Some(inode) {
                    names.remove(name);
                }
            }
        }
    }
}

impl Contents {
    fn change(&mut self, change: DataChange) {
        apply(&mut self.live, &change, usize::MAX);
        self.pending.push(change);
    }

    /// What a power cut leaves: what was done in order, up to any point.
    fn lose(&mut self, random: &mut impl Rng) {
        let done = random.random_range(0..=self.pending.len());
        for (place, change) in self.pending.iter().take(done).enumerate() {
            let part = match change {
                DataChange::Append(bytes) if place + 1 == done => {
                    random.random_range(0..=bytes.len())
                }
                _ => usize::MAX,
            };
            apply(&mut self.durable, change, part);
        }
        self.pending.clear();
        self.live.clone_from(&self.durable);
    }
}

fn apply(bytes: &mut Vec<u8>, change: &DataChange, part: usize) {
    match change {
        DataChange::Append(more) => bytes.extend_from_slice(&more[..part.min(more.len())]),
        DataChange::Cut(length) => bytes.truncate(*length),
    }
}

impl SimulatedDisk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.0.lock().unwrap()
    }

    /// Puts a file there, as durable as can be.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.inodes.push(Contents {
            live: bytes.to_vec(),
            durable: bytes.to_vec(),
            pending: Vec::new(),
        });
        let inode = inner.inodes.len() - 1;
        inner.names.insert(name.to_owned(), inode);
        inner.durable_names.insert(name.to_owned(), inode);
        let mut directory = directory_of(name);
        while !directory.is_empty() {
            inner.directories.insert(directory.to_owned());
            directory = directory_of(directory);
        }
    }

    /// A file's bytes as a reader sees them.
    pub(crate) fn live(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        let inode = *inner.names.get(name)?;
        Some(inner.inodes[inode].live.clone())
    }

    /// A file's bytes as a power cut would leave them at the least.
    pub(crate) fn durable(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        let inode = *inner.durable_names.get(name)?;
        Some(inner.inodes[inode].durable.clone())
    }

    /// The names of the files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// How many changing operations there were.
    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// After so many more changing operations, every further one fails; an append that fails writes
    /// half. A full disk refuses only what makes files grow.
    pub(crate) fn fail_after(&self, operations: u64, failure: io::ErrorKind) {
        let mut inner = self.lock();
        inner.operations_left = Some(operations);
        inner.failure = Some(failure);
    }

    /// Whether it fails by now.
    pub(crate) fn fails(&self) -> bool {
        self.lock().operations_left == Some(0)
    }

    /// From now on it says that so many bytes are free.
    pub(crate) fn leave_free(&self, bytes: u64) {
        self.lock().free = Some(bytes);
    }

    /// The next sync fails, and nothing else.
    pub(crate) fn fail_next_sync(&self) {
        self.lock().fail_next_sync = true;
    }

    /// Lets syncs wait until [`SimulatedDisk::release_syncs`].
    pub(crate) fn hold_syncs(&self) {
        self.lock().hold_syncs = true;
    }

    /// Returns when a sync waits.
    pub(crate) fn wait_for_a_held_sync(&self) {
        let (lock, changed) = &*self.inner;
        let wait = Duration::from_secs(30);
        let (_inner, waited) = changed
            .wait_timeout_while(lock.lock().unwrap(), wait, |inner| inner.syncs_waiting == 0)
            .unwrap();
        assert!(!waited.timed_out(), "nothing syncs");
    }

    /// Lets the waiting sync go on, and all later ones.
    pub(crate) fn release_syncs(&self) {
        self.lock().hold_syncs = false;
        self.inner.1.notify_all();
    }

    /// The process is killed: what was written is there, and the disk works again. What was not synced is not synced now either.
    pub(crate) fn kill(&self) {
        self.lock().operations_left = None;
    }

    /// The power is cut, and the disk works again. Of what was not synced, as much stays as chance will have it.
    pub(crate) fn cut_power(&self, random: &mut impl Rng) {
        let mut inner = self.lock();
        inner.operations_left = None;
        let pending = std::mem::take(&mut inner.pending);
        for change in pending {
            if random.random_bool(0.5) {
                change.apply(&mut inner.durable_names);
            }
        }
        inner.names = inner.durable_names.clone();
        let back = std::mem::take(&mut inner.removed_directories);
        inner.directories.extend(back);
        for contents in &mut inner.inodes {
            contents.lose(random);
        }
    }
}

impl Inner {
    /// Counts an operation; an error when the disk is to fail from here on.
    fn spend(&mut self, grows: bool) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) if !grows && self.failure == Some(io::ErrorKind::StorageFull) => {}
            Some(0) => return Err(self.failure.unwrap_or(io::ErrorKind::Other).into()),
            Some(left) => *left -= 1,
            None => {}
        }
        self.operations += 1;
        Ok(())
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        let inode = self.names.get(name).copied();
        inode.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Storage for SimulatedDisk {
    type File = SimulatedFile;

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        match self.open_existing(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create_new(name),
            other => other,
        }
    }

    fn create_new(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut inner = self.lock();
        if inner.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let directory = directory_of(name);
        if !directory.is_empty() && !inner.directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.spend(true)?;
        inner.inodes.push(Contents::default());
        let inode = inner.inodes.len() - 1;
        inner.change_names(NameChange::Made {
            name: name.to_owned(),
            inode,
        });
        Ok(SimulatedFile {
            disk: self.clone(),
            inode,
        })
    }

    fn open_existing(&self, name: &str) -> io::Result<SimulatedFile> {
        let inode = self.lock().inode(name)?;
        Ok(SimulatedFile {
            disk: self.clone(),
            inode,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        assert_eq!(
            directory_of(from),
            directory_of(to),
            "only within a directory a rename is atomic"
        );
        let mut inner = self.lock();
        let inode = inner.inode(from)?;
        inner.spend(false)?;
        inner.change_names(NameChange::Renamed {
            from: from.to_owned(),
            to: to.to_owned(),
            inode,
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let inode = inner.inode(name)?;
        inner.spend(false)?;
        inner.change_names(NameChange::Removed {
            name: name.to_owned(),
            inode,
        });
        Ok(())
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let mut inner = self.lock();
        if !inner.directories.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.spend(false)?;
        inner.directories.remove(path);
        inner.removed_directories.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let inner = self.lock();
        let paths = inner.names.keys().chain(&inner.directories);
        let names: BTreeSet<String> = paths
            .filter_map(|path| path.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next().map(str::to_owned))
            .collect();
        Ok(names.into_iter().collect())
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.directories.contains(path) {
            return Ok(());
        }
        inner.spend(true)?;
        let mut directory = path;
        while !directory.is_empty() {
            inner.directories.insert(directory.to_owned());
            directory = directory_of(directory);
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free.unwrap_or(u64::MAX))
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.spend(false)?;
        let pending = std::mem::take(&mut inner.pending);
        for change in pending {
            if change.directory() == path {
                change.apply(&mut inner.durable_names);
            } else {
                inner.pending.push(change);
            }
        }
        Ok(())
    }
}

impl StoredFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let inner = self.disk.lock();
        let live = &inner.inodes[self.inode].live;
        let rest = live.get(offset as usize..).unwrap_or_default();
        // Short reads are allowed, so there are some.
        let read = rest.len().min(buffer.len()).min(100);
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let spent = inner.spend(true);
        let written = if spent.is_ok() {
            bytes
        } else {
            &bytes[..bytes.len() / 2]
        };
        inner.inodes[self.inode].change(DataChange::Append(written.to_vec()));
        spent
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.spend(false)?;
        inner.inodes[self.inode].change(DataChange::Cut(length as usize));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let (lock, changed) = &*self.disk.inner;
        let mut inner = lock.lock().unwrap();
        inner.syncs_waiting += 1;
        changed.notify_all();
        inner = changed.wait_while(inner, |inner| inner.hold_syncs).unwrap();
        inner.syncs_waiting -= 1;
        if std::mem::take(&mut inner.fail_next_sync) {
            return Err(io::ErrorKind::Other.into());
        }
        inner.spend(false)?;
        let contents = &mut inner.inodes[self.inode];
        contents.durable = contents.live.clone();
        contents.pending.clear();
        Ok(())
    }
}
