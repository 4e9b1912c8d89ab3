//! The one who writes a log: takes batches of arrivals, leaves out what the log has already,
//! numbers the rest, and returns when they are on the medium. It knows nothing of the network.

use std::collections::HashSet;
use std::io;

use sealpost_archive::digest::Digest;
use sealpost_archive::hash::Hash;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{self, Body, Erased, Line, LineError};
use sealpost_archive::log_file::{AppendError, LogFile, RotateError, TornTail};
use sealpost_archive::log_reader::{LogReader, ReadError, Selection};
use sealpost_archive::storage::{Storage, StoredFile};
use sealpost_archive::tree::{ResumeError, Tree, TreeHead};
use sealpost_core::Timestamp;

use crate::arrival::Arrival;
use crate::digest_window::DigestWindow;
use crate::evidence::EvidenceError;
use crate::tiles::Tiles;

/// After so many lines whose tiles were lost, what was made again is written: 32 bytes each wait in memory until then.
const LINES_AT_ONCE: u64 = 1 << 18;

/// How much memory the buffer of lines may keep between batches, in bytes.
const KEPT_BUFFER: usize = 8 << 20;

/// Why a log cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("cannot open the log: {0}")]
    Io(#[from] io::Error),
    /// A file could not be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file, below the archive's directory.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log could not be read, or is damaged.
    #[error(transparent)]
    Read(ReadError),
    /// A line is not one that the archiver wrote.
    #[error("{path}: the line at byte {offset} is damaged: {reason}")]
    DamagedLine {
        /// The file, below the archive's directory.
        path: String,
        /// Where the line begins.
        offset: u64,
        /// What is wrong with it.
        reason: LineError,
    },
    /// The log does not begin with line 1, and no segment before it says why.
    #[error("the log begins with line {found}, not with line 1")]
    NoBeginning {
        /// The first line that is there.
        found: u64,
    },
    /// The lines are not those that were signed.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The tree cannot be gone on with: its tiles are of no use, and the lines to make them from were removed.
    #[error("the tree of the log cannot be gone on with: {0}")]
    Tree(#[from] ResumeError),
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::List(source) => OpenError::Io(source),
            ReadError::File { path, source } if source.kind() != io::ErrorKind::InvalidData => {
                OpenError::File { path, source }
            }
            other => OpenError::Read(other),
        }
    }
}

/// What was found when the log was opened.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// An incomplete last line that was set aside.
    pub torn: Option<TornTail>,
    /// The number of the last line; 0 for an empty log.
    pub last_seq: u64,
    /// How many of the last lines were read to know again what comes twice.
    pub lines_read: u64,
    /// The tree over all lines.
    pub tree: Tree,
    /// The tree over the lines of the sealed segments.
    pub sealed: Tree,
    /// Full files that are not sealed yet, in order.
    pub full: Vec<FullFile>,
    /// What was to be removed, by the records in lines that are not sealed yet; whether it was is to be seen.
    pub removals: Vec<Removal>,
    /// Why the tiles had to be made again from all the lines, if they had to.
    pub tiles_lost: Option<ResumeError>,
}

/// A full file on its way into a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullFile {
    /// The number of its first line.
    pub first: u64,
    /// The tree up to its last line.
    pub head: TreeHead,
}

/// What a record says was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// A line.
    Erasure {
        /// The line.
        erases: u64,
        /// Its leaf.
        leaf: Hash,
        /// The record.
        record: u64,
    },
    /// The oldest lines.
    Retirement {
        /// The last of them.
        retires: u64,
    },
}

impl Removal {
    /// That of an erased line, by the record in line `record`.
    fn of(erased: &Erased, record: u64) -> Removal {
        Removal::Erasure {
            erases: erased.seq,
            leaf: erased.leaf,
            record,
        }
    }
}

