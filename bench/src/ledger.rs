//! Counts every id that a subscriber receives: what was lost, what came twice, what came out of order.

use crate::stamp::Stamp;

/// The most messages that one publisher sends in one run. It bounds a ledger to 12.5 MB for each publisher.
pub(crate) const MAX_MESSAGES: u64 = 100_000_000;

/// One subscriber's account of what reached it from the publishers it listens to.
#[derive(Debug)]
pub(crate) struct Ledger {
    run: u32,
    first_publisher: u32,
    accounts: Vec<Account>,
    distinct: u64,
    damaged: u64,
    foreign: u64,
}

/// What came from one publisher.
#[derive(Clone, Debug, Default)]
struct Account {
    /// One bit for each sequence number seen.
    seen: Vec<u64>,
    /// One above the highest sequence number seen.
    next: u64,
    distinct: u64,
    duplicates: u64,
    disorder: u64,
}

/// The end of an account: all zero but `expected` and `received` is what a broker should reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages that had to come: those that the broker acknowledged (at QoS 0: those that were sent).
    pub(crate) expected: u64,
    /// Different messages that came.
    pub(crate) received: u64,
    /// Messages that had to come and did not.
    pub(crate) lost: u64,
    /// Times that a message came again.
    pub(crate) duplicates: u64,
    /// Messages that first came after a later one of the same publisher.
    pub(crate) disorder: u64,
    /// Messages whose content changed on the way.
    pub(crate) damaged: u64,
    /// Messages of another run or another publisher's topic.
    pub(crate) foreign: u64,
}

impl Ledger {
    /// A ledger for `publishers` publishers, numbered from `first_publisher`.
    pub(crate) fn new(run: u32, first_publisher: u32, publishers: usize) -> Self {
        let accounts = vec![Account::default(); publishers];
        Self {
            run,
            first_publisher,
            accounts,
            distinct: 0,
            damaged: 0,
            foreign: 0,
        }
    }

    /// Enters one received message.
    pub(crate) fn enter(&mut self, stamp: &Stamp) {
        let account = stamp
            .publisher
            .checked_sub(self.first_publisher)
            .and_then(|place| self.accounts.get_mut(usize::try_from(place).ok()?))
            .filter(|_| stamp.run == self.run && stamp.sequence < MAX_MESSAGES);
        match account {
            Some(account) => self.distinct += u64::from(account.enter(stamp.sequence)),
            None => self.foreign += 1,
        }
    }

    /// Enters a message whose content is not what was sent.
    pub(crate) fn enter_damaged(&mut self) {
        self.damaged += 1;
    }

    /// Different messages so far.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct
    }

    /// Closes the ledger. `expected` says for each publisher how many of its first messages had to come.
    pub(crate) fn close(&self, expected: &[u64]) -> Tally {
        let mut tally = Tally {
            damaged: self.damaged,
            foreign: self.foreign,
            ..Tally::default()
        };
        for (account, &expected) in self.accounts.iter().zip(expected) {
            tally.expected += expected;
            tally.received += account.distinct;
            tally.lost += expected - account.seen_below(expected);
            tally.duplicates += account.duplicates;
            tally.disorder += account.disorder;
        }
        tally
    }
}

impl Account {
    /// Whether this sequence number is new.
    fn enter(&mut self, sequence: u64) -> bool {
        let word = usize::try_from(sequence / 64).unwrap_or(usize::MAX);
        let bit = 1 << (sequence % 64);
        if word >= self.seen.len() {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        let Some(word) = self.seen.get_mut(word) else {
            return false;
        };
        if *word & bit != 0 {
            self.duplicates += 1;
            return false;
        }
        *word |= bit;
        self.distinct += 1;
        if sequence < self.next {
            self.disorder += 1;
        } else {
            self.next = sequence + 1;
        }
        true
    }

    /// How many different sequence numbers below `end` came.
    fn seen_below(&self, end: u64) -> u64 {
        let mut count = 0;
        for (place, word) in (0..).step_by(64).zip(&self.seen) {
            if place >= end {
                break;
            }
            let kept = if end - place >= 64 {
                u64::MAX
            } else {
                (1 << (end - place)) - 1
            };
            count += u64::from((word & kept).count_ones());
        }
        count
    }
}

impl Tally {
    /// Adds another subscriber's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.disorder += other.disorder;
        self.damaged += other.damaged;
        self.foreign += other.foreign;
    }

