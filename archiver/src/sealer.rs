//! Seals full files: compresses each into a segment, and takes the plain file away when the segment is durable. Section 5 of the
//! format has the steps. Each step that a crash left undone, and only that, is done again.

use std::io;
use std::sync::Arc;

use sealpost_archive::hash::Hash;
use sealpost_archive::layout::{self, LogName};
use sealpost_archive::line::{Line, LineError};
use sealpost_archive::log_file::{self, Lines};
use sealpost_archive::log_reader::{ReadError, read_manifest};
use sealpost_archive::manifest::Manifest;
use sealpost_archive::segment::{SealError, SegmentWriter, read_frame};
use sealpost_archive::storage::{self, Storage, StoredFile, directory_of};
use sealpost_archive::tree::Tree;

use crate::tiles::Tiles;
use crate::writer::FullFile;

/// Why a file stays as it is for now.
#[derive(Debug, thiserror::Error)]
pub enum SealerError {
    /// The disk failed, or is full.
    #[error("{path}: {source}")]
    Disk {
        /// The file, below the archive's directory.
        path: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The lines cannot be compressed.
    #[error("{path}: {source}")]
    Segment {
        /// The file, below the archive's directory.
        path: String,
        /// Why not.
        source: SealError,
    },
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A line could not be read.
    #[error("{path}: {source}")]
    Lines {
        /// The file, below the archive's directory.
        path: String,
        /// Why not.
        source: log_file::ReadError,
    },
    /// A line is not one that the archiver wrote.
    #[error("{path}: a line is damaged: {source}")]
    Line {
        /// The file, below the archive's directory.
        path: String,
        /// What is wrong with it.
        source: LineError,
    },
    /// The lines are not those that were written.
    #[error(
        "{path}: the disk gives other lines than were written: the root of the first {size} is {found}, not {expected}"
    )]
    Changed {
        /// The file, below the archive's directory.
        path: String,
        /// How many lines.
        size: u64,
        /// The root of what was written.
        expected: Hash,
        /// The root of what is there.
        found: Hash,
    },
    /// What was compressed does not come back.
    #[error("{0}: what was written into it does not come back")]
    Different(String),
    /// The line that is to be erased is not there, or another.
    #[error("line {0} is not the one that its record says is to be erased")]
    OtherLine(u64),
}

impl SealerError {
    /// Whether there was no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let source = match self {
            SealerError::Disk { source, .. }
            | SealerError::Segment {
                source: SealError::Io(source),
                ..
            } => source,
            _ => return false,
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// The disk's error about `path`.
pub(crate) fn disk(path: &str) -> impl Fn(io::Error) -> SealerError + '_ {
    move |source| SealerError::Disk {
        path: path.to_owned(),
        source,
    }
}

/// Seals the full files of one log, one after the other.
#[derive(Debug)]
pub struct Sealer<S> {
    storage: S,
    log: LogName,
    tiles: Arc<Tiles<S>>,
    /// The tree up to the last line that is sealed.
    sealed: Tree,
}

impl<S: Storage> Sealer<S> {
    /// Goes on after the lines of `sealed`.
    #[must_use]
    pub fn new(storage: S, log: LogName, tiles: Arc<Tiles<S>>, sealed: Tree) -> Sealer<S> {
        Sealer {
            storage,
            log,
            tiles,
            sealed,
        }
    }

    pub(crate) fn storage(&self) -> &S {
        &self.storage
    }

    pub(crate) fn log(&self) -> LogName {
        self.log
    }

