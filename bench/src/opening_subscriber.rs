//! The recipient of the measured pipe: opens each envelope, on all cores if there is much to open, and acknowledges
//! them in the order in which they came.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use sealpost_core::BurstCache;

use crate::connection::{Connection, ConnectionError};
use crate::ledger::Ledger;
use crate::opener::{Opener, Outcome, SeenIds};
use crate::packet::{Packet, put_puback};
use crate::publisher::Final;
use crate::sealed_text;
use crate::stamp::Clock;

/// The most envelopes that wait for a thread or for an earlier one.
const MAX_OUTSTANDING: usize = 256;

/// With fewer outstanding for each thread, it is time to read again.
const ENOUGH: usize = 8;

/// How long one wait for an opened envelope lasts before the socket is looked at again.
const GLANCE: Duration = Duration::from_millis(1);

/// How long a recipient that has everything listens for what should not come any more: duplicates.
const LINGER: Duration = Duration::from_millis(200);

/// The recipient.
pub(crate) struct OpeningSubscriber<'a> {
    /// Its logged-in and subscribed connection.
    pub(crate) connection: Connection,
    /// With what it opens.
    pub(crate) opener: Opener<'a>,
    /// How many threads open at once.
    pub(crate) threads: usize,
    /// Where it enters what it opened.
    pub(crate) ledger: Ledger,
    /// What follows the stamp in each text.
    pub(crate) words: &'a str,
}

/// What was opened.
pub(crate) struct Opened {
    /// The ledger, to be closed.
    pub(crate) ledger: Ledger,
    /// Envelopes that were not opened, by the reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// From before sealing until after opening, in nanoseconds.
    pub(crate) latencies: Vec<u64>,
    /// When the last one was opened, in nanoseconds of the run's clock.
    pub(crate) last: u64,
    /// Why it stopped before it had everything.
    pub(crate) error: Option<ConnectionError>,
}

/// The threads that open, seen from the recipient.
struct Threads {
    jobs: Sender<(u64, Vec<u8>)>,
    outcomes: Receiver<(u64, Outcome)>,
    /// Outcomes that came before an earlier envelope's.
    early: BTreeMap<u64, Outcome>,
    handed_out: u64,
    returned: u64,
}

