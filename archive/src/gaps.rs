//! What senders sent and the archive never saw: each envelope names the sender's message before it to the same recipient, and some of
//! these are not there.

use std::collections::HashMap;

use sealpost_core::{MessageId, Timestamp};
use serde::Serialize;

use crate::envelope_names::EnvelopeNames;
use crate::line::{Body, Line};
use crate::log_reader::{LogReader, ReadError, Selection};
use crate::storage::StoredFile;

/// How many messages that were not seen are remembered at once: about 200 bytes each. Almost all are those that came in another order than
/// they were sent in, and those are few.
pub const MAX_UNSEEN: usize = 1_000_000;

/// How many conversations (a sender and a recipient) are remembered at once, about 200 bytes each. Beyond, messages count as unseen until the second
/// pass finds them.
pub const MAX_CONVERSATIONS: usize = 1_000_000;

/// A message that a sender sent and the archive never saw.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Gap {
    /// The line of the message after it.
    pub before_line: u64,
    /// When that was written, in seconds since the epoch.
    pub before_at: String,
    /// Who sent both.
    pub from: String,
    /// To whom.
    pub to: String,
    /// The id of the missing one.
    pub missing: String,
    /// The id of the one after it.
    pub next: String,
}

/// What is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Gaps {
    /// In the order of lines.
    pub gaps: Vec<Gap>,
    /// How many envelopes were read.
    pub envelopes: u64,
    /// How many lines were erased: a message may be missing because its line was.
    pub erased: u64,
    /// How many lines were retired: a message may be missing because it was among them.
    pub retired: u64,
    /// Whether there were more unseen messages than are remembered, so that some may not be listed.
    pub incomplete: bool,
}

/// An envelope after one that was not seen.
#[derive(Debug)]
struct After {
    line: u64,
    at: Timestamp,
    from: String,
    to: String,
    id: MessageId,
}

/// Looks for gaps in a log, in two passes: the first keeps what was not seen before it was named, the second strikes off what came later.
/// `progress` is told now and then how many lines were read, of twice as many.
///
/// # Errors
/// [`ReadError`].
pub fn find<F: StoredFile>(
    reader: &LogReader<F>,
    mut progress: impl FnMut(u64),
) -> Result<Gaps, ReadError> {
    let mut gaps = Gaps {
        retired: reader.first().map_or(0, |first| first - 1),
        ..Gaps::default()
    };
    let mut newest: HashMap<(String, String), MessageId> = HashMap::new();
    let mut unseen: HashMap<MessageId, Vec<After>> = HashMap::new();
    let mut remembered = 0;
    let mut read = 0;
    let mut lines = reader.lines(Selection::default());
    while let Some(line) = lines.next_line()? {
        read += 1;
        if read % 4_096 == 0 {
            progress(read);
        }
        let Some(names) = EnvelopeNames::of(line.bytes) else {
            let body = Line::parse(line.bytes).map(|line| line.body);
            gaps.erased += u64::from(matches!(body, Ok(Body::Tombstone { .. })));
            continue;
        };
        gaps.envelopes += 1;
        let conversation = (names.from.into_owned(), names.to.into_owned());
        if let Some(prev) = names.prev
            && newest.get(&conversation) != Some(&prev)
        {
            if remembered < MAX_UNSEEN {
                remembered += 1;
                unseen.entry(prev).or_default().push(After {
                    line: line.seq,
                    at: line.archived_at,
                    from: conversation.0.clone(),
                    to: conversation.1.clone(),
                    id: names.id,
                });
            } else {
                gaps.incomplete = true;
            }
        }
        if newest.len() < MAX_CONVERSATIONS || newest.contains_key(&conversation) {
            newest.insert(conversation, names.id);
        }
    }
    if !unseen.is_empty() {
        let mut lines = reader.lines(Selection::default());
        while let Some(line) = lines.next_line()? {
            read += 1;
            if read % 4_096 == 0 {
                progress(read);
            }
            if let Some(names) = EnvelopeNames::of(line.bytes)
                && let Some(after) = unseen.get_mut(&names.id)
            {
                // An id is its sender's: the same one of somebody else is another message.
                after.retain(|after| after.from != names.from || after.to != names.to);
            }
        }
    }
    for (missing, after) in unseen {
        gaps.gaps.extend(after.into_iter().map(|after| Gap {
            before_line: after.line,
            before_at: after.at.to_string(),
            from: after.from,
            to: after.to,
            missing: missing.to_string(),
            next: after.id.to_string(),
        }));
    }
    gaps.gaps.sort_unstable();
    Ok(gaps)
}
