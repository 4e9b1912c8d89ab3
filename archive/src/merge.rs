//! One stream of messages out of several logs: mirrors, or archivers that take turns.
//!
//! Messages come in the order of `archived_at`, as far as each log is in that order, and each once: two are the same if topic and payload
//! are (section 3 of the format).

use std::collections::{HashSet, VecDeque};

use sealpost_core::Timestamp;

use crate::digest::Digest;
use crate::line::{Body, Line};
use crate::log_reader::{LogLines, LogReader, ReadError, Selection};
use crate::storage::StoredFile;

/// How many messages are remembered to know them again, at about 100 bytes each: so far apart may two logs have the same one.
pub const WINDOW: usize = 1_000_000;

/// A merge of several logs.
#[derive(Debug)]
pub struct Merge<'a, F> {
    sources: Vec<Source<'a, F>>,
    seen: HashSet<Digest>,
    order: VecDeque<Digest>,
    window: usize,
    /// How many messages were left out, because they had come before.
    repeated: u64,
}

/// A log, and its next message.
#[derive(Debug)]
struct Source<'a, F> {
    lines: LogLines<'a, F>,
    next: Option<Next>,
}

#[derive(Debug)]
struct Next {
    archived_at: Timestamp,
    digest: Digest,
    line: Vec<u8>,
}

impl<'a, F: StoredFile> Merge<'a, F> {
    /// Merges what `readers` read, and remembers the last `window` messages.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn new(
        readers: &'a [LogReader<F>],
        selection: &Selection,
        window: usize,
    ) -> Result<Merge<'a, F>, ReadError> {
        let mut sources = Vec::new();
        for reader in readers {
            let mut source = Source {
                lines: reader.lines(selection.clone()),
                next: None,
            };
            source.go_on()?;
            sources.push(source);
        }
        Ok(Merge {
            sources,
            seen: HashSet::new(),
            order: VecDeque::new(),
            window: window.max(1),
            repeated: 0,
        })
    }

    /// The next message: its line, as the log has it, without the newline. `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        loop {
            // Of several that were written at once, that of the first log.
            let earliest = self
                .sources
                .iter_mut()
                .filter(|source| source.next.is_some())
                .min_by_key(|source| source.next.as_ref().map(|next| next.archived_at));
            let Some(source) = earliest else {
                return Ok(None);
            };
            let Some(next) = source.next.take() else {
                return Ok(None);
            };
            source.go_on()?;
            if !self.seen.insert(next.digest) {
                self.repeated += 1;
                continue;
            }
            self.order.push_back(next.digest);
            if self.order.len() > self.window
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
            return Ok(Some(next.line));
        }
    }

    /// How many messages were left out so far, because they had come before.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated
    }
}

impl<F: StoredFile> Source<'_, F> {
    /// Goes on to the next message. What archives say of themselves (records, tombstones) is none; a line that is damaged is one, so that
    /// it is not lost.
    fn go_on(&mut self) -> Result<(), ReadError> {
        self.next = None;
        while let Some(found) = self.lines.next_line()? {
            let digest = match Line::parse(found.bytes).map(|line| line.body) {
                Ok(Body::Message(message)) => Digest::of(&message.topic, &message.payload),
                Ok(_) => continue,
                Err(_) => Digest::of(b"", found.bytes),
            };
            self.next = Some(Next {
                archived_at: found.archived_at,
                digest,
                line: found.bytes.to_vec(),
            });
            break;
        }
        Ok(())
    }
}
