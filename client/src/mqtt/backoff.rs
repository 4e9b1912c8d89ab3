//! How long to wait before connecting again: twice as long each time, with jitter, so that a thousand clients do not
//! come back in the same instant when a broker restarts.

use std::time::Duration;

use rand::RngExt;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lasted this long was a good one: the next loss starts from the beginning.
const GOOD: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: FIRST }
    }

    /// The connection lasted so long.
    pub(super) fn connected_for(&mut self, duration: Duration) {
        if duration >= GOOD {
            self.next = FIRST;
        }
    }

    /// Between half and all of the current step.
    pub(super) fn wait(&mut self, rng: &mut impl rand::Rng) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        step.mul_f64(rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_over_after_a_good_connection() {
        let mut backoff = Backoff::new();
        let mut step = FIRST;
        for _ in 0..20 {
            let wait = backoff.wait(&mut rand::rng());
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
            step = (step * 2).min(LONGEST);
        }
        assert_eq!(step, LONGEST);
        backoff.connected_for(GOOD / 2);
        assert!(backoff.wait(&mut rand::rng()) >= LONGEST / 2);
        backoff.connected_for(GOOD);
        assert!(backoff.wait(&mut rand::rng()) <= FIRST);
    }
}