/// When the active file is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// How long it may be, in bytes. The batch that goes beyond is still in it.
    pub bytes: u64,
    /// How old its first line may be, in milliseconds.
    pub age: u64,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Archived {
    /// Lines written.
    pub written: u64,
    /// Of these, how many are no envelopes for their topic.
    pub unfit: u64,
    /// Arrivals that the log had already.
    pub duplicates: u64,
    /// The leaves of the lines written, in order.
    pub leaves: Vec<Hash>,
}

/// Writes one log.
#[derive(Debug)]
pub struct Writer<F> {
    name: LogName,
    log: LogFile<F>,
    /// The number of the active file's first line, also if there is none yet.
    active_first: u64,
    /// When that was written.
    active_since: Option<Timestamp>,
    window: DigestWindow,
    next_seq: u64,
    buffer: Vec<u8>,
    /// What the batch brings that the log has not.
    fresh: HashSet<Digest>,
    /// The same, in order.
    order: Vec<Digest>,
}

impl<F: StoredFile> Writer<F> {
    /// Opens the log `name` in `storage`, reads its last `window` lines to know again what they hold, and makes the tree
    /// over all of it.
    ///
    /// A damaged line among them is an error: what was acknowledged is not to be guessed at. So is a log that does not go with
    /// `signed`, its newest checkpoint, as far as the lines that are read tell.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed then, but for a torn tail that was set aside.
    pub fn open<S: Storage<File = F> + Clone>(
        storage: &S,
        name: LogName,
        window: u32,
        signed: Option<TreeHead>,
    ) -> Result<(Writer<F>, Recovery), OpenError> {
        let active = name.active();
        let (log, torn) = LogFile::open(storage, &active).map_err(|source| OpenError::File {
            path: active,
            source,
        })?;
        let reader = LogReader::open(storage, name)?;
        let last_seq = reader.last()?.map_or(0, |(seq, _)| seq);
        let mut window = DigestWindow::new(window);
        let first_digest = (last_seq + 1).saturating_sub(u64::from(window.capacity()));
        let tiles = Tiles::new(storage.clone(), name);
        let (mut tree, sealed_last, tiles_lost) = resume(&tiles, &reader)?;
        let first_leaf = tree.size() + 1;
        if let Some(signed) = signed.filter(|signed| signed.size > last_seq) {
            return Err(EvidenceError::Shorter {
                lines: last_seq,
                signed: signed.size,
            }
            .into());
        }
        agrees(signed, &tree)?;
        let mut sealed = tree.clone();
        let mut full = full_files(&reader, last_seq);
        let mut removals = Vec::new();
        let mut lines_read = 0;
        let mut active_since = None;
        let active_first = reader
            .parts()
            .last()
            .filter(|part| part.path == name.active())
            .map_or(last_seq + 1, |part| part.first);
        let mut lines = reader.lines(Selection {
            numbers: first_leaf.min(first_digest)..=last_seq,
            ..Selection::default()
        });
        while let Some(found) = lines.next_line()? {
            let line = Line::parse(found.bytes).map_err(|reason| OpenError::DamagedLine {
                path: found.path.to_owned(),
                offset: found.offset,
                reason,
            })?;
            if line.seq == active_first {
                active_since = Some(line.archived_at);
            }
            if line.seq >= first_leaf {
                tree.push(line.leaf(found.bytes));
                agrees(signed, &tree)?;
                if line.seq == sealed_last
                    || line.seq < sealed_last && line.seq % LINES_AT_ONCE == 0
                {
                    tiles.write_durably(&tree.take_full_tiles())?;
                }
                if line.seq == sealed_last {
                    sealed = tree.clone();
                }
                if let Some(full) = full.iter_mut().find(|full| full.head.size == line.seq) {
                    full.head = tree.head();
                }
            }
            if line.seq > sealed_last {
                removals.extend(removal(&line));
            }
            if line.seq >= first_digest {
                lines_read += 1;
                match line.body {
                    Body::Message(message) => {
                        window.insert(Digest::of(&message.topic, &message.payload));
                    }
                    // What was erased and is delivered once more is not archived once more.
                    Body::Erasure { erased, .. } => {
                        window.insert(erased.digest);
                    }
                    Body::Retirement { .. } | Body::Tombstone { .. } => {}
                }
            }
        }
        let writer = Writer {
            name,
            log,
            active_first,
            active_since,
            window,
            next_seq: last_seq + 1,
            buffer: Vec::new(),
            fresh: HashSet::new(),
            order: Vec::new(),
        };
        Ok((
            writer,
            Recovery {
                torn,
                last_seq,
                lines_read,
                tree,
                sealed,
                full,
                removals,
                tiles_lost,
            },
        ))
    }

