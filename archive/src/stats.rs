//! What is in a log, in numbers.

use std::collections::BTreeMap;

use sealpost_core::Timestamp;
use serde::Serialize;

use crate::envelope_names::EnvelopeNames;
use crate::layout;
use crate::line::{Body, Line};

/// How many different senders (and recipients) are counted each by name, at about 150 bytes each; those beyond are counted together.
pub const MAX_COUNTED: usize = 100_000;

/// So many lines, and so long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub lines: u64,
    /// How long they are, in bytes, with their newlines.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.lines += 1;
        self.bytes += bytes;
    }
}

/// A log in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// All lines.
    pub all: Amount,
    /// Envelopes.
    pub envelopes: Amount,
    /// Key bundles.
    pub bundles: Amount,
    /// What was no envelope for its topic.
    pub unfit: Amount,
    /// Tombstones.
    pub erased: Amount,
    /// Records of erasures and retirements.
    pub records: Amount,
    /// Lines that are none.
    pub damaged: Amount,
    /// By the day on which they were written, in UTC: `2026-11-25`.
    pub days: BTreeMap<String, Amount>,
    /// Envelopes, by sender.
    pub senders: BTreeMap<String, Amount>,
    /// Envelopes of senders beyond [`MAX_COUNTED`].
    pub other_senders: Amount,
    /// Envelopes, by recipient.
    pub recipients: BTreeMap<String, Amount>,
    /// Envelopes to recipients beyond [`MAX_COUNTED`].
    pub other_recipients: Amount,
    /// Lines by length: under each power of two, those that are at most so long and longer than half of it.
    pub sizes: BTreeMap<u64, Amount>,
}

impl Stats {
    /// Counts a line, given without its newline.
    pub fn add(&mut self, archived_at: Timestamp, line: &[u8]) {
        let bytes = line.len() as u64 + 1;
        self.all.add(bytes);
        let day = layout::day(archived_at).replace('/', "-");
        self.days.entry(day).or_default().add(bytes);
        let size = bytes.next_power_of_two();
        self.sizes.entry(size).or_default().add(bytes);
        if let Some(names) = EnvelopeNames::of(line) {
            self.envelopes.add(bytes);
            count(
                &mut self.senders,
                &mut self.other_senders,
                &names.from,
                bytes,
            );
            count(
                &mut self.recipients,
                &mut self.other_recipients,
                &names.to,
                bytes,
            );
            return;
        }
        let kind = match Line::parse(line).map(|line| line.body) {
            Ok(Body::Message(message)) if message.error.is_some() => &mut self.unfit,
            Ok(Body::Message(_)) => &mut self.bundles,
            Ok(Body::Tombstone { .. }) => &mut self.erased,
            Ok(Body::Erasure { .. } | Body::Retirement { .. }) => &mut self.records,
            Err(_) => &mut self.damaged,
        };
        kind.add(bytes);
    }
}

/// Counts a name by itself, if there are not too many.
fn count(names: &mut BTreeMap<String, Amount>, others: &mut Amount, name: &str, bytes: u64) {
    if let Some(amount) = names.get_mut(name) {
        amount.add(bytes);
    } else if names.len() < MAX_COUNTED {
        names.entry(name.to_owned()).or_default().add(bytes);
    } else {
        others.add(bytes);
    }
}