    /// How many lines are sealed.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.sealed.size()
    }

    /// Seals a full file. What was done of it already is not done again.
    ///
    /// # Errors
    /// [`SealerError`]; the plain file is there as before, and it may be tried again.
    pub fn seal(&mut self, full: &FullFile) -> Result<(), SealerError> {
        let plain = self.log.sealing(full.first);
        let source = self.storage.open_existing(&plain).map_err(disk(&plain))?;
        let (day, path) = self.place_of(&plain, &source, full.first)?;
        if read_manifest(&self.storage, &path)?.is_none() {
            let (mut tree, manifest) = self.compress(full, &plain, &source, &day)?;
            self.keep_tiles(&mut tree)?;
            write_manifest(&self.storage, &path, &manifest)?;
            self.sealed = tree;
            remove_others(&self.storage, &path, &manifest)?;
        }
        self.remove_plain(&plain, &day)
    }

    /// Removes a plain file whose lines are in a segment of `day`.
    fn remove_plain(&self, plain: &str, day: &str) -> Result<(), SealerError> {
        // A manifest that is there may be one whose name only a killed process knew of.
        self.storage.sync_directory(day).map_err(disk(day))?;
        storage::remove_if_there(&self.storage, plain).map_err(disk(plain))?;
        self.storage.sync_directory("").map_err(disk(plain))
    }

    /// Removes a plain file that an earlier life sealed and did not remove. One without a manifest in its place is let be.
    pub(crate) fn remove_sealed(&self, plain: &str, first: u64) -> Result<(), SealerError> {
        let source = self.storage.open_existing(plain).map_err(disk(plain))?;
        let (day, manifest) = self.place_of(plain, &source, first)?;
        match read_manifest(&self.storage, &manifest)? {
            Some(_) => self.remove_plain(plain, &day),
            None => Ok(()),
        }
    }

    /// The day's folder and the manifest of the segment that a plain file becomes.
    fn place_of(
        &self,
        plain: &str,
        source: &S::File,
        first: u64,
    ) -> Result<(String, String), SealerError> {
        let mut lines = self.lines(plain, source)?;
        let head = next_line(plain, &mut lines)?.and_then(sealpost_archive::line::head_of);
        let (_, archived_at) = head.ok_or_else(|| SealerError::Line {
            path: plain.to_owned(),
            source: LineError::Head,
        })?;
        let day = self.log.place(&layout::day(archived_at));
        let manifest = format!("{day}/{}", layout::manifest(first));
        Ok((day, manifest))
    }

    fn lines<'a>(
        &self,
        plain: &str,
        source: &'a S::File,
    ) -> Result<Lines<'a, S::File>, SealerError> {
        let end = source.length().map_err(disk(plain))?;
        Ok(log_file::lines(source, 0..end))
    }

    /// Makes the segment's file, durably: the tree up to its last line, and the manifest.
    fn compress(
        &self,
        full: &FullFile,
        plain: &str,
        source: &S::File,
        day: &str,
    ) -> Result<(Tree, Manifest), SealerError> {
        let mut tree = self.sealed.clone();
        let mut part = Part::create(&self.storage, day, full.first)?;
        let mut lines = self.lines(plain, source)?;
        while let Some(raw) = next_line(plain, &mut lines)? {
            part.push(raw)?;
            let line = Line::parse(raw).map_err(|source| SealerError::Line {
                path: plain.to_owned(),
                source,
            })?;
            tree.push(line.leaf(raw));
        }
        let found = tree.head();
        if found != full.head {
            part.discard();
            return Err(SealerError::Changed {
                path: plain.to_owned(),
                size: found.size,
                expected: full.head.root,
                found: found.root,
            });
        }
        let manifest = part.finish(self.log, found.root, |expected| {
            let mut lines = self.lines(plain, source)?;
            while let Some(raw) = next_line(plain, &mut lines)? {
                expected(raw)?;
            }
            Ok(())
        })?;
        Ok((tree, manifest))
    }

    /// Makes the tiles of a tree durable, so that it can be gone on with from them alone.
    fn keep_tiles(&self, tree: &mut Tree) -> Result<(), SealerError> {
        let failed = disk("tile");
        let full = tree.take_full_tiles();
        let edge: Vec<_> = tree.partial_tiles().collect();
        self.tiles
            .write_durably(full.iter().chain(&edge))
            .map_err(&failed)?;
        for tile in &full {
            self.tiles.remove_narrower(tile).map_err(&failed)?;
        }
        Ok(())
    }
}

/// Writes a manifest durably, in the place of one that is there. Before anything is removed for its sake its name is made durable once
/// more: the removal may be that of a later life, which did not write it.
pub(crate) fn write_manifest<S: Storage>(
    storage: &S,
    path: &str,
    manifest: &Manifest,
) -> Result<(), SealerError> {
    storage::replace(storage, path, &manifest.to_bytes()).map_err(disk(path))?;
    storage
        .sync_directory(directory_of(path))
        .map_err(disk(path))
}

/// Removes what lies beside a manifest and is none of its segment: unfinished files of a crash, and files with lines that were erased
/// since.
pub(crate) fn remove_others<S: Storage>(
    storage: &S,
    path: &str,
    manifest: &Manifest,
) -> Result<(), SealerError> {
    let day = directory_of(path);
    let own = layout::segment(manifest.first, manifest.erased);
    let mut others = storage.list(day).map_err(disk(day))?;
    others.retain(|name| {
        let whole = name.strip_suffix(".part").unwrap_or(name);
        *name != own && layout::first_of_segment(whole) == Some(manifest.first)
    });
    if others.is_empty() {
        return Ok(());
    }
    // The manifest that says so may be one whose name only a killed process knew of.
    storage.sync_directory(day).map_err(disk(day))?;
    for name in others {
        let other = format!("{day}/{name}");
        storage::remove_if_there(storage, &other).map_err(disk(&other))?;
    }
    storage.sync_directory(day).map_err(disk(day))
}

