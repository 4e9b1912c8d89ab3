//! One subscriber: enters every message into its ledger, and acknowledges them in batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::{Connection, ConnectionError};
use crate::ledger::Ledger;
use crate::packet::{Packet, put_puback};
use crate::publisher::Final;
use crate::rest::Rest;
use crate::stamp::{Clock, Stamp};

/// How long a subscriber that has everything listens for what should not come any more: duplicates.
const LINGER: Duration = Duration::from_millis(200);

/// How long after the last message one at QoS 0 that did not come is gone: no broker sends it again.
const GONE: Duration = Duration::from_secs(1);

/// The longest rest that a slow reader may make up for: it takes no more than this much of its rate at once.
const LARGEST_GULP: Duration = Duration::from_millis(20);

/// Messages that one read should find: few enough that no broker waits for their acknowledgement, in any window.
const MESSAGES_A_READ: usize = 16;

/// One subscriber.
pub(crate) struct Subscriber {
    /// Its accepted and subscribed connection.
    pub(crate) connection: Connection,
    /// Where it enters what comes.
    pub(crate) ledger: Ledger,
    /// What follows the stamp in every payload.
    pub(crate) filler: Arc<Vec<u8>>,
    /// How many messages a second it takes; `None` as many as come.
    pub(crate) pace: Option<f64>,
    /// Whether to keep how long each message was on its way.
    pub(crate) timed: bool,
    /// Whether messages may stay away, as at QoS 0: then what is missing is counted, but is no stall.
    pub(crate) may_miss: bool,
}

/// What a subscriber received.
pub(crate) struct Received {
    /// The ledger, to be closed.
    pub(crate) ledger: Ledger,
    /// When the last new message came, in nanoseconds of the run's clock.
    pub(crate) last: u64,
    /// How long each message was on its way, in nanoseconds, if that was asked for.
    pub(crate) latencies: Vec<u64>,
    /// Why it stopped before it had everything; what is missing is in the ledger as well.
    pub(crate) error: Option<ConnectionError>,
}

impl Subscriber {
    /// Receives until everything came that the publishers of `finals` said, or nothing more does within the limits.
    pub(crate) fn run(mut self, clock: Clock, finals: &[Final]) -> Received {
        let mut received = Received {
            ledger: Ledger::new(0, 0, 0),
            last: 0,
            latencies: Vec::new(),
            error: None,
        };
        received.error = self
            .receive(clock, finals, &mut received.last, &mut received.latencies)
            .err();
        received.ledger = self.ledger;
        if received.error.is_none() {
            self.connection.close();
        }
        received
    }

    fn receive(
        &mut self,
        clock: Clock,
        finals: &[Final],
        last: &mut u64,
        latencies: &mut Vec<u64>,
    ) -> Result<(), ConnectionError> {
        let mut acks = Vec::with_capacity(64 * 1024);
        let mut budget = self.pace.map(Budget::new);
        let mut rest = Rest::new(MESSAGES_A_READ);
        let mut moved = Instant::now();
        let mut complete_since = None;
        loop {
            // What is in the buffer may be more than the pace allows now: then nothing is read.
            let allowed = budget.as_mut().map_or(u64::MAX, Budget::wait);
            let mut taken = self.take(allowed, clock, &mut acks, timed(self.timed, latencies))?;
            if taken == 0 && self.connection.fill()? > 0 {
                taken = self.take(allowed, clock, &mut acks, timed(self.timed, latencies))?;
            }
            if let Some(budget) = &mut budget {
                budget.spend(taken);
            }
            if taken > 0 {
                self.connection.send(&acks)?;
                acks.clear();
                moved = Instant::now();
                *last = clock.now();
                // A pause would be part of the time a message took.
                if !self.timed {
                    rest.after(usize::try_from(taken).unwrap_or(usize::MAX));
                }
            }
            match expected(finals) {
                Some(expected) if self.ledger.distinct() >= expected => {
                    let since = *complete_since.get_or_insert_with(Instant::now);
                    if taken == 0 && since.elapsed() >= LINGER {
                        return Ok(());
                    }
                }
                // Publishers are still at work: if they stall they say so themselves.
                None => {
                    if let Some(ConnectionError::Deadline) =
                        self.connection.limits().exceeded(moved)
                    {
                        return Err(ConnectionError::Deadline);
                    }
                    moved = Instant::now();
                }
                Some(_) if self.may_miss && moved.elapsed() >= GONE => return Ok(()),
                Some(_) => {
                    if let Some(exceeded) = self.connection.limits().exceeded(moved) {
                        return Err(exceeded);
                    }
                }
            }
        }
    }

