//! Which lines of a log are wanted.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use sealpost_core::{Timestamp, UserId};

use crate::line::MAX_SEQ;
use crate::manifest::Manifest;

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Their numbers.
    pub numbers: RangeInclusive<u64>,
    /// When they were written. Frames that have none of that time are not read; of the others, all lines are given.
    pub times: RangeInclusive<Timestamp>,
    /// Whose envelopes are wanted. Segments that have none of this sender are not read; of the others, all lines are given.
    pub sender: Option<UserId>,
    /// To whom; likewise.
    pub recipient: Option<UserId>,
}

impl Default for Selection {
    /// All.
    fn default() -> Selection {
        Selection {
            numbers: 1..=MAX_SEQ,
            times: Timestamp::from_millis(0).unwrap_or(Timestamp::MAX)..=Timestamp::MAX,
            sender: None,
            recipient: None,
        }
    }
}

impl Selection {
    /// One line.
    #[must_use]
    pub fn line(number: u64) -> Selection {
        Selection {
            numbers: number..=number,
            ..Selection::default()
        }
    }

    pub(super) fn may_have(&self, from: Timestamp, until: Timestamp) -> bool {
        from <= *self.times.end() && until >= *self.times.start()
    }

    /// Whether a segment may have envelopes of those who are wanted.
    pub(super) fn may_have_people(&self, manifest: &Manifest) -> bool {
        let lists =
            |names: &Option<BTreeSet<String>>, wanted: &Option<UserId>| match (names, wanted) {
                (Some(names), Some(wanted)) => names.contains(wanted.as_str()),
                _ => true,
            };
        lists(&manifest.senders, &self.sender) && lists(&manifest.recipients, &self.recipient)
    }
}
