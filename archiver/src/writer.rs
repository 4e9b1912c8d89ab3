//! The one who writes the log: takes batches of arrivals, leaves out what the log has already,
//! numbers the rest, and returns when they are on the medium. It knows nothing of the network.

use std::io;

use sealpost_core::Timestamp;

use crate::arrival::Arrival;
use crate::digest_window::{Digest, DigestWindow};
use crate::line::{self, Line, LineError};
use crate::log_file::{AppendError, LogFile, ReadError, TornTail};
use crate::storage::{Storage, StoredFile};

/// The log's name in the archive's directory.
pub const LOG_FILE: &str = "encrypted_logs.jsonl";

/// How much memory the buffer of lines may keep between batches, in bytes.
const KEPT_BUFFER: usize = 8 << 20;

/// Why a log cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("cannot open the log: {0}")]
    Io(#[from] io::Error),
    /// A line in the middle is not one that the archiver wrote.
    #[error("the line at byte {offset} is damaged: {reason}")]
    DamagedLine {
        /// Where the line begins.
        offset: u64,
        /// What is wrong with it.
        reason: LineError,
    },
    /// A line is longer than any that the archiver writes.
    #[error("the line at byte {offset} is damaged: it has no end")]
    EndlessLine {
        /// Where the line begins.
        offset: u64,
    },
    /// The numbers have a gap, or do not begin with 1.
    #[error("the line at byte {offset} has number {found} where {expected} was to come")]
    OutOfSequence {
        /// Where the line begins.
        offset: u64,
        /// The number that belongs there.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => OpenError::Io(error),
            ReadError::LineTooLong { offset } => OpenError::EndlessLine { offset },
        }
    }
}

/// What was found when the log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// An incomplete last line that was set aside.
    pub torn: Option<TornTail>,
    /// The number of the last line; 0 for an empty log.
    pub last_seq: u64,
    /// How many of the last lines were read to know again what comes twice.
    pub lines_read: u64,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Archived {
    /// Lines written.
    pub written: u64,
    /// Of these, how many are no envelopes for their topic.
    pub unfit: u64,
    /// Arrivals that the log had already.
    pub duplicates: u64,
}

/// Writes one log.
#[derive(Debug)]
pub struct Writer<F> {
    log: LogFile<F>,
    window: DigestWindow,
    next_seq: u64,
    buffer: Vec<u8>,
}

impl<F: StoredFile> Writer<F> {
    /// Opens the log in `storage`, and reads its last `window` lines to know again what they hold.
    ///
    /// A damaged line among them is an error: what was acknowledged is not to be guessed at.
    pub fn open<S: Storage<File = F>>(
        storage: &S,
        window: u32,
    ) -> Result<(Writer<F>, Recovery), OpenError> {
        let (log, torn) = LogFile::open(storage, LOG_FILE)?;
        let mut window = DigestWindow::new(window);
        let mut lines = log.last_lines(u64::from(window.capacity()))?;
        let mut last_seq = None;
        let mut lines_read = 0;
        let from_the_beginning = lines.offset() == 0;
        while let Some(raw) = lines.next_line()? {
            let offset = raw.offset;
            let line = Line::parse(raw.bytes)
                .map_err(|reason| OpenError::DamagedLine { offset, reason })?;
            let expected = match last_seq {
                Some(last) => last + 1,
                None if from_the_beginning => 1,
                None => line.seq,
            };
            if line.seq != expected {
                return Err(OpenError::OutOfSequence {
                    offset,
                    expected,
                    found: line.seq,
                });
            }
            last_seq = Some(line.seq);
            lines_read += 1;
            window.insert(Digest::of(&line.topic, &line.payload));
        }
        let last_seq = last_seq.unwrap_or(0);
        let writer = Writer {
            log,
            window,
            next_seq: last_seq + 1,
            buffer: Vec::new(),
        };
        Ok((
            writer,
            Recovery {
                torn,
                last_seq,
                lines_read,
            },
        ))
    }

    /// The number that the next line gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Archives a batch in its order, with one write and one sync. When it returns, every arrival
    /// of the batch is on the medium, in this batch or an earlier one, and may be acknowledged;
    /// after an error none of it may.
    pub fn archive(&mut self, batch: &[Arrival], now: Timestamp) -> Result<Archived, AppendError> {
        let mut archived = Archived::default();
        self.buffer.clear();
        for arrival in batch {
            if !self.window.insert(arrival.digest) {
                archived.duplicates += 1;
                continue;
            }
            match &arrival.fault {
                None => {
                    line::write_envelope(&mut self.buffer, self.next_seq, now, &arrival.payload)
                }
                Some(fault) => {
                    archived.unfit += 1;
                    line::write_unfit(
                        &mut self.buffer,
                        self.next_seq,
                        now,
                        &arrival.topic,
                        fault,
                        &arrival.payload,
                    );
                }
            }
            self.next_seq += 1;
            archived.written += 1;
        }
        // A batch of duplicates alone needs no sync of its own: theirs came before. But after a
        // failure the window holds what the log does not, and the log says so.
        self.log.append(&self.buffer)?;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        Ok(archived)
    }
}