    /// Which log it writes.
    #[must_use]
    pub fn name(&self) -> LogName {
        self.name
    }

    /// Whether the active file is full. A clock that was set back makes nothing old.
    #[must_use]
    pub fn is_full(&self, full: Full, now: Timestamp) -> bool {
        let age = self
            .active_since
            .map_or(0, |since| now.millis().saturating_sub(since.millis()));
        self.log.length() >= full.bytes || age >= full.age
    }

    /// The number of the active file's first line, also if there is none yet.
    #[must_use]
    pub fn active_first(&self) -> u64 {
        self.active_first
    }

    /// Puts the active file, if there is anything in it, out of the way as one to be sealed, and begins a new one. Gives the number of
    /// its first line; the last is the one before [`Writer::next_seq`].
    ///
    /// # Errors
    /// [`RotateError::Refused`] if all is as before; after [`RotateError::Failed`] the writer takes no more.
    pub fn rotate<S: Storage<File = F>>(
        &mut self,
        storage: &S,
    ) -> Result<Option<u64>, RotateError> {
        if self.log.length() == 0 {
            return Ok(None);
        }
        let first = self.active_first;
        self.log
            .rotate(storage, &self.name.active(), &self.name.sealing(first))?;
        self.active_first = self.next_seq;
        self.active_since = None;
        Ok(Some(first))
    }

    /// The number that the next line gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Archives a batch in its order, with one write and one sync. When it returns, every arrival
    /// of the batch is on the medium, in this batch or an earlier one, and may be acknowledged;
    /// after an error none of it may.
    ///
    /// # Errors
    /// [`AppendError`]. After [`AppendError::Full`] the same batch may be tried again; after any other the writer takes no more.
    pub fn archive<'a>(
        &mut self,
        batch: impl IntoIterator<Item = &'a Arrival>,
        now: Timestamp,
    ) -> Result<Archived, AppendError> {
        let mut archived = Archived::default();
        let mut next_seq = self.next_seq;
        self.buffer.clear();
        self.fresh.clear();
        self.order.clear();
        for arrival in batch {
            let start = self.buffer.len();
            if self.window.contains(&arrival.digest) || !self.fresh.insert(arrival.digest) {
                archived.duplicates += 1;
                continue;
            }
            match &arrival.fault {
                None => line::write_message(
                    &mut self.buffer,
                    next_seq,
                    now,
                    arrival.verified,
                    &arrival.payload,
                ),
                Some(fault) => {
                    archived.unfit += 1;
                    line::write_unfit(
                        &mut self.buffer,
                        next_seq,
                        now,
                        &arrival.topic,
                        fault,
                        &arrival.payload,
                    );
                }
            }
            let line = self.buffer.get(start..).unwrap_or_default();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            archived.leaves.push(Hash::of_leaf(line));
            self.order.push(arrival.digest);
            next_seq += 1;
            archived.written += 1;
        }
        // A batch of duplicates alone needs no sync of its own: theirs came before.
        self.log.append(&self.buffer)?;
        // Only now is anything known to be there.
        for digest in self.order.drain(..) {
            self.window.insert(digest);
        }
        self.next_seq = next_seq;
        if archived.written > 0 {
            self.active_since.get_or_insert(now);
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        Ok(archived)
    }

    /// Adds a record. When it returns, it is on the medium: its leaf, and what is to be removed now.
    ///
    /// # Errors
    /// As [`Writer::archive`].
    pub fn record(
        &mut self,
        record: Record<'_>,
        now: Timestamp,
    ) -> Result<(Hash, Removal), AppendError> {
        let seq = self.next_seq;
        self.buffer.clear();
        let removal = match record {
            Record::Erasure { erased, reason } => {
                line::write_erasure(&mut self.buffer, seq, now, &erased, reason);
                Removal::of(&erased, seq)
            }
            Record::Retirement {
                retires,
                root,
                reason,
            } => {
                line::write_retirement(&mut self.buffer, seq, now, retires, root, reason);
                Removal::Retirement { retires }
            }
        };
        self.log.append(&self.buffer)?;
        self.next_seq += 1;
        self.active_since.get_or_insert(now);
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        Ok((Hash::of_leaf(line), removal))
    }
}

