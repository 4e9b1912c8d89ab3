//! A session: what one client is owed, whether it is connected or not.
//!
//! A **durable** session (clean session 0, or a session expiry above 0) has a mailbox with a quota: it never holds
//! anybody, it falls behind. A **clean** one lives with its connection; when it falls behind, the acknowledgements of
//! those who write to it are held until it catches up, and if that takes too long it is disconnected, never skipped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rumqttd::protocol::{DisconnectReasonCode, PublishProperties, QoS};
use tokio::time::Instant;

use crate::delivery::mailbox::{Delivery, Mailbox};
use crate::delivery::receipt::Receipt;
use crate::delivery::wire::{Goodbye, Wire};
use crate::protocol::packet::{OutgoingPublish, Version, encode};

/// Messages waiting for a clean session from which on acknowledgements are held.
const LIVE_MESSAGES: usize = 1_000;

/// Bytes waiting for, or unacknowledged by, a clean session from which on acknowledgements are held and no more is sent.
const LIVE_BYTES: usize = 4 * 1024 * 1024;

/// Unacknowledged deliveries to one MQTT 3.1.1 client, which cannot say how many it takes. As common brokers do.
const WINDOW_311: usize = 100;

/// Unacknowledged deliveries to one MQTT 5 client, whatever Receive Maximum it announces: the bytes in flight are kept.
const WINDOW_5: usize = 4_096;

/// Packet identifiers run from 1 to this.
const PKIDS: u64 = 65_535;

/// Whose a session is, and what its mailbox may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Whether it is an archiver's, who keeps mail but is never whom it is for.
    pub archive: bool,
    /// Messages.
    pub messages: usize,
    /// Bytes, as [`crate::delivery::message::Message::size`] counts them.
    pub bytes: usize,
}

#[derive(Debug)]
struct InFlight {
    sent: u64,
    delivery: Delivery,
}

/// Which connection a session is attached to, and what that client takes.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The connection.
    pub wire: Arc<Wire>,
    /// Unacknowledged deliveries it takes (Receive Maximum; MQTT 3.1.1 has none).
    pub receive_maximum: Option<u16>,
    /// Bytes of the largest packet it takes (MQTT 5).
    pub max_packet: Option<u32>,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    share: Share,
    totals: Arc<Totals>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    expiry: Duration,
    detached: Option<Instant>,
    attachment: Option<Attachment>,
    mailbox: Mailbox,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// Entries of `in_flight` that this connection has yet to be sent again.
    resend: usize,
    sent: u64,
}

/// What became of a message for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    Queued,
    /// It is in the queue, and the queue is so long that the publisher's acknowledgement is held.
    Held,
    /// It was QoS 0 and there was no room, or nobody connected.
    Dropped,
}

/// What a connection's writer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// There may be more.
    More,
    /// All that can be sent now is written.
    Idle,
    /// The session belongs to another connection now, or has ended.
    Gone,
}

/// What all sessions are counted in.
#[derive(Debug, Default)]
pub struct Totals {
    /// Bytes that durable sessions hold.
    pub durable_bytes: AtomicUsize,
    /// Messages of QoS 0 that were dropped because a reader was too slow or away.
    pub dropped: AtomicU64,
}

