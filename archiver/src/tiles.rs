//! The tiles of a log on the disk. Two threads write them: the evidence as the tree grows, and the sealer, which makes them durable.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use sealpost_archive::hash::Hash;
use sealpost_archive::layout::LogName;
use sealpost_archive::log_reader::{ReadError, read_whole};
use sealpost_archive::storage::{self, Storage, StoredFile as _, directory_of, read_exact_at};
use sealpost_archive::tree::{ResumeError, TILE_BYTES, TileFile, Tree, TreeHead};

/// Where the tiles of a log are.
#[derive(Debug)]
pub struct Tiles<S> {
    storage: S,
    log: LogName,
    /// Held while a tile is written: two threads may want to write the same one.
    writing: Mutex<()>,
}

impl<S: Storage> Tiles<S> {
    /// Those of `log`.
    #[must_use]
    pub fn new(storage: S, log: LogName) -> Tiles<S> {
        Tiles {
            storage,
            log,
            writing: Mutex::new(()),
        }
    }

    /// Goes on with the tree of `head`. What stands in for a tile of the right edge that was removed is the full one: hashes are only
    /// ever added at a tile's end.
    ///
    /// # Errors
    /// [`ReadError`] if the disk failed; the inner [`ResumeError`] if the tiles do not make that head.
    pub fn resume(&self, head: TreeHead) -> Result<Result<Tree, ResumeError>, ReadError> {
        let mut failed = None;
        let resumed = Tree::resume(head, |path| {
            self.read(path).unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        });
        match (resumed, failed) {
            // The disk failed, which is another matter than a tile that is wrong.
            (Err(_), Some(error)) => Err(error),
            (resumed, _) => Ok(resumed),
        }
    }

    /// The tile at `path`, or as much of the full one: that is durable before narrower ones are removed, and nothing else removes any.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ReadError> {
        let path = self.log.place(path);
        let whole = |path: &str| read_whole(&self.storage, path, TILE_BYTES as u64);
        let Some((full, width)) = path
            .rsplit_once(".p/")
            .and_then(|(full, width)| Some((full, width.parse::<usize>().ok()?)))
        else {
            return whole(&path);
        };
        let bytes = width * Hash::LEN;
        for candidate in [&path, full] {
            // One that a crash cut short is as good as none.
            if let Some(mut tile) = whole(candidate)?.filter(|tile| tile.len() >= bytes) {
                tile.truncate(bytes);
                return Ok(Some(tile));
            }
        }
        Ok(None)
    }

    /// Writes a tile, which may be lost in a power cut. One that is there already is let be: it may be durable.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn write(&self, tile: &TileFile) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.open_written(tile).map(drop)
    }

    /// Writes tiles (or finds them written), and makes them durable.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn write_durably<'a>(
        &self,
        tiles: impl IntoIterator<Item = &'a TileFile>,
    ) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for tile in tiles {
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            self.open_written(tile)?.sync()?;
            folders.insert(directory_of(&self.log.place(&tile.path)).to_owned());
        }
        for folder in folders {
            self.storage.sync_directory(&folder)?;
        }
        Ok(())
    }

    /// Removes the narrower tiles that came before a full one, which is durable.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn remove_narrower(&self, full: &TileFile) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let partial = format!("{}.p", self.log.place(&full.path));
        let names = self.storage.list(&partial)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            storage::remove_if_there(&self.storage, &format!("{partial}/{name}"))?;
        }
        self.storage.remove_directory(&partial)
    }

    fn open_written(&self, tile: &TileFile) -> io::Result<S::File> {
        let path = self.log.place(&tile.path);
        match self.storage.open_existing(&path) {
            Ok(file) if holds(&file, &tile.bytes)? => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.storage.make_directory(directory_of(&path))?;
        let mut file = self.storage.open(&path)?;
        // What an earlier life left half written.
        file.truncate(0)?;
        file.append(&tile.bytes)?;
        Ok(file)
    }
}

fn holds<F: sealpost_archive::storage::StoredFile>(file: &F, bytes: &[u8]) -> io::Result<bool> {
    if file.length()? != bytes.len() as u64 {
        return Ok(false);
    }
    let mut found = vec![0; bytes.len()];
    read_exact_at(file, 0, &mut found)?;
    Ok(found == bytes)
}
