//! The sender of the measured pipe: seals each text and publishes the envelope.

use std::thread;
use std::time::{Duration, Instant};

use sealpost_core::{Content, MessageId, SealError, Sealer};
use thiserror::Error;

use crate::connection::{Connection, ConnectionError};
use crate::packet::{Packet, Qos, put_publish};
use crate::party::wall_clock;
use crate::publisher::{Final, Quota};
use crate::sealed_text;
use crate::stamp::{Clock, Stamp};

/// The most envelopes that go out in one write: the first need not wait long for the last to be sealed.
const BATCH: u64 = 8;

/// Why the sender could not finish.
#[derive(Debug, Error)]
pub(crate) enum SealingError {
    /// A message could not be sealed.
    #[error("cannot seal: {0}")]
    Seal(#[from] SealError),
    /// The broker.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// The sender.
pub(crate) struct SealingPublisher {
    /// Its logged-in connection.
    pub(crate) connection: Connection,
    /// Sealer to the recipient.
    pub(crate) sealer: Sealer,
    /// The recipient's inbox.
    pub(crate) topic: String,
    /// The run that its stamps name.
    pub(crate) run: u32,
    /// What follows the stamp in each text.
    pub(crate) words: String,
    /// Envelopes that may be unacknowledged.
    pub(crate) window: u16,
    /// How often one is sent, each alone; `None` as fast as can be.
    pub(crate) interval: Option<Duration>,
}

/// What became of the messages.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// The id of each message handed to the socket.
    pub(crate) ids: Vec<[u8; 16]>,
    /// How many of the first were acknowledged.
    pub(crate) acknowledged: u64,
    /// When the last one was, in nanoseconds of the run's clock.
    pub(crate) last: u64,
    /// Why it could not finish.
    pub(crate) error: Option<SealingError>,
}

impl SealingPublisher {
    /// Seals and publishes the quota. Whatever happens, `done` is set to how many messages the broker answers for.
    pub(crate) fn run(mut self, quota: Quota, clock: Clock, done: &Final) -> Sealed {
        let mut sealed = Sealed::default();
        sealed.error = match self.interval {
            None => self.publish_all(quota, clock, &mut sealed).err(),
            Some(interval) => self.publish_each(quota, interval, clock, &mut sealed).err(),
        };
        done.set(sealed.acknowledged);
        if sealed.error.is_none() {
            self.connection.close();
        }
        sealed
    }

    fn publish_all(
        &mut self,
        quota: Quota,
        clock: Clock,
        sealed: &mut Sealed,
    ) -> Result<(), SealingError> {
        let window = u64::from(self.window);
        let end = quota.time.map(|time| Instant::now() + time);
        let mut limit = quota.messages;
        let mut out = Vec::new();
        loop {
            let sent = sealed.ids.len() as u64;
            if end.is_some_and(|end| Instant::now() >= end) {
                limit = limit.min(sent);
            }
            let in_flight = sent - sealed.acknowledged;
            let count = (limit - sent).min(window - in_flight).min(BATCH);
            if count > 0 {
                out.clear();
                for _ in 0..count {
                    self.seal(&mut out, clock, sealed)?;
                }
                self.connection.send(&out)?;
            } else if in_flight == 0 {
                return Ok(());
            }
            // While the window is less than half full, nothing is waited for: sealing is what takes the time.
            let waiting = count == 0 || in_flight + count > window / 2;
            if waiting {
                self.take_acks(clock, sealed)?;
            }
        }
    }

    fn publish_each(
        &mut self,
        quota: Quota,
        interval: Duration,
        clock: Clock,
        sealed: &mut Sealed,
    ) -> Result<(), SealingError> {
        let mut due = Instant::now();
        let mut out = Vec::new();
        for _ in 0..quota.messages {
            let now = Instant::now();
            thread::sleep(due.saturating_duration_since(now));
            // After a delay the schedule starts anew: a burst that made up for it would not find the pipe idle.
            due = due.max(now) + interval;
            out.clear();
            self.seal(&mut out, clock, sealed)?;
            self.connection.send(&out)?;
            while sealed.acknowledged < sealed.ids.len() as u64 {
                self.take_acks(clock, sealed)?;
            }
        }
        Ok(())
    }

    /// Appends the PUBLISH of the next message to `out`. Its time is that before it is sealed.
    fn seal(
        &mut self,
        out: &mut Vec<u8>,
        clock: Clock,
        sealed: &mut Sealed,
    ) -> Result<(), SealingError> {
        let sequence = sealed.ids.len() as u64;
        let stamp = Stamp {
            run: self.run,
            publisher: 0,
            sequence,
            sent: clock.now(),
        };
        let content = Content::Text {
            text: sealed_text::write(stamp, &self.words),
        };
        let mut rng = rand::rng();
        let now = wall_clock();
        let id = MessageId::new(now, &mut rng);
        let previous = sealed
            .ids
            .last()
            .and_then(|id| MessageId::from_bytes(*id).ok());
        let envelope = self.sealer.seal(&mut rng, now, id, previous, &content)?;
        let packet_id = self.packet_id(sequence);
        put_publish(
            out,
            &self.topic,
            Qos::AtLeastOnce,
            false,
            packet_id,
            envelope.as_bytes(),
        );
        sealed.ids.push(*id.as_bytes());
        Ok(())
    }

    /// Packet ids go round as the window does.
    fn packet_id(&self, sequence: u64) -> u16 {
        u16::try_from(sequence % u64::from(self.window)).unwrap_or(0) + 1
    }

    /// Waits for at least one PUBACK, which come in the order of the messages (section 4.6).
    fn take_acks(&mut self, clock: Clock, sealed: &mut Sealed) -> Result<(), ConnectionError> {
        let asked = Instant::now();
        let before = sealed.acknowledged;
        while sealed.acknowledged == before {
            if self.connection.fill()? == 0
                && let Some(exceeded) = self.connection.limits().exceeded(asked)
            {
                return Err(exceeded);
            }
            let mut expected = self.packet_id(sealed.acknowledged);
            while let Some(packet) = self.connection.next_packet()? {
                if packet != (Packet::PubAck { id: expected }) {
                    return Err(ConnectionError::Unexpected(
                        format!("{packet:?}"),
                        "the next PUBACK",
                    ));
                }
                sealed.acknowledged += 1;
                expected = expected % self.window + 1;
            }
        }
        sealed.last = clock.now();
        Ok(())
    }
}
