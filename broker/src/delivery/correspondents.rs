//! Who has written to whom: a mailbox has a larger share for those whom its owner has written to than for strangers.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

/// Users whom one user has written to that are remembered; further ones stay strangers. Bounds memory and disk, and is above
/// what a person or a device writes to.
const MAX_ANSWERED: usize = 10_000;

/// Who has written to whom.
#[derive(Debug, Default)]
pub struct Correspondents {
    answered: RwLock<HashMap<Box<str>, HashSet<Box<str>>>>,
}

impl Correspondents {
    /// Whether `owner` has written to `other`.
    #[must_use]
    pub fn has_answered(&self, owner: &str, other: &str) -> bool {
        let answered = self.answered.read().unwrap_or_else(PoisonError::into_inner);
        answered.get(owner).is_some_and(|to| to.contains(other))
    }

    /// `owner` has written to `other`. Returns whether that is new and worth keeping.
    pub fn answer(&self, owner: &str, other: &str) -> bool {
        if self.has_answered(owner, other) {
            return false;
        }
        let mut answered = self
            .answered
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let to = answered.entry(owner.into()).or_default();
        to.len() < MAX_ANSWERED && to.insert(other.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_written_to_is_no_stranger_and_only_the_first_time_is_news() {
        let correspondents = Correspondents::default();
        assert!(!correspondents.has_answered("alice", "bob"));
        assert!(correspondents.answer("alice", "bob"));
        assert!(!correspondents.answer("alice", "bob"));
        assert!(correspondents.has_answered("alice", "bob"));
        assert!(!correspondents.has_answered("bob", "alice"));
    }

    #[test]
    fn what_is_remembered_of_one_user_is_bounded() {
        let correspondents = Correspondents::default();
        for number in 0..MAX_ANSWERED {
            assert!(correspondents.answer("alice", &number.to_string()));
        }
        assert!(!correspondents.answer("alice", "one more"));
        assert!(correspondents.answer("bob", "alice"));
    }
}
