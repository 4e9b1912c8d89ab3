//! Whether there is room for more lines. The archiver stops before the disk is full, so that there is room for what is on the way,
//! for tiles and for checkpoints; and it goes on by itself.

use std::io;
use std::time::Duration;

use sealpost_archive::storage::Storage;

/// How often a full disk is looked at again.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The room that is left on the archive's disk.
#[derive(Debug)]
pub struct Room<S> {
    storage: S,
    /// What is to stay free, in bytes.
    reserve: u64,
    look_again: Duration,
}

impl<S: Storage> Room<S> {
    /// Of the disk of `storage`, of which `reserve` bytes are to stay free; a full one is looked at again after `look_again`.
    #[must_use]
    pub fn new(storage: S, reserve: u64, look_again: Duration) -> Room<S> {
        Room {
            storage,
            reserve,
            look_again,
        }
    }

    /// Why there is no room; `None` if there is.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn is_missing(&self) -> io::Result<Option<String>> {
        let free = self.storage.free_bytes()?;
        Ok((free < self.reserve).then(|| {
            format!(
                "{} MiB are free, and {} MiB are to stay so (disk_reserve)",
                free >> 20,
                self.reserve >> 20
            )
        }))
    }

    /// Waits before the next look.
    pub fn wait(&self) {
        std::thread::sleep(self.look_again);
    }
}
