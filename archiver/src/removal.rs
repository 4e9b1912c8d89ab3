//! Removes what a record in the log says is removed: single lines, of which a tombstone stays, and the oldest segments. Section 8 of
//! the format.

use sealpost_archive::hash::Hash;
use sealpost_archive::line::{self, Body, Line};
use sealpost_archive::log_file;
use sealpost_archive::log_reader::{
    LogReader, Part as LogPart, Selection, days, manifests, read_manifest, segments,
};
use sealpost_archive::manifest::Manifest;
use sealpost_archive::storage::{self, Storage, StoredFile as _, directory_of};

use crate::sealer::{Part, Sealer, SealerError, disk, next_line, remove_others, write_manifest};

/// A line that is to be erased.
#[derive(Debug, Clone, Copy)]
struct Erasure {
    erases: u64,
    leaf: Hash,
    record: u64,
}

impl Erasure {
    /// What stands in the place of a line: itself, or its tombstone. Without its newline.
    fn replace<'a>(&self, raw: &'a [u8], tombstone: &'a mut Vec<u8>) -> &'a [u8] {
        let Some((seq, archived_at)) = line::head_of(raw).filter(|head| head.0 == self.erases)
        else {
            return raw;
        };
        tombstone.clear();
        line::write_tombstone(tombstone, seq, archived_at, self.record, self.leaf);
        tombstone.strip_suffix(b"\n").unwrap_or(tombstone)
    }
}

impl<S: Storage> Sealer<S> {
    /// Removes what an earlier life left unfinished: plain files that are sealed, and files beside segments that do not count.
    ///
    /// # Errors
    /// [`SealerError`].
    pub fn tidy(&self) -> Result<(), SealerError> {
        let (storage, log) = (self.storage(), self.log());
        for name in storage.list("").map_err(disk("."))? {
            let beside = name.strip_suffix(".new");
            if beside.is_some_and(|name| log.first_of_sealing(name).is_some()) {
                storage::remove_if_there(storage, &name).map_err(disk(&name))?;
            }
            if let Some(first) = log.first_of_sealing(&name)
                && first <= self.sealed()
            {
                self.remove_sealed(&name, first)?;
            }
        }
        for (_, path) in manifests(storage, log).map_err(disk("."))? {
            if let Some(manifest) = read_manifest(storage, &path)? {
                remove_others(storage, &path, &manifest)?;
                let beside = format!("{path}.new");
                storage::remove_if_there(storage, &beside).map_err(disk(&beside))?;
            }
        }
        Ok(())
    }

    /// Puts the tombstone of line `erases`, whose leaf is `leaf`, in its place. The line is in no active file.
    ///
    /// # Errors
    /// [`SealerError`]; the line is there as before, and it may be tried again.
    pub fn erase(&self, erases: u64, leaf: Hash, record: u64) -> Result<(), SealerError> {
        let erasure = Erasure {
            erases,
            leaf,
            record,
        };
        let reader = LogReader::open(self.storage(), self.log())?;
        let mut lines = reader.lines(Selection::line(erases));
        let (path, raw) = match lines.next_line()? {
            Some(found) => (found.path.to_owned(), found.bytes.to_vec()),
            // Retired since.
            None if reader.first().is_some_and(|first| first > erases) => return Ok(()),
            None => return Err(SealerError::OtherLine(erases)),
        };
        let found = Line::parse(&raw).map_err(|source| SealerError::Line {
            path: path.clone(),
            source,
        })?;
        if found.leaf(&raw) != leaf {
            return Err(SealerError::OtherLine(erases));
        }
        match found.body {
            // It may be one whose name only a killed process knew of.
            Body::Tombstone { erased_by, .. } if erased_by == record => {
                let folder = directory_of(&path);
                return self.storage().sync_directory(folder).map_err(disk(folder));
            }
            Body::Tombstone { .. } => return Err(SealerError::OtherLine(erases)),
            _ => {}
        }
        let part = reader.parts().iter().find(|part| part.path == path);
        match part.and_then(|part| Some((part, part.manifest.as_ref()?))) {
            Some((part, manifest)) => self.erase_in_segment(&reader, part, manifest, erasure)?,
            None => self.erase_in_plain(&path, erasure)?,
        }
        tracing::info!(log = self.log().as_str(), line = erases, record, "erased");
        Ok(())
    }

