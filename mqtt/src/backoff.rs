//! How long to wait before connecting again: twice as long each time, with jitter, so that a thousand clients do not
//! come back in the same instant when a broker restarts.

use std::time::Duration;

use rand::RngExt as _;

/// The first wait, before jitter.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait, before jitter: nobody should lag a broker that is back by much more than this.
const LONGEST: Duration = Duration::from_secs(30);

/// A connection that lasted this long was a good one: the next loss starts from the beginning.
const GOOD: Duration = Duration::from_secs(10);

/// Waits that double from a quarter of a second to half a minute, each cut by up to a half at random.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::between(FIRST, LONGEST)
    }
}

impl Backoff {
    /// Waits between other bounds.
    #[must_use]
    pub fn between(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            first,
            longest,
            next: first,
        }
    }

    /// Begins again with the shortest wait: the last connection was good.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The last connection lasted so long; when that was long enough, as [`Backoff::reset`].
    pub fn connected_for(&mut self, duration: Duration) {
        if duration >= GOOD {
            self.reset();
        }
    }

    /// The next wait is the longest: trying soon would do harm.
    pub fn jump_to_longest(&mut self) {
        self.next = self.longest;
    }

    /// The next wait: between half and all of the current step.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_over_after_a_good_connection() {
        let mut backoff = Backoff::default();
        let mut step = FIRST;
        for _ in 0..20 {
            let wait = backoff.next_wait();
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
            step = (step * 2).min(LONGEST);
        }
        assert_eq!(step, LONGEST);
        backoff.connected_for(GOOD / 2);
        assert!(backoff.next_wait() >= LONGEST / 2);
        backoff.connected_for(GOOD);
        assert!(backoff.next_wait() <= FIRST);
        backoff.jump_to_longest();
        assert!(backoff.next_wait() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