impl Session {
    /// A session without a connection. `totals` counts over all sessions.
    #[must_use]
    pub fn new(expiry: Duration, share: Share, totals: Arc<Totals>) -> Session {
        Session {
            share,
            totals,
            state: Mutex::new(State {
                expiry,
                detached: Some(Instant::now()),
                attachment: None,
                mailbox: Mailbox::default(),
                in_flight: VecDeque::new(),
                in_flight_bytes: 0,
                resend: 0,
                sent: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the session to a connection. What was in flight is sent again, in order, with the packet identifiers it had.
    /// A connection that had the session is told that it was taken over.
    pub fn attach(&self, attachment: Attachment, expiry: Duration) {
        let mut state = self.lock();
        if let Some(old) = state.attachment.replace(attachment) {
            old.wire.close(Goodbye::new(
                DisconnectReasonCode::SessionTakenOver,
                "another connection with this client id took the session over",
            ));
        }
        self.set_expiry(&mut state, expiry);
        state.detached = None;
        state.resend = state.in_flight.len();
    }

    /// Takes the session from a connection that has ended. `expiry` when its DISCONNECT changed it.
    /// Returns whether the session ends with it.
    pub fn detach(&self, wire: &Arc<Wire>, expiry: Option<Duration>) -> bool {
        let mut state = self.lock();
        if !state.is_attached_to(wire) {
            return false;
        }
        // MQTT 5.0, section 3.14.2.2.2: an expiry of 0 at CONNECT must not become another.
        if let Some(expiry) = expiry.filter(|_| !state.expiry.is_zero()) {
            self.set_expiry(&mut state, expiry);
        }
        state.attachment = None;
        state.detached = Some(Instant::now());
        // Nobody waits for a connection that is gone.
        state.mailbox.release_holds();
        state.expiry.is_zero()
    }

    /// Only durable sessions count towards what all of them hold.
    fn set_expiry(&self, state: &mut State, expiry: Duration) {
        match (state.expiry.is_zero(), expiry.is_zero()) {
            (true, false) => drop(
                self.totals
                    .durable_bytes
                    .fetch_add(state.bytes(), Ordering::Relaxed),
            ),
            (false, true) => drop(
                self.totals
                    .durable_bytes
                    .fetch_sub(state.bytes(), Ordering::Relaxed),
            ),
            _ => {}
        }
        state.expiry = expiry;
        if !expiry.is_zero() {
            // A durable session holds nobody.
            state.mailbox.release_holds();
        }
    }

    /// Whether it is an archiver's.
    #[must_use]
    pub fn is_archive(&self) -> bool {
        self.share.archive
    }

    /// Whether it is this connection's.
    #[must_use]
    pub fn is_attached_to(&self, wire: &Arc<Wire>) -> bool {
        self.lock().is_attached_to(wire)
    }

    /// Whether it outlives its connection.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !self.lock().expiry.is_zero()
    }

    /// Whether nobody has come back for it in time.
    #[must_use]
    pub fn is_expired(&self, now: Instant) -> bool {
        let state = self.lock();
        state
            .detached
            .is_some_and(|since| now.saturating_duration_since(since) >= state.expiry)
    }

    /// Ends the connection that holds the session, if there is one.
    pub fn disconnect(&self, goodbye: Goodbye) {
        if let Some(attachment) = &self.lock().attachment {
            attachment.wire.close(goodbye);
        }
    }

    /// Since when nobody has been connected, if it also holds nothing: it can go without a loss.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        state.detached.filter(|_| state.is_empty())
    }

    /// Whether a durable session's mailbox takes another message of this size. A clean session always does.
    #[must_use]
    pub fn has_room(&self, size: usize, durable_limit: usize) -> bool {
        let state = self.lock();
        state.expiry.is_zero()
            || (state.mailbox.len() + state.in_flight.len() < self.share.messages
                && state.bytes() + size <= self.share.bytes
                && self.totals.durable_bytes.load(Ordering::Relaxed) + size <= durable_limit)
    }

    /// Messages that wait to be sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().mailbox.len()
    }

    /// Queues a message. `receipt`: what its publisher waits for.
    pub fn push(&self, delivery: Delivery, receipt: Option<&Arc<Receipt>>) -> Pushed {
        let mut state = self.lock();
        let durable = !state.expiry.is_zero();
        let behind = state.mailbox.len() >= LIVE_MESSAGES || state.bytes() >= LIVE_BYTES;
        if delivery.qos == QoS::AtMostOnce && (behind || state.attachment.is_none()) {
            self.totals.dropped.fetch_add(1, Ordering::Relaxed);
            return Pushed::Dropped;
        }
        let before = state.mailbox.bytes();
        let pushed = if delivery.message.supersedes {
            state.mailbox.supersede(delivery);
            Pushed::Queued
        } else {
            let held = receipt.filter(|_| behind && !durable).cloned();
            let pushed = if held.is_some() {
                Pushed::Held
            } else {
                Pushed::Queued
            };
            state.mailbox.push(delivery, held);
            pushed
        };
        if durable {
            let after = state.mailbox.bytes();
            // A newer message may be smaller than the one it replaces.
            self.totals
                .durable_bytes
                .fetch_add(after.saturating_sub(before), Ordering::Relaxed);
            self.totals
                .durable_bytes
                .fetch_sub(before.saturating_sub(after), Ordering::Relaxed);
        }
        if let Some(attachment) = &state.attachment {
            attachment.wire.wake.notify_one();
        }
        pushed
    }

    /// Since when the oldest held acknowledgement has been held.
    #[must_use]
    pub fn holds_since(&self) -> Option<Instant> {
        self.lock().mailbox.holds_since()
    }

    /// The client has acknowledged a delivery.
    pub fn acknowledge(&self, wire: &Arc<Wire>, pkid: u16) {
        let mut state = self.lock();
        if !state.is_attached_to(wire) {
            return;
        }
        let Some(index) = state
            .in_flight
            .iter()
            .position(|in_flight| self::pkid(in_flight.sent) == pkid)
        else {
            return;
        };
        if index + state.resend >= state.in_flight.len() {
            // Acknowledged on the strength of an earlier connection, before it was sent again on this one.
            state.resend -= 1;
        }
        let Some(InFlight { delivery, .. }) = state.in_flight.remove(index) else {
            return;
        };
        state.in_flight_bytes -= delivery.message.size();
        self.release(&state, &delivery);
        wire.wake.notify_one();
    }

    fn release(&self, state: &State, delivery: &Delivery) {
        if !state.expiry.is_zero() {
            self.totals
                .durable_bytes
                .fetch_sub(delivery.message.size(), Ordering::Relaxed);
        }
    }

    /// Appends to `out`, up to about `budget` bytes, what the client of this connection is to be sent.
    pub fn fill(&self, wire: &Arc<Wire>, out: &mut BytesMut, budget: usize) -> Filled {
        let mut state = self.lock();
        if !state.is_attached_to(wire) {
            return Filled::Gone;
        }
        // Asked under the lock: what a subscription brings is pushed after the hold was set.
        if wire.holds_deliveries() {
            return Filled::Idle;
        }
        let Some(Attachment {
            receive_maximum,
            max_packet,
            ..
        }) = state.attachment.clone()
        else {
            return Filled::Gone;
        };
        let window = match wire.version() {
            Version::V311 => WINDOW_311,
            Version::V5 => usize::from(receive_maximum.unwrap_or(u16::MAX)).min(WINDOW_5),
        };
        let durable = !state.expiry.is_zero();
        while out.len() < budget {
            // What this client has been sent and has not acknowledged.
            let unacknowledged = state.in_flight.len() - state.resend;
            let full = unacknowledged >= window
                || state.pkids_are_used_up()
                // A durable session's bytes are bounded by its quota.
                || (!durable && state.in_flight_bytes >= LIVE_BYTES);
            if state.resend > 0 {
                if unacknowledged >= window {
                    return Filled::Idle;
                }
                let Some(InFlight { sent, delivery }) = state.in_flight.get(unacknowledged) else {
                    return Filled::Idle;
                };
                let written = write(wire.version(), delivery, pkid(*sent), true, max_packet, out);
                state.resend -= 1;
                if !written
                    && let Some(InFlight { delivery, .. }) = state.in_flight.remove(unacknowledged)
                {
                    state.in_flight_bytes -= delivery.message.size();
                    self.release(&state, &delivery);
                }
                continue;
            }
            let Some(qos) = state.mailbox.next_qos() else {
                return Filled::Idle;
            };
            let reliable = qos != QoS::AtMostOnce;
            if reliable && full {
                return Filled::Idle;
            }
            let Some(delivery) = state.mailbox.pop() else {
                return Filled::Idle;
            };
            if !reliable {
                write(wire.version(), &delivery, 0, false, max_packet, out);
                self.release(&state, &delivery);
                continue;
            }
            let sent = state.sent;
            state.sent += 1;
            if write(
                wire.version(),
                &delivery,
                pkid(sent),
                false,
                max_packet,
                out,
            ) {
                state.in_flight_bytes += delivery.message.size();
                state.in_flight.push_back(InFlight { sent, delivery });
            } else {
                // MQTT 5.0, section 3.1.2.11.4: too large for this client, as if delivered.
                self.release(&state, &delivery);
            }
        }
        Filled::More
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !state.expiry.is_zero() {
            self.totals
                .durable_bytes
                .fetch_sub(state.bytes(), Ordering::Relaxed);
        }
    }
}

impl State {
    fn is_attached_to(&self, wire: &Arc<Wire>) -> bool {
        self.attachment
            .as_ref()
            .is_some_and(|attachment| Arc::ptr_eq(&attachment.wire, wire))
    }

