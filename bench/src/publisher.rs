//! One publisher: keeps its window full until its quota is done and every message is acknowledged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::connection::{Connection, ConnectionError};
use crate::frames::Frames;
use crate::ledger::MAX_MESSAGES;
use crate::packet::{Packet, Qos};
use crate::rest::Rest;
use crate::stamp::{Clock, Stamp};

/// How much to publish: whichever ends first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// At most this many messages, and never more than [`MAX_MESSAGES`].
    pub(crate) messages: u64,
    /// For at most so long.
    pub(crate) time: Option<Duration>,
}

/// One publisher.
pub(crate) struct Publisher {
    /// Its accepted connection.
    pub(crate) connection: Connection,
    /// Its ready-made packets.
    pub(crate) frames: Frames,
    /// The QoS of those packets.
    pub(crate) qos: Qos,
    /// The run that its stamps name.
    pub(crate) run: u32,
    /// Its own number in its stamps.
    pub(crate) number: u32,
}

/// What became of a publisher's messages.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Handed to the socket.
    pub(crate) sent: u64,
    /// Acknowledged by the broker; at QoS 0, sent.
    pub(crate) acknowledged: u64,
    /// PUBACKs that came before an older message's.
    pub(crate) acks_out_of_order: u64,
    /// PUBACKs for nothing that was in flight.
    pub(crate) acks_unexpected: u64,
    /// When the last one was acknowledged, in nanoseconds of the run's clock.
    pub(crate) last: u64,
    /// Why it could not finish.
    pub(crate) error: Option<ConnectionError>,
}

/// Tells the subscribers how many messages have to come from one publisher once that is known.
#[derive(Debug)]
pub(crate) struct Final(AtomicU64);

impl Final {
    /// Not known yet.
    pub(crate) fn unknown() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// Now it is.
    pub(crate) fn set(&self, messages: u64) {
        self.0.store(messages, Ordering::Release);
    }

    /// The number, if it is known.
    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|&messages| messages != u64::MAX)
    }
}

impl Publisher {
    /// Publishes the quota. Whatever happens, `done` is set at the end to how many messages the broker answers for.
    pub(crate) fn run(mut self, quota: Quota, clock: Clock, done: &Final) -> Published {
        let mut published = Published::default();
        published.error = match self.qos {
            Qos::AtLeastOnce => self
                .publish_acknowledged(quota, clock, &mut published)
                .err(),
            Qos::AtMostOnce => self
                .publish_unacknowledged(quota, clock, &mut published)
                .err(),
        };
        done.set(published.acknowledged);
        if published.error.is_none() {
            self.connection.close();
        }
        published
    }

    /// Stamps and sends `count` packets from the place of message `first` on.
    fn send(&mut self, first: u64, count: usize, clock: Clock) -> Result<(), ConnectionError> {
        let window = self.frames.window();
        let mut sequence = first;
        let mut left = count;
        while left > 0 {
            let place = place_of(sequence, window);
            let run = left.min(window - place);
            let sent = clock.now();
            for offset in 0..run {
                let stamp = Stamp {
                    run: self.run,
                    publisher: self.number,
                    sequence,
                    sent,
                };
                self.frames.stamp(place + offset, &stamp);
                sequence += 1;
            }
            self.connection.send(self.frames.bytes(place, run))?;
            left -= run;
        }
        Ok(())
    }

    fn publish_acknowledged(
        &mut self,
        quota: Quota,
        clock: Clock,
        p: &mut Published,
    ) -> Result<(), ConnectionError> {
        let window = self.frames.window();
        let end = quota.time.map(|time| Instant::now() + time);
        // A few big writes rather than many small ones: a quarter of the window is free before it is filled again.
        let refill = (window / 4).max(1);
        let mut limit = quota.messages.min(MAX_MESSAGES);
        let mut in_flight = vec![false; window];
        let mut free = window;
        // The oldest message that is not acknowledged.
        let mut oldest = 0;
        let mut moved = Instant::now();
        let mut rest = Rest::new(refill);
        loop {
            if end.is_some_and(|end| Instant::now() >= end) {
                limit = limit.min(p.sent);
            }
            let count = usize::try_from(limit - p.sent)
                .unwrap_or(usize::MAX)
                .min(free);
            if count > 0 && (free >= refill || free == window) {
                self.send(p.sent, count, clock)?;
                for sequence in p.sent..p.sent + count as u64 {
                    if let Some(flag) = in_flight.get_mut(place_of(sequence, window)) {
                        *flag = true;
                    }
                }
                p.sent += count as u64;
                // Places free up in order, so that a packet id is never used twice at once.
                free = window - usize::try_from(p.sent - oldest).unwrap_or(window);
            }
            if oldest == limit {
                return Ok(());
            }
            if self.connection.fill()? == 0 {
                if let Some(exceeded) = self.connection.limits().exceeded(moved) {
                    return Err(exceeded);
                }
                continue;
            }
            moved = Instant::now();
            let before = p.acknowledged;
            while let Some(packet) = self.connection.next_packet()? {
                let Packet::PubAck { id } = packet else {
                    return Err(ConnectionError::Unexpected(format!("{packet:?}"), "PUBACK"));
                };
                let place = self.frames.place(id);
                match place.and_then(|place| in_flight.get_mut(place)) {
                    Some(flag) if *flag => *flag = false,
                    _ => {
                        p.acks_unexpected += 1;
                        continue;
                    }
                }
                p.acknowledged += 1;
                if place != Some(place_of(oldest, window)) {
                    p.acks_out_of_order += 1;
                }
                while oldest < p.sent && in_flight.get(place_of(oldest, window)) == Some(&false) {
                    oldest += 1;
                }
            }
            p.last = clock.now();
            free = window - usize::try_from(p.sent - oldest).unwrap_or(window);
            rest.after(usize::try_from(p.acknowledged - before).unwrap_or(usize::MAX));
        }
    }

    fn publish_unacknowledged(
        &mut self,
        quota: Quota,
        clock: Clock,
        p: &mut Published,
    ) -> Result<(), ConnectionError> {
        let window = self.frames.window();
        let end = quota.time.map(|time| Instant::now() + time);
        let limit = quota.messages.min(MAX_MESSAGES);
        while p.sent < limit && end.is_none_or(|end| Instant::now() < end) {
            let count = usize::try_from(limit - p.sent)
                .unwrap_or(usize::MAX)
                .min(window);
            self.send(p.sent, count, clock)?;
            p.sent += count as u64;
            p.acknowledged = p.sent;
            p.last = clock.now();
        }
        Ok(())
    }
}

/// Where in a ring of `window` places message `sequence` goes.
fn place_of(sequence: u64, window: usize) -> usize {
    usize::try_from(sequence % window as u64).unwrap_or(0)
}