    /// Takes up to `allowed` messages out of the buffer; returns how many.
    fn take(
        &mut self,
        allowed: u64,
        clock: Clock,
        acks: &mut Vec<u8>,
        mut latencies: Option<&mut Vec<u64>>,
    ) -> Result<u64, ConnectionError> {
        let mut taken = 0;
        while taken < allowed {
            let Some(packet) = self.connection.next_packet()? else {
                break;
            };
            let Packet::Publish { id, payload, .. } = packet else {
                return Err(ConnectionError::Unexpected(
                    format!("{packet:?}"),
                    "PUBLISH",
                ));
            };
            match Stamp::split(payload) {
                Some((stamp, rest)) if rest == self.filler.as_slice() => {
                    if let Some(latencies) = latencies.as_deref_mut() {
                        latencies.push(clock.now().saturating_sub(stamp.sent));
                    }
                    self.ledger.enter(&stamp);
                }
                _ => self.ledger.enter_damaged(),
            }
            if let Some(id) = id {
                put_puback(acks, id);
            }
            taken += 1;
        }
        Ok(taken)
    }
}

/// `latencies` if they are kept.
fn timed(timed: bool, latencies: &mut Vec<u64>) -> Option<&mut Vec<u64>> {
    timed.then_some(latencies)
}

/// How many messages have to come altogether, once every publisher has finished.
fn expected(finals: &[Final]) -> Option<u64> {
    finals.iter().map(Final::get).sum()
}

/// What a paced reader may take: grows with time, up to a small gulp.
struct Budget {
    rate: f64,
    largest: f64,
    left: f64,
    since: Instant,
}

impl Budget {
    fn new(rate: f64) -> Self {
        let largest = (rate * LARGEST_GULP.as_secs_f64()).max(1.0);
        Self {
            rate,
            largest,
            left: 1.0,
            since: Instant::now(),
        }
    }

    /// Sleeps until at least one message is allowed, and says how many are.
    fn wait(&mut self) -> u64 {
        loop {
            let now = Instant::now();
            let grown = self.left + self.rate * now.duration_since(self.since).as_secs_f64();
            self.left = grown.min(self.largest);
            self.since = now;
            if self.left >= 1.0 {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                return self.left as u64;
            }
            std::thread::sleep(Duration::from_secs_f64((1.0 - self.left) / self.rate));
        }
    }

    fn spend(&mut self, messages: u64) {
        #[allow(clippy::cast_precision_loss)]
        {
            self.left -= messages as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_keeps_its_pace() {
        let mut budget = Budget::new(10_000.0);
        let start = Instant::now();
        let mut taken = 0;
        while taken < 1000 {
            let allowed = budget.wait();
            assert!((1..=200).contains(&allowed), "{allowed}");
            budget.spend(allowed);
            taken += allowed;
        }
        assert!(
            start.elapsed() >= Duration::from_millis(75),
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn what_has_to_come_is_known_when_every_publisher_has_finished() {
        let finals = [Final::unknown(), Final::unknown()];
        finals[0].set(3);
        assert_eq!(expected(&finals), None);
        finals[1].set(4);
        assert_eq!(expected(&finals), Some(7));
    }
}
