//! A disk in memory that fails on demand and forgets, at a power cut, what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use sealpost_archive::storage::{Storage, StoredFile};

/// The disk; clones are the same disk.
#[derive(Clone, Default, Debug)]
pub(crate) struct SimulatedDisk {
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

/// A file on it.
#[derive(Debug)]
pub(crate) struct SimulatedFile {
    disk: SimulatedDisk,
    name: String,
}

#[derive(Default, Debug)]
struct Inner {
    files: BTreeMap<String, Contents>,
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
    name_is_durable: bool,
}

impl SimulatedDisk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.0.lock().unwrap()
    }

    /// Puts a file there, as durable as can be.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let contents = Contents {
            live: bytes.to_vec(),
            durable: bytes.to_vec(),
            name_is_durable: true,
        };
        self.lock().files.insert(name.to_owned(), contents);
    }

    /// A file's bytes as a reader sees them.
    pub(crate) fn live(&self, name: &str) -> Option<Vec<u8>> {
        self.lock()
            .files
            .get(name)
            .map(|contents| contents.live.clone())
    }

    /// A file's bytes as a power cut would leave them at the least.
    pub(crate) fn durable(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        inner
            .files
            .get(name)
            .filter(|contents| contents.name_is_durable)
            .map(|contents| contents.durable.clone())
    }

    /// The names of the files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
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

    /// The process is killed: what was written is there, and the disk works again.
    pub(crate) fn kill(&self) {
        let mut inner = self.lock();
        inner.operations_left = None;
    }

    /// The power is cut: of what was not synced, a part stays, between nothing (0) and everything (1000).
    pub(crate) fn cut_power(&self, stays: u64) {
        let mut inner = self.lock();
        inner.operations_left = None;
        inner
            .files
            .retain(|_, contents| contents.name_is_durable || stays >= 500);
        for contents in inner.files.values_mut() {
            contents.name_is_durable = true;
            let survived = match contents.live.strip_prefix(contents.durable.as_slice()) {
                Some(unsynced) => {
                    let part = unsynced.len() as u64 * stays / 1000;
                    [&contents.durable[..], &unsynced[..part as usize]].concat()
                }
                // Cut and not synced: either length may be found.
                None if stays >= 500 => contents.live.clone(),
                None => contents.durable.clone(),
            };
            contents.live.clone_from(&survived);
            contents.durable = survived;
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

    fn contents(&mut self, name: &str) -> &mut Contents {
        self.files
            .get_mut(name)
            .expect("files are never removed while open")
    }
}

impl Storage for SimulatedDisk {
    type File = SimulatedFile;

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        if self.live(name).is_none() {
            return self.create_new(name);
        }
        Ok(SimulatedFile {
            disk: self.clone(),
            name: name.to_owned(),
        })
    }

    fn create_new(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut inner = self.lock();
        if inner.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.spend(true)?;
        inner.files.insert(name.to_owned(), Contents::default());
        Ok(SimulatedFile {
            disk: self.clone(),
            name: name.to_owned(),
        })
    }

    fn open_existing(&self, name: &str) -> io::Result<SimulatedFile> {
        if self.live(name).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.spend(false)?;
        let contents = inner.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.files.insert(to.to_owned(), contents);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.files.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.spend(false)?;
        inner.files.remove(name);
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let mut names: Vec<String> = self
            .names()
            .iter()
            .filter_map(|name| name.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next().map(str::to_owned))
            .collect();
        names.dedup();
        Ok(names)
    }

    fn make_directory(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free.unwrap_or(u64::MAX))
    }

    fn sync_directory(&self, _path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.spend(false)?;
        inner
            .files
            .values_mut()
            .for_each(|contents| contents.name_is_durable = true);
        Ok(())
    }
}

impl StoredFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.lock().contents(&self.name).live.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.disk.lock();
        let live = &inner.contents(&self.name).live;
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
        inner.contents(&self.name).live.extend_from_slice(written);
        spent
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.spend(false)?;
        inner.contents(&self.name).live.truncate(length as usize);
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
        let contents = inner.contents(&self.name);
        contents.durable.clone_from(&contents.live);
        Ok(())
    }
}
