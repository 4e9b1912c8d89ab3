//! What came of a file and was not saved yet: its chunks, one after the other, encrypted as they came, in a file beside the store.
//!
//! How many chunks count is written in the store, after they are on disk: what a crash left behind them is cut off, and what it
//! lost of them is asked for again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sealpost_core::{Chunking, FileChunk, FileOffer, TAG_LEN, Timestamp, UserId};

use crate::store::{ChunkTaken, FileCause, FileState, Store, StoreError};

/// Parts that were written to since they were last synced, by the number of the file.
#[derive(Debug, Default)]
pub(crate) struct Parts(HashMap<i64, Part>);

#[derive(Debug)]
struct Part {
    file: File,
    offer: FileOffer,
}

/// Where a part is.
pub(super) fn path(store: &Store, number: i64) -> PathBuf {
    store.files_folder().join(format!("{number}.part"))
}

/// Where a chunk begins in a part, in bytes.
pub(super) fn place(chunking: Chunking, index: u32) -> u64 {
    chunking.begin(index) + u64::from(index) * TAG_LEN as u64
}

impl Parts {
    /// Brings to the disk what was written.
    fn sync(&mut self) -> io::Result<()> {
        for part in std::mem::take(&mut self.0).into_values() {
            part.file.sync_data()?;
        }
        Ok(())
    }
}

impl Store {
    /// Takes a chunk that came, if it is the next one of a file that is fetched. It is on disk when [`Store::sync_parts`] has returned.
    pub(crate) fn take_chunk(
        &mut self,
        from: &UserId,
        chunk: &FileChunk,
        now: Timestamp,
    ) -> Result<ChunkTaken, StoreError> {
        let Some((number, have)) = self.expects_chunk(from, chunk.file(), chunk.index())? else {
            return Ok(ChunkTaken::Dropped);
        };
        if !self.parts.0.contains_key(&number) {
            let Some(offer) = self.file_offer(from, chunk.file(), false)? else {
                // The message is gone, and with it what the file is.
                self.end_file(number, FileCause::Cancelled, None, now)?;
                return Ok(ChunkTaken::Dropped);
            };
            match open(self, number, &offer, have) {
                Ok(Some(file)) => drop(self.parts.0.insert(number, Part { file, offer })),
                // Less is there than was: of a backup that was restored, or of a damaged disk.
                Ok(None) => {
                    self.begin_file_again(number)?;
                    return Ok(ChunkTaken::Dropped);
                }
                Err(error) => return self.no_room(number, &error, now),
            }
        }
        let Some(Part { file, offer }) = self.parts.0.get(&number) else {
            return Ok(ChunkTaken::Dropped);
        };
        let chunking = offer.chunking();
        if offer
            .key()
            .decrypt(chunking, chunk.index(), chunk.data())
            .is_err()
        {
            return Ok(ChunkTaken::Dropped);
        }
        if let Err(error) = file.write_all_at(chunk.data(), place(chunking, have)) {
            return self.no_room(number, &error, now);
        }
        let have = have + 1;
        match have == chunking.count() {
            false => {
                self.set_have(number, have, FileState::Moving, now)?;
                Ok(ChunkTaken::Stored(number))
            }
            true => {
                self.set_have(number, have, FileState::Checking, now)?;
                Ok(ChunkTaken::Whole(number))
            }
        }
    }

    /// Brings chunks to the disk, before what is written down of them.
    pub(crate) fn sync_parts(&mut self) -> Result<(), StoreError> {
        self.parts.sync().map_err(|source| {
            let path = self.files_folder();
            StoreError::File(crate::home::HomeError::Io { path, source })
        })
    }

    fn no_room(
        &mut self,
        number: i64,
        error: &io::Error,
        now: Timestamp,
    ) -> Result<ChunkTaken, StoreError> {
        tracing::warn!(%error, number, "a chunk of a file cannot be written");
        let cause = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileCause::DiskFull,
            _ => FileCause::NotSaved,
        };
        let known = self.file(number)?.and_then(|entry| entry.cause);
        self.hold_file(number, cause, now)?;
        Ok(match known == Some(cause) {
            true => ChunkTaken::Dropped,
            false => ChunkTaken::Held(number),
        })
    }
}

/// Opens a part of which so many chunks count; nothing when they are not there.
fn open(store: &Store, number: i64, offer: &FileOffer, have: u32) -> io::Result<Option<File>> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(store.files_folder())?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path(store, number))?;
    let there = file.metadata()?.len();
    let counts = place(offer.chunking(), have);
    if there < counts {
        file.set_len(0)?;
        return Ok(None);
    }
    if there > counts {
        file.set_len(counts)?;
    }
    Ok(Some(file))
}

/// Throws away what came of a file.
pub(crate) fn remove(store: &Store, number: i64) {
    let path = path(store, number);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, ?path, "what came of a file could not be removed");
        }
        _ => {}
    }
}

/// Throws away what a crash left of files that are over.
pub(crate) fn clear_away(store: &Store) -> Result<(), StoreError> {
    let here = store.files_here()?;
    for entry in std::fs::read_dir(store.files_folder())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let number = Path::new(&name)
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<i64>().ok());
        if number.is_some_and(|number| !here.contains(&number)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}
