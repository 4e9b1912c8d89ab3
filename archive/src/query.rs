//! Finds lines: by the names in their envelopes, and by when they were written.

use sealpost_core::{MessageId, Timestamp, UserId};

use crate::envelope_names::EnvelopeNames;
use crate::log_reader::{FoundLine, LogLines, LogReader, ReadError, Selection};
use crate::storage::StoredFile;

/// What is looked for. Each condition that is given must hold; without any, all lines are found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// The sender of an envelope.
    pub from: Option<UserId>,
    /// Its recipient.
    pub to: Option<UserId>,
    /// Its id.
    pub id: Option<MessageId>,
    /// Written then or later.
    pub since: Option<Timestamp>,
    /// Written before.
    pub until: Option<Timestamp>,
}

impl Query {
    /// Whether a line is looked for.
    #[must_use]
    pub fn matches(&self, archived_at: Timestamp, line: &[u8]) -> bool {
        if self.since.is_some_and(|since| archived_at < since)
            || self.until.is_some_and(|until| archived_at >= until)
        {
            return false;
        }
        if self.from.is_none() && self.to.is_none() && self.id.is_none() {
            return true;
        }
        let Some(names) = EnvelopeNames::of(line) else {
            return false;
        };
        let is = |wanted: &Option<UserId>, name: &str| {
            wanted.as_ref().is_none_or(|user| user.as_str() == name)
        };
        is(&self.from, &names.from)
            && is(&self.to, &names.to)
            && self.id.is_none_or(|id| id == names.id)
    }

    /// The lines that must be read, from line `first` on: whatever else a manifest rules out is not.
    #[must_use]
    pub fn selection(&self, first: u64) -> Selection {
        let all = Selection::default();
        let (least, greatest) = (*all.times.start(), *all.times.end());
        Selection {
            numbers: first..=*all.numbers.end(),
            times: self.since.unwrap_or(least)..=self.until.unwrap_or(greatest),
            sender: self.from.clone(),
            recipient: self.to.clone(),
        }
    }

    /// What is found in a log, in order, from line `first` on.
    pub fn run<'a, F: StoredFile>(&'a self, reader: &'a LogReader<F>, first: u64) -> Found<'a, F> {
        Found {
            query: self,
            lines: reader.lines(self.selection(first)),
        }
    }
}

/// The lines that a query finds.
#[derive(Debug)]
pub struct Found<'a, F> {
    query: &'a Query,
    lines: LogLines<'a, F>,
}

impl<F: StoredFile> Found<'_, F> {
    /// Calls `found` with each line that is found, until it says `false` or there are no more.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn for_each(
        &mut self,
        mut found: impl FnMut(FoundLine<'_>) -> bool,
    ) -> Result<(), ReadError> {
        while let Some(line) = self.lines.next_line()? {
            if self.query.matches(line.archived_at, line.bytes) && !found(line) {
                break;
            }
        }
        Ok(())
    }
}
