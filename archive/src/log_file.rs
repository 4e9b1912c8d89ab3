//! A file of whole lines that only grows. It knows nothing of what is in a line.
//!
//! What it promises: after [`LogFile::append`] has returned, the lines are on the medium; after an
//! error, none of them may be counted on, and the file takes no more. What it assumes of the
//! medium: a successful fdatasync means that the bytes and the length are there after a power cut,
//! and bytes once synced do not change by themselves.

use std::io;
use std::ops::Range;

use crate::line::MAX_LINE;
use crate::storage::{Storage, StoredFile, read_exact_at};

/// How much is read at once when a log is opened.
const READ_CHUNK: usize = 1 << 20;

/// A log, open for appending. Whoever holds one holds the directory's lock.
#[derive(Debug)]
pub struct LogFile<F> {
    file: F,
    /// Where the last synced line ends.
    length: u64,
    /// Set by the first failure: what is on the medium after it is unknown until the log is opened
    /// afresh.
    failed: bool,
}

/// An incomplete last line that was found when the log was opened, and where its bytes are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file that keeps the bytes.
    pub set_aside_in: String,
    /// Where in the log it began.
    pub offset: u64,
    /// How many bytes it had.
    pub bytes: u64,
}

/// Why a batch of lines is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room. Nothing of the batch is in the log, and the log takes more when there is room again.
    #[error("there is no room for the log: {0}")]
    Full(#[source] io::Error),
    /// Writing failed (a bad medium, or a full disk on which not even the file can be cut again).
    #[error("cannot write to the log: {0}")]
    Write(#[source] io::Error),
    /// Writing went well, but the medium did not confirm it.
    #[error("cannot sync the log to the disk: {0}")]
    Sync(#[source] io::Error),
    /// An earlier append failed; the log must be opened afresh.
    #[error("the log takes nothing more after a failure")]
    FailedBefore,
}

/// Why a full file is not out of the way.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// It could not be renamed; all is as before.
    #[error("cannot rename the full file: {0}")]
    Refused(#[source] io::Error),
    /// The log takes nothing more.
    #[error(transparent)]
    Failed(AppendError),
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
    /// A line is longer than any that the archiver writes.
    #[error("the line at byte {offset} is longer than {MAX_LINE} bytes")]
    LineTooLong {
        /// Where the line begins.
        offset: u64,
    },
}

impl<F: StoredFile> LogFile<F> {
    /// Opens the log `name`, makes it when it is not there, sets an incomplete last line aside, and
    /// syncs what is there.
    ///
    /// The sync matters: lines that a killed process had written but not yet synced are whole, and
    /// will be taken for archived from now on, so they must be as durable as the others.
    pub fn open<S: Storage<File = F>>(
        storage: &S,
        name: &str,
    ) -> io::Result<(LogFile<F>, Option<TornTail>)> {
        let mut file = match storage.open_existing(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // If a crash came while the last file was put out of the way, its new name is durable before the old one is given to
                // another file.
                storage.sync_directory("")?;
                storage.open(name)?
            }
            other => other?,
        };
        let end = file.length()?;
        let whole = end_of_whole_lines(&file, end)?;
        let torn = if whole < end {
            let set_aside_in = set_aside(storage, name, &file, whole, end)?;
            file.truncate(whole)?;
            Some(TornTail {
                set_aside_in,
                offset: whole,
                bytes: end - whole,
            })
        } else {
            None
        };
        file.sync()?;
        storage.sync_directory("")?;
        Ok((
            LogFile {
                file,
                length: whole,
                failed: false,
            },
            torn,
        ))
    }

    /// Its length in bytes: whole, synced lines.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends whole lines (each with its newline) and returns when they are on the medium.
    ///
    /// After an error the batch is cut off again as far as the disk allows: none of it was
    /// acknowledged, and what a failed sync left in the cache could otherwise be taken for durable
    /// at the next start. After [`AppendError::Full`] it may be tried again; after any other, the log takes no more.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        if self.failed {
            return Err(AppendError::FailedBefore);
        }
        if lines.is_empty() {
            return Ok(());
        }
        let result = match self.file.append(lines) {
            Ok(()) => self.file.sync().map_err(AppendError::Sync),
            Err(error) => Err(AppendError::Write(error)),
        };
        match result {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Nothing more can be done when this fails too: the next start finds a torn tail.
                let cut = self.file.truncate(self.length);
                match error {
                    // Nothing was synced, and what was written is gone: as if nothing had happened.
                    AppendError::Write(full) if cut.is_ok() && is_full(&full) => {
                        Err(AppendError::Full(full))
                    }
                    error => {
                        self.failed = true;
                        Err(error)
                    }
                }
            }
        }
    }

    /// Gives the full file another name and begins a new one under `name`, each durable before the next. When it returns, nothing
    /// is in the log any more.
    ///
    /// # Errors
    /// [`RotateError::Refused`] if nothing was changed; after [`RotateError::Failed`] the log must be opened afresh.
    pub fn rotate<S: Storage<File = F>>(
        &mut self,
        storage: &S,
        name: &str,
        full: &str,
    ) -> Result<(), RotateError> {
        if self.failed {
            return Err(RotateError::Failed(AppendError::FailedBefore));
        }
        // A batch for which there was no room was cut off, which may not be on the medium yet: and a full file is never cut again.
        self.file.sync().map_err(RotateError::Refused)?;
        storage.rename(name, full).map_err(RotateError::Refused)?;
        // The old name must not come back after a power cut when there is a new file of that name.
        let begun = storage.sync_directory("").and_then(|()| {
            let mut file = storage.create_new(name)?;
            file.sync()?;
            storage.sync_directory("")?;
            Ok(file)
        });
        match begun {
            Ok(file) => {
                self.file = file;
                self.length = 0;
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                Err(RotateError::Failed(AppendError::Sync(error)))
            }
        }
    }

    /// The last `count` lines, oldest first.
    pub fn last_lines(&self, count: u64) -> io::Result<Lines<'_, F>> {
        last_whole_lines(&self.file, self.length, count)
    }
}