    /// What is wrong, in capitals; empty when every message came once, in order and whole.
    pub(crate) fn flaws(&self) -> Vec<String> {
        let of = self.expected;
        [
            (self.lost, "LOST"),
            (self.duplicates, "DUPLICATED"),
            (self.disorder, "OUT OF ORDER"),
            (self.damaged, "DAMAGED"),
            (self.foreign, "FOREIGN"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} of {of} {what}"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 7;

    fn ledger_of(sequences: impl IntoIterator<Item = u64>) -> Ledger {
        let mut ledger = Ledger::new(RUN, 3, 1);
        for sequence in sequences {
            ledger.enter(&Stamp {
                run: RUN,
                publisher: 3,
                sequence,
                sent: 0,
            });
        }
        ledger
    }

    #[test]
    fn a_whole_run_has_no_flaw() {
        for length in [0, 1, 63, 64, 65, 1000] {
            let tally = ledger_of(0..length).close(&[length]);
            assert_eq!(
                tally,
                Tally {
                    expected: length,
                    received: length,
                    ..Tally::default()
                }
            );
            assert!(tally.flaws().is_empty());
        }
    }

    #[test]
    fn a_loss_is_found_wherever_it_is() {
        for missing in [0, 63, 64, 99] {
            let tally = ledger_of((0..100).filter(|&sequence| sequence != missing)).close(&[100]);
            assert_eq!(
                tally,
                Tally {
                    expected: 100,
                    received: 99,
                    lost: 1,
                    ..Tally::default()
                }
            );
            assert_eq!(tally.flaws(), ["1 of 100 LOST"]);
        }
        assert_eq!(ledger_of([]).close(&[100]).lost, 100);
    }

    #[test]
    fn a_duplicate_is_found_and_is_neither_loss_nor_disorder() {
        let tally = ledger_of([0, 1, 2, 1, 3, 3]).close(&[4]);
        assert_eq!(
            tally,
            Tally {
                expected: 4,
                received: 4,
                duplicates: 2,
                ..Tally::default()
            }
        );
        assert_eq!(tally.flaws(), ["2 of 4 DUPLICATED"]);
    }

    #[test]
    fn a_disorder_is_found() {
        let tally = ledger_of([0, 2, 1, 3]).close(&[4]);
        assert_eq!(
            tally,
            Tally {
                expected: 4,
                received: 4,
                disorder: 1,
                ..Tally::default()
            }
        );
        assert_eq!(tally.flaws(), ["1 of 4 OUT OF ORDER"]);
    }

    #[test]
    fn a_loss_behind_a_duplicate_still_shows() {
        let tally = ledger_of([0, 1, 1, 3]).close(&[4]);
        assert_eq!((tally.lost, tally.duplicates), (1, 1));
    }

    #[test]
    fn what_was_never_acknowledged_may_come_or_not() {
        assert!(ledger_of(0..10).close(&[8]).flaws().is_empty());
        assert!(ledger_of(0..8).close(&[8]).flaws().is_empty());
    }

    #[test]
    fn another_run_and_another_publisher_are_foreign() {
        let mut ledger = ledger_of(0..2);
        ledger.enter(&Stamp {
            run: RUN + 1,
            publisher: 3,
            sequence: 0,
            sent: 0,
        });
        ledger.enter(&Stamp {
            run: RUN,
            publisher: 2,
            sequence: 0,
            sent: 0,
        });
        ledger.enter(&Stamp {
            run: RUN,
            publisher: 4,
            sequence: 0,
            sent: 0,
        });
        ledger.enter(&Stamp {
            run: RUN,
            publisher: 3,
            sequence: MAX_MESSAGES,
            sent: 0,
        });
        assert_eq!(ledger.close(&[2]).foreign, 4);
        assert_eq!(ledger.distinct(), 2);
    }

    #[test]
    fn publishers_are_counted_apart() {
        let mut ledger = Ledger::new(RUN, 0, 2);
        for (publisher, sequence) in [(0, 0), (1, 0), (1, 1), (0, 2)] {
            ledger.enter(&Stamp {
                run: RUN,
                publisher,
                sequence,
                sent: 0,
            });
        }
        let tally = ledger.close(&[3, 2]);
        assert_eq!(
            (tally.expected, tally.received, tally.lost, tally.disorder),
            (5, 4, 1, 0)
        );
    }
}
