//! One connection as the rest of the edge sees it: acknowledgements in order, answers waiting to be written, and the
//! word that ends it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::BytesMut;
use rumqttd::protocol::{
    Disconnect, DisconnectProperties, DisconnectReasonCode, Packet, PubAck, PubAckProperties,
    PubRec, PubRecProperties, QoS,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::delivery::scribe::{self, Scribe};
use crate::protocol::outcome::Outcome;
use crate::protocol::packet::{Version, encode};

/// Publishes of one connection that may be unacknowledged. MQTT 5 clients are told it as Receive Maximum; from others
/// the broker stops reading until some are acknowledged. Above the windows of common clients (10 to 100).
pub const RECEIVE_MAXIMUM: u16 = 1_000;

/// Bytes of unacknowledged publishes at which the broker stops reading from a connection, whatever their number.
const RECEIVE_BYTES: usize = 4 * 1024 * 1024;

/// Answers (SUBACK, PINGRESP …) that may wait for a client that does not read them; then reading from it stops too.
const CONTROL_LIMIT: usize = 256;

/// Why a connection ends, and what an MQTT 5 client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    /// The reason code.
    pub reason: DisconnectReasonCode,
    /// What a person can do with.
    pub text: String,
}

impl Goodbye {
    /// A reason and its explanation.
    pub fn new(reason: DisconnectReasonCode, text: impl Into<String>) -> Goodbye {
        Goodbye {
            reason,
            text: text.into(),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    version: Version,
    explains: bool,
    receive_maximum: u16,
    max_packet: usize,
    acks: Mutex<Acks>,
    control: Mutex<Control>,
    submitted: AtomicU64,
    dispatched: AtomicU64,
    goodbye: Mutex<Option<Goodbye>>,
    closed: CancellationToken,
    scribe: OnceLock<Weak<dyn Scribe>>,
    /// Wakes the writer's task: something is there to be written.
    wake: Notify,
    /// Wakes the reader: a bound it waits for may have moved.
    pub room: Notify,
}

/// Answers that wait to be written.
#[derive(Debug, Default)]
struct Control {
    packets: VecDeque<Packet>,
    /// Whether deliveries wait for an answer.
    holds: bool,
    /// Whether that answer is among the packets.
    releases: bool,
}

/// Acknowledgements leave in the order in which the publishes came (MQTT 5.0, section 4.6), whatever order they settle in.
#[derive(Debug, Default)]
struct Acks {
    first: u64,
    slots: VecDeque<Slot>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    qos: QoS,
    pkid: u16,
    bytes: usize,
    outcome: Option<(Outcome, Option<String>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// A connection in the given version. Cancelling `closed` ends it from outside.
    #[must_use]
    pub fn new(version: Version, closed: CancellationToken) -> Wire {
        Wire {
            version,
            explains: true,
            receive_maximum: RECEIVE_MAXIMUM,
            max_packet: usize::MAX,
            acks: Mutex::default(),
            control: Mutex::default(),
            submitted: AtomicU64::new(0),
            dispatched: AtomicU64::new(0),
            goodbye: Mutex::default(),
            closed,
            scribe: OnceLock::new(),
            wake: Notify::new(),
            room: Notify::new(),
        }
    }

    /// A client that asked for no problem information (MQTT 5.0, section 3.1.2.11.7) gets no reason strings.
    #[must_use]
    pub fn without_explanations(self) -> Wire {
        Wire {
            explains: false,
            ..self
        }
    }

    /// A connection that takes so many unacknowledged publishes, in place of [`RECEIVE_MAXIMUM`].
    #[must_use]
    pub fn with_receive_maximum(self, receive_maximum: u16) -> Wire {
        Wire {
            receive_maximum,
            ..self
        }
    }

    /// A client that takes packets of so many bytes gets no explanation that would make one larger (MQTT 5.0, section
    /// 3.1.2.11.4).
    #[must_use]
    pub fn with_max_packet(self, max_packet: Option<u32>) -> Wire {
        let max_packet = max_packet.and_then(|bytes| usize::try_from(bytes).ok());
        Wire {
            max_packet: max_packet.unwrap_or(usize::MAX),
            ..self
        }
    }

    /// Unacknowledged publishes that the client may have.
    #[must_use]
    pub fn receive_maximum(&self) -> u16 {
        self.receive_maximum
    }

    /// Who writes on it.
    pub fn set_scribe(&self, scribe: Weak<dyn Scribe>) {
        let _ = self.scribe.set(scribe);
    }

    /// Wakes the writer: something is there to be written.
    pub fn wake(&self) {
        if !self.scribe.get().is_some_and(scribe::leave) {
            self.wake.notify_one();
        }
    }

    /// Wakes the writer's task, whoever gathers.
    pub fn wake_task(&self) {
        self.wake.notify_one();
    }

    /// Completes when the writer was woken since this was last asked.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The protocol version spoken.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Takes the next place in the acknowledgement order for a publish at QoS 1 (PUBACK) or 2 (PUBREC).
    pub fn expect(&self, qos: QoS, pkid: u16, bytes: usize) -> u64 {
        let mut acks = lock(&self.acks);
        acks.slots.push_back(Slot {
            qos,
            pkid,
            bytes,
            outcome: None,
        });
        acks.bytes += bytes;
        acks.first + acks.slots.len() as u64 - 1
    }

    /// Settles a publish; its acknowledgement leaves when all before it have.
    pub fn complete(&self, slot: u64, outcome: Outcome) {
        self.complete_with(slot, outcome, None);
    }

    /// As [`Wire::complete`], with an explanation for MQTT 5 clients.
    pub fn complete_with(&self, slot: u64, outcome: Outcome, text: Option<String>) {
        let mut acks = lock(&self.acks);
        let Some(index) = slot
            .checked_sub(acks.first)
            .and_then(|index| usize::try_from(index).ok())
        else {
            return;
        };
        if let Some(slot) = acks.slots.get_mut(index) {
            slot.outcome = Some((outcome, text));
        }
        if index == 0 {
            drop(acks);
            self.wake();
        }
    }

    /// Queues an answer.
    pub fn answer(&self, packet: Packet) {
        lock(&self.control).packets.push_back(packet);
        self.wake.notify_one();
    }

    /// Holds deliveries back until the answer that [`Wire::answer_and_release`] queues is written: a client is told of
    /// its subscription before it gets what the subscription brings.
    pub fn hold_deliveries(&self) {
        lock(&self.control).holds = true;
    }

    /// Queues an answer after which deliveries go on.
    pub fn answer_and_release(&self, packet: Packet) {
        let mut control = lock(&self.control);
        control.packets.push_back(packet);
        control.releases = true;
        drop(control);
        self.wake.notify_one();
    }

    /// Whether deliveries are held back.
    #[must_use]
    pub fn holds_deliveries(&self) -> bool {
        lock(&self.control).holds
    }

    /// Counts a publish on its way into the one order.
    pub fn count_submitted(&self) {
        self.submitted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a publish that has come out of the one order.
    pub fn count_dispatched(&self) {
        let dispatched = self.dispatched.fetch_add(1, Ordering::AcqRel) + 1;
        if dispatched == self.submitted.load(Ordering::Acquire) {
            self.room.notify_one();
        }
    }

    /// Whether all that this connection published has come out of the one order: what a SUBSCRIBE waits for, so that a
    /// client finds what it has just retained.
    #[must_use]
    pub fn all_dispatched(&self) -> bool {
        self.dispatched.load(Ordering::Acquire) == self.submitted.load(Ordering::Acquire)
    }

    /// Publishes of the client's that it has no acknowledgement of yet.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        lock(&self.acks).slots.len()
    }

    /// Whether another publish of the client's may be taken up.
    #[must_use]
    pub fn takes_publishes(&self) -> bool {
        let acks = lock(&self.acks);
        acks.slots.len() < usize::from(self.receive_maximum) && acks.bytes < RECEIVE_BYTES
    }

    /// Whether another answer may be queued.
    #[must_use]
    pub fn takes_answers(&self) -> bool {
        lock(&self.control).packets.len() < CONTROL_LIMIT
    }

    /// Ends the connection; the first word counts.
    pub fn close(&self, goodbye: Goodbye) {
        lock(&self.goodbye).get_or_insert(goodbye);
        self.closed.cancel();
        self.wake.notify_one();
    }

    /// Ends the connection without a word.
    pub fn hang_up(&self) {
        self.closed.cancel();
        self.wake.notify_one();
    }

    /// Completes when the connection is to end.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether the connection is to end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Appends the acknowledgements that are due and the answers that wait.
    pub fn write_due(&self, out: &mut BytesMut) {
        // Answers first: the CONNACK comes before everything, also to a client that did not wait for it.
        let packets = {
            let mut control = lock(&self.control);
            if std::mem::take(&mut control.releases) {
                control.holds = false;
            }
            std::mem::take(&mut control.packets)
        };
        for packet in packets {
            let before = out.len();
            let is_connack = matches!(packet, Packet::ConnAck(..));
            let _ = encode(self.version, packet, out);
            if out.len() - before > self.max_packet && is_connack {
                // Section 3.14: no DISCONNECT before a CONNACK.
                out.truncate(before);
                self.hang_up();
                return;
            }
            if out.len() - before > self.max_packet {
                // MQTT 5.0, section 3.1.2.11.4: it must not be sent, and without it there is no going on.
                out.truncate(before);
                self.close(Goodbye::new(
                    DisconnectReasonCode::PacketTooLarge,
                    "the answer is larger than the client takes",
                ));
                return;
            }
        }
        let mut acks = lock(&self.acks);
        while let Some(Slot {
            outcome: Some(_), ..
        }) = acks.slots.front()
        {
            let Some(Slot {
                qos,
                pkid,
                bytes,
                outcome: Some((outcome, text)),
            }) = acks.slots.pop_front()
            else {
                break;
            };
            acks.first += 1;
            acks.bytes -= bytes;
            let text = text.or_else(|| outcome.explanation().map(str::to_owned));
            if self.version == Version::V311 && outcome.is_refusal() {
                // 3.1.1 has no word for a refusal: the publish stays unacknowledged and the connection ends.
                drop(acks);
                self.close(Goodbye::new(
                    DisconnectReasonCode::NotAuthorized,
                    text.unwrap_or_default(),
                ));
                return;
            }
            let text = text.filter(|_| self.explains);
            let bare = acknowledgement(qos, pkid, outcome, None);
            self.write_explained(acknowledgement(qos, pkid, outcome, text), bare, out);
        }
        drop(acks);
        self.room.notify_one();
    }

    /// Appends a packet, or the same without an explanation when it is larger than the client takes.
    fn write_explained(&self, explained: Packet, bare: Packet, out: &mut BytesMut) {
        let before = out.len();
        let written = encode(self.version, explained, out).is_ok();
        if !written || out.len() - before > self.max_packet {
            out.truncate(before);
            // The codec writes every packet that it can name.
            let _ = encode(self.version, bare, out);
        }
    }

    /// Appends the DISCONNECT that explains the end to an MQTT 5 client.
    pub fn write_goodbye(&self, out: &mut BytesMut) {
        if self.version == Version::V311 {
            return;
        }
        if let Some(Goodbye { reason, text }) = lock(&self.goodbye).take() {
            let properties = DisconnectProperties {
                session_expiry_interval: None,
                reason_string: Some(text).filter(|text| !text.is_empty()),
                user_properties: Vec::new(),
                server_reference: None,
            };
            let disconnect = Disconnect {
                reason_code: reason,
            };
            let bare = Packet::Disconnect(disconnect.clone(), None);
            self.write_explained(Packet::Disconnect(disconnect, Some(properties)), bare, out);
        }
    }

    /// The word that ended the connection, if there was one.
    #[must_use]
    pub fn goodbye(&self) -> Option<Goodbye> {
        lock(&self.goodbye).clone()
    }
}

fn acknowledgement(qos: QoS, pkid: u16, outcome: Outcome, reason: Option<String>) -> Packet {
    let user_properties = Vec::new();
    if qos == QoS::ExactlyOnce {
        let properties = reason.map(|text| PubRecProperties {
            reason_string: Some(text),
            user_properties,
        });
        let reason = outcome.reason_at_qos_2();
        return Packet::PubRec(PubRec { pkid, reason }, properties);
    }
    let properties = reason.map(|text| PubAckProperties {
        reason_string: Some(text),
        user_properties,
    });
    let reason = outcome.reason();
    Packet::PubAck(PubAck { pkid, reason }, properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::receipt::Receipt;
    use std::sync::Arc;

    fn wire(version: Version) -> Arc<Wire> {
        Arc::new(Wire::new(version, CancellationToken::new()))
    }

    fn due(wire: &Wire) -> Vec<u8> {
        let mut out = BytesMut::new();
        wire.write_due(&mut out);
        out.to_vec()
    }

    #[test]
    fn acknowledgements_leave_in_the_order_of_the_publishes() {
        let wire = wire(Version::V311);
        let slots = [7, 8, 9].map(|pkid| wire.expect(QoS::AtLeastOnce, pkid, 1));
        wire.complete(slots[1], Outcome::Accepted);
        assert_eq!(due(&wire), b"");
        wire.complete(slots[0], Outcome::Accepted);
        assert_eq!(due(&wire), b"\x40\x02\x00\x07\x40\x02\x00\x08");
        wire.complete(slots[2], Outcome::Accepted);
        assert_eq!(due(&wire), b"\x40\x02\x00\x09");
    }

    #[test]
    fn answers_leave_before_acknowledgements_so_that_the_connack_is_first() {
        let wire = wire(Version::V311);
        wire.answer(Packet::PingResp(rumqttd::protocol::PingResp));
        wire.complete(wire.expect(QoS::AtLeastOnce, 1, 1), Outcome::Accepted);
        assert_eq!(due(&wire), b"\xd0\x00\x40\x02\x00\x01");
    }

    #[test]
    fn a_receipt_acknowledges_when_its_last_holder_lets_go() {
        let wire = wire(Version::V311);
        let receipt = Arc::new(Receipt::new(
            Arc::clone(&wire),
            wire.expect(QoS::AtLeastOnce, 1, 1),
        ));
        let held = Arc::clone(&receipt);
        receipt.settle(Outcome::Accepted);
        drop(receipt);
        assert_eq!(due(&wire), b"");
        drop(held);
        assert_eq!(due(&wire), b"\x40\x02\x00\x01");
    }

    #[test]
    fn a_receipt_that_was_never_settled_acknowledges_nothing() {
        let wire = wire(Version::V311);
        drop(Receipt::new(
            Arc::clone(&wire),
            wire.expect(QoS::AtLeastOnce, 1, 1),
        ));
        assert_eq!(due(&wire), b"");
    }

    #[test]
    fn a_refusal_is_explained_to_mqtt_5_and_ends_a_connection_of_3_1_1() {
        let five = wire(Version::V5);
        five.complete_with(
            five.expect(QoS::AtLeastOnce, 1, 1),
            Outcome::NotAuthorized,
            Some("no".into()),
        );
        assert_eq!(due(&five), b"\x40\x09\x00\x01\x87\x05\x1f\x00\x02no");
        assert!(!five.is_closed());

        let old = wire(Version::V311);
        old.complete(old.expect(QoS::AtLeastOnce, 1, 1), Outcome::NotAuthorized);
        assert_eq!(due(&old), b"");
        assert!(old.is_closed());
    }

    #[test]
    fn reading_stops_at_the_number_and_at_the_bytes() {
        let many = wire(Version::V5);
        for pkid in 0..RECEIVE_MAXIMUM {
            assert!(many.takes_publishes());
            many.expect(QoS::AtLeastOnce, pkid, 1);
        }
        assert!(!many.takes_publishes());

        let large = wire(Version::V5);
        let slot = large.expect(QoS::AtLeastOnce, 1, RECEIVE_BYTES);
        assert!(!large.takes_publishes());
        large.complete(slot, Outcome::Accepted);
        due(&large);
        assert!(large.takes_publishes());
    }
}