/// The next line of a plain file, without its newline.
pub(crate) fn next_line<'a, F: StoredFile>(
    path: &str,
    lines: &'a mut Lines<'_, F>,
) -> Result<Option<&'a [u8]>, SealerError> {
    lines
        .next_line()
        .map(|line| line.map(|line| line.bytes))
        .map_err(|source| SealerError::Lines {
            path: path.to_owned(),
            source,
        })
}

/// A segment's file on its way: `<name>.part` until it is whole, durable, and read back.
pub(crate) struct Part<'a, S: Storage> {
    storage: &'a S,
    day: String,
    /// What it is called until then.
    path: String,
    writer: SegmentWriter<S::File>,
}

impl<'a, S: Storage> Part<'a, S> {
    /// Begins one, in the place of what a crash left of an earlier one.
    pub(crate) fn create(
        storage: &'a S,
        day: &str,
        first: u64,
    ) -> Result<Part<'a, S>, SealerError> {
        let path = format!("{day}/{}.part", layout::segment(first, 0));
        storage.make_directory(day).map_err(disk(day))?;
        storage::remove_if_there(storage, &path).map_err(disk(&path))?;
        let writer = storage
            .create_new(&path)
            .and_then(SegmentWriter::new)
            .map_err(disk(&path))?;
        Ok(Part {
            storage,
            day: day.to_owned(),
            path,
            writer,
        })
    }

    /// Adds the next line, given without its newline.
    pub(crate) fn push(&mut self, raw: &[u8]) -> Result<(), SealerError> {
        self.writer.push(raw).map_err(|source| {
            // To leave the room to those who need it more.
            let _ = self.storage.remove(&self.path);
            SealerError::Segment {
                path: self.path.clone(),
                source,
            }
        })
    }

    /// Gives it up.
    pub(crate) fn discard(self) {
        // What stays is removed the next time.
        let _ = self.storage.remove(&self.path);
    }

    /// Ends it, compares what can be read of it with what `again` gives once more, line for line, and gives it its name, durably.
    pub(crate) fn finish(
        self,
        log: LogName,
        root: Hash,
        again: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), SealerError>) -> Result<(), SealerError>,
    ) -> Result<Manifest, SealerError> {
        let Part {
            storage,
            day,
            path,
            writer,
        } = self;
        let finished = writer
            .finish(log, root)
            .and_then(|(mut file, manifest)| {
                file.sync()?;
                Ok(manifest)
            })
            .map_err(|source| SealerError::Segment {
                path: path.clone(),
                source,
            })
            .and_then(|manifest| {
                let file = storage.open_existing(&path).map_err(disk(&path))?;
                let mut back = ReadBack::new(&path, &file, &manifest);
                again(&mut |line| back.expect(line))?;
                back.expect_end()?;
                Ok(manifest)
            });
        let manifest = match finished {
            Ok(manifest) => manifest,
            Err(error) => {
                let _ = storage.remove(&path);
                return Err(error);
            }
        };
        let name = format!("{day}/{}", layout::segment(manifest.first, manifest.erased));
        // Its own name is durable before it is renamed: or else it may be renamed to nothing.
        storage.sync_directory(&day).map_err(disk(&path))?;
        storage.rename(&path, &name).map_err(disk(&name))?;
        storage.sync_directory(&day).map_err(disk(&name))?;
        Ok(manifest)
    }
}

/// A segment's lines, read back.
struct ReadBack<'a, F> {
    path: &'a str,
    file: &'a F,
    manifest: &'a Manifest,
    next_frame: usize,
    frame: Vec<u8>,
    consumed: usize,
}

impl<'a, F: StoredFile> ReadBack<'a, F> {
    fn new(path: &'a str, file: &'a F, manifest: &'a Manifest) -> ReadBack<'a, F> {
        ReadBack {
            path,
            file,
            manifest,
            next_frame: 0,
            frame: Vec::new(),
            consumed: 0,
        }
    }

    /// The next line must be this one, given without its newline.
    fn expect(&mut self, line: &[u8]) -> Result<(), SealerError> {
        if self.consumed == self.frame.len() {
            self.frame =
                read_frame(self.file, self.manifest, self.next_frame).map_err(disk(self.path))?;
            self.next_frame += 1;
            self.consumed = 0;
        }
        let same = self
            .frame
            .get(self.consumed..)
            .and_then(|rest| rest.strip_prefix(line))
            .is_some_and(|rest| rest.first() == Some(&b'\n'));
        if !same {
            return Err(SealerError::Different(self.path.to_owned()));
        }
        self.consumed += line.len() + 1;
        Ok(())
    }

    fn expect_end(&self) -> Result<(), SealerError> {
        if self.consumed == self.frame.len() && self.next_frame == self.manifest.frames.len() {
            Ok(())
        } else {
            Err(SealerError::Different(self.path.to_owned()))
        }
    }
}