/// Whether an error says that the disk, or the part of it that its user may have, is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The last `count` whole lines of the first `length` bytes of a file, oldest first.
pub fn last_whole_lines<F: StoredFile>(
    file: &F,
    length: u64,
    count: u64,
) -> io::Result<Lines<'_, F>> {
    let end = end_of_whole_lines(file, length)?;
    // The last newline ends the last line, so the one that the first line follows is one further
    // back.
    let start = after_newline(file, end, count.saturating_add(1))?.unwrap_or(0);
    Ok(lines(file, start..end))
}

/// Where the last whole line ends among the first `length` bytes of a file; 0 when there is none.
///
/// # Errors
/// Whatever the disk says.
pub fn end_of_whole_lines<F: StoredFile>(file: &F, length: u64) -> io::Result<u64> {
    Ok(after_newline(file, length, 1)?.unwrap_or(0))
}

/// The lines between two ends of lines.
pub fn lines<F: StoredFile>(file: &F, extent: Range<u64>) -> Lines<'_, F> {
    Lines {
        file,
        position: extent.start,
        end: extent.end,
        buffer: Vec::new(),
        consumed: 0,
        last: 0..0,
    }
}

/// Lines read from a log, in order.
#[derive(Debug)]
pub struct Lines<'a, F> {
    file: &'a F,
    /// Where the next read goes.
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was handed out.
    consumed: usize,
    /// Where in the buffer the line lies that was handed out last.
    last: Range<usize>,
}

/// One line as read, without its newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawLine<'a> {
    /// Where in the file it begins.
    pub offset: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<F: StoredFile> Lines<'_, F> {
    /// Where the next line begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.position - (self.buffer.len() - self.consumed) as u64
    }

    /// The next line; `None` at the end.
    pub fn next_line(&mut self) -> Result<Option<RawLine<'_>>, ReadError> {
        let mut searched = self.consumed;
        let newline = loop {
            let rest = self.buffer.get(searched..).unwrap_or_default();
            if let Some(found) = rest.iter().position(|&byte| byte == b'\n') {
                break searched + found;
            }
            if self.position >= self.end {
                return Ok(None);
            }
            if self.buffer.len() - self.consumed > MAX_LINE {
                return Err(ReadError::LineTooLong {
                    offset: self.offset(),
                });
            }
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
            searched = self.buffer.len();
            self.fill()?;
        };
        let offset = self.offset();
        let start = std::mem::replace(&mut self.consumed, newline + 1);
        self.last = start..newline;
        let bytes = self.last_line();
        Ok(Some(RawLine { offset, bytes }))
    }

    /// The line that was handed out last, once more; nothing before the first.
    #[must_use]
    pub fn last_line(&self) -> &[u8] {
        self.buffer.get(self.last.clone()).unwrap_or_default()
    }

    fn fill(&mut self) -> io::Result<()> {
        let wanted = usize::try_from(self.end - self.position)
            .unwrap_or(READ_CHUNK)
            .min(READ_CHUNK);
        let filled = self.buffer.len();
        self.buffer.resize(filled + wanted, 0);
        let space = self.buffer.get_mut(filled..).unwrap_or_default();
        let read = self.file.read_at(self.position, space)?;
        self.buffer.truncate(filled + read);
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(())
    }
}

/// Where the byte after the `count`th newline from `end` backwards lies; `None` when there are
/// fewer.
fn after_newline<F: StoredFile>(file: &F, end: u64, count: u64) -> io::Result<Option<u64>> {
    let mut left = count;
    let mut chunk_end = end;
    let mut chunk = Vec::new();
    while chunk_end > 0 {
        let chunk_start = chunk_end.saturating_sub(READ_CHUNK as u64);
        chunk.resize(
            usize::try_from(chunk_end - chunk_start).unwrap_or(READ_CHUNK),
            0,
        );
        read_exact_at(file, chunk_start, &mut chunk)?;
        for (place, _) in chunk
            .iter()
            .enumerate()
            .rev()
            .filter(|&(_, &byte)| byte == b'\n')
        {
            left -= 1;
            if left == 0 {
                return Ok(Some(chunk_start + place as u64 + 1));
            }
        }
        chunk_end = chunk_start;
    }
    Ok(None)
}

/// Copies the bytes from `start` to `end` into a new file beside the log, durably, before anything
/// is cut.
fn set_aside<S: Storage>(
    storage: &S,
    name: &str,
    file: &S::File,
    start: u64,
    end: u64,
) -> io::Result<String> {
    let (torn_name, mut torn) = new_torn_file(storage, name)?;
    let mut position = start;
    let mut chunk = Vec::new();
    while position < end {
        chunk.resize(
            usize::try_from(end - position)
                .unwrap_or(READ_CHUNK)
                .min(READ_CHUNK),
            0,
        );
        read_exact_at(file, position, &mut chunk)?;
        torn.append(&chunk)?;
        position += chunk.len() as u64;
    }
    torn.sync()?;
    storage.sync_directory("")?;
    Ok(torn_name)
}

/// The first free `<name>.torn-1`, `<name>.torn-2`, …
fn new_torn_file<S: Storage>(storage: &S, name: &str) -> io::Result<(String, S::File)> {
    let mut number: u64 = 1;
    loop {
        let torn_name = format!("{name}.torn-{number}");
        match storage.create_new(&torn_name) {
            Ok(file) => return Ok((torn_name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}
