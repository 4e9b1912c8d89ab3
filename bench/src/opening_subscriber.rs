//! The recipient of the measured pipe: opens each envelope, on all cores if there is much to open.

use std::collections::{BTreeMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use sealpost_core::{
    BurstCache, Content, DecryptionKey, Envelope, IdentityKey, MessageId, Realm, Recipient, Seen,
    Timestamp, UserId, open,
};

use crate::connection::{Connection, ConnectionError};
use crate::ledger::Ledger;
use crate::packet::{Packet, put_puback};
use crate::publisher::Final;
use crate::sealed_text;
use crate::stamp::Clock;

/// The most envelopes that are opened before any is acknowledged.
const MAX_BATCH: usize = 256;

/// How long a recipient that has everything listens for what should not come any more: duplicates.
const LINGER: Duration = Duration::from_millis(200);

/// Who opens.
#[derive(Clone, Copy)]
pub(crate) struct Opener<'a> {
    /// The deployment.
    pub(crate) realm: &'a Realm,
    /// The name.
    pub(crate) user: &'a UserId,
    /// The identity.
    pub(crate) identity: &'a IdentityKey,
    /// The private key.
    pub(crate) key: &'a dyn DecryptionKey,
    /// The sender's pinned identity.
    pub(crate) pinned: &'a IdentityKey,
}

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

/// What was opened before, in memory.
#[derive(Default)]
struct SeenIds(HashSet<MessageId>);

impl Seen for SeenIds {
    fn contains(&self, _from: &UserId, id: &MessageId) -> bool {
        self.0.contains(id)
    }

    fn floor(&self, _from: &UserId) -> Option<Timestamp> {
        None
    }
}

/// An opened message, or why it was not.
type Outcome = Result<(MessageId, String), String>;

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
        opened.error = self.receive(clock, done, &mut opened).err();
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
        opened: &mut Opened,
    ) -> Result<(), ConnectionError> {
        let mut seen = SeenIds::default();
        let mut caches: Vec<BurstCache> = (0..self.threads.max(1))
            .map(|_| BurstCache::new())
            .collect();
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut acks = Vec::new();
        let mut moved = Instant::now();
        let mut complete_since = None;
        loop {
            self.take(&mut batch, &mut acks)?;
            if batch.is_empty() && self.connection.fill()? > 0 {
                self.take(&mut batch, &mut acks)?;
            }
            if !batch.is_empty() {
                for outcome in open_all(self.opener, &batch, &seen, &mut caches) {
                    match outcome {
                        Ok((id, text)) => {
                            seen.0.insert(id);
                            match sealed_text::read(&text, self.words) {
                                Some(stamp) => {
                                    opened
                                        .latencies
                                        .push(clock.now().saturating_sub(stamp.sent));
                                    self.ledger.enter(&stamp);
                                }
                                None => self.ledger.enter_damaged(),
                            }
                        }
                        Err(reason) => *opened.refused.entry(reason).or_default() += 1,
                    }
                }
                opened.last = clock.now();
                self.connection.send(&acks)?;
                moved = Instant::now();
            }
            let nothing_came = batch.is_empty();
            batch.clear();
            acks.clear();
            match done.get() {
                Some(expected) if self.ledger.distinct() >= expected => {
                    let since: Instant = *complete_since.get_or_insert_with(Instant::now);
                    if nothing_came && since.elapsed() >= LINGER {
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

    /// Takes envelopes out of the read buffer, with the acknowledgements to be sent once they are opened.
    fn take(
        &mut self,
        batch: &mut Vec<Vec<u8>>,
        acks: &mut Vec<u8>,
    ) -> Result<(), ConnectionError> {
        while batch.len() < MAX_BATCH {
            match self.connection.next_packet()? {
                Some(Packet::Publish { id, payload, .. }) => {
                    batch.push(payload.to_vec());
                    if let Some(id) = id {
                        put_puback(acks, id);
                    }
                }
                Some(other) => {
                    return Err(ConnectionError::Unexpected(format!("{other:?}"), "PUBLISH"));
                }
                None => break,
            }
        }
        Ok(())
    }
}

/// Opens all, in their order, shared out among as many threads as there are caches. One alone needs no thread.
fn open_all(
    opener: Opener<'_>,
    batch: &[Vec<u8>],
    seen: &SeenIds,
    caches: &mut [BurstCache],
) -> Vec<Outcome> {
    if let ([envelope], [cache, ..]) = (batch, &mut *caches) {
        return vec![open_one(opener, envelope, seen, cache)];
    }
    let share = batch.len().div_ceil(caches.len().max(1)).max(1);
    thread::scope(|scope| {
        let threads: Vec<_> = batch
            .chunks(share)
            .zip(caches)
            .map(|(part, cache)| {
                scope.spawn(move || {
                    part.iter()
                        .map(|envelope| open_one(opener, envelope, seen, cache))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| vec![Err("a thread panicked".to_owned())])
            })
            .collect()
    })
}

fn open_one(opener: Opener<'_>, bytes: &[u8], seen: &SeenIds, cache: &mut BurstCache) -> Outcome {
    let envelope = Envelope::parse(bytes).map_err(|error| error.to_string())?;
    let Opener {
        realm,
        user,
        identity,
        key,
        pinned,
    } = opener;
    let recipient = Recipient {
        realm,
        user,
        identity,
        keys: &[key],
    };
    match open(&envelope, &recipient, pinned, seen, cache) {
        Ok(Content::Text { text }) => Ok((*envelope.id(), text)),
        Ok(Content::Other { kind, .. }) => Err(format!("a message of kind {kind:?}")),
        Err(error) => Err(error.to_string()),
    }
}
