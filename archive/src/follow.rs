//! Goes on reading a log as it grows, over rotation.

use std::io;

use crate::layout::LogName;
use crate::line;
use crate::log_file;
use crate::log_reader::{FoundLine, LogReader, ReadError, Selection};
use crate::storage::{Storage, StoredFile, read_exact_at};

/// Where a reader of a growing log is.
#[derive(Debug)]
pub struct Follower<S> {
    storage: S,
    log: LogName,
    /// The number of the line that comes next.
    next: u64,
    /// Where it will begin in the active file, as far as is known.
    offset: u64,
    /// The number of the first line of the active file that was read, which tells it from every other; `None` if none was.
    first: Option<u64>,
}

/// Enough of a line to know its number, in bytes.
const HEAD: u64 = 64;

impl<S: Storage> Follower<S> {
    /// Begins with line `next`.
    #[must_use]
    pub fn new(storage: S, log: LogName, next: u64) -> Follower<S> {
        Follower {
            storage,
            log,
            next,
            offset: 0,
            first: None,
        }
    }

    /// Calls `found` with each line that has come since; returns when there are no more for now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn poll(&mut self, mut found: impl FnMut(FoundLine<'_>)) -> Result<(), ReadError> {
        if self.go_on(&mut found)? {
            return Ok(());
        }
        // The active file is another one: what came before it is in a segment, or on its way into one.
        let reader = LogReader::open(&self.storage, self.log)?;
        let active = self.log.active();
        self.offset = 0;
        let last = reader.parts().last();
        self.first = last
            .filter(|part| part.path == active)
            .map(|part| part.first);
        let mut lines = reader.lines(Selection {
            numbers: self.next..=line::MAX_SEQ,
            ..Selection::default()
        });
        while let Some(line) = lines.next_line()? {
            self.next = line.seq + 1;
            if line.path == active {
                self.offset = line.offset + line.bytes.len() as u64 + 1;
            }
            found(line);
        }
        Ok(())
    }

    /// Goes on in the active file; `false` if it is not the one that was read before.
    fn go_on(&mut self, found: &mut impl FnMut(FoundLine<'_>)) -> Result<bool, ReadError> {
        let path = self.log.active();
        let failed = |source: io::Error| ReadError::File {
            path: path.clone(),
            source,
        };
        let file = match self.storage.open_existing(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(failed)?,
        };
        let length = file.length().map_err(failed)?;
        let first = first_line(&file, length).map_err(failed)?;
        if length < self.offset || self.offset > 0 && first != self.first {
            return Ok(false);
        }
        self.first = first;
        let new = log_file::end_of_whole_lines(&file, length)
            .map_err(failed)?
            .max(self.offset);
        if new == self.offset {
            // Nothing new. An empty file may be a new one.
            return Ok(self.offset > 0 || self.next == 1);
        }
        let mut lines = log_file::lines(&file, self.offset..new);
        loop {
            let offset = lines.offset();
            let Some(raw) = lines.next_line().map_err(|error| ReadError::File {
                path: path.clone(),
                source: io::Error::other(error),
            })?
            else {
                return Ok(true);
            };
            match line::head_of(raw.bytes) {
                Some((seq, archived_at)) if seq == self.next => {
                    self.next = seq + 1;
                    self.offset = offset + raw.bytes.len() as u64 + 1;
                    found(FoundLine {
                        seq,
                        archived_at,
                        bytes: raw.bytes,
                        path: &path,
                        offset,
                    });
                }
                _ => return Ok(false),
            }
        }
    }
}

/// The number of the first line of a file of `length` bytes; `None` if there is none.
fn first_line<F: StoredFile>(file: &F, length: u64) -> io::Result<Option<u64>> {
    let mut head = vec![0; usize::try_from(length.min(HEAD)).unwrap_or_default()];
    read_exact_at(file, 0, &mut head)?;
    Ok(line::head_of(&head).map(|(seq, _)| seq))
}