/// A record that the archive itself adds to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A line is erased.
    Erasure {
        /// The line.
        erased: Erased,
        /// Why.
        reason: &'a str,
    },
    /// The oldest lines are retired.
    Retirement {
        /// The last of them.
        retires: u64,
        /// The root of the tree up to it.
        root: Hash,
        /// Why.
        reason: &'a str,
    },
}

/// Whether a tree that is as large as the signed one is the signed one.
fn agrees(signed: Option<TreeHead>, tree: &Tree) -> Result<(), EvidenceError> {
    let Some(signed) = signed.filter(|signed| signed.size == tree.size()) else {
        return Ok(());
    };
    let found = tree.root();
    if found == signed.root {
        return Ok(());
    }
    Err(EvidenceError::Changed {
        signed: signed.size,
        expected: signed.root,
        found,
    })
}

/// The tree up to the last sealed segment, from the tiles, and the number of that segment's last line. When the tiles are of no use,
/// the tree of nothing, to be made from all the lines, and why.
fn resume<S: Storage>(
    tiles: &Tiles<S>,
    reader: &LogReader<S::File>,
) -> Result<(Tree, u64, Option<ResumeError>), OpenError> {
    let manifests = reader
        .parts()
        .iter()
        .filter_map(|part| part.manifest.as_ref());
    let Some(newest) = manifests.last() else {
        return match reader.first() {
            None | Some(1) => Ok((Tree::new(), 0, None)),
            Some(found) => Err(OpenError::NoBeginning { found }),
        };
    };
    let head = TreeHead {
        size: newest.last,
        root: newest.root,
    };
    match tiles.resume(head)? {
        Ok(tree) => Ok((tree, newest.last, None)),
        Err(reason) if reader.first() == Some(1) => Ok((Tree::new(), newest.last, Some(reason))),
        Err(reason) => Err(reason.into()),
    }
}

/// The full files that are not sealed; their roots are not known yet.
fn full_files<F: StoredFile>(reader: &LogReader<F>, last_seq: u64) -> Vec<FullFile> {
    let active = reader.log().active();
    let parts = reader.parts();
    let ends = parts
        .iter()
        .skip(1)
        .map(|next| next.first.saturating_sub(1))
        .chain([last_seq]);
    parts
        .iter()
        .zip(ends)
        .filter(|(part, _)| part.manifest.is_none() && part.path != active)
        .map(|(part, last)| FullFile {
            first: part.first,
            head: TreeHead {
                size: last,
                root: Hash([0; Hash::LEN]),
            },
        })
        .collect()
}

/// What a line says was removed.
fn removal(line: &Line<'_>) -> Option<Removal> {
    match line.body {
        Body::Erasure { ref erased, .. } => Some(Removal::of(erased, line.seq)),
        Body::Retirement { retires, .. } => Some(Removal::Retirement { retires }),
        Body::Message(_) | Body::Tombstone { .. } => None,
    }
}