    fn erase_in_plain(&self, path: &str, erasure: Erasure) -> Result<(), SealerError> {
        let storage = self.storage();
        let source = storage.open_existing(path).map_err(disk(path))?;
        let end = source.length().map_err(disk(path))?;
        let beside = format!("{path}.new");
        storage::remove_if_there(storage, &beside).map_err(disk(&beside))?;
        let mut written = storage.create_new(&beside).map_err(disk(&beside))?;
        let mut lines = log_file::lines(&source, 0..end);
        let mut tombstone = Vec::new();
        let mut chunk = Vec::new();
        let copied = (|| {
            while let Some(raw) = next_line(path, &mut lines)? {
                chunk.extend_from_slice(erasure.replace(raw, &mut tombstone));
                chunk.push(b'\n');
                if chunk.len() >= COPY_CHUNK {
                    written.append(&chunk).map_err(disk(&beside))?;
                    chunk.clear();
                }
            }
            written.append(&chunk).map_err(disk(&beside))?;
            written.sync().map_err(disk(&beside))
        })();
        if let Err(error) = copied {
            // To leave the room to those who need it more.
            let _ = storage.remove(&beside);
            return Err(error);
        }
        storage.rename(&beside, path).map_err(disk(path))?;
        storage.sync_directory("").map_err(disk(path))
    }

    fn erase_in_segment(
        &self,
        reader: &LogReader<S::File>,
        part: &LogPart<S::File>,
        manifest: &Manifest,
        erasure: Erasure,
    ) -> Result<(), SealerError> {
        let storage = self.storage();
        let numbers = Selection {
            numbers: manifest.first..=manifest.last,
            ..Selection::default()
        };
        let day = directory_of(&part.path);
        let path = format!(
            "{day}/{}",
            sealpost_archive::layout::manifest(manifest.first)
        );
        let mut tombstone = Vec::new();
        let mut written = Part::create(storage, day, manifest.first)?;
        let mut lines = reader.lines(numbers.clone());
        while let Some(found) = lines.next_line()? {
            written.push(erasure.replace(found.bytes, &mut tombstone))?;
        }
        let replaced = written.finish(self.log(), manifest.root, |expect| {
            let mut lines = reader.lines(numbers);
            while let Some(found) = lines.next_line()? {
                expect(erasure.replace(found.bytes, &mut tombstone))?;
            }
            Ok(())
        })?;
        write_manifest(storage, &path, &replaced)?;
        remove_others(storage, &path, &replaced)
    }

    /// Removes the segments whose lines are all among the first `retires`, the oldest first. The newest segment stays: the tree goes on
    /// from it.
    ///
    /// # Errors
    /// [`SealerError`]; what is left may be tried again.
    pub fn retire(&self, retires: u64) -> Result<(), SealerError> {
        let (storage, log) = (self.storage(), self.log());
        // What a killed process removed may come back, and must not when what came after it is gone. Nothing tells any more which days
        // that was in.
        for day in days(storage, log).map_err(disk("."))? {
            storage.sync_directory(&day).map_err(disk(&day))?;
        }
        let mut old = Vec::new();
        let newest = self.sealed();
        for (_, path) in manifests(storage, log).map_err(disk("."))? {
            match read_manifest(storage, &path)? {
                Some(manifest) if manifest.last <= retires && manifest.last < newest => {
                    old.push(path);
                }
                _ => break,
            }
        }
        for path in &old {
            // Without its manifest it is no segment any more; and an older one must not come back after a newer one is gone.
            storage::remove_if_there(storage, path).map_err(disk(path))?;
            storage
                .sync_directory(directory_of(path))
                .map_err(disk(path))?;
        }
        let kept = manifests(storage, log).map_err(disk("."))?;
        let first_kept = kept.first().map_or(retires + 1, |(first, _)| *first);
        let mut emptied = Vec::new();
        for (first, path) in segments(storage, log).map_err(disk("."))? {
            if first <= retires && first < first_kept {
                storage::remove_if_there(storage, &path).map_err(disk(&path))?;
                emptied.push(directory_of(&path).to_owned());
            }
        }
        emptied.dedup();
        for day in emptied {
            // Else a power cut could bring back what nothing speaks of any more once the record is sealed.
            storage.sync_directory(&day).map_err(disk(&day))?;
            self.remove_empty_days(&day);
        }
        tracing::info!(log = log.as_str(), lines = retires, "retired");
        Ok(())
    }

    /// Removes a day's folder, and those of its month and year, as far as there is nothing in them.
    fn remove_empty_days(&self, day: &str) {
        let mut folder = day;
        while folder != self.log().folder() && self.storage().remove_directory(folder).is_ok() {
            folder = directory_of(folder);
        }
    }
}

/// How much of a plain file is copied at once, in bytes.
const COPY_CHUNK: usize = 1 << 20;