    fn bytes(&self) -> usize {
        self.mailbox.bytes() + self.in_flight_bytes
    }

    fn is_empty(&self) -> bool {
        self.mailbox.is_empty() && self.in_flight.is_empty()
    }

    /// Identifiers follow the count of messages sent, so one is taken only while a message from a whole round ago is
    /// still unacknowledged.
    fn pkids_are_used_up(&self) -> bool {
        self.in_flight
            .front()
            .is_some_and(|oldest| self.sent - oldest.sent >= PKIDS)
    }
}

fn pkid(sent: u64) -> u16 {
    // 1 to 65,535.
    u16::try_from(sent % PKIDS + 1).unwrap_or(u16::MAX)
}

/// Whether the message was written: it is not when the client does not take packets of its size.
fn write(
    version: Version,
    delivery: &Delivery,
    pkid: u16,
    dup: bool,
    max: Option<u32>,
    out: &mut BytesMut,
) -> bool {
    let Delivery {
        message,
        qos,
        retain,
        subscription_ids,
    } = delivery;
    let publish = OutgoingPublish {
        qos: *qos,
        dup,
        retain: *retain,
        pkid,
        topic: message.topic.as_str(),
        payload: &message.payload,
    };
    let mut properties = message.properties.as_deref().cloned();
    if !subscription_ids.is_empty() {
        let properties = properties.get_or_insert_with(PublishProperties::default);
        properties
            .subscription_identifiers
            .clone_from(subscription_ids);
    }
    let before = out.len();
    let written = encode(version, publish.into_packet(properties), out).is_ok();
    let fits =
        max.is_none_or(|max| out.len() - before <= usize::try_from(max).unwrap_or(usize::MAX));
    if !(written && fits) {
        out.truncate(before);
    }
    written && fits
}

#[cfg(test)]
mod tests;