impl OpeningSubscriber<'_> {
    /// Opens until everything came that the sender said, or nothing more does within the limits.
    pub(crate) fn run(mut self, clock: Clock, done: &Final) -> Opened {
        let mut opened = Opened {
            ledger: Ledger::new(0, 0, 0),
            refused: BTreeMap::new(),
            latencies: Vec::new(),
            last: 0,
            error: None,
        };
        let seen = SeenIds::default();
        let opener = self.opener;
        let (jobs, queue) = channel();
        let queue = Mutex::new(queue);
        opened.error = thread::scope(|scope| {
            let (sender, outcomes) = channel();
            for _ in 0..self.threads.max(1) {
                let (sender, queue, seen) = (sender.clone(), &queue, &seen);
                scope.spawn(move || opener.work(queue, &sender, seen));
            }
            // Dropped at the end, which ends the threads.
            let threads = Threads {
                jobs,
                outcomes,
                early: BTreeMap::new(),
                handed_out: 0,
                returned: 0,
            };
            self.receive(clock, done, threads, &seen, &mut opened).err()
        });
        opened.ledger = self.ledger;
        if opened.error.is_none() {
            self.connection.close();
        }
        opened
    }

    fn receive(
        &mut self,
        clock: Clock,
        done: &Final,
        mut threads: Threads,
        seen: &SeenIds,
        opened: &mut Opened,
    ) -> Result<(), ConnectionError> {
        let mut cache = BurstCache::new();
        let mut batch = Vec::new();
        let mut unacknowledged = std::collections::VecDeque::new();
        let mut acks = Vec::new();
        let mut moved = Instant::now();
        let mut complete_since = None;
        loop {
            let idle = threads.outstanding() == 0;
            if threads.outstanding() < ENOUGH * self.threads.max(1) {
                self.take(&mut batch)?;
                if batch.is_empty() && self.fill(idle)? > 0 {
                    self.take(&mut batch)?;
                }
            }
            unacknowledged.extend(batch.iter().map(|(id, _)| *id));
            let outcomes = match batch.as_slice() {
                // One alone is opened sooner without a thread.
                [(_, envelope)] if idle => vec![self.opener.open(envelope, seen, &mut cache)],
                _ => {
                    threads.hand_out(batch.drain(..).map(|(_, envelope)| envelope));
                    threads.take_back()
                }
            };
            batch.clear();
            for outcome in &outcomes {
                self.enter(outcome, clock, seen, opened);
                if let Some(Some(id)) = unacknowledged.pop_front() {
                    put_puback(&mut acks, id);
                }
            }
            if !outcomes.is_empty() {
                opened.last = clock.now();
                self.connection.send(&acks)?;
                acks.clear();
                moved = Instant::now();
            }
            match done.get() {
                Some(expected) if self.ledger.distinct() >= expected => {
                    let since: Instant = *complete_since.get_or_insert_with(Instant::now);
                    if outcomes.is_empty() && since.elapsed() >= LINGER {
                        return Ok(());
                    }
                }
                // The sender is still at work: if it stalls it says so itself.
                None if Instant::now() < self.connection.limits().deadline => {
                    moved = Instant::now()
                }
                _ => {
                    if let Some(exceeded) = self.connection.limits().exceeded(moved) {
                        return Err(exceeded);
                    }
                }
            }
        }
    }

    /// Reads what there is, and waits for it only if there is nothing else to do.
    fn fill(&mut self, wait: bool) -> Result<usize, ConnectionError> {
        if wait {
            self.connection.fill()
        } else {
            self.connection.fill_now()
        }
    }

    /// Takes envelopes out of the read buffer, with their packet ids.
    fn take(&mut self, batch: &mut Vec<(Option<u16>, Vec<u8>)>) -> Result<(), ConnectionError> {
        while batch.len() < MAX_OUTSTANDING {
            match self.connection.next_packet()? {
                Some(Packet::Publish { id, payload, .. }) => batch.push((id, payload.to_vec())),
                Some(other) => {
                    return Err(ConnectionError::Unexpected(format!("{other:?}"), "PUBLISH"));
                }
                None => break,
            }
        }
        Ok(())
    }

    fn enter(&mut self, outcome: &Outcome, clock: Clock, seen: &SeenIds, opened: &mut Opened) {
        match outcome {
            Ok((id, text)) => {
                seen.insert(*id);
                match sealed_text::read(text, self.words) {
                    Some(stamp) => {
                        opened
                            .latencies
                            .push(clock.now().saturating_sub(stamp.sent));
                        self.ledger.enter(&stamp);
                    }
                    None => self.ledger.enter_damaged(),
                }
            }
            Err(reason) => *opened.refused.entry(reason.clone()).or_default() += 1,
        }
    }
}

impl Threads {
    /// Envelopes that were handed out and did not return in their order yet.
    fn outstanding(&self) -> usize {
        usize::try_from(self.handed_out - self.returned).unwrap_or(usize::MAX)
    }

    fn hand_out(&mut self, envelopes: impl Iterator<Item = Vec<u8>>) {
        for envelope in envelopes {
            // It fails only when every thread is gone; then nothing returns, which is a stall.
            let _ = self.jobs.send((self.handed_out, envelope));
            self.handed_out += 1;
        }
    }

    /// What has been opened, in the order in which it was handed out. Waits a moment if there is something to wait for.
    fn take_back(&mut self) -> Vec<Outcome> {
        if self.outstanding() > 0 {
            self.early.extend(self.outcomes.recv_timeout(GLANCE));
            self.early.extend(self.outcomes.try_iter());
        }
        let mut outcomes = Vec::new();
        while let Some(outcome) = self.early.remove(&self.returned) {
            outcomes.push(outcome);
            self.returned += 1;
        }
        outcomes
    }
}
