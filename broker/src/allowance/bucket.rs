//! A token bucket: so much a second on average, and some at once.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket that fills at a steady rate. It may be overdrawn once; then nothing is left until the debt is paid.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: Rate,
    /// When it is full again.
    full_at: Instant,
}

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units in each period; 0 means no bound.
    pub units: u64,
    /// The period. The bucket holds as much as one brings.
    pub period: Duration,
}

impl Rate {
    /// How long so many units take.
    fn duration_of(self, units: u64) -> Duration {
        if self.units == 0 {
            return Duration::ZERO;
        }
        let nanos = self.period.as_nanos() * u128::from(units) / u128::from(self.units);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate, now: Instant) -> Bucket {
        Bucket { rate, full_at: now }
    }

    /// Takes units out, also if that overdraws it.
    pub fn take(&mut self, units: u64, now: Instant) {
        let full_at = self.full_at.max(now);
        // A debt of more than a day is as good as one of a day.
        const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
        let later = full_at.checked_add(self.rate.duration_of(units).min(LONGEST));
        self.full_at = later.unwrap_or(full_at);
    }

    /// When there is something in it again: now, unless it is empty.
    #[must_use]
    pub fn ready_at(&self, now: Instant) -> Instant {
        if self.rate.units == 0 {
            return now;
        }
        // What it holds is one unit less than the whole: a bucket with room for one is empty after one.
        let held = self.rate.duration_of(self.rate.units.saturating_sub(1));
        self.full_at.checked_sub(held).map_or(now, |at| at.max(now))
    }

    /// Whether there is something in it.
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        self.ready_at(now) <= now
    }

    /// Whether nothing is missing, so that a new one is as good.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(units: u64) -> Rate {
        Rate {
            units,
            period: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_bucket_gives_what_it_holds_at_once_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(rate(10), start);
        for taken in 0..10 {
            assert!(bucket.is_ready(start), "{taken}");
            bucket.take(1, start);
        }
        assert!(!bucket.is_ready(start));
        let later = start + Duration::from_millis(100);
        assert_eq!(bucket.ready_at(start), later);
        assert!(bucket.is_ready(later));
        bucket.take(1, later);
        assert!(!bucket.is_ready(later));
        assert!(!bucket.is_full(later) && bucket.is_full(later + Duration::from_secs(1)));
    }

    #[test]
    fn an_overdrawn_bucket_waits_until_the_debt_is_paid() {
        let start = Instant::now();
        let mut bucket = Bucket::full(rate(10), start);
        bucket.take(30, start);
        assert_eq!(bucket.ready_at(start), start + Duration::from_millis(2_100));
    }

    #[test]
    fn a_bucket_without_a_rate_never_runs_dry() {
        let start = Instant::now();
        let mut bucket = Bucket::full(rate(0), start);
        bucket.take(u64::MAX, start);
        assert!(bucket.is_ready(start) && bucket.is_full(start));
    }

    #[test]
    fn no_number_of_units_overflows() {
        let start = Instant::now();
        let mut bucket = Bucket::full(rate(1), start);
        for _ in 0..3 {
            bucket.take(u64::MAX, start);
        }
        assert!(!bucket.is_ready(start));
    }
}
